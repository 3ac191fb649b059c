// The kernel's page tables, and the one walker.
//
// Every table of the upper part (from the end of the direct map to 4 GiB) is allocated at boot, and they lie
// one behind the other: the entry of an address there is an array index, kernel_pte(va). No mapping ever
// allocates, and no other address space ever has to hear of one.
#pragma once

#include "mm/ground/boot_info.hpp"
#include "mm/frames/page.hpp"
#include <hal/hal.hpp>

namespace loft {

// Attributes of kernel mappings on this machine: what the CPU has of NX and G is in them. Set by
// pagetable_init_flags.
struct KernelProt {
    PteFlags text;   // R-X, global
    PteFlags rodata; // R--, global
    PteFlags data;   // RW-, global, A and D preset: the direct map and the local windows
    PteFlags device; // RW-, uncached
    PteFlags pool;   // RW-, not global, A and D clear: pkmap and vmap
    PteFlags pool_ro;
    PteFlags pool_rx;
};
extern KernelProt kernel_prot;
void pagetable_init_flags();

namespace detail {
// Where the entry of address 0 would be, if the tables of the upper part went on down to it.
extern std::uintptr_t kernel_ptes_origin;
}

// The entry of a page in the upper part; `page` is its first address. Any context, no check but in DEBUG.
inline hal::PteCell* kernel_pte(VirtAddr page) {
    LOFT_DEBUG_ASSERT(page.value() >= layout::boundaries.upper_base && page.value() % kPageSize == 0);
    // One shift: what it leaves of the low bits is 0.
    constexpr u32 kShift = kPageShift - std::countr_zero(sizeof(RawPte));
    return reinterpret_cast<hal::PteCell*>(detail::kernel_ptes_origin + (page.value() >> kShift));
}

// Before mm_init: boot has linked one table that covers the end of the address space; fixmap uses it.
void pagetable_early(hal::PteCell* last_table);

// Builds the kernel's root (direct map, upper tables), without loading it. Uses bootmem.
PhysAddr pagetable_build(const BootInfo& info);
PhysAddr kernel_root();

// What the tables say about an address. `levels` says how far the walk got.
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
// Any context in which the private slot is free (mm/windows/kmap_local.hpp), panic and NMI included: reads only, through the direct
// map; a table in high memory costs one invlpg. Follows SDM vol. 3, 4.3 and 4.4.
Walk page_walk(PhysAddr root, VirtAddr va);

// Frames that boot used for the kernel's tables.
u32 pagetable_frames();

} // namespace loft
