// The page allocator: three zones, a buddy system in each, and per-CPU lists of single frames in front of them.
//
// Zones: DMA 0-16 MiB, Normal up to the end of lowmem, HighMem above it. A request (Gfp) names the first zone to try
// and may fall back to lower zones. Each lower zone keeps a reserve (kReserveShift): requests that could use high
// memory, and allocations on behalf of programs, must leave it to the kernel.
#pragma once

#include "arch/base/error.hpp"
#include "arch/base/near_wrap.hpp"
#include "mm/frames/page.hpp"

namespace loft {

enum class ZoneId : u8 { dma, normal, high };
inline constexpr u32 kZones = 3;
inline constexpr u32 kDmaEnd = (16 * MiB) >> kPageShift;

// The zones of a request, in the order in which they are tried.
enum class Gfp : u8 {
    dma,      // DMA only
    kernel,   // Normal, DMA: memory in the direct map
    high,     // HighMem, then Normal and DMA down to their reserve
    user,     // the same on behalf of a program; leaves a reserve also on a machine without high memory
    user_low, // lowmem on behalf of a program: Normal, DMA down to a smaller reserve than that of `user`
};

const char* zone_name(ZoneId zone);
ZoneId zone_of(Pfn pfn);

class ZoneSet {
  public:
    constexpr ZoneSet() = default;
    static constexpr ZoneSet every() { return ZoneSet{(1u << kZones) - 1}; }
    constexpr bool empty() const { return bits_ == 0; }
    constexpr bool has(ZoneId zone) const { return (bits_ >> static_cast<u32>(zone) & 1) != 0; }
    bool has(const Page* page) const { return *this == every() || has(zone_of(page_to_pfn(page))); }
    constexpr ZoneSet with(ZoneId zone) const { return ZoneSet{bits_ | 1u << static_cast<u32>(zone)}; }
    constexpr bool operator==(const ZoneSet&) const = default;

