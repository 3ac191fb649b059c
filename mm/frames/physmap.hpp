// The firmware's memory map: sorted, without overlaps, trimmed to whole pages that the kernel can reach.
//
// The firmware's entries may be unsorted, overlap, have length zero, wrap around 2^64, or lie above the memory that
// this configuration reaches. Memory is usable if at least one usable entry covers it and no entry of another type
// does. Memory that is left out is counted, and the counts are logged.
#pragma once

#include "arch/base/types.hpp"
#include "mm/ground/boot_info.hpp"

#include <span>

namespace loft {

struct PhysMap {
    std::span<FrameRange> ranges; // usable RAM in order of address, disjoint, not adjacent; the first `count` are valid
    u32 count = 0;

    // Memory and entries that were left out or cut.
    u32 empty_entries = 0;      // of length zero
    u32 wrapping_entries = 0;   // base + length beyond 2^64: cut there
    u32 reserved_entries = 0;   // of any type but usable
    u64 overlapping_bytes = 0;  // in two usable entries, or in a usable and another one
    u64 partial_bytes = 0;      // usable, but not a whole page
    u64 unreachable_frames = 0; // usable, at or above `max_pfn`

    std::span<const FrameRange> usable() const { return ranges.first(count); }
    u32 frames() const;
    Pfn end() const; // the last usable frame + 1; 0 if there is none
};

// A pure function: no state, no allocation. `map` may have any order, and any length that fits `room`. `out` refers to
// `room`, which must stay valid as long as `out`. Cost: that of sorting the borders.
void physmap_build(PhysMap& out, std::span<const FirmwareRange> map, u32 max_pfn, const PhysMapRoom& room);

} // namespace loft
