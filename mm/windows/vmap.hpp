// vmap and vmalloc: long-lived mappings of many frames at contiguous addresses.
//
// Boot allocates an array of words, the tags: one for each page of the vmap address range. The tag of an area's first
// page holds the kind of the area and its length. So vunmap finds an area by an index, no call here allocates memory
// for bookkeeping, and a fault handler or a DEBUG check can read the tags while any lock is held. One unmapped guard
// page follows each area.
//
// A new area begins where the last one ended, so an address is used again only after a whole round through the range.
// vunmap clears the entries at once and defers the flush. The area is "lazy" until then: its addresses cannot be used
// again. When a round ends, or more than kLazyPages pages are lazy, ONE flush on all CPUs pays for all lazy areas.
// Their addresses become free, and only then the frames of vfree go back to the allocator (docs/bugs.md, 16 and 22).
//
// A pair of vmap and vunmap takes the lock twice and loops over its entries. The rest (the search for free addresses,
// joining free neighbours, the flush) is done by about one call in a hundred.
#pragma once

#include "arch/base/error.hpp"
#include "arch/base/near_wrap.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/tables/tlb_batch.hpp"

#include <span>

namespace loft {

enum class VmapProt : u8 { rw, ro, rx };

// Maps `pages` at contiguous addresses, in the order of the array. The caller keeps the frames, which must stay
// allocated until vunmap. Context: preemptible (checked). Returns the first address, or no_space, or invalid (n is 0).
// Cost: none, unless a round ends: then one flush on every CPU. Source: Linux vmap().
Result<VirtAddr> vmap(Page* const* pages, u32 n, VmapProt prot);
// Takes the address that vmap returned; panics on any other. Context: preemptible. The caller may reuse or free the
// frames at once; until the deferred flush a TLB may still translate the old address to them. Cost: none; the caller
// that exceeds kLazyPages pays one flush on every CPU.
void vunmap(VirtAddr addr);

// `bytes` of zero-filled memory at contiguous addresses, from high memory first. `gfp` is high, or user for memory that
// the kernel allocates on behalf of a program. Returns the address, or no_space, no_memory or invalid (0 bytes).
// Context: preemptible. Cost: that of vmap, and clear_highpage for each page.
Result<VirtAddr> vmalloc(u32 bytes, Gfp gfp = Gfp::high);
// Takes the address that vmalloc returned; panics on any other. Context: preemptible. The frames go back to the
// allocator after the deferred flush.
void vfree(VirtAddr addr);

// Does all deferred work now: flushes on all CPUs, frees the frames, makes the addresses usable. Context: preemptible.
void vmap_flush();

struct VmapStats {
    u32 areas = 0;      // in use
    u32 pages = 0;      // in areas in use, without the guard pages
    u32 lazy_pages = 0; // unmapped, not flushed yet
    u32 flushes = near_wrap<u32>();
    u32 rounds = near_wrap<u32>();
};
VmapStats vmap_stats(); // any context but NMI: it takes the lock; counts the areas: O(areas)

// The area that an address lies in, and in which part of it. Any context, panic included: takes no lock. Reads the tags
// from the address downward until the first page of an area: O(pages of the area).
struct VmapFault {
    enum class Kind : u8 { none, mapped, guard, lazy, unused } kind = Kind::none;
    VirtAddr area{};
    u32 pages = 0;
};
VmapFault vmap_fault(VirtAddr va);

bool vmap_maps_frame(Pfn pfn); // DEBUG checks only, under any lock: O(mapped pages)

inline constexpr u32 kLazyPages = 2048; // 8 MiB

void vmap_init(); // boot; takes the tags from bootmem: 1 KiB for each MiB of the range

} // namespace loft