  private:
    explicit constexpr ZoneSet(u32 bits) : bits_{bits} {}
    u32 bits_ = 0;
};

// 2^order contiguous frames, aligned to their size, reference count 1; contents undefined (poison with DEBUG). Null if
// no zone that `gfp` allows has them; prints nothing. Context: any but NMI. Never sleeps. No TLB operation (DEBUG: one
// invlpg for each high frame).
[[nodiscard]] Page* alloc_pages(Gfp gfp, u32 order);
[[nodiscard]] Page* alloc_page(Gfp gfp); // inline if this CPU's list of the first zone is not empty

// A frame for a private page of a program: not in the swap cache (its payload is 0).
[[nodiscard]] inline Page* alloc_anonymous();

// Frees the frames, whatever their reference count; `order` is that of the allocation. Panics on a frame that is not
// the head of an allocation (double free) or that is still mapped by kmap. An idle pkmap slot of the frame is taken;
// its flush stays owed (mm/windows/pkmap.hpp). Context: any but NMI.
void free_pages(Page* page, u32 order);
void free_page(Page* page); // inline if this CPU's list has room

// Reference counting of single frames; the last put_page frees.
inline void get_page(Page* page) { page->get(); }
void put_page(Page* page);

// Numbers of free frames of a zone, without those in the per-CPU lists.
struct Watermarks {
    u32 min;  // with less in the zone that programs use first, whoever wants memory reclaims
    u32 low;  // with less the reclaim thread is woken
    u32 high; // with so many it stops
};
struct ZoneInfo {
    u32 managed;      // frames that the zone got at boot
    u32 free;         // in the buddy lists and in the per-CPU lists
    u32 reserve;      // frames that Gfp::high leaves
    u32 user_reserve; // frames that Gfp::user_low leaves, at least `reserve`; Gfp::user leaves 1/64 of the zone more
    u32 present;      // usable frames of the firmware's map in this zone's range
    Watermarks marks; // see zones_below_low
    u32 by_order[kMaxOrder + 1];
};
ZoneInfo zone_info(ZoneId zone); // any context but NMI: it takes the lock of the zone

// The zone that programs get their memory from first has fewer free frames than its min mark. Any context; a snapshot.
bool memory_is_low();
// The free frames of all zones above what programs must leave there. Any context; a snapshot.
u32 free_for_programs();
// The zones with fewer free frames than their low mark. The marks of a zone are 1/128 of it apart. In the zone that
// programs use first, min is 1/64 of it above what they must leave. In the others they leave as many as the high mark:
// only what the kernel takes there brings such a zone below its marks. Every zone, if programs find fewer frames in all
// zones than the low mark of their first one: free frames help them wherever they lie. Any context; a snapshot.
ZoneSet zones_below_low();
// How many frames are missing to the high marks of these zones; of every zone: to those for programs. `zones`: without
// those that have their mark. Any context; a snapshot.
u32 missing_to_high(ZoneSet& zones);
// Of all zones, the frames that are not in the buddy lists. Any context; a snapshot.
u32 frames_in_use();

struct AllocStats {
    u32 refills = near_wrap<u32>(); // a CPU's list was empty
    u32 drains = near_wrap<u32>();  // a CPU's list was full
    u32 fallbacks = near_wrap<u32>();
    u32 failures = near_wrap<u32>();
};
AllocStats alloc_stats();

// Returns this CPU's lists to the buddy system. Any context but NMI.
void drain_local_pages();

// Checks every invariant of the free lists; panics on the first that does not hold. Slow: O(free blocks). For tests.
void page_alloc_verify();

// Boot. `present` counts the usable frames of a range, in use or not; `add` gives a free run to its zones.
void page_alloc_init(Page* table, u32 frames);
void page_alloc_init_cpu(CpuId cpu); // empty lists
void page_alloc_present(Pfn begin, Pfn end);
void page_alloc_add(Pfn begin, Pfn end);
void page_alloc_ready(); // computes the reserves; the allocator works from here on

// --- Up-calls: functions that the allocator calls and a higher room, mm/windows or mm/reclaim, defines.

// An allocation has left a zone with fewer free frames than its low mark. Context: that of the allocation, interrupts
// off, no lock of the allocator is held. Defined by mm/reclaim/balance.
void frames_are_low();

// For a freed frame that has a pkmap slot: takes the slot if it is idle; its flush stays owed. Panics if the slot has a
// user. Context: any but NMI. Defined by mm/windows/pkmap.
void pkmap_forget(Page* page);

// DEBUG only, defined by mm/windows/free_checks. Panics if a local mapping that a CPU holds, or a vmap area, maps one
// of the frames; then fills them with poison. Context: any. Cost: one invlpg for each high frame.
void debug_frame_freed(Pfn pfn, u32 order);
// Panics if a frame that was poisoned when freed has been written since. Context and cost: the same.
void debug_check_poison(Pfn pfn, u32 order);
inline constexpr u32 kPoison = 0x6b6b'6b6b;

// --- The paths of single frames.
namespace detail {

// A CPU's list for one zone: frames of the type `cached`. Interrupts are off while it is used.
struct CachedFrames {
    static constexpr u32 kCapacity = 64;
    static constexpr u32 kBatch = 32; // frames moved from or to the buddy system at once
    u32 count = 0;
    Page* page[kCapacity]{};
};
struct CpuPages {
    CachedFrames zone[kZones];
    AllocStats stats;
};
extern hal::PerCpu<CpuPages> cpu_pages;

// The first zone of a request.
constexpr ZoneId first_zone(Gfp gfp) {
    return gfp == Gfp::dma ? ZoneId::dma : gfp == Gfp::kernel || gfp == Gfp::user_low ? ZoneId::normal : ZoneId::high;
}

Page* alloc_page_slow(Gfp gfp);
Page* no_page(); // counts the failure; null
void free_page_slow(Page* page);

// The list for a frame of any zone.
inline CachedFrames* list_for(CpuPages& mine, const Page* page) {
    if (is_highmem(page)) [[likely]]
        return &mine.zone[static_cast<u32>(ZoneId::high)];
    return &mine.zone[static_cast<u32>(page >= first_normal_page ? ZoneId::normal : ZoneId::dma)];
}

} // namespace detail

[[gnu::always_inline]] inline Page* alloc_page(Gfp gfp) {
    if (hal::out_of_memory()) return detail::no_page();
    // user_low must leave a reserve in its first zone: the slow path checks it.
    if (config::kDebug || gfp == Gfp::user_low) return detail::alloc_page_slow(gfp);
    const u32 flags = hal::irq_save();
    detail::CachedFrames& list = detail::cpu_pages.mine().zone[static_cast<u32>(detail::first_zone(gfp))];
    const u32 left = list.count - 1;
    if (static_cast<int>(left) < 0) [[unlikely]] {
        hal::irq_restore(flags);
        return detail::alloc_page_slow(gfp);
    }
    list.count = left;
    Page* const page = list.page[left];
    page->make_used(PageType::used, 1);
    hal::irq_restore(flags);
    hal::note_frame_used(page_to_pfn(page), 0);
    return page;
}

inline Page* alloc_anonymous() {
    Page* const page = alloc_page(Gfp::user);
    if (page != nullptr) page->set_payload(0);
    return page;
}

[[gnu::always_inline]] inline void free_page(Page* page) {
    // A frame that is not a plain one without a kmap slot needs the checks of the slow path.
    if (config::kDebug || !page->is_plain()) [[unlikely]]
        return detail::free_page_slow(page);
    const u32 flags = hal::irq_save();
    detail::CachedFrames& list = *detail::list_for(detail::cpu_pages.mine(), page);
    const u32 count = list.count;
    if (count == detail::CachedFrames::kCapacity) [[unlikely]] {
        hal::irq_restore(flags);
        return detail::free_page_slow(page);
    }
    hal::note_frame_free(page_to_pfn(page), 0);
    page->make_cached();
    list.page[count] = page;
    list.count = count + 1;
    hal::irq_restore(flags);
}

} // namespace loft
