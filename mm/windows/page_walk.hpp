// The one walker of page tables: what they say about an address, whoever built them.
//
// It stands above the local windows because a program's tables may lie in high memory, where it reads them.
#pragma once

#include "mm/frames/page.hpp"

namespace loft {

// What the tables say about an address. `level` says how far the walk got.
struct Walk {
    enum class Level : u8 { root, directory, table }; // the entry that ended the walk
    Level level = Level::root;
    Pte root{};      // the PDPTE; PAE only
    Pte directory{}; // the PDE
    Pte entry{};     // the PTE; empty behind a large page
    bool present = false;
    bool large = false;
    bool unreadable = false; // a table lies where this walker does not reach
    Pfn pfn{};               // of the 4 KiB frame, if present
    PteFlags flags{};        // of the entry that maps
};
// Any context in which the private slot is free (mm/windows/kmap_local.hpp), panic and NMI included: reads only,
// through the direct map; a table in high memory costs one invlpg. Follows SDM vol. 3, 4.3 and 4.4.
Walk page_walk(PhysAddr root, VirtAddr va);

} // namespace loft
