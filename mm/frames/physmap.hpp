// The firmware's memory map, made usable: sorted, without overlaps, whole pages, within reach.
//
// Firmware says what it wants: entries come unsorted, overlap, have length zero, wrap around 2^64, or lie
// where this configuration cannot go. Usable memory is what some usable entry covers and no other entry does
// (a reserved entry wins over a usable one that overlaps it). Every frame that is left out is counted, and
// the counts are logged.
#pragma once

#include "arch/base/types.hpp"
#include "mm/ground/boot_info.hpp"

#include <span>

namespace loft {

struct PhysMap {
    std::span<FrameRange> ranges; // usable RAM in order of address, disjoint, not adjacent; `count` of them count
    u32 count = 0;

    // What was not taken, and why.
    u32 empty_entries = 0;      // length zero
    u32 wrapping_entries = 0;   // base + length beyond 2^64: cut there
    u32 reserved_entries = 0;   // any type but usable
    u64 overlapping_bytes = 0;  // said to be usable twice, or usable and reserved
    u64 partial_bytes = 0;      // usable, but not a whole page
    u64 unreachable_frames = 0; // usable, whole, at or above kMaxPfn

    std::span<const FrameRange> usable() const { return ranges.first(count); }
    u32 frames() const;
    Pfn end() const; // behind the last usable frame; 0 if there is none
};

// Pure: no state, no allocation. `map` may be in any order and of any length that `room` fits. The ranges are put into
// `room`, which stays in use as long as `out` is. Cost: that of sorting the borders.
void physmap_build(PhysMap& out, std::span<const FirmwareRange> map, u32 max_pfn, const PhysMapRoom& room);

} // namespace loft
