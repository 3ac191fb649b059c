// The virtio block driver. Contract: virtio_blk.hpp.
#include "kernel/devices/virtio_blk.hpp"

#include "arch/base/panic.hpp"
#include "kernel/devices/interrupt.hpp"
#include "kernel/devices/pci.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/ground/spinlock.hpp"

#include <algorithm>
#include <atomic>
#include <bit>

namespace loft {
namespace {

// --- The device on the PCI bus (4.1.2 to 4.1.5).
constexpr u16 kVendor = 0x1af4, kTransitionalBlock = 0x1001, kModernBlock = 0x1042;
constexpr u8 kVendorCapability = 0x09;
// In a capability: the kind of structure, its BAR, and its place there.
constexpr u32 kCapKind = 3, kCapBar = 4, kCapOffset = 8, kCapLength = 12, kCapNotifyMultiplier = 16;
enum class Structure : u8 { common = 1, notify = 2, interrupt_status = 3, device = 4 };

// The common structure (4.1.4.3).
namespace common {
constexpr u32 kDeviceFeatureSelect = 0x00, kDeviceFeature = 0x04, kDriverFeatureSelect = 0x08, kDriverFeature = 0x0c,
              kConfigVector = 0x10, kStatus = 0x14, kQueueSelect = 0x16, kQueueSize = 0x18, kQueueVector = 0x1a,
              kQueueEnable = 0x1c, kQueueNotifyOffset = 0x1e, kQueueDescriptors = 0x20, kQueueAvailable = 0x28,
              kQueueUsed = 0x30, kBytes = 0x38;
constexpr u16 kNoVector = 0xffff;
} // namespace common

// Bits of the device status (2.1).
constexpr u8 kAcknowledge = 1, kDriver = 2, kDriverOk = 4, kFeaturesOk = 8, kAbsent = 0xff;

// The block device (5.2.3 to 5.2.6). Configuration: the number of sectors, and limits of a request.
constexpr u32 kConfigCapacity = 0, kConfigSizeMax = 8, kConfigSegMax = 12, kConfigBytes = 16;
constexpr u64 kSizeMax = u64{1} << 1, kSegMax = u64{1} << 2, kReadOnly = u64{1} << 5, kFlush = u64{1} << 9,
              kVersion1 = u64{1} << 32;
constexpr u64 kUnderstood = kSizeMax | kSegMax | kReadOnly | kFlush | kVersion1;
struct Header {
    u32 type;
    u32 reserved;
    u64 sector;
};
constexpr u32 kTypeIn = 0, kTypeOut = 1, kTypeFlush = 4;
constexpr u8 kStatusOk = 0, kStatusNone = 0xff; // the device writes 0, 1 (error) or 2 (unsupported)

// --- The queue (2.6.5 to 2.6.8), in two lowmem frames: descriptors; rings, headers and status bytes.
struct Descriptor {
    u64 address;
    u32 bytes;
    u16 flags, next;
    static constexpr u16 kNext = 1, kWrite = 2; // the device writes
};
constexpr u32 kMostDescriptors = 256, kChain = BlockRequest::kMaxParts + 2, kMostSlots = kMostDescriptors / kChain;
struct Rings {
    struct {
        u16 flags, index, ring[kMostDescriptors];
    } available;
    struct {
        u16 flags, index;
        struct {
            u32 id, bytes;
        } ring[kMostDescriptors];
    } used;
    Header header[kMostSlots];
    u8 status[kMostSlots];
};
static_assert(sizeof(Descriptor) == 16 && sizeof(Descriptor) * kMostDescriptors == kPageSize);
static_assert(sizeof(Rings) <= kPageSize && offsetof(Rings, used) % 4 == 0 && offsetof(Rings, header) % 8 == 0);
constexpr u16 kNoNotify = 1; // in used.flags

constexpr u32 kResetMs = 1000;

class Disk final : public BlockDevice {
  public:
    // Maps the device, negotiates, and starts it. The reason why it cannot be used; null if it can. Boot thread.
    const char* init(const PciFunction& function);
    BlockLimits make_limits() const;
    bool is_read_only() const { return (setup_.features & kReadOnly) != 0; }
    bool is_lost() const { return lost_.load() != 0; }
    bool has_message() const { return vector_ == 0; }

  private:
    bool start(BlockRequest& request) override;
    void forget() override;

