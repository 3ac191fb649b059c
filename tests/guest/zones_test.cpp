// The zones: their frames, requests and reserves, and exhaustion.
#include "kernel/boot/multiboot.hpp"
#include "mm/frames/bootmem.hpp"
#include "mm/frames/slab.hpp"
#include "mm/init.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/guest/support.hpp"

#include <algorithm>
#include <initializer_list>

namespace loft::guest::zones_test {
namespace {

struct ZoneRange {
    ZoneId id;
    u32 begin, end;
};

// The range of a zone, from the sizes in semantics.md.
ZoneRange range_of(u32 i) {
    const u32 low = layout::boundaries.lowmem_bytes / kPageSize;
    const u32 dma = std::min<u32>(16 * MiB / kPageSize, low);
    const ZoneRange all[]{{ZoneId::dma, 0, dma}, {ZoneId::normal, dma, low}, {ZoneId::high, low, ~0u}};
    return all[i];
}

u32 usable_between(u32 begin, u32 end) {
    u32 sum = 0;
    for (const FrameRange& range : physmap().usable()) {
        const u32 from = std::max(begin, range.begin.value()), to = std::min(end, range.end.value());
        if (from < to) sum += to - from;
    }
    return sum;
}

bool is_usable(u32 frame) { return usable_between(frame, frame + 1) == 1; }

// The number of usable frames that a range of `reserved` overlaps, each counted once, and of frame 0.
u32 frames_in_use_before_boot(u32 begin, u32 end) {
    const std::span<const ReservedRange> ranges = multiboot_reserved();
    u32 count = begin == 0 && is_usable(0);
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        const u32 first = ranges[i].begin.pfn().value();
        const u32 last = (ranges[i].end + (kPageSize - 1)).pfn().value();
        for (u32 frame = std::max({first, begin, 1u}); frame < std::min(last, end); ++frame) {
            bool seen = false;
            for (std::size_t k = 0; k < i; ++k)
                seen |=
                    ranges[k].begin.pfn().value() <= frame && frame < (ranges[k].end + (kPageSize - 1)).pfn().value();
            count += !seen && is_usable(frame);
        }
    }
    return count;
}

u32 total_free() { return free_frames(ZoneId::dma) + free_frames(ZoneId::normal) + free_frames(ZoneId::high); }

} // namespace

// Page for page: each usable frame of the firmware's map is in a zone, or was allocated before the zones existed.
SELFTEST(zones, account_for_every_usable_frame) {
    u32 managed = 0, present = 0, in_use = 0;
    for (u32 i = 0; i < kZones; ++i) {
        const ZoneRange range = range_of(i);
        const ZoneInfo info = zone_info(range.id);
        const u32 reserved = frames_in_use_before_boot(range.begin, range.end);
        CHECK_EQ(info.present, usable_between(range.begin, range.end));
        CHECK_LE(info.managed + reserved, info.present);
        CHECK_LE(info.free, info.managed);
        if (range.id == ZoneId::high) CHECK_EQ(info.managed + reserved, info.present);
        managed += info.managed;
        present += info.present;
        in_use += reserved;
    }
    CHECK_EQ(present, physmap().frames());
    CHECK_EQ(managed + in_use + bootmem_taken_frames(), present);
    if (!config::kHighMem) CHECK_EQ(zone_info(ZoneId::high).managed, 0u);
}

// RAM beyond what this kernel reaches is left out, and counted (bug 20).
SELFTEST(zones, unreachable_memory_is_trimmed) {
    const u32 kernel = config::kPae ? 1u << 24 : config::kHighMem ? 1u << 20 : 896 * MiB / kPageSize;
    const u32 reach = std::min(kernel, 1u << (hal::cpu_features().phys_bits - kPageShift));
    CHECK_LE(physmap().end().value(), reach);
    CHECK_LE(physmap().end().value(), mem_map_count);
    // The frames of the frame table itself are not free.
    const Pfn first = direct_phys(hal::lowmem_addr(mem_map)).pfn();
    const u32 frames = pages_for(mem_map_count * u32{sizeof(Page)});
    u32 handed_out = 0;
    for (u32 i = 0; i < frames; ++i)
        handed_out += pfn_to_page(first + i)->type() != PageType::none;
    CHECK_EQ(handed_out, 0u);
    // Nor are those of the page tables, frame 0, and the image.
    CHECK(pfn_to_page(kernel_root().pfn())->type() == PageType::none);
    CHECK(pfn_to_page(Pfn{})->type() == PageType::none);
    CHECK(pfn_to_page(Pfn{0x100u})->type() == PageType::none);
}

SELFTEST(zones, meminfo_adds_up) {
    const MemInfo info = meminfo();
    const ZoneInfo dma = zone_info(ZoneId::dma), normal = zone_info(ZoneId::normal), high = zone_info(ZoneId::high);
    CHECK_EQ(info.low_total, (dma.managed + normal.managed) * 4);
    CHECK_EQ(info.low_free, (dma.free + normal.free) * 4);
    CHECK_EQ(info.high_total, high.managed * 4);
    CHECK_EQ(info.high_free, high.free * 4);
    CHECK_EQ(info.mem_total, info.low_total + info.high_total);
    CHECK_EQ(info.mem_free, info.low_free + info.high_free);
    CHECK_LE(info.mem_free, info.mem_total);
}

