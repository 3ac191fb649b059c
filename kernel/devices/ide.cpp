// The IDE driver. Contract: ide.hpp.
#include "kernel/devices/ide.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/devices/interrupt.hpp"
#include "kernel/devices/pci.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/cache/block.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/ground/spinlock.hpp"

#include <array>
#include <span>
#include <utility>

namespace loft {
namespace {

// --- Registers of a channel, from its command port on (ATA/ATAPI-7 volume 2, 5.2).
constexpr u16 kData = 0, kError = 1, kCount = 2, kLbaLow = 3, kLbaMid = 4, kLbaHigh = 5, kDevice = 6, kStatus = 7,
              kCommand = 7;
constexpr u8 kDeviceObsolete = 0xa0, kDeviceLba = 0x40; // bits of the device register; bit 4 is the drive
constexpr u8 kErr = 1 << 0, kDrq = 1 << 3, kFault = 1 << 5, kBusy = 1 << 7; // of the status register
// The control port; reading it gives the status and does not acknowledge the interrupt.
constexpr u8 kNoInterrupt = 1 << 1, kReset = 1 << 2;

// --- Registers of a channel's bus master (82371SB data sheet, 2.7.1 to 2.7.3).
constexpr u16 kBusCommand = 0, kBusStatus = 2, kBusTable = 4;
constexpr u8 kBusStart = 1 << 0, kBusToMemory = 1 << 3; // of its command register
constexpr u8 kBusActive = 1 << 0, kBusError = 1 << 1,
             kBusInterrupt = 1 << 2; // of its status; 1 and 2 are cleared by a 1

// --- Commands (ACS, 7).
constexpr u8 kReadDma = 0xc8, kWriteDma = 0xca, kReadDmaExt = 0x25, kWriteDmaExt = 0x35, kFlushCache = 0xe7,
             kFlushCacheExt = 0xea, kIdentify = 0xec, kSetFeatures = 0xef;
constexpr u8 kSetTransferMode = 0x03, kMultiwordDma = 0x20; // features, and count, of SET FEATURES

constexpr u32 kLba28Sectors = 256; // of one command
static_assert(BlockRequest::kMaxParts * kPageSize / kSectorBytes <= kLba28Sectors);

// An entry of the bus master's table: a region that does not cross a 64 KiB boundary. A part lies in one frame, so it
// never does, nor has it 64 KiB, which the length field would hold as 0.
struct Region {
    u32 address;
    u32 length; // bits 0-15; bit 31: the last entry
    static constexpr u32 kLast = 1u << 31;
};
static_assert(kPageSize < 64 * KiB && 64 * KiB % kPageSize == 0);
// The table must not cross such a boundary either: it is one frame.
static_assert(BlockRequest::kMaxParts * sizeof(Region) <= kPageSize);
constexpr Pfn kReach{1u << (32 - kPageShift)};

constexpr u32 kDrives = 2;
constexpr u32 kAnswerMs = 3000, kDriveResetMs = 31'000; // the longest reset of a drive (ATA/ATAPI-7 volume 2, 9.2)

// --- IDENTIFY DEVICE (ACS, 7.12): words of the answer.
class Identity {
  public:
    std::array<u16, 256> word{};

