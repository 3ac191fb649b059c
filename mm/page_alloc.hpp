// The page allocator: three zones, a buddy system in each, and a short list of single frames for every CPU in
// front.
//
// Zones: DMA 0-16 MiB, Normal up to the end of lowmem, HighMem above it. A request names where it would like
// its frames from; it may fall back downward, but a reserve in the lower zones (kReserveShift) keeps requests
// that could have used high memory from eating the memory that only the kernel's own zone can give.
#pragma once

#include "arch/base/error.hpp"
#include "mm/page.hpp"

namespace loft {

enum class ZoneId : u8 { dma, normal, high };
inline constexpr u32 kZones = 3;
inline constexpr u32 kDmaEnd = (16 * MiB) >> kPageShift;
inline constexpr u32 kMaxOrder = 10; // largest block: 2^10 frames, 4 MiB

// Where frames may come from, in this order.
enum class Gfp : u8 {
    dma,    // DMA only
    kernel, // Normal, DMA: memory that has an address for good
    high,   // HighMem, then Normal and DMA down to their reserve
};

const char* zone_name(ZoneId zone);
ZoneId zone_of(Pfn pfn);

// 2^order contiguous frames, aligned to their size, reference count 1; contents undefined (poison with
// DEBUG). Null when no zone that `gfp` allows has them; nothing is printed and nothing is lost. Context: any,
// interrupts included. Never sleeps. No TLB operation (DEBUG: one invlpg a high frame).
[[nodiscard]] Page* alloc_pages(Gfp gfp, u32 order);
[[nodiscard]] Page* alloc_page(Gfp gfp);

// Gives frames back whatever their count is; `order` is that of the allocation. Panics on a frame that is not
// the head of an allocation (double free) or that is still mapped by kmap. Context: any. An idle pkmap
// mapping of the frame is taken away, its flush stays owed (mm/pkmap.hpp).
void free_pages(Page* page, u32 order);
void free_page(Page* page);

// Reference counting of single frames; the last put_page frees.
inline void get_page(Page* page) { page->get(); }
void put_page(Page* page);

struct ZoneInfo {
    u32 managed; // frames handed to the zone at boot
    u32 free;    // in the buddy lists and in the CPUs' lists
    u32 reserve; // frames that Gfp::high leaves
    u32 present; // usable frames of the firmware's map in this zone's range
    u32 by_order[kMaxOrder + 1];
};
ZoneInfo zone_info(ZoneId zone);

struct AllocStats {
    u32 refills = 0; // a CPU's list was empty
    u32 drains = 0;  // a CPU's list was full
    u32 fallbacks = 0;
    u32 failures = 0;
};
AllocStats alloc_stats();

// Returns this CPU's list to the buddy system: for tests that count blocks. Any context.
void drain_local_pages();

// Checks every invariant of the free lists; panics on the first that does not hold. Long: O(free blocks). For
// tests.
void page_alloc_verify();

// Boot. `present` counts the usable frames of a range without regard to who has taken them; `add` hands over
// a free run.
void page_alloc_init(Page* table, u32 frames);
void page_alloc_init_cpu(CpuId cpu); // an empty list
void page_alloc_present(Pfn begin, Pfn end);
void page_alloc_add(Pfn begin, Pfn end);
void page_alloc_ready(); // computes the reserves; the allocator works from here on

} // namespace loft