SELFTEST(zones, requests_get_what_they_ask_for) {
    const KeepsFreeCounts counts;
    const u32 low = layout::boundaries.lowmem_bytes / kPageSize;
    const struct {
        Gfp gfp;
        u32 begin, end;
    } asked[]{{Gfp::dma, 1, std::min<u32>(4096, low)}, {Gfp::kernel, 1, low}, {Gfp::high, 1, mem_map_count}};
    for (const auto& request : asked) {
        if (request.gfp == Gfp::dma && zone_info(ZoneId::dma).managed == 0) continue; // no memory below 16 MiB
        for (const u32 order : {0u, 1u, 3u}) {
            FrameChain pages;
            CHECK_EQ(pages.take(request.gfp, order, 40), 40u);
            for (Page* page : pages) {
                const u32 frame = page_to_pfn(page).value();
                if (!CHECK(frame >= request.begin && frame + (1u << order) <= request.end)) break;
            }
        }
    }
}

// Gfp::high takes high memory first, which has no address in the direct map.
SELFTEST(zones, high_means_high) {
    if (const char* why = no_highmem_for(128)) SKIP(why);
    const KeepsFreeCounts counts;
    const u32 low_before = free_frames(ZoneId::dma) + free_frames(ZoneId::normal);
    FrameChain pages;
    REQUIRE_EQ(pages.take(Gfp::high, 0, 100), 100u);
    for (Page* page : pages)
        if (!CHECK_GE(page_to_pfn(page).phys().value(), u64{layout::boundaries.lowmem_bytes})) break;
    CHECK_EQ(free_frames(ZoneId::dma) + free_frames(ZoneId::normal), low_before);
    VirtAddr at;
    CHECK(!page_address(*pages.begin(), at));
}

// The reserve: 1/32 of the frames in the zones above, at most half of the zone; for programs at least 1/64 of the zone.
SELFTEST(zones, reserves_are_computed) {
    const u32 high = zone_info(ZoneId::high).managed, normal = zone_info(ZoneId::normal).managed,
              dma = zone_info(ZoneId::dma).managed;
    CHECK_EQ(zone_info(ZoneId::high).reserve, 0u);
    CHECK_EQ(zone_info(ZoneId::normal).reserve, std::min(high / 32, normal / 2));
    CHECK_EQ(zone_info(ZoneId::dma).reserve, std::min((high + normal) / 32, dma / 2));
    for (const ZoneId zone : {ZoneId::dma, ZoneId::normal}) {
        const ZoneInfo info = zone_info(zone);
        CHECK_EQ(info.user_reserve, std::max(info.reserve, info.managed / 64));
    }
}

// Allocates all frames that users can get, then all that the kernel can get: each stops at its limit, no call fails
// badly while no memory is left, and in the end all frames are free.
SELFTEST(zones, exhaustion_is_clean) {
    if (const char* why = too_long_to_take_everything()) SKIP(why);
    static constinit ObjectCache objects{"exhaustion", 512, 16, Gfp::kernel};
    drain_all_cpus();
    const KeepsFreeCounts counts;
    if (void* object = objects.alloc()) objects.free(object); // the cache keeps one slab
    const u32 dma_reserve = zone_info(ZoneId::dma).reserve, normal_reserve = zone_info(ZoneId::normal).reserve;
    const u32 free_before = total_free();

    AllFrames users{Gfp::high};
    CHECK_EQ(users.frames(), free_before - total_free());
    CHECK_EQ(free_frames(ZoneId::high), 0u);
    CHECK_GE(free_frames(ZoneId::normal), normal_reserve);
    CHECK_GE(free_frames(ZoneId::dma), dma_reserve);
    // The frames in a per-CPU list may be missing from this limit, not more.
    CHECK_LE(free_frames(ZoneId::normal), normal_reserve + 64);
    CHECK_LE(free_frames(ZoneId::dma), dma_reserve + 64);

    const u32 failures = alloc_stats().failures;
    CHECK(alloc_page(Gfp::high) == nullptr);
    CHECK(alloc_pages(Gfp::high, 3) == nullptr);
    CHECK_EQ(alloc_stats().failures, failures + 2);

    // The kernel can still allocate lowmem.
    if (normal_reserve + dma_reserve > 64) {
        Page* page = alloc_page(Gfp::kernel);
        CHECK(page != nullptr);
        if (page != nullptr) free_page(page);
    }

    AllFrames kernel{Gfp::kernel};
    CHECK_EQ(total_free(), 0u);
    CHECK_EQ(users.frames() + kernel.frames(), free_before);
    for (const Gfp gfp : {Gfp::dma, Gfp::kernel, Gfp::high})
        for (const u32 order : {0u, 1u, kMaxOrder})
            CHECK(alloc_pages(gfp, order) == nullptr);
    CHECK(alloc_pages(Gfp::kernel, kMaxOrder + 1) == nullptr);

    // Users of the allocator fail cleanly, too. The cache has one slab with seven objects.
    void* object[32]{};
    u32 made = 0;
    while (made < std::size(object) && (object[made] = objects.alloc()) != nullptr)
        ++made;
    CHECK_LT(made, std::size(object));
    for (u32 i = 0; i < made; ++i)
        objects.free(object[i]);
    const Result<VirtAddr> area = vmalloc(4 * kPageSize);
    CHECK(!area && area.error() == Error::no_memory);
    if (area) vfree(*area);
    page_alloc_verify();

    // Mapping allocates no memory: it works when none is free.
    u32 wrong = 0;
    const auto map_once = [&](Page* page, u32) {
        static u32 skip = 0;
        if (skip++ % 64 != 0) return;
        sign(page);
        const KMap pool{page};
        wrong += !marks_hold(pool.addr(), page_to_pfn(page));
    };
    users.for_each_block(map_once);
    kernel.for_each_block(map_once);
    CHECK_EQ(wrong, 0u);

    users.release();
    kernel.release();
    CHECK_EQ(total_free(), free_before);
    drain_local_pages();
    page_alloc_verify();
}

} // namespace loft::guest::zones_test