    // Word 255: 0xa5, and a checksum that makes the sum of all bytes 0; older drives have no 0xa5 there.
    bool is_sound() const {
        if ((word[255] & 0xff) != 0xa5) return true;
        u32 sum = 0;
        for (const u16 one : word)
            sum += (one & 0xffu) + (one >> 8);
        return (sum & 0xff) == 0;
    }
    // Words 82 to 84 are valid if the upper bits of word 83 are 01.
    bool has_commands(u32 bit) const { return word[83] >> 14 == 1 && (word[83] >> bit & 1) != 0; }
    bool has_lba48() const { return has_commands(10); }
    bool has_flush() const { return has_commands(12); }
    u64 sectors() const {
        const u64 lba28 = u32{word[61]} << 16 | word[60];
        if (!has_lba48()) return lba28;
        return u64{word[103]} << 48 | u64{word[102]} << 32 | u32{word[101]} << 16 | word[100];
    }
    bool has_long_sectors() const { return word[106] >> 14 == 1 && (word[106] & 1 << 12) != 0; }
    // The reason why the drive cannot be used; null if it can.
    const char* problem() const {
        constexpr u16 kLba = 1 << 9, kDma = 1 << 8, kNotAta = 1 << 15;
        if (!is_sound()) return "its description has a wrong checksum";
        if (word[0] & kNotAta) return "it is no ATA disk";
        if (!(word[49] & kLba)) return "it has no LBA addresses";
        if (!(word[49] & kDma)) return "it has no DMA";
        if (has_long_sectors()) return "its sectors are longer than 512 bytes";
        if (sectors() == 0) return "it has no sectors";
        return nullptr;
    }
    // The highest multiword mode of DMA, if no mode of DMA is selected yet; -1: one is, or there is none.
    int mode_to_select() const {
        const bool ultra_is_valid = (word[53] & 1 << 2) != 0;
        if ((word[63] & 0x700) != 0 || (ultra_is_valid && (word[88] & 0x7f00) != 0)) return -1;
        return word[63] & 4 ? 2 : word[63] & 2 ? 1 : word[63] & 1 ? 0 : -1;
    }
    // Words 27 to 46: two characters in each, the first one in the upper half.
    void copy_model(std::span<char, 41> to) const {
        u32 length = 0;
        for (u32 i = 0; i < 40; ++i) {
            const u16 pair = word[27 + i / 2];
            const u32 c = i % 2 == 0 ? pair >> 8 : pair & 0xffu;
            to[i] = c >= ' ' && c < 0x7f ? static_cast<char>(c) : ' ';
            if (to[i] != ' ') length = i + 1;
        }
        to[length] = 0;
    }
};

// --- The driver.

class Drive;

// One of the two channels. `lock_` guards its registers and everything that belongs to the command in progress.
class Channel {
  public:
    // Ports; the table is a frame. Boot thread.
    [[nodiscard]] bool prepare(u16 command, u16 control, u16 bus, u32 irq);
    // Finds a drive (0 or 1). Before listen(): without interrupts, the only user. Boot thread.
    bool identify(u32 drive, const char* name, Identity& identity) LOFT_UNCHECKED;
    void set_drive(u32 drive, Drive& object) { drive_[drive] = &object; }
    // Takes interrupts from here on. False, and an error is logged: it has none.
    bool listen();

    // False: the channel is busy; it calls offer_again of the drive when it is free.
    [[nodiscard]] bool start(u32 drive, BlockRequest& request);
    void forget(u32 drive);

  private:
    // A request that the block interface has started.
    struct Started {
        BlockRequest* request = nullptr; // valid as long as `ticket` is
        u32 ticket = 0;
        BlockOp op{};
        u64 sector = 0;
        u32 sectors = 0;
    };
    struct Ended;

    bool on_interrupt();
    bool take_ended(Ended& ended) LOFT_REQUIRES(lock_);
    void begin(u32 drive, const Started& what) LOFT_REQUIRES(lock_);
    void set_free(u32 first);
    void fill_table(const BlockRequest& request) LOFT_REQUIRES(lock_);
    void send(u32 drive, const Started& what) LOFT_REQUIRES(lock_);
    u8 select(u32 drive, u8 bits) LOFT_REQUIRES(lock_);
    u8 settle() const;
    u8 wait_while_busy(u32 milliseconds) const; // preemptible context
    void reset() LOFT_UNCHECKED;                // resetting_ keeps others away

    u8 status() const { return in8(control_); }
    void put(u16 reg, u8 value) const { out8(static_cast<u16>(ports_ + reg), value); }
    u8 get(u16 reg) const { return in8(static_cast<u16>(ports_ + reg)); }
    void put_bus(u16 reg, u8 value) const { out8(static_cast<u16>(bus_ + reg), value); }
    u8 get_bus(u16 reg) const { return in8(static_cast<u16>(bus_ + reg)); }

