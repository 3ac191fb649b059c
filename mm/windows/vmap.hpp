// vmap and vmalloc: many frames at contiguous addresses, for long.
//
// What is known of the addresses is an array of words, one for each page of them, made at boot: the tags. An area's
// first page has a tag that says what it is and how long, so vunmap finds it by an index, nothing here ever needs
// memory, and a fault or a DEBUG check may read the tags from under any lock. Behind each area lies a page that is
// never mapped.
//
// New areas are made where the last one ended, so an address is used again only after a whole round. vunmap takes the
// entries away at once and leaves the flush for later: the area is "lazy", its addresses unusable, until either a round
// ends or kLazyPages pages wait. Then ONE flush on all CPUs ends the debt of all of them, their addresses become free,
// and only then do the frames that vfree owed go back to the allocator (bugs 16 and 22).
//
// A pair of vmap and vunmap costs two locks and its loops over the entries; the rest (walking on to the next free
// addresses, joining free neighbours, the flush) is paid by one call for a hundred.
#pragma once

#include "arch/base/error.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/tables/tlb_batch.hpp"

#include <span>

namespace loft {

enum class VmapProt : u8 { rw, ro, rx };

// Maps `pages` one behind the other. The frames stay the caller's and must stay allocated until vunmap.
// Context: preemptible (checked). Returns no_space or invalid (n is 0). Cost: none, unless a round
// ends: then one flush on every CPU. Source: Linux vmap().
Result<VirtAddr> vmap(Page* const* pages, u32 n, VmapProt prot);
// Takes the address vmap returned; panics on any other. Context: preemptible. Cost: deferred.
// The frames are the caller's again at once; a stale translation of the old address may exist until the
// flush.
void vunmap(VirtAddr addr);

// `bytes` of zero-filled memory at contiguous addresses, from high frames where there are some. `gfp` is high, or user
// for what a program makes the kernel take. Context: preemptible.
Result<VirtAddr> vmalloc(u32 bytes, Gfp gfp = Gfp::high);
void vfree(VirtAddr addr);

// Ends all deferred work now: entries flushed everywhere, frames freed, addresses usable. Context:
// preemptible.
void vmap_flush();

struct VmapStats {
    u32 areas = 0;      // in use
    u32 pages = 0;      // mapped
    u32 lazy_pages = 0; // unmapped, not flushed
    u32 flushes = 0;
    u32 rounds = 0;
};
VmapStats vmap_stats(); // any context but NMI: it takes the lock; counts the areas: O(areas)

// What an address is to the vmap area. Any context, a panic's too: reads the tags, from the address down to its area.
struct VmapFault {
    enum class Kind : u8 { none, mapped, guard, lazy, unused } kind = Kind::none;
    VirtAddr area{};
    u32 pages = 0;
};
VmapFault vmap_fault(VirtAddr va);

bool vmap_maps_frame(Pfn pfn); // DEBUG checks only, under any lock: O(mapped pages)

inline constexpr u32 kLazyPages = 2048; // 8 MiB

void vmap_init(); // boot; the tags come from bootmem, 1 KiB for each MiB of addresses

} // namespace loft
