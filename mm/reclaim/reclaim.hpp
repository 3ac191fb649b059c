// Reclaim: when memory runs short, frames are freed whose contents can be had again.
//
// That are the pages of objects that are written back (mm/cache/memory_object.hpp). The hand of a clock passes over
// all of them: a page that was not used since it passed the last time is unmapped, and freed if it is clean. A page is
// used if it was found, by a fault or a read, or if an entry that maps it has its A bit set; the hand clears A without
// a flush, so a CPU may use the page by its TLB and not set A again: the page is then taken too early, which costs a
// fault (SDM vol. 3, 4.8: software may clear A so).
//
// Pages of objects without a source become pages of swap areas (mm/cache/swap_area.hpp) when it passes them. The hand
// of another clock passes over the private pages of all programs, which become pages of swap areas likewise. A page
// that several spaces share is free when the hand has passed all of them.
//
// Both hands turn at the same rate: the one that has passed the smaller part of its pages goes on. So a page goes if it
// was not used for a turn, of whichever kind it is, and a page that is used stays. docs/disks.md has the figures.
//
// No allocation reclaims. Who needs memory, and holds no lock of mm, calls reclaim_frames and starts again from its
// first lookup (docs/disks.md).
#pragma once

#include "mm/cache/memory_object.hpp"

namespace loft {

// Frees about `wanted` frames of these zones: clean pages, and those without a source, which it swaps out and writes;
// if there are none, dirty ones, after it has written them. One thread at a time turns the hands. Returns how many all
// threads have freed since the call: whoever waits for another one gets what that frees. For a `program`, 0 says that
// nothing can be freed; for others also that another thread has not finished. Preemptible context; no mutex of a space
// or of an index is held, and no other that `who` excludes. Cost: the flushes of AddressSpace::swap_out, one flush of
// each space from which pages of objects are unmapped, and the local maps of the index.
u32 reclaim(u32 wanted, Reclaimer who, ZoneSet zones = ZoneSet::every());

void reclaim_init(); // boot

} // namespace loft
