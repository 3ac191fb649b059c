// The one walker of page tables: the entries that translate an address, in the kernel's tables or a program's.
//
//     without PAE: 32-bit entries, 1024 in a table
//
//     va    31            22 21            12 11           0
//          | PD index (10)  | PT index (10)  | offset (12)  |
//
//     CR3 --> PD: PDE ----------> PT: PTE ----------> 4 KiB frame
//                  '- PS set ---> 4 MiB page: the walk ends here
//
//     PAE: 64-bit entries, 512 in a table, 4 in the PDPT
//
//     va    31 30 29           21 20           12 11           0
//          | (2) | PD index (9)  | PT index (9)  | offset (12)  |
//            '- PDPT index
//
//     CR3 --> PDPT: PDPTE ---> PD: PDE ----------> PT: PTE ----------> 4 KiB frame
//                                   '- PS set ---> 2 MiB page: the walk ends here
//
//     table   an entry points at           where the table lies, for a program
//     PDPT    a PD                         lowmem; 32 bytes, one for each program
//     PD      a PT, or a large page (PS)   lowmem. PAE: 3 for each program, the 4th is the kernel's and shared. Without
//                                          PAE: 1 for each program, its last 256 PDEs are copies of the kernel's
//     PT      a 4 KiB frame                HIGHPTE=1: any zone, high memory first; HIGHPTE=0: lowmem
//
// All tables of the kernel lie in lowmem and exist from boot on. So a PT of a program is the only table that can lie in
// high memory (mm/spaces/highpte.hpp). The walker maps it through the private slot of the CPU; this is why the walker
// stands above the local windows.
#pragma once

#include "mm/frames/page.hpp"

namespace loft {

// The result of a walk. `level` is the last level that was read.
struct Walk {
    enum class Level : u8 { root, directory, table }; // the level of the entry that ended the walk
    Level level = Level::root;
    Pte root{};      // the PDPTE; PAE only
    Pte directory{}; // the PDE
    Pte entry{};     // the PTE; empty if the PDE maps a large page
    bool present = false;
    bool large = false;
    bool unreadable = false; // a table lies in high memory where none may be, or behind the frame table
    Pfn pfn{};               // of the 4 KiB frame, if present
    PteFlags flags{};        // of the entry that maps the page
};
// Walks from `root` (CR3). Any context in which the private slot of this CPU is free (mm/windows/kmap_local.hpp), panic
// and NMI included. Only reads. Cost: none for tables in lowmem, one invlpg for a PT in high memory. Source: SDM
// vol. 3, 4.3 and 4.4.
Walk page_walk(PhysAddr root, VirtAddr va);

} // namespace loft
