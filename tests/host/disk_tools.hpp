// For tests with disks: frames with contents, and requests on whole frames.
#pragma once

#include "tests/host/booted.hpp"
#include "tests/sim/disk.hpp"

#include <cstring>
#include <memory>

namespace loft::test {

inline constexpr u32 kPageSectors = kPageSize / kSectorBytes;

// The sectors of a frame, without page tables.
inline sim::Sector sector_of(Page* page, u32 index) {
    sim::Sector data;
    std::memcpy(data.data(), sim::ram_at(page_to_pfn(page).phys().value() + index * kSectorBytes), kSectorBytes);
    return data;
}
// Contents that no sector of a fresh disk has.
inline sim::Sector written_sector(u32 seed) {
    sim::Sector data;
    for (u32 i = 0; i < kSectorBytes; i += 4) {
        const u32 word = seed * 0x9e37'79b1u + i;
        std::memcpy(&data[i], &word, 4);
    }
    return data;
}
inline void fill_frame(Page* page, u32 seed) {
    for (u32 i = 0; i < kPageSectors; ++i)
        std::memcpy(sim::ram_at(page_to_pfn(page).phys().value() + i * kSectorBytes),
                    written_sector(seed * kPageSectors + i).data(), kSectorBytes);
}
// True if the frame has the contents of these sectors of the disk.
inline bool frame_has(Page* page, const sim::DiskImage& image, u64 first) {
    for (u32 i = 0; i < kPageSectors; ++i)
        if (sector_of(page, i) != image.at(first + i)) return false;
    return true;
}

// Frames that a disk with this reach cannot reach, in every configuration: behind the DMA zone.
inline constexpr Pfn kShortReach{kDmaEnd};
// Frames of lowmem are in reach, high ones are not.
inline Pfn lowmem_reach() { return layout::lowmem_end(); }

inline void add_frames(BlockRequest& request, const std::vector<Page*>& pages) {
    for (Page* page : pages)
        REQUIRE(request.add(page, 0, kPageSize));
}

} // namespace loft::test