    bool map_structures();
    bool map_structure(u32 capability, VirtAddr& to, u32 bytes);
    // What was negotiated. It must be the same after every reset.
    struct Setup {
        u64 features = 0;
        u32 size = 0, parts = 0, slots = 0; // descriptors of the queue, parts of a request, requests
        bool operator==(const Setup&) const = default;
    };
    const char* negotiate(Setup& setup);
    bool set_up_queue(Setup& setup);
    bool listen(const PciFunction& function);
    [[nodiscard]] bool reset(); // false: it does not react. Preemptible context
    const char* run();          // from a reset device to one that works
    u32 fill_slot(u32 slot, const BlockRequest& request) LOFT_REQUIRES(lock_);
    void offer(u32 slot) LOFT_REQUIRES(lock_);
    bool on_interrupt();
    struct Ended;
    bool take_ended(Ended& ended) LOFT_REQUIRES(lock_);

    template <typename T> T get(u32 offset) const { return hal::load<T>(common_ + offset); }
    template <typename T> void put(u32 offset, T value) const { hal::store<T>(common_ + offset, value); }
    void put64(u32 offset, u64 value) const { // 4.1.3.1: as two words
        put<u32>(offset, static_cast<u32>(value));
        put<u32>(offset + 4, static_cast<u32>(value >> 32));
    }
    PhysAddr frame_of_descriptors() const { return page_to_pfn(descriptor_frame_).phys(); }
    PhysAddr frame_of_rings() const { return page_to_pfn(ring_frame_).phys(); }
    Descriptor& descriptor(u32 i) {
        return hal::lowmem_ptr<Descriptor>(direct_addr(page_to_pfn(descriptor_frame_)))[i];
    }
    Rings& rings() { return *hal::lowmem_ptr<Rings>(direct_addr(page_to_pfn(ring_frame_))); }

    // Constant after init.
    PciAddress at_{};
    VirtAddr common_{}, notify_{}, interrupt_status_{}, config_{};
    u32 notify_bytes_ = 0, notify_multiplier_ = 0;
    u16 vector_ = common::kNoVector; // entry of the MSI-X table; none: the line
    Setup setup_{};
    Page* descriptor_frame_ = nullptr;
    Page* ring_frame_ = nullptr;
    DeviceHandler handler_{};
    hal::Atomic<u32> lost_{};

