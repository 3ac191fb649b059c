// A second page-table walker, as simple as possible: it uses the numbers of the manual and reads physical memory.
//
// It shares no code with mm/windows/page_walk.cpp, arch/i386/isa/pte.hpp or the simulated machine's walker, so a
// mistake there is not repeated here (SDM vol. 3: 4.3 for 32-bit paging, 4.4 for PAE, 4.6 for rights).
#pragma once

#include "arch/base/types.hpp"

#include <functional>
#include <optional>
#include <set>

namespace loft::test {

struct Mapped {
    u64 phys = 0; // of the page
    bool large = false;
    bool write = false;
    bool user = false;
    bool execute = false;
    bool global = false;
    bool uncached = false;
    bool accessed_dirty = false; // both bits are set in the entry that maps the page
    bool operator==(const Mapped&) const = default;
};

// The mapping of `va` in the tables under `root`. Caches nothing, sets no accessed bit.
std::optional<Mapped> oracle_walk(u64 root, u32 va);

// Calls visit(va, mapped) for each 4 KiB page of the address space that is mapped.
void oracle_every_page(u64 root, const std::function<void(u32 va, const Mapped&)>& visit);

// The frames of all tables under `root`, including that of the root.
std::set<u64> oracle_tables(u64 root);

// True if the directory entry of `va` points at a page table.
bool oracle_has_table(u64 root, u32 va);

} // namespace loft::test
