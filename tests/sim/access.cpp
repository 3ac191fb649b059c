// An access of the current CPU: the walk (SDM vol. 3, 4.3 and 4.4), its rights (4.6), accessed and dirty (4.8), and the
// check whether the CPU could use an old translation instead.
#include "tests/sim/explorer.hpp"
#include "tests/sim/machine.hpp"

namespace loft::sim {

void Machine::reserved_bits(u32 va, const char* level, u64 entry) const {
    throw BadAccess{text("CPU {} walks to {:08x}: reserved bits, or no memory behind it, in the {} {:x}", current(), va,
                         level, entry)};
}

// A page walk is a load of its CPU: it sees the stores of this CPU that are still in the store buffer.
RawPte Machine::seen(const Cpu& cpu, const RawCell* cell) const {
    RawPte entry = *cell;
    if (!cpu.buffer.empty()) [[unlikely]]
        cpu.buffer.forward(cell, &entry, kCellSize);
    return entry;
}

Machine::Walk Machine::walk(const Cpu& cpu, u32 va) const {
    Walk result;
    if (cpu.space == nullptr) throw BadAccess{text("CPU {} has no root loaded", current())};
    const u32 slot = va >> paging::kLargeShift;
    const u32 frame = cpu.space->directory[slot / kSpan];
    if (frame == Space::kNone) return result;

    result.directory = raw::cell(frame, slot % kSpan);
    const RawPte pde = seen(cpu, result.directory);
    if (!raw::present(pde)) return result;
    const u32 index = paging::pte_index(VirtAddr{va});
    if (raw::large(pde)) {
        if (raw::reserved(pde, true, features())) reserved_bits(va, "large directory entry", pde);
        result.translation = raw::large_translation(pde, features());
        result.translation.pfn += index;
        result.present = true;
        return result;
    }
    const u32 table = raw::frame(pde);
    if (raw::reserved(pde, false, features()) || !(frame_state_of(table) & frame_state::ram))
        reserved_bits(va, "directory entry", pde);

    result.table = raw::cell(table, index);
    const RawPte pte = seen(cpu, result.table);
    if (!raw::present(pte)) return result;
    if (raw::reserved(pte, false, features())) reserved_bits(va, "table entry", pte);
    result.translation = raw::translation(pte, raw::frame(pte), raw::rights(pde), features());
    result.present = true;
    return result;
}

std::optional<Translation> Machine::look(const Cpu& cpu, VirtAddr va) const {
    const Walk now = walk(cpu, va.value());
    if (!now.present) return std::nullopt;
    return now.translation;
}

std::vector<Translation> Machine::possible(VirtAddr va) {
    std::vector<Translation> all;
    if (const auto now = look(here(), va)) all.push_back(*now);
    for (const Residual& r : here().stale.of(va.value() >> kPageShift, features()))
        all.push_back(r.translation);
    return all;
}

bool Machine::may_reach_free_frame(CpuId id) const {
    return cpus_.at(id.value()).stale.any_page([](u32, const Translation& t) {
        return t.user && (frame_state_of(t.pfn) & frame_state::free) != 0;
    });
}

bool Machine::stale(VirtAddr va) {
    const auto now = look(here(), va);
    for (const Translation& t : possible(va))
        if (!now || t != *now) return true;
    return false;
}

void Machine::fault(VirtAddr va, Access kind, const Walk& now) {
    here().stale.fault(va.value() >> kPageShift);
    throw PageFault{text("page fault: CPU {} {} {:08x}: {}", current(), access_name(kind), va.value(),
                         now.present ? describe(now.translation) : std::string{"nothing is mapped"}),
                    va, now.present};
}

void Machine::released(VirtAddr va, u32 pfn, Access kind) const {
    throw ReleasedAccess{
        text("CPU {} {} {:08x}: frame {:x} has been given back", current(), access_name(kind), va.value(), pfn)};
}

// Throws if the outcome depends on the contents of the TLB. True if the TLB may hold a translation equal to the tables.
bool Machine::check_stale(Cpu& cpu, VirtAddr va, const Walk& now, Access kind) {
    if (!cpu.stale.knows(va.value() >> kPageShift)) return false;
    const bool allowed = now.present && now.translation.permits(kind);
    bool same = false, fewer = false;
    for (const Residual& r : cpu.stale.of(va.value() >> kPageShift, features())) {
        const bool would = r.translation.permits(kind);
        // The TLB may hold fewer rights on a program's page: then a spurious fault comes, which the kernel resolves
        // without a change (4.10.4.3).
        if (allowed && !would && r.translation.user && now.translation.user &&
            r.translation.pfn == now.translation.pfn) {
            fewer = true;
            continue;
        }
        if (would != allowed || (would && r.translation.pfn != now.translation.pfn)) {
            throw StaleAccess{text("stale access: CPU {} {} {:08x}: the tables say {}, but the TLB may still hold {}, "
                                   "which {}:{} changed "
                                   "without a flush here",
                                   current(), access_name(kind), va.value(),
                                   now.present ? describe(now.translation) : std::string{"that nothing is mapped"},
                                   describe(r.translation), r.changed.file, r.changed.line)};
        }
        same |= would;
    }
    if (fewer && chosen()) fault(va, kind, now);
    return same;
}

// In an exploration a program may access a page while another CPU unmaps it; the kernel does so only if it is wrong.
// Until that CPU's flush arrives here, this CPU may use the old translation or the tables: a choice of the schedule.
// Null: the tables.
u8* Machine::by_old_translation(Cpu& cpu, VirtAddr va, const Walk& now, Access kind) {
    std::vector<Residual> old = cpu.stale.of(va.value() >> kPageShift, features());
    std::erase_if(old, [&](const Residual& r) { return now.present && r.translation == now.translation; });
    const u32 pick = old.empty() ? 0 : explore_choice(static_cast<u32>(old.size()) + 1);
    if (pick == 0) return nullptr;
    const Translation& by = old[pick - 1].translation;
    if (!by.permits(kind)) {
        Walk seen = now;
        seen.present = true;
        seen.translation = by;
        fault(va, kind, seen);
    }
    if (old[pick - 1].given_back || (frame_state_of(by.pfn) & frame_state::free) != 0)
        throw ReleasedAccess{text("CPU {} {} {:08x}: frame {:x}, which {}:{} took away, has been given back "
                                  "before this CPU forgot it",
                                  current(), access_name(kind), va.value(), by.pfn, old[pick - 1].changed.file,
                                  old[pick - 1].changed.line)};
    touch(ram_at(u64{by.pfn} << kPageShift), false);
    return ram_at((u64{by.pfn} << kPageShift) + va.page_offset());
}

u8* Machine::access(VirtAddr va, u32 size, Access kind) {
    if ((va.value() & (size - 1)) != 0)
        throw BadAccess{text("CPU {} {} {:08x}: {} bytes, misaligned", current(), access_name(kind), va.value(), size)};
    Cpu& cpu = here();
    const Walk now = walk(cpu, va.value());
    // The kernel's directories do not change while an exploration runs.
    if (va.value() < kUserEnd) touch(now.directory, false);
    if (now.table != nullptr) touch(now.table, false);
    touch(place::tlb_used(current_), false);
    bool cached = false;
    if (!cpu.stale.empty()) [[unlikely]] {
        if (detail::exploring && (va.value() < kUserEnd || kernel_chooses_)) {
            if (u8* old = by_old_translation(cpu, va, now, kind)) return old;
        } else {
            cached = check_stale(cpu, va, now, kind);
        }
    }
    if (!now.present || !now.translation.permits(kind)) fault(va, kind, now);

    const u32 pfn = now.translation.pfn;
    const u8 state = frame_state_of(pfn);
    if ((state & frame_state::ram) == 0)
        throw BadAccess{text("CPU {} {} {:08x}: no RAM at frame {:x}", current(), access_name(kind), va.value(), pfn)};
    if (state & frame_state::free) released(va, pfn, kind);
    touch(ram_at(u64{pfn} << kPageShift), false);

    // A hit in the TLB does not walk, and so does not set A (4.8); nor D, if the cached entry has it set.
    RawCell* leaf = now.table != nullptr ? now.table : now.directory;
    const RawPte bits = raw::kAccessed | (writes(kind) ? raw::kDirty : 0);
    if ((seen(cpu, leaf) & bits) != bits || !raw::accessed(*now.directory)) [[unlikely]] {
        if (cpu.buffer.covers(leaf, kCellSize)) { // A and D are set by a locked operation
            schedule_point(Point::assist);
            return access(va, size, kind);
        }
        if (!cached || chosen()) {
            touch(leaf, true);
            frame_state_of(frame_of(leaf)) |= frame_state::dirty;
            frame_state_of(frame_of(now.directory)) |= frame_state::dirty;
            *now.directory |= raw::kAccessed;
            *leaf |= bits;
        }
    }
    return ram_at((u64{pfn} << kPageShift) + va.page_offset());
}

} // namespace loft::sim