    SpinLock lock_{LockRank::block};
    bool works_ LOFT_GUARDED_BY(lock_) = false;
    VirtAddr doorbell_ LOFT_GUARDED_BY(lock_){}; // where a store of 0 says that queue 0 has something new
    u16 available_ LOFT_GUARDED_BY(lock_) = 0;   // as the rings' indices: they wrap at 2^16
    u16 used_ LOFT_GUARDED_BY(lock_) = 0;
    struct Slot {
        BlockRequest* request = nullptr; // null: free. Valid as long as `ticket` is
        u32 ticket = 0;
        BlockOp op{};
        u64 sector = 0;
        u32 sectors = 0;
    };
    Slot slot_[kMostSlots] LOFT_GUARDED_BY(lock_){};
};

struct Disk::Ended {
    Slot what;
    u8 status = kStatusNone;
};

constinit Disk virtio_disks[kMostVirtioDisks]{};
constinit u32 disks_used = 0; // boot thread
constexpr const char* kVirtioNames[kMostVirtioDisks]{"vda", "vdb", "vdc", "vdd", "vde", "vdf", "vdg", "vdh"};

// --- Start.

bool Disk::map_structure(u32 capability, VirtAddr& to, u32 bytes) {
    const u32 length = pci_read32(at_, capability + kCapLength);
    if (length < bytes || to != VirtAddr{}) return to != VirtAddr{}; // the first usable one counts (4.1.4)
    const Result<VirtAddr> mapped =
        pci_map(at_, pci_read8(at_, capability + kCapBar), pci_read32(at_, capability + kCapOffset), bytes);
    if (mapped) to = *mapped;
    return static_cast<bool>(mapped);
}

// The structures may lie in any BAR; their order is the device's preference.
bool Disk::map_structures() {
    for (u32 capability = 0; (capability = pci_capability(at_, kVendorCapability, capability)) != 0;) {
        switch (static_cast<Structure>(pci_read8(at_, capability + kCapKind))) {
        case Structure::common:
            map_structure(capability, common_, common::kBytes);
            break;
        case Structure::notify:
            if (notify_ != VirtAddr{}) break;
            notify_bytes_ = std::min(pci_read32(at_, capability + kCapLength), kPageSize);
            notify_multiplier_ = pci_read32(at_, capability + kCapNotifyMultiplier);
            map_structure(capability, notify_, notify_bytes_);
            break;
        case Structure::interrupt_status:
            map_structure(capability, interrupt_status_, 1);
            break;
        case Structure::device:
            map_structure(capability, config_, kConfigBytes);
            break;
        default:
            break;
        }
    }
    return common_ != VirtAddr{} && notify_ != VirtAddr{} && interrupt_status_ != VirtAddr{} && config_ != VirtAddr{};
}

// 4.1.4.3.1, "Device reset": it is over when the status reads as 0.
bool Disk::reset() {
    put<u8>(common::kStatus, 0);
    const hal::Deadline limit = hal::deadline(kResetMs);
    while (get<u8>(common::kStatus) != 0) {
        if (limit.expired()) return false;
        sleep_ms(1);
    }
    return true;
}

// 3.1.1, steps 2 to 6. The features of a device do not change in a reset.
const char* Disk::negotiate(Setup& setup) {
    put<u8>(common::kStatus, kAcknowledge | kDriver);
    u64 offered = 0;
    for (u32 i = 0; i < 2; ++i) {
        put<u32>(common::kDeviceFeatureSelect, i);
        offered |= u64{get<u32>(common::kDeviceFeature)} << 32 * i;
    }
    if ((offered & kVersion1) == 0) return "it does not offer version 1";
    setup.features = offered & kUnderstood;
    for (u32 i = 0; i < 2; ++i) {
        put<u32>(common::kDriverFeatureSelect, i);
        put<u32>(common::kDriverFeature, static_cast<u32>(setup.features >> 32 * i));
    }
    put<u8>(common::kStatus, kAcknowledge | kDriver | kFeaturesOk);
    if ((get<u8>(common::kStatus) & kFeaturesOk) == 0) return "it needs features that loft does not have";
    return nullptr;
}

// 4.1.5.1.3. The size is a power of two, at most what the device offers.
bool Disk::set_up_queue(Setup& setup) {
    put<u16>(common::kQueueSelect, 0);
    const u32 offered = get<u16>(common::kQueueSize);
    setup.size = std::min(std::bit_floor(offered), kMostDescriptors);
    const bool is_limited = (setup.features & kSegMax) != 0;
    const u32 most_parts = is_limited ? hal::load<u32>(config_ + kConfigSegMax) : BlockRequest::kMaxParts;
    if (setup.size < 3 || most_parts == 0) return false;
    setup.parts = std::min({most_parts, BlockRequest::kMaxParts, setup.size - 2});
    setup.slots = std::min(setup.size / (setup.parts + 2), kMostSlots);

    hal::zero_words(direct_addr(page_to_pfn(descriptor_frame_)), kPageSize);
    hal::zero_words(direct_addr(page_to_pfn(ring_frame_)), kPageSize);
    put<u16>(common::kQueueSize, static_cast<u16>(setup.size));
    put64(common::kQueueDescriptors, frame_of_descriptors().value());
    put64(common::kQueueAvailable, frame_of_rings().value() + offsetof(Rings, available));
    put64(common::kQueueUsed, frame_of_rings().value() + offsetof(Rings, used));
    put<u16>(common::kConfigVector, common::kNoVector); // a change of the configuration is not used
    put<u16>(common::kQueueVector, vector_);
    if (get<u16>(common::kQueueVector) != vector_) return false; // no room in the device (4.1.5.1.2.1)
    const u32 bell = get<u16>(common::kQueueNotifyOffset) * notify_multiplier_;
    if (bell > notify_bytes_ || notify_bytes_ - bell < sizeof(u16)) return false;
    put<u16>(common::kQueueEnable, 1);
    const SpinGuard guard{lock_};
    available_ = used_ = 0;
    doorbell_ = notify_ + bell;
    return true;
}

const char* Disk::run() {
    Setup setup;
    if (const char* problem = negotiate(setup)) return problem;
    if (!set_up_queue(setup)) return "its queue cannot be used";
    if (setup_ == Setup{}) setup_ = setup;
    if (setup != setup_) return "it offers something else than before";
    put<u8>(common::kStatus, kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
    const SpinGuard guard{lock_};
    works_ = true;
    return nullptr;
}

bool Disk::listen(const PciFunction& function) {
    handler_.handle = [](void* disk) { return static_cast<Disk*>(disk)->on_interrupt(); };
    handler_.device = this;
    if (pci_use_message(at_, handler_)) {
        vector_ = 0;
        return true;
    }
    if (function.pin == 0) return false;
    pci_set_command(at_, 0, pci_command::no_line);
    const Status added = interrupt_add_line(function.line, Trigger::level, handler_);
    if (!added) log(LogLevel::error, "virtio", "interrupt line {}: {}", function.line, error_name(added.error()));
    return static_cast<bool>(added);
}

const char* Disk::init(const PciFunction& function) {
    at_ = function.at;
    pci_set_command(at_, pci_command::memory, pci_command::bus_master);
    if (!map_structures()) return "it lacks the modern interface, or its registers cannot be mapped";
    if (!reset()) return "it does not react to a reset";
    descriptor_frame_ = alloc_page(Gfp::kernel);
    ring_frame_ = alloc_page(Gfp::kernel);
    if (descriptor_frame_ == nullptr || ring_frame_ == nullptr) return "no memory for its queue";
    pci_set_command(at_, pci_command::bus_master, 0);
    if (!listen(function)) return "its interrupt cannot be used";
    if (const char* problem = run()) return problem;
    if ((setup_.features & kSizeMax) && hal::load<u32>(config_ + kConfigSizeMax) < kPageSize)
        return "it takes less than a page in one piece";
    if (make_limits().sectors == 0) return "it has no sectors";
    return nullptr;
}

BlockLimits Disk::make_limits() const {
    // 4.1.3.1: a 64-bit field is read as two words. Its size does not change meanwhile.
    const u64 sectors =
        u64{hal::load<u32>(config_ + kConfigCapacity + 4)} << 32 | hal::load<u32>(config_ + kConfigCapacity);
    return {sectors, setup_.parts, Pfn{~u32{0}}, setup_.slots};
}

// --- Requests.

// Fills the chain of a slot; returns the number of its first descriptor.
u32 Disk::fill_slot(u32 slot, const BlockRequest& request) {
    const u32 first = slot * (setup_.parts + 2);
    u32 at = first;
    const auto add = [&](PhysAddr address, u32 bytes, u16 flags) {
        descriptor(at) = {address.value(), bytes, static_cast<u16>(flags | Descriptor::kNext),
                          static_cast<u16>(at + 1)};
        ++at;
    };
    const u32 type = request.op() == BlockOp::read ? kTypeIn : request.op() == BlockOp::write ? kTypeOut : kTypeFlush;
    rings().header[slot] = {type, 0, request.op() == BlockOp::flush ? 0 : request.sector()};
    rings().status[slot] = kStatusNone;
    add(frame_of_rings() + (offsetof(Rings, header) + slot * sizeof(Header)), sizeof(Header), 0);
    for (u32 i = 0; i < request.parts(); ++i) {
        const BlockPart part = request.transfer(i);
        add(page_to_pfn(part.page).phys() + part.offset, part.bytes,
            request.op() == BlockOp::read ? Descriptor::kWrite : u16{0});
    }
    add(frame_of_rings() + (offsetof(Rings, status) + slot), 1, Descriptor::kWrite);
    descriptor(at - 1).flags = Descriptor::kWrite; // the last one
    return first;
}

// Puts a chain into the available ring, and rings the doorbell unless the device is looking anyway. Barriers (2.6.13):
// the chain is visible before the index, the index before the flag is read. x86 keeps the order of stores, so the first
// one binds the compiler only; the second one orders a store before a load, which needs an instruction.
void Disk::offer(u32 first) {
    auto& ring = rings().available;
    ring.ring[available_ % setup_.size] = static_cast<u16>(first);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    const_cast<volatile u16&>(ring.index) = ++available_;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if ((const_cast<const volatile u16&>(rings().used.flags) & kNoNotify) == 0) hal::store<u16>(doorbell_, 0);
}

bool Disk::start(BlockRequest& request) {
    if (request.op() == BlockOp::flush && (setup_.features & kFlush) == 0) {
        ended(request, request.ticket(), {}); // without the feature the device has no write cache (5.2.6.2)
        return true;
    }
    const SpinGuard guard{lock_};
    if (!works_) return true; // lost: the request runs into its time limit, or is forgotten
    for (u32 i = 0; i < setup_.slots; ++i) {
        if (slot_[i].request != nullptr) continue;
        slot_[i] = {&request, request.ticket(), request.op(), request.sector(), request.sectors()};
        offer(fill_slot(i, request));
        return true;
    }
    return false;
}

// The next request that the device has used up. What it wrote (2.6.8) is not trusted: a wrong number is ignored, and
// its request runs into the time limit.
bool Disk::take_ended(Ended& ended) {
    while (works_) {
        const auto& ring = rings().used;
        if (const_cast<const volatile u16&>(ring.index) == used_) return false;
        std::atomic_signal_fence(std::memory_order_seq_cst); // x86 keeps the order of loads
        const u32 id = const_cast<const volatile u32&>(ring.ring[used_ % setup_.size].id),
                  slot = id / (setup_.parts + 2);
        ++used_;
        if (id % (setup_.parts + 2) != 0 || slot >= setup_.slots || slot_[slot].request == nullptr) continue;
        ended.what = slot_[slot];
        ended.status = const_cast<const volatile u8&>(rings().status[slot]);
        slot_[slot] = {};
        return true;
    }
    return false;
}

// For a line, reading the interrupt status tells whose interrupt it is, and acknowledges it (4.1.4.5).
bool Disk::on_interrupt() {
    if (!has_message() && (hal::load<u8>(interrupt_status_) & 1) == 0) return false;
    for (;;) {
        Ended one;
        {
            const SpinGuard guard{lock_};
            if (!take_ended(one)) return true;
        }
        if (one.status != kStatusOk)
            log(LogLevel::error, "virtio", "{}: {} of {} sectors from {} failed: status {}", name(),
                name_of(one.what.op), one.what.sectors, one.what.sector, one.status);
        ended(*one.what.request, one.what.ticket, one.status == kStatusOk ? Status{} : Status{Error::io});
    }
}

// A device that was taken out of the bus reads as ones. One that does not react to a reset loses the right to access
// memory.
void Disk::forget() {
    u32 forgotten = 0;
    {
        const SpinGuard guard{lock_};
        works_ = false;
        for (Slot& slot : slot_) {
            forgotten += slot.request != nullptr;
            slot = {};
        }
    }
    if (lost_.load() != 0) return;
    const u8 status = get<u8>(common::kStatus);
    log(LogLevel::error, "virtio", "{}: {} requests without an answer, device status {:02x}: reset", name(), forgotten,
        status);
    const char* problem = status == kAbsent ? "it is not on the bus any more" : nullptr;
    if (problem == nullptr && !reset()) problem = "it does not react to a reset";
    if (problem == nullptr) problem = run();
    if (problem == nullptr) return;
    pci_set_command(at_, 0, pci_command::bus_master);
    log(LogLevel::error, "virtio", "{}: {}", name(), problem);
    lost_.store(1);
}

} // namespace

bool is_virtio_blk(const PciFunction& function) {
    return function.vendor == kVendor && (function.id == kTransitionalBlock || function.id == kModernBlock);
}

void virtio_blk_start(const PciFunction& function, DiskFound found) {
    if (disks_used == kMostVirtioDisks) {
        log(LogLevel::warn, "virtio", "more than {} disks: this one is not used", kMostVirtioDisks);
        return;
    }
    const char* const name = kVirtioNames[disks_used];
    Disk& disk = virtio_disks[disks_used++];
    if (const char* problem = disk.init(function)) {
        log(LogLevel::warn, "virtio", "{}: not used: {}", name, problem);
        return;
    }
    const Status prepared = disk.prepare(name, disk.make_limits());
    if (!prepared) {
        log(LogLevel::error, "virtio", "{}: not used: {}", name, error_name(prepared.error()));
        return;
    }
    found({&disk, disk.is_read_only() ? "read-only" : "",
           disk.has_message() ? "virtio, MSI-X" : "virtio, interrupt line",
           [](const BlockDevice& device) { return static_cast<const Disk&>(device).is_lost(); }});
}

} // namespace loft
