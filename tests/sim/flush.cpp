// Flushes and CR3: SDM vol. 3, 4.10.4.1; the PDPTEs of PAE: 4.4.1.
#include "tests/sim/machine.hpp"

#include <algorithm>

namespace loft::sim {
namespace {
constexpr RawPte kAccessedDirty = raw::kAccessed | raw::kDirty;
} // namespace

void Machine::invlpg(VirtAddr va, const Site& site) {
    if (!flush_wanted(site, "invlpg")) return;
    ++here().counters.invlpg;
    touch(place::tlb_used(current_), true);
    touch(place::tlb_fed(current_), true);
    here().stale.flush_page(va.value() >> kPageShift, features());
}

void Machine::flush_non_global(const Site& site) {
    if (!flush_wanted(site, "flush_non_global")) return;
    ++here().counters.flush_non_global;
    load_root(here().root);
    --here().counters.load_root;
}

// CR4.PGE off and on. This also reloads the PDPTEs (4.4.1).
void Machine::flush_all(const Site& site) {
    if (!flush_wanted(site, "flush_all")) return;
    ++here().counters.flush_all;
    load_root(here().root);
    --here().counters.load_root;
    here().stale.flush_all();
}

void Machine::load_root(u64 root) {
    Cpu& cpu = here();
    ++cpu.counters.load_root;
    touch(place::tlb_used(current_), true);
    touch(place::tlb_fed(current_), true);
    cpu.stale.flush_non_global(features());
    Space* before = cpu.space;
    Space* next = acquire(latch(root));
    if (next != before) spaces_changed_ = true;
    // Global translations of the old space survive.
    if (before != nullptr && before != next && features().global) keep_globals(cpu, *before, *next);
    cpu.root = root;
    cpu.space = next;
    if (before != nullptr) release(before);
}

// The PDPTEs that a CPU latches from the root when CR3 is loaded.
std::array<u32, paging::kDirectories> Machine::latch(u64 root) const {
    std::array<u32, paging::kDirectories> directory;
    const u32 frame = static_cast<u32>(root >> kPageShift);
    if (root >= 4 * GiB || root % (config::kPae ? 32 : kPageSize) != 0 || !(frame_state_of(frame) & frame_state::ram))
        throw BadAccess{text("CPU {} loads CR3 with {:x}: not an aligned address of RAM below 4 GiB", current(), root)};
    if constexpr (!config::kPae) {
        directory[0] = frame;
    } else {
        constexpr u64 kReserved = 0x1e6 | ~(raw::kFrame | 0xfffu); // table 4-8
        for (u32 i = 0; i < paging::kRootEntries; ++i) {
            const u64 entry = *(reinterpret_cast<RawCell*>(ram_at(root)) + i);
            directory[i] = Space::kNone;
            if ((entry & 1) == 0) continue;
            if ((entry & kReserved) != 0 ||
                !(frame_state_of(raw::frame(static_cast<RawPte>(entry))) & frame_state::ram))
                throw BadAccess{text("CPU {} loads CR3 with {:x}: PDPTE {} is {:x}: general protection fault",
                                     current(), root, i, entry)};
            directory[i] = raw::frame(static_cast<RawPte>(entry));
        }
    }
    return directory;
}

Space* Machine::acquire(const std::array<u32, paging::kDirectories>& directory) {
    for (const auto& space : spaces_) {
        if (space->directory == directory) {
            ++space->users;
            return space.get();
        }
    }
    auto space = std::make_unique<Space>();
    space->directory = directory;
    space->users = 1;
    for (u32 d = 0; d < directory.size(); ++d) {
        if (directory[d] == Space::kNone) continue;
        frame_state_of(directory[d]) |= frame_state::table;
        for (u32 i = 0; i < kSpan; ++i) {
            const RawPte entry = *raw::cell(directory[d], i);
            // An entry with reserved bits is an error of a walk: no table is reached through it.
            if (raw::reserved(entry, raw::large(entry), features())) continue;
            space->link(d * kSpan + i, entry);
        }
    }
    spaces_.push_back(std::move(space));
    return spaces_.back().get();
}

void Machine::release(Space* space) {
    if (--space->users == 0) std::erase_if(spaces_, [&](const auto& s) { return s.get() == space; });
}

void Machine::keep_globals(Cpu& cpu, const Space& from, const Space& to) {
    const Where where = hal::SourceLocation::current();
    for (u32 d = 0; d < from.directory.size(); ++d) {
        if (from.directory[d] == Space::kNone || from.directory[d] == to.directory[d]) continue;
        for (u32 i = 0; i < kSpan; ++i) {
            const u32 slot = d * kSpan + i;
            const RawPte old = from.entry(slot);
            if (!raw::present(old) || ((old ^ to.entry(slot)) & ~kAccessedDirty) == 0) continue;
            if (raw::reserved(old, raw::large(old), features())) continue;
            if (raw::large(old)) {
                if (old & raw::kGlobal) cpu.stale.add_large(slot, {raw::large_translation(old, features()), where});
                continue;
            }
            for (u32 k = 0; k < kSpan; ++k) {
                const RawPte pte = *raw::cell(raw::frame(old), k);
                if (!raw::present(pte) || !(pte & raw::kGlobal) || raw::reserved(pte, false, features())) continue;
                cpu.stale.add_page(slot * kSpan + k,
                                   {raw::translation(pte, raw::frame(pte), raw::rights(old), features()), where});
            }
        }
    }
}

} // namespace loft::sim
