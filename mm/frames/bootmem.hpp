// Memory before the allocator exists: takes whole pages from the top of lowmem, never gives any back.
//
// The frame table, the page tables and what else must exist before the zones do come from here. What is left
// over goes to the zones (page_alloc_init).
#pragma once

#include "arch/base/types.hpp"
#include "mm/frames/physmap.hpp"
#include "mm/ground/boot_info.hpp"

namespace loft {

// Boot only, one CPU. The usable map and the ranges in use stay with the caller and must outlive bootmem.
void bootmem_init(const PhysMap& map, std::span<const ReservedRange> reserved, Pfn lowmem_end);

// `bytes` of lowmem, `align` (a power of two, at least a page) aligned; not zeroed. Refuses to start, naming
// `what`, when there is not enough.
VirtAddr bootmem_alloc(u32 bytes, u32 align, const char* what);

// Calls visit(FrameRange) for every run of usable frames, high ones too, that nobody has taken. Ends bootmem.
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
