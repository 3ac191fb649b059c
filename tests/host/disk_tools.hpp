// For tests with disks: frames with contents, requests on whole frames, and disks for swap.
#pragma once

#include "tests/host/booted.hpp"
#include "tests/sim/disk.hpp"

#include <array>
#include <cstring>
#include <memory>
#include <vector>

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

// What mkswap writes (mkswap(8)): `pages` with the header.
struct SwapHeader {
    u32 version = 1, last = 0, bad = 0;
    const char* signature = "SWAPSPACE2";
    std::vector<u32> bad_pages{};

    void write_to(sim::DiskImage& image) const {
        std::array<u8, kPageSize> page{};
        const auto put = [&page](u32 offset, u32 word) { std::memcpy(page.data() + offset, &word, sizeof word); };
        put(1024, version);
        put(1028, last);
        put(1032, bad != 0 ? bad : static_cast<u32>(bad_pages.size()));
        for (u32 i = 0; i < bad_pages.size(); ++i)
            put(1536 + i * 4, bad_pages[i]);
        std::memcpy(page.data() + kPageSize - 10, signature, 10);
        for (u32 i = 0; i < kPageSectors; ++i) {
            sim::Sector sector;
            std::memcpy(sector.data(), page.data() + i * kSectorBytes, kSectorBytes);
            image.write(i, sector);
        }
    }
};

inline sim::DiskOptions swap_disk(u32 pages, SwapHeader header = {}) {
    sim::DiskOptions options;
    options.sectors = u64{pages} * kPageSectors;
    if (header.last == 0) header.last = pages - 1;
    header.write_to(options.image);
    return options;
}

} // namespace loft::test
