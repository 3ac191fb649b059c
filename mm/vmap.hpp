// vmap and vmalloc: many frames at contiguous addresses, for long.
//
// Areas lie in a tree by address; each is followed by a page that is never mapped. New areas are looked for
// from where the last one ended, so an address is used again only after a whole round. vunmap takes the
// entries away at once and leaves the flush for later: the area stays in the tree as "lazy", its addresses
// unusable, until either a round ends or kLazyPages pages wait. Then ONE flush on all CPUs ends the debt of
// all of them, their addresses become free, and only then do the frames that vfree owed go back to the
// allocator (bugs 16 and 22).
#pragma once

#include "arch/base/error.hpp"
#include "mm/page.hpp"
#include "mm/tlb.hpp"

#include <span>

namespace loft {

enum class VmapProt : u8 { rw, ro, rx };

// Maps `pages` one behind the other. The frames stay the caller's and must stay allocated until vunmap.
// Context: preemptible (checked). Returns no_space, no_memory or invalid (n is 0). Cost: none, unless a round
// ends: then one flush on every CPU. Source: Linux vmap().
Result<VirtAddr> vmap(Page* const* pages, u32 n, VmapProt prot);
// Takes the address vmap returned; panics on any other. Context: preemptible. Cost: deferred.
// The frames are the caller's again at once; a stale translation of the old address may exist until the
// flush.
void vunmap(VirtAddr addr);

// `bytes` of zero-filled memory at contiguous addresses, from high frames where there are some. Context:
// preemptible.
Result<VirtAddr> vmalloc(u32 bytes);
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
VmapStats vmap_stats();

// What an address is to the vmap area.
struct VmapFault {
    enum class Kind : u8 { none, mapped, guard, lazy, unused } kind = Kind::none;
    VirtAddr area{};
    u32 pages = 0;
};
VmapFault vmap_fault(VirtAddr va);

bool vmap_maps_frame(Pfn pfn); // DEBUG checks only: O(mapped pages)

inline constexpr u32 kLazyPages = 2048; // 8 MiB

void vmap_init(); // boot; after the object cache

} // namespace loft