    u16 ports_ = 0, control_ = 0, bus_ = 0; // constant after prepare
    u32 irq_ = 0;
    Page* table_ = nullptr;
    Drive* drive_[kDrives]{};
    DeviceHandler handler_{};

    SpinLock lock_{LockRank::block};
    bool resetting_ LOFT_GUARDED_BY(lock_) = false;
    u32 running_drive_ LOFT_GUARDED_BY(lock_) = 0;
    Started running_ LOFT_GUARDED_BY(lock_){};       // the command in progress, if it has a request
    bool refused_[kDrives] LOFT_GUARDED_BY(lock_){}; // start found the channel busy
};

class Drive final : public BlockDevice {
  public:
    void init(Channel& channel, u32 number, const Identity& identity) {
        channel_ = &channel;
        number_ = number;
        has_lba48_ = identity.has_lba48();
        has_flush_ = identity.has_flush();
        identity.copy_model(model_);
    }
    const char* model() const { return model_; }
    bool has_lba48() const { return has_lba48_; }
    bool is_lost() const { return lost_.load() != 0; }
    void set_lost() { lost_.store(1); }
    using BlockDevice::ended, BlockDevice::offer_again;

  private:
    bool start(BlockRequest& request) override {
        // A drive without the command has no write cache that it could flush.
        if (request.op() != BlockOp::flush || has_flush_) return channel_->start(number_, request);
        ended(request, request.ticket(), {});
        return true;
    }
    void forget() override { channel_->forget(number_); }

