// The kernel's page tables. mm/windows/page_walk.hpp has a diagram of all page tables.
//
// The upper part is the range from the end of the direct map to 4 GiB. Boot allocates all its page tables, at
// contiguous addresses, so kernel_pte(va) is an array index. No mapping allocates a table, and no kernel mapping has to
// be propagated to other address spaces.
#pragma once

#include "mm/frames/page.hpp"
#include "mm/ground/boot_info.hpp"
#include <hal/hal.hpp>

namespace loft {

// Attributes of kernel mappings on this machine; they include NX and G if the CPU has them. Set by
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
// The address that the entry of virtual address 0 would have, if the array of upper tables extended down to it.
extern std::uintptr_t kernel_ptes_origin;
} // namespace detail

// The entry of a page in the upper part; `page` is its first address. Any context; checked with DEBUG=1 only.
inline hal::PteCell* kernel_pte(VirtAddr page) {
    LOFT_DEBUG_ASSERT(page.value() >= layout::boundaries.upper_base && page.value() % kPageSize == 0);
    // One shift is enough: the low 12 bits of `page` are 0.
    constexpr u32 kShift = kPageShift - std::countr_zero(sizeof(RawPte));
    return reinterpret_cast<hal::PteCell*>(detail::kernel_ptes_origin + (page.value() >> kShift));
}

// Before mm_init: `last_table` is the table that boot has linked for the end of the address space; fixmap uses it.
void pagetable_early(hal::PteCell* last_table);

// Builds the kernel's tables (direct map, upper part) and returns their root, without loading it. Takes bootmem.
PhysAddr pagetable_build(const BootInfo& info);
PhysAddr kernel_root();

// Frames that boot used for the kernel's tables.
u32 pagetable_frames();

} // namespace loft
