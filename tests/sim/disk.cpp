// The simulated disk. Contract: disk.hpp.
#include "tests/sim/disk.hpp"

#include "mm/windows/interrupt_context.hpp"
#include "tests/sim/explorer.hpp"
#include "tests/sim/machine.hpp"
#include "tests/sim/races.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <set>
#include <utility>

namespace loft::sim {
namespace {

u64 mixed(u64 z) { // splitmix64
    z += 0x9e37'79b9'7f4a'7c15;
    z = (z ^ z >> 30) * 0xbf58'476d'1ce4'e5b9;
    z = (z ^ z >> 27) * 0x94d0'49bb'1331'11eb;
    return z ^ z >> 31;
}

const char* name_of(BlockOp op) { return op == BlockOp::read ? "read" : op == BlockOp::write ? "write" : "flush"; }

} // namespace

Sector DiskImage::at(u64 sector) const {
    if (const auto found = sectors_.find(sector); found != sectors_.end()) return found->second;
    Sector data;
    for (u32 i = 0; i < kSectorBytes; i += 8) {
        const u64 word = mixed(sector * kSectorBytes + i);
        std::memcpy(&data[i], &word, 8);
    }
    return data;
}

struct SimDisk::Hardware {
    struct Piece { // sectors of a transfer that lie in one part
        u32 pfn = 0;
        u32 offset = 0;
        u32 bytes = 0;
    };
    struct Transfer {
        BlockRequest* request = nullptr;
        u32 ticket = 0;
        BlockOp op{};
        u64 sector = 0;
        std::vector<Piece> pieces{};
        u32 piece = 0, done = 0; // where it goes on: bytes of that piece have been moved
        bool hangs = false;
        bool moved = false; // nothing is left to do
        u64 number = 0;     // of all starts
        u64 covers = 0;     // a flush: the writes that had ended when it was started
        Status status{};
    };
    struct Record { // a sector in the write cache
        u64 sector = 0;
        Sector data{};
        u64 write = 0; // the number of the transfer
    };

