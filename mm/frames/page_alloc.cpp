// Zones, fallback and reserves, and the per-CPU lists of single frames. Contract: page_alloc.hpp.
#include "mm/frames/page_alloc.hpp"

#include "mm/frames/buddy.hpp"
#include "mm/ground/counters.hpp"

#include <algorithm>

namespace loft {

Page* mem_map;
u32 mem_map_count;
Page* first_normal_page;
Page* first_high_page;

LOFT_PERCPU hal::PerCpu<detail::CpuPages> detail::cpu_pages;

namespace {

using detail::CachedFrames;
using detail::cpu_pages;
using detail::CpuPages;

struct Zone {
    Buddy buddy;
    u32 managed = 0;
    u32 present = 0;
    u32 reserve = 0;
    u32 user_reserve = 0;
    Watermarks marks{};
};
Zone zones[kZones];

// In a lower zone, Gfp::high leaves 1/32 of the number of frames in the zones above, at most half of the zone: Linux's
// lowmem_reserve_ratio. Allocations on behalf of programs leave at least 1/64 of the zone, so that the kernel can work
// when programs have taken the rest, also on a machine without high memory. Memory of programs (Gfp::user) leaves 1/64
// more: a full machine swaps it out, but mmap and fork need lowmem that cannot be had again so.
constexpr u32 kReserveShift = 5, kLeastReserveShift = 6;

// The zones of a request, in the order in which they are tried.
struct Order {
    ZoneId zone[kZones];
    u32 count;
};
constexpr Order kOrders[] = {
    {{ZoneId::dma}, 1},
    {{ZoneId::normal, ZoneId::dma}, 2},
    {{ZoneId::high, ZoneId::normal, ZoneId::dma}, 3},
    {{ZoneId::high, ZoneId::normal, ZoneId::dma}, 3},
    {{ZoneId::normal, ZoneId::dma}, 2},
};
const Order& order_of(Gfp gfp) { return kOrders[static_cast<u32>(gfp)]; }
Zone& zone_at(ZoneId id) { return zones[static_cast<u32>(id)]; }

// The number of frames of `zone` that a request must leave.
u32 floor_for(Gfp gfp, ZoneId zone) {
    if (gfp < Gfp::high || zone == ZoneId::high) return 0;
    const Zone& limits = zone_at(zone);
    if (gfp == Gfp::high) return limits.reserve;
    return limits.user_reserve + (gfp == Gfp::user ? limits.managed >> kLeastReserveShift : 0);
}

constexpr ZoneId kEveryZone[] = {ZoneId::dma, ZoneId::normal, ZoneId::high};
ZoneId first_of_programs() { return zone_at(ZoneId::high).managed != 0 ? ZoneId::high : ZoneId::normal; }

// Takes a block from the first zone of the request that has one above its reserve.
Pfn take_block(Gfp gfp, u32 order, AllocStats& stats) {
    const Order& allowed = order_of(gfp);
    for (u32 i = 0; i < allowed.count; ++i) {
        Zone& zone = zone_at(allowed.zone[i]);
        SpinGuard guard{zone.buddy.lock};
        if (zone.buddy.free_frames() < floor_for(gfp, allowed.zone[i]) + (1u << order)) continue;
        const Pfn pfn = zone.buddy.take(order);
        if (pfn.value() == 0) continue;
        if (i != 0) ++stats.fallbacks;
        return pfn;
    }
    return Pfn{};
}

// Fills this CPU's list of `zone` to kBatch frames. Interrupts are off.
void refill(CachedFrames& list, Zone& zone, u32 floor) {
    SpinGuard guard{zone.buddy.lock};
    while (list.count < CachedFrames::kBatch && zone.buddy.free_frames() > floor) {
        const Pfn pfn = zone.buddy.take(0);
        if (pfn.value() == 0) break;
        Page* page = pfn_to_page(pfn);
        page->make_cached();
        list.page[list.count++] = page;
    }
}

void drain(CachedFrames& list, Zone& zone, u32 keep) {
    SpinGuard guard{zone.buddy.lock};
    while (list.count > keep)
        zone.buddy.give(page_to_pfn(list.page[--list.count]), 0);
}

Page* take_cached(Gfp gfp, CpuPages& mine) {
    const Order& allowed = order_of(gfp);
    for (u32 i = 0; i < allowed.count; ++i) {
        const ZoneId id = allowed.zone[i];
        Zone& zone = zone_at(id);
        CachedFrames& list = mine.zone[static_cast<u32>(id)];
        const u32 floor = floor_for(gfp, id);
        // What was freed lately is in the list.
        if (floor != 0 && zone.buddy.free_frames() + list.count <= floor) continue;
        if (list.count == 0) {
            ++mine.stats.refills;
            refill(list, zone, floor);
            if (!zones_below_low().empty()) frames_are_low();
        }
        if (list.count == 0) continue;
        if (i != 0) ++mine.stats.fallbacks;
        return list.page[--list.count];
    }
    return nullptr;
}

// Panics if the frame is not the head of an allocation. Takes its idle kmap slot.
[[gnu::noinline]] void check_free(Page* page) {
    const PageType type = page->type();
    if (type != PageType::used && type != PageType::slab && type != PageType::table)
        panic("free of frame {}: it is {}", page_to_pfn(page),
              type == PageType::buddy || type == PageType::cached ? "free already (double free)"
              : type == PageType::tail                            ? "not the first of its allocation"
                                                                  : "not allocated");
    if (page->slot() != Page::kNoSlot) pkmap_forget(page);
}

} // namespace

const char* zone_name(ZoneId zone) {
    switch (zone) {
    case ZoneId::dma:
        return "DMA";
    case ZoneId::normal:
        return "Normal";
    case ZoneId::high:
        return "HighMem";
    }
    return "?";
}

ZoneId zone_of(Pfn pfn) {
    if (is_highmem(pfn)) return ZoneId::high;
    return pfn.value() < kDmaEnd ? ZoneId::dma : ZoneId::normal;
}

Page* detail::no_page() {
    const u32 flags = hal::irq_save();
    ++cpu_pages.mine().stats.failures;
    hal::irq_restore(flags);
    return nullptr;
}

Page* detail::alloc_page_slow(Gfp gfp) {
    const u32 flags = hal::irq_save();
    Page* page = take_cached(gfp, cpu_pages.mine());
    if (page == nullptr) {
        hal::irq_restore(flags);
        return no_page();
    }
    page->make_used(PageType::used, 1);
    hal::irq_restore(flags);
    hal::note_frame_used(page_to_pfn(page), 0);
    if constexpr (config::kDebug) debug_check_poison(page_to_pfn(page), 0);
    return page;
}

Page* alloc_pages(Gfp gfp, u32 order) {
    if (order == 0) return alloc_page(gfp);
    if (order > kMaxOrder || hal::out_of_memory()) return nullptr;
    const u32 flags = hal::irq_save();
    Pfn pfn = take_block(gfp, order, cpu_pages.mine().stats);
    if (pfn.value() == 0) {
        // The frames that are missing for a block may lie in this CPU's lists.
        drain_local_pages();
        pfn = take_block(gfp, order, cpu_pages.mine().stats);
    }
    if (pfn.value() == 0) {
        ++cpu_pages.mine().stats.failures;
        hal::irq_restore(flags);
        return nullptr;
    }
    if (!zones_below_low().empty()) frames_are_low();
    Page* page = pfn_to_page(pfn);
    page->make_used(PageType::used, 1);
    for (u32 i = 1; i < 1u << order; ++i)
        page[i].make_used(PageType::tail, 0);
    hal::irq_restore(flags);
    hal::note_frame_used(pfn, order);
    if constexpr (config::kDebug) debug_check_poison(pfn, order);
    return page;
}

void detail::free_page_slow(Page* page) {
    if (!page->is_plain()) check_free(page);
    const Pfn pfn = page_to_pfn(page);
    if constexpr (config::kDebug) debug_frame_freed(pfn, 0);
    hal::note_frame_free(pfn, 0);
    const u32 flags = hal::irq_save();
    CpuPages& mine = cpu_pages.mine();
    const u32 id = static_cast<u32>(zone_of(pfn));
    CachedFrames& list = mine.zone[id];
    page->make_cached();
    if (list.count == CachedFrames::kCapacity) {
        ++mine.stats.drains;
        drain(list, zones[id], CachedFrames::kCapacity - CachedFrames::kBatch);
    }
    list.page[list.count++] = page;
    hal::irq_restore(flags);
}

void free_pages(Page* page, u32 order) {
    if (order == 0) return free_page(page);
    check_free(page);
    const Pfn pfn = page_to_pfn(page);
    LOFT_ASSERT(order <= kMaxOrder && (pfn.value() & ((1u << order) - 1)) == 0);
    for (u32 i = 1; i < 1u << order; ++i) {
        if (page[i].type() != PageType::tail)
            panic("free of {} frames at {}: frame {} is not part of that allocation", 1u << order, pfn, pfn + i);
        if (page[i].slot() != Page::kNoSlot) pkmap_forget(page + i);
        page[i].make_none();
    }
    if constexpr (config::kDebug) debug_frame_freed(pfn, order);
    hal::note_frame_free(pfn, order);
    Zone& zone = zone_at(zone_of(pfn));
    SpinGuard guard{zone.buddy.lock};
    zone.buddy.give(pfn, order);
}

void put_page(Page* page) {
    if (page->put()) free_page(page);
}

bool memory_is_low() {
    const Zone& zone = zone_at(first_of_programs());
    return zone.buddy.free_frames() < zone.marks.min;
}

u32 free_for_programs() {
    u32 count = 0;
    for (const ZoneId id : kEveryZone) {
        const u32 free = zone_at(id).buddy.free_frames(), floor = floor_for(Gfp::user, id);
        count += free - std::min(free, floor);
    }
    return count;
}

ZoneSet zones_below_low() {
    const ZoneId first = first_of_programs();
    if (free_for_programs() < zone_at(first).marks.low - floor_for(Gfp::user, first)) return ZoneSet::every();
    ZoneSet set;
    for (const ZoneId id : kEveryZone)
        if (zone_at(id).buddy.free_frames() < zone_at(id).marks.low) set = set.with(id);
    return set;
}

u32 missing_to_high(ZoneSet& zones) {
    const auto missing = [](u32 free, u32 high) { return high - std::min(free, high); };
    u32 sum = 0;
    ZoneSet left;
    if (zones == ZoneSet::every()) {
        const ZoneId first = first_of_programs();
        sum = missing(free_for_programs(), zone_at(first).marks.high - floor_for(Gfp::user, first));
        if (sum != 0) left = zones;
    } else {
        for (const ZoneId id : kEveryZone)
            if (const u32 count =
                    zones.has(id) ? missing(zone_at(id).buddy.free_frames(), zone_at(id).marks.high) : 0) {
                sum += count;
                left = left.with(id);
            }
    }
    zones = left;
    return sum;
}

u32 frames_in_use() {
    u32 used = 0;
    for (const Zone& zone : zones)
        used += zone.managed - zone.buddy.free_frames();
    return used;
}

ZoneInfo zone_info(ZoneId id) {
    Zone& zone = zone_at(id);
    ZoneInfo info{};
    info.managed = zone.managed;
    info.present = zone.present;
    info.reserve = zone.reserve;
    info.user_reserve = zone.user_reserve;
    info.marks = zone.marks;
    info.free = zone.buddy.free_frames();
    hal::online_cpus().for_each([&](CpuId cpu) { info.free += cpu_pages.of(cpu).zone[static_cast<u32>(id)].count; });
    const SpinGuard guard{zone.buddy.lock};
    for (u32 order = 0; order <= kMaxOrder; ++order)
        info.by_order[order] = zone.buddy.blocks(order);
    return info;
}

AllocStats alloc_stats() {
    return sum_of_cpus([](CpuId cpu) { return cpu_pages.of(cpu).stats; });
}

void drain_local_pages() {
    const u32 flags = hal::irq_save();
    CpuPages& mine = cpu_pages.mine();
    for (u32 id = 0; id < kZones; ++id)
        drain(mine.zone[id], zones[id], 0);
    hal::irq_restore(flags);
}

void page_alloc_verify() {
    for (Zone& zone : zones) {
        SpinGuard guard{zone.buddy.lock};
        zone.buddy.verify();
    }
}

void page_alloc_init(Page* table, u32 frames) {
    mem_map = table;
    mem_map_count = frames;
    const u32 low = std::min(layout::lowmem_end().value(), frames);
    const u32 dma = std::min(kDmaEnd, low);
    first_normal_page = table + kDmaEnd;
    first_high_page = table + layout::lowmem_end().value();
    for (Zone& zone : zones) {
        zone.managed = zone.present = zone.reserve = zone.user_reserve = 0;
        zone.marks = {};
    }
    zones[0].buddy.init(Pfn{}, Pfn{dma});
    zones[1].buddy.init(Pfn{dma}, Pfn{low});
    zones[2].buddy.init(Pfn{low}, Pfn{frames});
    hal::online_cpus().for_each([](CpuId cpu) { cpu_pages.of(cpu) = CpuPages{}; });
}

namespace {

// Calls visit(zone, begin, end) for each zone's part of the run.
template <typename F> void by_zone(Pfn begin, Pfn end, F&& visit) {
    for (Zone& zone : zones) {
        const Pfn from = std::max(begin, zone.buddy.begin()), to = std::min(end, zone.buddy.end());
        if (from < to) visit(zone, from, to);
    }
}

} // namespace

void page_alloc_init_cpu(CpuId cpu) { cpu_pages.of(cpu) = CpuPages{}; }

void page_alloc_present(Pfn begin, Pfn end) {
    by_zone(begin, end, [](Zone& zone, Pfn from, Pfn to) { zone.present += to - from; });
}

void page_alloc_add(Pfn begin, Pfn end) {
    by_zone(begin, end, [](Zone& zone, Pfn from, Pfn to) {
        zone.managed += to - from;
        SpinGuard guard{zone.buddy.lock};
        // The largest aligned blocks that fit: with 64 GiB this writes 16 thousand descriptors, not 16 million.
        while (from < to) {
            u32 order = std::min<u32>(kMaxOrder, static_cast<u32>(std::countr_zero(from.value())));
            while (from + (1u << order) > to)
                --order;
            zone.buddy.give(from, order);
            from = from + (1u << order);
        }
    });
}

void page_alloc_ready() {
    u32 above = zones[2].managed;
    for (u32 id = 2; id-- > 0;) {
        zones[id].reserve = std::min(above >> kReserveShift, zones[id].managed / 2);
        zones[id].user_reserve = std::max(zones[id].reserve, zones[id].managed >> kLeastReserveShift);
        above += zones[id].managed;
    }
    for (const ZoneId id : kEveryZone) {
        Zone& zone = zone_at(id);
        const u32 step = zone.managed >> (kLeastReserveShift + 1);
        const u32 min = id == first_of_programs() ? floor_for(Gfp::user, id) + 2 * step : floor_for(Gfp::user_low, id);
        zone.marks = {min, min + step, min + 2 * step};
    }
}

} // namespace loft
