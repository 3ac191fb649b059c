// The machine: construction, CPUs, choices.
#include "tests/sim/machine.hpp"

#include "tests/sim/explorer.hpp"
#include <hal/cpu.hpp>

#include <algorithm>
#include <utility>

namespace loft::sim {
namespace {

Machine* the_machine;

// QEMU's `pc`: everything below 4 GiB up to 3.5 GiB, else 3 GiB there and the rest from 4 GiB on.
std::vector<RamRange> like_a_pc(u64 ram) {
    const u64 low = ram <= 7 * GiB / 2 ? ram : 3 * GiB;
    std::vector<RamRange> ranges{{0, low}};
    if (ram > low) ranges.push_back({4 * GiB, ram - low});
    return ranges;
}

} // namespace

bool has_machine() { return the_machine != nullptr; }

Machine& machine() {
    if (the_machine == nullptr) throw BadAccess{"no simulated machine: the test makes a sim::Machine first"};
    return *the_machine;
}

Machine::Machine(Options options) : options_{std::move(options)}, random_state_{options_.seed * 2 + 1} {
    if (the_machine != nullptr) throw BadAccess{"one simulated machine at a time"};
    if (options_.cpus == 0 || options_.cpus > config::kMaxCpus) throw BadAccess{"that many CPUs there are not"};
    ram_reset();
    ram_ = options_.ranges.empty() ? like_a_pc(options_.ram) : options_.ranges;
    for (const RamRange& range : ram_) {
        const u64 begin = std::min(range.base >> kPageShift, u64{kFrameLimit});
        const u64 end = std::min((range.base + range.size) >> kPageShift, u64{kFrameLimit});
        if (begin < end) std::memset(&frame_state_of(static_cast<u32>(begin)), frame_state::ram, end - begin);
    }
    cpus_.resize(options_.cpus);
    cpus_[0].online = true;
    online_ = CpuSet::only(CpuId{0});
    set_schedule_hook({});
    the_machine = this;
}

Machine::~Machine() {
    set_schedule_hook({});
    the_machine = nullptr;
}

void Machine::switch_to(CpuId id) {
    if (id.value() >= cpus_.size()) throw BadAccess{text("there is no CPU {}", id)};
    current_ = id.value();
    relaxed_ = 0;
}

void Machine::bring_up(CpuId id) {
    Cpu& fresh = cpu(id);
    if (fresh.online) return;
    fresh.online = true;
    fresh.interrupts = true;
    online_ = online_.with(id);
    const u64 root = here().root;
    on_cpu(id, [&] { load_root(root); });
    fresh.counters = {};
}

void Machine::finish_boot(const std::function<void(CpuId)>& prepare) {
    for (u32 i = 0; i < cpus_.size() - options_.off; ++i) {
        if (cpus_[i].online) continue;
        if (prepare) prepare(CpuId{i});
        bring_up(CpuId{i});
    }
    here().interrupts = true;
    booted_ = true;
}

void Machine::start_here(u64 root) {
    here().online = true;
    online_ = online_.with(current());
    load_root(root);
}

Counters Machine::total() const {
    Counters sum;
    for (const Cpu& c : cpus_) {
        sum.invlpg += c.counters.invlpg;
        sum.flush_non_global += c.counters.flush_non_global;
        sum.flush_all += c.counters.flush_all;
        sum.load_root += c.counters.load_root;
        sum.ipis_sent += c.counters.ipis_sent;
        sum.ipis_received += c.counters.ipis_received;
        sum.reschedules += c.counters.reschedules;
    }
    return sum;
}

void Machine::set_interrupts(bool on) {
    if (detail::exploring && here().interrupts != on) explore_interrupts(on);
    here().interrupts = on;
}

void Machine::interrupt_cpu(CpuId id) {
    if (id.value() >= cpus_.size() || !cpu(id).online)
        throw BadAccess{text("CPU {} interrupts CPU {}, which is not there: it would wait for ever", current(), id)};
    ++here().counters.ipis_sent;
    ++cpu(id).counters.ipis_received;
    if (detail::exploring)
        explore_send(id);
    else
        on_cpu(id, [] { interrupt(remote_answer); });
}

Device::Device() { machine().add(*this); }
Device::~Device() {
    if (has_machine()) machine().remove(*this);
}

void Machine::add(Device& device) {
    device.number_ = static_cast<u32>(devices_.size());
    devices_.push_back(&device);
}
void Machine::remove(Device& device) {
    std::erase(devices_, &device);
    for (u32 i = 0; i < devices_.size(); ++i)
        devices_[i]->number_ = i;
}

bool Machine::step_a_device() {
    for (Device* const device : devices_) {
        if (!device->can_step()) continue;
        device->step();
        return true;
    }
    return false;
}

void Machine::store(u8* to, const void* from, u32 bytes, u32 note) {
    if (!detail::exploring) return write(to, from, bytes);
    PendingStore later{PendingStore::Kind::data, static_cast<u8>(bytes), to};
    later.note = note;
    std::memcpy(&later.value, from, bytes);
    here().buffer.push(later);
    explore_stored();
}

void Machine::drain(CpuId id) {
    const PendingStore store = cpu(id).buffer.pop();
    switch (store.kind) {
    case PendingStore::Kind::variable:
        touch(store.at, true);
        std::memcpy(store.at, &store.value, store.size);
        break;
    case PendingStore::Kind::entry: {
        const u32 half = reinterpret_cast<std::uintptr_t>(store.at) % kCellSize / 4;
        RawCell* const cell = reinterpret_cast<RawCell*>(store.at - 4 * half);
        touch(cell, true);
        change_half(cell, half, static_cast<u32>(store.value), store.where);
        break;
    }
    case PendingStore::Kind::data:
        write(store.at, &store.value, store.size);
        if (store.note != 0) noted_store_drained(store.note);
        break;
    }
}

void store_later(void* at, u64 value, u32 size) {
    machine().here().buffer.push({PendingStore::Kind::variable, static_cast<u8>(size), static_cast<u8*>(at), value});
    explore_stored();
}
void forward_own(const void* at, void* value, u32 size) {
    if (!machine().here().buffer.empty()) machine().here().buffer.forward(at, value, size);
}

void Machine::rewind(CpuSet online, const std::vector<u64>& roots) {
    online_ = online;
    for (u32 i = 0; i < cpus_.size(); ++i)
        cpus_[i].online = online.has(CpuId{i});
    if (std::exchange(spaces_changed_, false)) {
        for (Cpu& cpu : cpus_)
            cpu.space = nullptr;
        spaces_.clear();
        for (u32 i = 0; i < cpus_.size(); ++i) {
            if (!cpus_[i].online) continue;
            cpus_[i].root = roots[i];
            cpus_[i].space = acquire(latch(roots[i]));
        }
    }
    for (Cpu& cpu : cpus_) {
        cpu.stale.flush_all();
        cpu.buffer.clear();
        cpu.counters = {};
        cpu.interrupts = cpu.online;
    }
    current_ = 0;
    relaxed_ = 0;
    script_.clear();
    log_.clear();
    random_state_ = options_.seed * 2 + 1;
}

void Machine::relax() {
    if (detail::exploring) return; // the explorer finds waits without end as deadlocks
    if (++relaxed_ < options_.patience) return;
    relaxed_ = 0;
    throw BadAccess{text("CPU {} waits in a loop that no other CPU ends", current())};
}

u64 Machine::random() { // xorshift64*
    random_state_ ^= random_state_ >> 12;
    random_state_ ^= random_state_ << 25;
    random_state_ ^= random_state_ >> 27;
    return random_state_ * 0x2545'f491'4f6c'dd1d;
}

bool Machine::chosen() {
    ++fills_asked_;
    if (detail::exploring) return explore_choice(2) != 0;
    if (!script_.empty()) {
        const bool answer = script_.front();
        script_.pop_front();
        return answer;
    }
    if (options_.fills == Fills::random)
        return booted_ && (random() >> 60) < 6; // both answers occur; the ratio does not matter
    return options_.fills == Fills::always;
}

// --- frames

void Machine::frame_used(u32 pfn, u32 order) {
    for (u32 i = 0; i < 1u << order; ++i) {
        u8& state = frame_state_of(pfn + i);
        state = static_cast<u8>((state | frame_state::handed_out) & ~frame_state::free);
    }
}

void Machine::frame_free(u32 pfn, u32 order) {
    for (u32 i = 0; i < 1u << order; ++i) {
        u8& state = frame_state_of(pfn + i);
        if (state & frame_state::table) {
            const u32 frame = pfn + i;
            const bool linked = std::any_of(spaces_.begin(), spaces_.end(), [&](const auto& space) {
                const auto& d = space->directory;
                return space->tables.contains(frame) || std::find(d.begin(), d.end(), frame) != d.end();
            });
            if (linked) throw ReleasedAccess{text("page table in frame {:x} given back while it is in use", frame)};
            for (u32 c = 0; c < cpus_.size(); ++c)
                for (const DirectoryResidual& d : cpus_[c].stale.directories())
                    if (d.table == frame)
                        throw ReleasedAccess{
                            text("page table in frame {:x} given back before CPU {} forgot the directory "
                                 "entry that {}:{} changed",
                                 frame, c, d.changed.file, d.changed.line)};
            state = static_cast<u8>(state & ~frame_state::table);
        }
        for (u32 c = 0; c < cpus_.size(); ++c)
            if (c != current_ && cpus_[c].buffer.covers(ram_at(u64{pfn + i} << kPageShift), kPageSize))
                throw ReleasedAccess{text("CPU {} gives frame {:x} back while CPU {} has a store for it in its buffer",
                                          current_, pfn + i, c)};
        for (const Device* const device : devices_)
            if (const std::string use = device->use_of(pfn + i); !use.empty())
                throw ReleasedAccess{text("frame {:x} given back before its transfer ended: {}", pfn + i, use)};
        if (detail::exploring) [[unlikely]]
            for (Cpu& cpu : cpus_)
                cpu.stale.give_back(pfn + i);
        if (state & frame_state::handed_out) state |= frame_state::free;
        touch(ram_at(u64{pfn + i} << kPageShift), true);
    }
}

bool Machine::allocation_fails() {
    if (!fail_after_ || (*fail_after_)-- != 0) return false;
    fail_after_.reset();
    if (later_fail_) fail_after_ = 0;
    allocation_failed_ = true;
    return true;
}

bool Machine::logged(std::string_view part) const {
    return std::any_of(log_.begin(), log_.end(),
                       [&](const std::string& line) { return line.find(part) != std::string::npos; });
}

} // namespace loft::sim