    DiskOptions options;
    std::deque<Transfer> pending, ended; // `ended`: not told yet
    DiskImage now, durable;
    std::vector<Record> cache;         // in the order in which they were moved
    std::unordered_map<u64, u64> told; // of a write: the count of writes that had been told with it
    u64 tellings = 0, starts = 0, random = 0;
    std::set<u64> bad;
    u32 hangs = 0;
    bool fails_flush = false;
    bool unplugged = false;
    const char* busy = nullptr; // the call that is running
    Transfer last{};            // that was told
    Counts counts;
};

SimDisk::SimDisk(DiskOptions options) : hardware_{std::make_unique<Hardware>()} {
    hardware_->random = options.seed;
    hardware_->now = hardware_->durable = options.image;
    hardware_->options = std::move(options);
}

// A test that has failed leaves requests.
SimDisk::~SimDisk() {
    if (const BlockStats now = stats(); has_machine() && now.queued + now.started + now.bouncing == 0) finish();
}

Status SimDisk::ready() {
    const DiskOptions& o = hardware_->options;
    return prepare(o.name, {o.sectors, o.parts, o.reach, o.depth});
}

void SimDisk::fail(u64 sector) { hardware_->bad.insert(sector); }
void SimDisk::repair(u64 sector) { hardware_->bad.erase(sector); }
void SimDisk::fail_flush() { hardware_->fails_flush = true; }
void SimDisk::hang(u32 requests) { hardware_->hangs = requests; }
void SimDisk::unplug() { hardware_->unplugged = true; }
void SimDisk::tell_again() { ended(*hardware_->last.request, hardware_->last.ticket, hardware_->last.status); }
const DiskImage& SimDisk::image() const { return hardware_->now; }
const SimDisk::Counts& SimDisk::counts() const { return hardware_->counts; }
u32 SimDisk::unsure() const { return static_cast<u32>(hardware_->cache.size()); }

void SimDisk::keep() { kept_ = std::make_unique<Hardware>(*hardware_); }
void SimDisk::rewind() { *hardware_ = *kept_; }

std::string SimDisk::use_of(u32 pfn) const {
    for (const auto* const list : {&hardware_->pending, &hardware_->ended})
        for (const Hardware::Transfer& transfer : *list)
            for (const Hardware::Piece& piece : transfer.pieces)
                if (piece.pfn == pfn)
                    return text("disk {}: {} at sector {}, start {}", hardware_->options.name, name_of(transfer.op),
                                transfer.sector, transfer.number);
    return {};
}

// --- the driver

// start() and forget() never run at the same time. The second point is where another CPU would be seen.
void SimDisk::enter(const char* what) {
    schedule_point(Point::io);
    touch(place::device(number()), true);
    if constexpr (races::kOn) races::release(place::device(number()));
    if (hardware_->busy != nullptr)
        throw BadAccess{text("disk {}: {} during {}", hardware_->options.name, what, hardware_->busy)};
    hardware_->busy = what;
    schedule_point(Point::io);
    touch(place::device(number()), true);
}
void SimDisk::leave() { hardware_->busy = nullptr; }

bool SimDisk::start(BlockRequest& request) {
    Hardware& h = *hardware_;
    if (machine().here().interrupts) throw BadAccess{text("disk {}: start with interrupts on", h.options.name)};
    enter("start");
    const auto at_disk = static_cast<u32>(h.pending.size() + h.ended.size());
    if (at_disk >= h.options.depth)
        throw BadAccess{text("disk {}: more than {} requests are started", h.options.name, h.options.depth)};
    if (at_disk >= h.options.room) {
        ++h.counts.refused;
        leave();
        return false;
    }
    Hardware::Transfer t{
        .request = &request, .ticket = request.ticket(), .op = request.op(), .sector = request.sector()};
    for (u32 i = 0; i < request.parts(); ++i) {
        const BlockPart part = request.transfer(i);
        const u32 pfn = page_to_pfn(part.page).value();
        if (pfn >= h.options.reach.value())
            throw BadAccess{text("disk {}: frame {:x} is out of its reach, which ends at {:x}", h.options.name, pfn,
                                 h.options.reach)};
        t.pieces.push_back({pfn, part.offset, part.bytes});
        touch(ram_at(u64{pfn} << kPageShift), false); // it is in use from here on
    }
    t.number = ++h.starts;
    t.covers = h.tellings;
    if (h.hangs != 0) {
        --h.hangs;
        t.hangs = true;
    }
    h.counts.sectors.push_back(t.sector);
    ++h.counts.starts;
    if (detail::exploring && !can_step()) explore_device(number());
    h.pending.push_back(std::move(t));
    h.counts.most = std::max(h.counts.most, at_disk + 1);
    leave();
    if (h.options.at_once) {
        while (h.ended.empty() && can_step())
            move(static_cast<u32>(h.pending.size()) - 1);
        if (!h.ended.empty()) interrupt();
    }
    return true;
}

void SimDisk::forget() {
    Hardware& h = *hardware_;
    if (!machine().here().interrupts) throw BadAccess{text("disk {}: forget with interrupts off", h.options.name)};
    enter("forget");
    for (auto* const list : {&h.pending, &h.ended}) {
        for (const Hardware::Transfer& transfer : *list)
            for (const Hardware::Piece& piece : transfer.pieces)
                touch(ram_at(u64{piece.pfn} << kPageShift), false);
        h.counts.forgotten += static_cast<u32>(list->size());
        list->clear();
    }
    leave();
}

void SimDisk::interrupt() {
    Hardware& h = *hardware_;
    for (;;) {
        schedule_point(Point::io);
        touch(place::device(number()), true);
        if constexpr (races::kOn) races::acquire(place::device(number()));
        if (h.ended.empty() || (!h.options.at_once && machine().current() != h.options.interrupts)) return;
        h.last = std::move(h.ended.front());
        h.ended.pop_front();
        if (h.last.op == BlockOp::write && h.last.status) h.told[h.last.number] = ++h.tellings;
        ended(*h.last.request, h.last.ticket, h.last.status);
    }
}

// --- the disk

bool SimDisk::can_step() const {
    const Hardware& h = *hardware_;
    if (h.unplugged) return false;
    if (!h.ended.empty() && !detail::exploring && machine().cpu(h.options.interrupts).interrupts) return true;
    return std::any_of(h.pending.begin(), h.pending.end(), [](const Hardware::Transfer& t) { return !t.moved; });
}

void SimDisk::work() {
    while (can_step())
        step();
}

// Outside an exploration the handler runs at once, if its CPU has interrupts on; else in a later step.
void SimDisk::deliver() {
    const CpuId cpu = hardware_->options.interrupts;
    if (!detail::exploring && !machine().cpu(cpu).interrupts) return;
    ++hardware_->counts.interrupts;
    if (detail::exploring) return explore_send(cpu, Interrupt::device);
    on_cpu(cpu, [this] {
        sim::interrupt([this] {
            const InterruptCookie cookie = interrupt_enter();
            interrupt();
            interrupt_leave(cookie);
        });
    });
}

u32 SimDisk::pick() {
    Hardware& h = *hardware_;
    std::vector<u32> able;
    for (u32 i = 0; i < h.pending.size(); ++i)
        if (!h.pending[i].moved) able.push_back(i);
    if (!h.options.any_order || able.size() == 1) return able.front();
    const auto count = static_cast<u32>(able.size());
    return able[detail::exploring ? explore_choice(count) : static_cast<u32>(mixed(h.random++) % count)];
}

void SimDisk::step() {
    Hardware& h = *hardware_;
    if (!h.ended.empty() && !detail::exploring && machine().cpu(h.options.interrupts).interrupts) return deliver();
    move(pick());
    if (!h.ended.empty()) deliver();
}

// Moves some sectors, one after the other, and ends the transfer behind the last one.
void SimDisk::move(u32 index) {
    Hardware& h = *hardware_;
    Hardware::Transfer& t = h.pending[index];
    for (u32 n = 0; t.piece < t.pieces.size() && n < h.options.step; ++n) {
        const Hardware::Piece& piece = t.pieces[t.piece];
        if (h.bad.contains(t.sector)) {
            t.status = Error::io;
            break;
        }
        const u8 state = frame_state_of(piece.pfn);
        if ((state & frame_state::ram) == 0)
            throw BadAccess{text("disk {}: no RAM at frame {:x}", h.options.name, piece.pfn)};
        if ((state & frame_state::free) != 0)
            throw ReleasedAccess{
                text("disk {}: {} of frame {:x}, which has been given back", h.options.name, name_of(t.op), piece.pfn)};
        u8* const at = ram_at((u64{piece.pfn} << kPageShift) + piece.offset + t.done);
        if (t.op == BlockOp::read) {
            const Sector data = h.now.at(t.sector);
            machine().write(at, data.data(), kSectorBytes);
        } else {
            touch(ram_at(u64{piece.pfn} << kPageShift), false);
            Hardware::Record record{.sector = t.sector, .write = t.number};
            std::memcpy(record.data.data(), at, kSectorBytes);
            h.now.write(t.sector, record.data);
            h.cache.push_back(record);
        }
        ++t.sector;
        t.done += kSectorBytes;
        if (t.done != piece.bytes) continue;
        ++t.piece;
        t.done = 0;
        break;
    }
    t.moved = !t.status || t.piece == t.pieces.size();
    if (!t.moved || t.hangs) return;
    if (t.op == BlockOp::flush && std::exchange(h.fails_flush, false)) {
        t.status = Error::io;
        h.cache.clear();
        h.now = h.durable;
    } else if (t.op == BlockOp::flush) {
        // Of one sector the later record counts: an older one that is not covered cannot come back.
        std::set<u64> newer;
        std::vector<Hardware::Record> rest;
        for (auto record = h.cache.rbegin(); record != h.cache.rend(); ++record) {
            const auto told = h.told.find(record->write);
            if (newer.contains(record->sector)) continue;
            if (told == h.told.end() || told->second > t.covers) {
                rest.push_back(*record);
                continue;
            }
            newer.insert(record->sector);
            h.durable.write(record->sector, record->data);
        }
        h.cache.assign(rest.rbegin(), rest.rend());
    }
    // From here on the frames may be freed, when the driver knows it.
    for (const Hardware::Piece& piece : t.pieces)
        touch(ram_at(u64{piece.pfn} << kPageShift), false);
    h.ended.push_back(std::move(t));
    h.pending.erase(h.pending.begin() + index);
}

DiskImage SimDisk::after_power_cut(u64 seed) const {
    const Hardware& h = *hardware_;
    DiskImage image = h.durable;
    for (const Hardware::Record& record : h.cache) {
        const u64 of_write = mixed(seed ^ mixed(record.write)) % 3;
        const bool of_sector = mixed(seed ^ mixed(record.sector) ^ record.write) % 2 != 0;
        const bool there = seed == 0 ? false : seed == 1 ? true : of_write == 0 ? false : of_write == 1 || of_sector;
        if (there) image.write(record.sector, record.data);
    }
    return image;
}

} // namespace loft::sim
