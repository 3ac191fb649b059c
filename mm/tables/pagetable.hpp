// The kernel's page tables. mm/windows/page_walk.hpp walks them, and those of programs.
//
// Every table of the upper part (from the end of the direct map to 4 GiB) is allocated at boot, and they lie
// one behind the other: the entry of an address there is an array index, kernel_pte(va). No mapping ever
// allocates, and no other address space ever has to hear of one.
#pragma once

#include "mm/frames/page.hpp"
#include "mm/ground/boot_info.hpp"
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
} // namespace detail

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

// Frames that boot used for the kernel's tables.
u32 pagetable_frames();

} // namespace loft
