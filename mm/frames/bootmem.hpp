// Memory before the page allocator works: allocates whole pages from the top of lowmem, never frees.
//
// The frame table, the page tables and the tags of vmap come from here. The rest goes to the zones (page_alloc_add).
#pragma once

#include "arch/base/types.hpp"
#include "mm/frames/physmap.hpp"
#include "mm/ground/boot_info.hpp"

namespace loft {

// Boot only, one CPU. The caller keeps the map and the ranges in use; they must be valid until bootmem_release returns.
void bootmem_init(const PhysMap& map, std::span<const ReservedRange> reserved, Pfn lowmem_end);

// `bytes` of lowmem, aligned to `align` (a power of two, at least a page); not zeroed. Refuses to start, naming `what`,
// if there is not enough.
VirtAddr bootmem_alloc(u32 bytes, u32 align, const char* what);

// Calls visit(FrameRange) for every run of usable frames, high ones included, that are neither in use nor allocated.
// The last use of bootmem.
template <typename F> void bootmem_release(F&& visit);

u32 bootmem_taken_frames();

namespace detail {
// The next free run at or after `from`; empty at the end.
FrameRange bootmem_next_free(Pfn from);
} // namespace detail

template <typename F> void bootmem_release(F&& visit) {
    for (FrameRange run = detail::bootmem_next_free(Pfn{1u}); run.frames() != 0;
         run = detail::bootmem_next_free(run.end))
        visit(run);
}

} // namespace loft
