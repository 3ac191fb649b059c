// Page-table entries as memory: reading and writing them, and the old translations that a change leaves in the TLBs.
//
// The rule of the accessed bit (SDM vol. 3, 4.8, 4.10.2.3): a processor sets A of an entry before it caches the entry.
// So an entry that an *atomic* operation took with A clear is in no TLB. A plain store proves nothing, even after a
// read that found A clear: the CPU may have filled its TLB in between, and the store has overwritten A.
#include "tests/sim/explorer.hpp"
#include "tests/sim/machine.hpp"

#include <algorithm>

namespace loft::sim {
namespace {

u64 phys_of(const RawCell* cell) { return reinterpret_cast<std::uintptr_t>(cell) - kRamBase; }
u32 frame_number(const RawCell* cell) { return static_cast<u32>(phys_of(cell) >> kPageShift); }
u32 index_of(const RawCell* cell) { return static_cast<u32>(phys_of(cell) % kPageSize) / kCellSize; }

// The bits that are part of a translation: all but A, D and the bits for software.
constexpr RawPte kMeaning = static_cast<RawPte>(~u64{raw::kAccessed | raw::kDirty | 0xe00u});

bool leads_to_table(RawPte entry) { return raw::present(entry) && !raw::large(entry); }

RawPte with_half(RawPte entry, u32 half, u32 value) {
    const u32 shift = 32 * half;
    return static_cast<RawPte>((u64{entry} & ~(u64{0xffff'ffff} << shift)) | u64{value} << shift);
}

} // namespace

void Space::link(u32 slot, RawPte entry) {
    if (!leads_to_table(entry)) return;
    tables[raw::frame(entry)].push_back(static_cast<u16>(slot));
    frame_state_of(raw::frame(entry)) |= frame_state::table;
}

void Space::unlink(u32 slot, RawPte entry) {
    if (!leads_to_table(entry)) return;
    const auto it = tables.find(raw::frame(entry));
    if (it == tables.end()) return;
    std::erase(it->second, static_cast<u16>(slot));
    if (it->second.empty()) tables.erase(it);
}

// A pointer to an entry is its host address in RAM, or stands for a virtual address through which a page table in high
// memory is mapped.
RawCell* Machine::cell_address(const void* cell, Access kind) {
    const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(cell);
    if (at % kCellSize != 0) throw BadAccess{text("page-table entry at {:x}: misaligned", at)};
    u8* place = nullptr;
    if (at - kRamBase < kRamLimit) {
        place = ram_at(at - kRamBase);
        const u8 state = frame_state_of(frame_of(place));
        if (state & frame_state::free)
            throw ReleasedAccess{text("page-table entry in frame {:x}, which has been given back", frame_of(place))};
        if ((state & frame_state::ram) == 0)
            throw BadAccess{text("page-table entry in frame {:x}, where no RAM is", frame_of(place))};
    } else if (at - kWindowBase < 4 * GiB) {
        place = access(VirtAddr{static_cast<u32>(at - kWindowBase)}, 4, kind);
    } else {
        throw BadAccess{text("page-table entry at {:x}: not in the machine's RAM", at)};
    }
    return reinterpret_cast<RawCell*>(place);
}

bool Machine::reachable(const RawCell* cell) {
    const u32 frame = frame_number(cell);
    for (const auto& space : spaces_) {
        if (space->tables.contains(frame)) return true;
        if (std::find(space->directory.begin(), space->directory.end(), frame) != space->directory.end()) return true;
    }
    for (const Cpu& cpu : cpus_)
        for (const DirectoryResidual& d : cpu.stale.directories())
            if (d.table == frame) return true;
    return false;
}

// Called when an accessed bit is read and is clear: the CPU may have set it just before, by a speculative walk. True if
// it has; A is set then.
bool Machine::fill(RawCell* cell) {
    const RawPte entry = *cell;
    if (!raw::present(entry) || raw::accessed(entry)) return false;
    const u32 frame = frame_number(cell);
    if ((frame_state_of(frame) & frame_state::table) == 0 || !reachable(cell)) return false;
    if (!chosen()) return false;
    touch(cell, true);
    frame_state_of(frame) |= frame_state::dirty;
    *cell |= raw::kAccessed;
    // The walk has used a directory entry; its A is set before (4.8).
    for (const auto& space : spaces_)
        if (const auto it = space->tables.find(frame); it != space->tables.end())
            for (const u16 slot : it->second)
                *raw::cell(space->directory[slot / kSpan], slot % kSpan) |= raw::kAccessed;
    return true;
}

u32 Machine::cell_half(const void* cell, u32 half) {
    RawCell* place = cell_address(cell, Access::read);
    touch_word(place, kCellSize, false);
    if (half == 0 && !here().buffer.covers(place, kCellSize)) fill(place);
    return static_cast<u32>(u64{seen(here(), place)} >> (32 * half));
}

RawPte Machine::cell_read(const void* cell) {
    RawCell* place = cell_address(cell, Access::read);
    touch_word(place, kCellSize, false);
    if (!here().buffer.covers(place, kCellSize)) fill(place);
    return seen(here(), place);
}

void Machine::cell_store_half(void* cell, u32 half, u32 value, Where where) {
    RawCell* place = cell_address(cell, Access::write);
    if (!detail::exploring) return change_half(place, half, value, where);
    touch_plain(reinterpret_cast<u8*>(place) + 4 * half, 4, races::Kind::cell_write);
    here().buffer.push({PendingStore::Kind::entry, 4, reinterpret_cast<u8*>(place) + 4 * half, value, where});
    explore_stored();
}

void Machine::change_half(RawCell* place, u32 half, u32 value, Where where) {
    const RawPte before = *place, now = with_half(before, half, value);
    *place = now;
    note_change(place, before, now, false, where);
}

RawPte Machine::cell_exchange(void* cell, RawPte value, Where where) {
    RawCell* place = cell_address(cell, Access::write);
    touch_word(place, kCellSize, true);
    fill(place);
    const RawPte before = *place;
    *place = value;
    note_change(place, before, value, !raw::accessed(before), where);
    return before;
}

u32 Machine::cell_exchange_low(void* cell, u32 value, Where where) {
    RawCell* place = cell_address(cell, Access::write);
    touch_word(place, kCellSize, true);
    fill(place);
    const RawPte before = *place;
    *place = with_half(before, 0, value);
    note_change(place, before, *place, !raw::accessed(before), where);
    return static_cast<u32>(before);
}

// A store through a mapping into a frame that is, or was, a page table.
void Machine::write_table(u8* to, const void* from, u32 bytes) {
    const u64 first = reinterpret_cast<std::uintptr_t>(to) - kRamBase;
    const u64 begin = round_down(first, u64{kCellSize}), end = round_up(first + bytes, u64{kCellSize});
    std::vector<RawPte> before((end - begin) / kCellSize);
    std::memcpy(before.data(), ram_at(begin), end - begin);
    std::memmove(to, from, bytes);
    for (u32 i = 0; i < before.size(); ++i) {
        RawCell* cell = reinterpret_cast<RawCell*>(ram_at(begin)) + i;
        note_change(cell, before[i], *cell, false, {});
    }
}

void Machine::note_change(const RawCell* cell, RawPte before, RawPte now, bool never_cached, Where where) {
    const u32 frame = frame_number(cell);
    if ((frame_state_of(frame) & frame_state::table) == 0) return; // no CPU can walk it
    frame_state_of(frame) |= frame_state::dirty;
    // No old translation is left if the entry keeps its meaning, and A, and D if it was set.
    const bool goes_on =
        raw::accessed(now) && (before & kMeaning) == (now & kMeaning) && (now & raw::kDirty) >= (before & raw::kDirty);
    const bool residual = raw::present(before) && !never_cached && !goes_on;

    if (residual)
        for (u32 i = 0; i < cpus_.size(); ++i)
            touch(place::tlb_fed(i), false);
    if (residual && !raw::reserved(before, false, features())) {
        const auto left_behind = [&](Cpu& cpu, u32 slot, Rights rights) {
            cpu.stale.add_page(slot * kSpan + index_of(cell),
                               {raw::translation(before, raw::frame(before), rights, features()), where});
        };
        for (Cpu& cpu : cpus_) {
            if (cpu.space == nullptr) continue;
            if (const auto it = cpu.space->tables.find(frame); it != cpu.space->tables.end())
                for (const u16 slot : it->second)
                    left_behind(cpu, slot, raw::rights(cpu.space->entry(slot)));
            for (const DirectoryResidual& d : cpu.stale.directories())
                if (d.table == frame) left_behind(cpu, d.slot, d.rights);
        }
    }
    for (const auto& space : spaces_)
        for (u32 d = 0; d < space->directory.size(); ++d)
            if (space->directory[d] == frame)
                directory_changed(*space, d * kSpan + index_of(cell), before, now, residual, where);
}

// A directory entry was changed: TLBs may hold the old translations below it, and the CPU may still walk the old table
// (4.10.3).
void Machine::directory_changed(Space& space, u32 slot, RawPte before, RawPte now, bool residual, Where where) {
    const bool valid = !raw::reserved(before, raw::large(before), features());
    for (Cpu& cpu : cpus_) {
        if (cpu.space != &space || !residual || !valid) continue;
        if (raw::large(before)) {
            cpu.stale.add_large(slot, {raw::large_translation(before, features()), where});
            continue;
        }
        const Rights rights = raw::rights(before);
        cpu.stale.add_directory({slot, raw::frame(before), rights, where});
        for (u32 i = 0; i < kSpan; ++i) {
            const RawPte pte = *raw::cell(raw::frame(before), i);
            if (raw::present(pte) && !raw::reserved(pte, false, features()))
                cpu.stale.add_page(slot * kSpan + i,
                                   {raw::translation(pte, raw::frame(pte), rights, features()), where});
        }
    }
    spaces_changed_ = true;
    space.unlink(slot, before);
    space.link(slot, now);
}

} // namespace loft::sim