    Channel* channel_ = nullptr;
    u32 number_ = 0;
    bool has_lba48_ = false, has_flush_ = false;
    char model_[41]{};
    hal::Atomic<u32> lost_{};
};

constinit Channel channels[2]{};
constinit Drive drives[2 * kDrives]{};
constexpr const char* kIdeNames[2 * kDrives]{"hda", "hdb", "hdc", "hdd"};

// Nothing answers: the bus floats, or the other drive answers for an absent one (ATA/ATAPI-7 volume 2, 9.16).
constexpr bool is_absent(u8 status) { return status == 0 || status == 0xff || status == 0x7f; }

struct Channel::Ended {
    Started what;
    u32 drive = 0;
    u8 status = 0, error = 0, bus = 0;
    bool failed = false;
};

bool Channel::prepare(u16 command, u16 control, u16 bus, u32 irq) {
    ports_ = command;
    control_ = control;
    bus_ = bus;
    irq_ = irq;
    table_ = alloc_page(Gfp::kernel);
    return table_ != nullptr;
}

// The status, 400 ns after a drive was selected or got a command: it needs that time to show it. Each read of a port
// takes 100 ns or more.
u8 Channel::settle() const {
    for (u32 i = 0; i < 4; ++i)
        static_cast<void>(status());
    return status();
}

u8 Channel::select(u32 drive, u8 bits) {
    put(kDevice, static_cast<u8>(kDeviceObsolete | bits | drive << 4));
    return settle();
}

// The status; with kBusy: the time is over.
u8 Channel::wait_while_busy(u32 milliseconds) const {
    const hal::Deadline limit = hal::deadline(milliseconds);
    u8 now = status();
    while ((now & kBusy) != 0 && now != 0xff && !limit.expired()) {
        sleep_ms(1);
        now = status();
    }
    return now;
}

bool Channel::identify(u32 drive, const char* name, Identity& identity) {
    constexpr u16 kAtapi = 0xeb14, kAtapiOfSata = 0x9669; // what IDENTIFY DEVICE leaves in the LBA registers
    out8(control_, kNoInterrupt);
    put_bus(kBusCommand, 0);
    if (is_absent(select(drive, 0))) return false;
    if (wait_while_busy(kAnswerMs) & kBusy) {
        log(LogLevel::warn, "ide", "{}: the drive stays busy: not used", name);
        return false;
    }
    for (const u16 reg : {kCount, kLbaLow, kLbaMid, kLbaHigh})
        put(reg, 0);
    put(kCommand, kIdentify);
    if (is_absent(settle())) return false;
    u8 now = wait_while_busy(kAnswerMs);
    const u16 kind = static_cast<u16>(get(kLbaHigh) << 8 | get(kLbaMid));
    if (kind == kAtapi || kind == kAtapiOfSata) {
        log(LogLevel::info, "ide", "{}: an ATAPI drive: not used", name);
        return false;
    }
    now = get(kStatus);
    if ((now & (kBusy | kErr | kFault | kDrq)) != kDrq) {
        // An absent drive may answer by an abort; a drive that is there does not.
        if ((now & kErr) == 0) log(LogLevel::warn, "ide", "{}: no answer, status {:02x}: not used", name, now);
        return false;
    }
    for (u16& word : identity.word)
        word = in16(static_cast<u16>(ports_ + kData));
    if (const char* problem = identity.problem()) {
        log(LogLevel::warn, "ide", "{}: {}: not used", name, problem);
        return false;
    }
    // The firmware sets the controller's timing and the mode. Where it has not, there is no timing, as in emulators.
    if (const int mode = identity.mode_to_select(); mode >= 0) {
        put(kError, kSetTransferMode); // written, this register is "features"
        put(kCount, static_cast<u8>(kMultiwordDma | mode));
        put(kCommand, kSetFeatures);
        static_cast<void>(settle());
        now = wait_while_busy(kAnswerMs);
        if (now & (kBusy | kErr)) log(LogLevel::warn, "ide", "{}: cannot set DMA mode {}", name, mode);
    }
    return true;
}

bool Channel::listen() {
    static_cast<void>(get(kStatus)); // an interrupt of the firmware's commands
    put_bus(kBusStatus, kBusInterrupt | kBusError);
    handler_.handle = [](void* channel) { return static_cast<Channel*>(channel)->on_interrupt(); };
    handler_.device = this;
    const Status added = interrupt_add_line(irq_, Trigger::edge, handler_);
    if (!added) {
        log(LogLevel::error, "ide", "interrupt {} cannot be used: {}", irq_, error_name(added.error()));
        return false;
    }
    out8(control_, 0);
    return true;
}

bool Channel::start(u32 drive, BlockRequest& request) {
    const SpinGuard guard{lock_};
    refused_[drive] = running_.request != nullptr || resetting_;
    if (refused_[drive]) return false;
    begin(drive, {&request, request.ticket(), request.op(), request.sector(), request.sectors()});
    return true;
}

void Channel::fill_table(const BlockRequest& request) {
    auto* const region = hal::lowmem_ptr<Region>(direct_addr(page_to_pfn(table_)));
    for (u32 i = 0; i < request.parts(); ++i) {
        const BlockPart part = request.transfer(i);
        region[i] = {static_cast<u32>((page_to_pfn(part.page).phys() + part.offset).value()),
                     part.bytes | (i + 1 == request.parts() ? Region::kLast : 0)};
    }
}

// A drive that is busy, or not there any more, gets no command: the request runs into its time limit.
void Channel::begin(u32 drive, const Started& what) {
    running_ = what;
    running_drive_ = drive;
    if ((select(drive, kDeviceLba) & (kBusy | kDrq)) != 0) return;
    if (what.op == BlockOp::flush) {
        put(kCommand, drive_[drive]->has_lba48() ? kFlushCacheExt : kFlushCache);
        return;
    }
    fill_table(*what.request);
    const u8 direction = what.op == BlockOp::read ? kBusToMemory : 0;
    out32(static_cast<u16>(bus_ + kBusTable), static_cast<u32>(page_to_pfn(table_).phys().value()));
    put_bus(kBusCommand, direction);
    put_bus(kBusStatus, static_cast<u8>(get_bus(kBusStatus) | kBusInterrupt | kBusError));
    send(drive, what);
    // The stores to the table come before: port writes are not reordered with them (SDM vol. 3, 8.2.5).
    put_bus(kBusCommand, direction | kBusStart);
}

// With 48 bits each register takes two bytes, the upper one first.
void Channel::send(u32 drive, const Started& what) {
    const bool is_read = what.op == BlockOp::read;
    const auto byte = [&](u32 shift) { return static_cast<u8>(what.sector >> shift); };
    if (drive_[drive]->has_lba48()) {
        put(kCount, static_cast<u8>(what.sectors >> 8));
        put(kLbaLow, byte(24));
        put(kLbaMid, byte(32));
        put(kLbaHigh, byte(40));
    } else {
        put(kDevice, static_cast<u8>(kDeviceObsolete | kDeviceLba | drive << 4 | (byte(24) & 0x0f)));
    }
    put(kCount, static_cast<u8>(what.sectors)); // 28 bits: 256 sectors are 0
    put(kLbaLow, byte(0));
    put(kLbaMid, byte(8));
    put(kLbaHigh, byte(16));
    if (drive_[drive]->has_lba48())
        put(kCommand, is_read ? kReadDmaExt : kWriteDmaExt);
    else
        put(kCommand, is_read ? kReadDma : kWriteDma);
}

// The channel is free: tells the drives that it has refused, `first` first. Without the lock.
void Channel::set_free(u32 first) {
    for (u32 i = 0; i < kDrives; ++i) {
        const u32 drive = (first + i) % kDrives;
        bool refused = false;
        {
            const SpinGuard guard{lock_};
            refused = std::exchange(refused_[drive], false);
        }
        if (refused) drive_[drive]->offer_again();
    }
}

bool Channel::take_ended(Ended& ended) {
    // Reading the status acknowledges the drive's interrupt, writing the bit that of the bus master.
    ended.status = get(kStatus);
    put_bus(kBusStatus, static_cast<u8>(ended.bus | kBusInterrupt | kBusError));
    if (running_.request == nullptr || (ended.status & kBusy) != 0) return false;
    put_bus(kBusCommand, 0);
    ended.error = get(kError);
    ended.what = running_;
    ended.drive = running_drive_;
    // A bus master that is still active has not moved all bytes.
    const u8 problems = ended.bus & (ended.what.op == BlockOp::flush ? 0 : kBusError | kBusActive);
    ended.failed = (ended.status & (kErr | kFault)) != 0 || problems != 0;
    running_ = {};
    return true;
}

bool Channel::on_interrupt() {
    Ended ended;
    {
        const SpinGuard guard{lock_};
        ended.bus = get_bus(kBusStatus);
        if ((ended.bus & kBusInterrupt) == 0) return false;
        if (!take_ended(ended)) return true;
    }
    const Started& what = ended.what;
    Drive& drive = *drive_[ended.drive];
    if (ended.failed)
        log(LogLevel::error, "ide", "{}: {} of {} sectors from {} failed: status {:02x}, error {:02x}, bus {:02x}",
            drive.name(), name_of(what.op), what.sectors, what.sector, ended.status, ended.error, ended.bus);
    // The other drive comes first: this one would go on with its next request.
    set_free(1 - ended.drive);
    drive.ended(*what.request, what.ticket, ended.failed ? Status{Error::io} : Status{});
    return true;
}

// The other drive's command is left alone: only the drive that works can access memory.
void Channel::forget(u32 drive) {
    Started late;
    u8 now = 0;
    {
        const SpinGuard guard{lock_};
        if (running_.request == nullptr || running_drive_ != drive) return;
        late = running_;
        now = status();
        put_bus(kBusCommand, 0); // from here on nothing is written to memory
        running_ = {};
        resetting_ = true;
    }
    log(LogLevel::error, "ide", "{}: no answer to a {} of {} sectors from {}, status {:02x}: reset",
        drive_[drive]->name(), name_of(late.op), late.sectors, late.sector, now);
    reset();
    {
        const SpinGuard guard{lock_};
        resetting_ = false;
    }
    set_free(1 - drive);
}

// Resets both drives (ATA/ATAPI-7 volume 2, 9.2). No command is begun meanwhile.
void Channel::reset() {
    out8(control_, kNoInterrupt | kReset);
    sleep_ms(1); // at least 5 us
    out8(control_, kNoInterrupt);
    sleep_ms(2);
    wait_while_busy(kDriveResetMs);
    for (u32 i = 0; i < kDrives; ++i) {
        if (drive_[i] == nullptr) continue;
        const hal::Deadline limit = hal::deadline(kAnswerMs);
        while (is_absent(select(i, 0)) && !limit.expired())
            sleep_ms(10);
        if (is_absent(status())) drive_[i]->set_lost();
    }
    static_cast<void>(get(kStatus));
    put_bus(kBusStatus, kBusInterrupt | kBusError);
    out8(control_, 0);
}

void start_channel(u32 number, u16 command, u16 control, u16 bus, u32 irq, DiskFound found) {
    Channel& channel = channels[number];
    if (!channel.prepare(command, control, bus, irq)) {
        log(LogLevel::error, "ide", "no memory for channel {}", number);
        return;
    }
    bool usable[kDrives]{};
    for (u32 i = 0; i < kDrives; ++i) {
        const u32 index = number * kDrives + i;
        Drive& drive = drives[index];
        Identity identity;
        if (!channel.identify(i, kIdeNames[index], identity)) continue;
        drive.init(channel, i, identity);
        const BlockLimits limits{identity.sectors(), BlockRequest::kMaxParts, kReach, 1};
        const Status prepared = drive.prepare(kIdeNames[index], limits);
        if (!prepared) {
            log(LogLevel::error, "ide", "{}: not used: {}", kIdeNames[index], error_name(prepared.error()));
            continue;
        }
        channel.set_drive(i, drive);
        usable[i] = true;
    }
    if ((!usable[0] && !usable[1]) || !channel.listen()) return;
    for (u32 i = 0; i < kDrives; ++i)
        if (Drive& drive = drives[number * kDrives + i]; usable[i])
            found({&drive, drive.model(), drive.has_lba48() ? "IDE, 48-bit addresses" : "IDE, 28-bit addresses",
                   [](const BlockDevice& device) { return static_cast<const Drive&>(device).is_lost(); }});
}

} // namespace

bool is_ide(const PciFunction& function) { return function.base_class == 0x01 && function.sub_class == 0x01; }

void ide_start(const PciFunction& controller, DiskFound found) {
    // Bits of the programming interface (PCI IDE Controller Specification 1.0, 2): the channel has its own ports and
    // PCI interrupt instead of those of the ISA bus; the controller has a bus master (82371SB data sheet, 2.3.5).
    constexpr u8 kNative[2]{1 << 0, 1 << 2}, kBusMaster = 1 << 7;
    constexpr u16 kCommandPort[2]{0x1f0, 0x170}, kControlPort[2]{0x3f6, 0x376}, kBusPort[2]{0, 8}, kBusPorts = 16;
    constexpr u32 kIrq[2]{14, 15}, kBusBar = 4;
    static constinit bool started = false;
    if (started) {
        log(LogLevel::warn, "ide", "a second controller: not used");
        return;
    }
    const PciBar bus = pci_bar(controller.at, kBusBar);
    if (!(controller.interface & kBusMaster) || !bus.is_port || bus.bytes < kBusPorts) {
        log(LogLevel::warn, "ide", "a controller without a bus master: not used");
        return;
    }
    started = true;
    pci_set_command(controller.at, pci_command::ports | pci_command::bus_master, 0);
    for (u32 i = 0; i < 2; ++i) {
        if (controller.interface & kNative[i]) {
            log(LogLevel::warn, "ide", "channel {} is in native mode: not used", i);
            continue;
        }
        start_channel(i, kCommandPort[i], kControlPort[i], static_cast<u16>(bus.base.value() + kBusPort[i]), kIrq[i],
                      found);
    }
}

} // namespace loft
