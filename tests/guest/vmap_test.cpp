// vmap and vmalloc: contiguity, guards, rights, and the deferred flush.
#include "mm/windows/vmap.hpp"
#include "tests/guest/support.hpp"
#include "tests/guest/walker.hpp"

#include <algorithm>
#include <utility>

namespace loft::guest::vmap_test {
namespace {

using selftest::contains;

constexpr u32 kMost = 512;
constexpr u32 kMostAreas = 512; // of 2 MiB each: more than the largest vmap area holds
constinit Page* array[kMost]{}; // vmap takes an array; too large for the boot stack

// Puts the pages of a chain into the array.
void list(const FrameChain& pages) {
    u32 n = 0;
    for (Page* page : pages)
        array[n++] = page;
}

VirtAddr page_of(VirtAddr area, u32 i) { return area + i * kPageSize; }

Pfn frame_at(VirtAddr va) { return Pfn{static_cast<u32>(walk_naively(va.value()).phys / kPageSize)}; }

u32 free_in_all_zones() { return free_frames(ZoneId::dma) + free_frames(ZoneId::normal) + free_frames(ZoneId::high); }

u32 space_pages() { return (layout::kVmapEnd - layout::boundaries.vmap_begin) / kPageSize; }

} // namespace

SELFTEST(vmap, pages_become_contiguous) {
    const KeepsFreeCounts counts;
    FrameChain pages;
    const u32 n = 100;
    REQUIRE_EQ(pages.take(Gfp::high, 0, n), n);
    list(pages);
    for (u32 i = 0; i < n; ++i)
        sign(array[i], 2);
    const Result<VirtAddr> area = vmap(array, n, VmapProt::rw);
    REQUIRE(area);
    CHECK_EQ(area->page_offset(), 0u);
    CHECK_GE(area->value(), layout::boundaries.vmap_begin);
    CHECK_LE(area->value() + (n + 1) * kPageSize, layout::kVmapEnd);
    u32 wrong = 0;
    for (u32 i = 0; i < n; ++i) {
        wrong += !marks_hold(page_of(*area, i), page_to_pfn(array[i]), 2);
        const Mapping m = walk_naively(page_of(*area, i).value());
        wrong += m.phys != page_to_pfn(array[i]).phys().value() || m.global || m.user || !m.writable;
        write_marks(page_of(*area, i), page_to_pfn(array[i]), 3);
    }
    // Accesses across the border of two frames.
    for (u32 i = 1; i < n; ++i) {
        const VirtAddr seam = page_of(*area, i) - 2;
        hal::store<u32>(seam, i * 0x10001u);
        wrong += hal::load<u32>(seam) != i * 0x10001u;
        wrong += hal::load<u16>(page_of(*area, i)) != static_cast<u16>(i);
    }
    CHECK_EQ(wrong, 0u);
    vunmap(*area);
    u32 last = 0;
    memcpy_from_page(&last, array[n - 1], 0x155 * 4, 4);
    CHECK_EQ(last, mark(page_to_pfn(array[n - 1]), 0x155, 3));
}

SELFTEST(vmap, guards_fault_on_both_sides) {
    const KeepsFreeCounts counts;
    const Pages<3> pages;
    REQUIRE(pages.complete());
    const Result<VirtAddr> first = vmap(pages.begin(), 3, VmapProt::rw), second = vmap(pages.begin(), 2, VmapProt::rw);
    REQUIRE(first && second);
    for (const auto& [area, n] : {std::pair{*first, 3u}, std::pair{*second, 2u}}) {
        CHECK(readable(area));
        CHECK(readable(page_of(area, n) - 4));
        CHECK(!readable(page_of(area, n)));
        CHECK(!readable(page_of(area, n) + (kPageSize - 4)));
        CHECK(!probe_write32(page_of(area, n), 0));
        CHECK(!readable(area - 4));
        CHECK(vmap_fault(area).kind == VmapFault::Kind::mapped);
        CHECK(vmap_fault(page_of(area, n) - 1).kind == VmapFault::Kind::mapped);
        CHECK(vmap_fault(page_of(area, n)).kind == VmapFault::Kind::guard);
        CHECK_EQ(vmap_fault(page_of(area, n)).pages, n);
        CHECK_EQ(vmap_fault(page_of(area, n)).area, area);
    }
    vunmap(*first);
    vunmap(*second);
}

SELFTEST(vmap, rights) {
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    constexpr u8 kReturn = 0xc3;
    memset_page(pages[0], 0, kReturn, 16);
    u32 value = 0;

    const Result<VirtAddr> rw = vmap(pages.begin(), 1, VmapProt::rw), ro = vmap(pages.begin(), 1, VmapProt::ro),
                           rx = vmap(pages.begin(), 1, VmapProt::rx);
    REQUIRE(rw && ro && rx);
    CHECK(probe_read32(*rw, value) && probe_write32(*rw + 64, 1));
    CHECK(probe_read32(*ro, value) && value == 0xc3c3'c3c3u);
    CHECK(!probe_write32(*ro + 64, 2));
    CHECK(!probe_write32(*rx + 64, 3));
    CHECK_EQ(hal::load<u32>(*ro + 64), 1u); // the write did not succeed
    CHECK(probe_exec(*rx));
    if (hal::cpu_features().no_execute) {
        CHECK(!probe_exec(*rw));
        CHECK(!probe_exec(*ro));
    }
    vunmap(*rw);
    vunmap(*ro);
    vunmap(*rx);
}

// Released addresses are not used again before their flush, and one flush pays for many areas.
SELFTEST(vmap, flush_is_deferred) {
    if (config::kDebug) SKIP("a DEBUG kernel flushes at once");
    const KeepsFreeCounts counts;
    const Pages<4> pages;
    REQUIRE(pages.complete());
    const VmapStats before = vmap_stats();
    const FlushCounter flushes;
    for (u32 i = 0; i < 20; ++i) {
        const Result<VirtAddr> area = vmap(pages.begin(), 4, VmapProt::rw);
        REQUIRE(area);
        hal::store<u32>(*area, i);
        vunmap(*area);
        CHECK(vmap_fault(*area).kind == VmapFault::Kind::lazy);
        CHECK(!walk_naively(area->value()).present()); // the entry is cleared at once
    }
    if (vmap_stats().rounds == before.rounds) {
        CHECK_EQ(flushes.all(), 0u);
        CHECK_EQ(vmap_stats().lazy_pages, 80u);
    }
    vmap_flush();
    CHECK_EQ(vmap_stats().lazy_pages, 0u);
    if (vmap_stats().rounds == before.rounds) {
        CHECK_EQ(vmap_stats().flushes, before.flushes + 1);
        CHECK_EQ(flushes.cr3_loads(), 1u);
        CHECK_EQ(flushes.all(), 1u);
    }
    CHECK_EQ(vmap_stats().areas, before.areas);
    CHECK_EQ(vmap_stats().pages, before.pages);
    // No area is lazy: no flush.
    const FlushCounter none;
    vmap_flush();
    CHECK_EQ(none.all(), 0u);
}

// When too many pages are lazy, vunmap flushes by itself.
SELFTEST(vmap, lazy_pages_are_bounded) {
    const KeepsFreeCounts counts;
    FrameChain pages;
    const u32 n = 256;
    REQUIRE_EQ(pages.take(Gfp::high, 0, n), n);
    list(pages);
    const VmapStats before = vmap_stats();
    u32 most = 0;
    for (u32 i = 0; i < 40; ++i) { // 40 MiB of addresses
        const Result<VirtAddr> area = vmap(array, n, VmapProt::rw);
        REQUIRE(area);
        vunmap(*area);
        most = std::max(most, vmap_stats().lazy_pages);
    }
    CHECK_LE(most, 2048u); // 8 MiB
    CHECK_GT(vmap_stats().flushes - before.flushes, 0u);
    if (!config::kDebug) CHECK_GE(most, n);
}

// Addresses are used again after a whole round, and then show the new pages.
SELFTEST(vmap, rounds_without_stale_reads) {
    const KeepsFreeCounts counts;
    FrameChain pages;
    const u32 n = 128;
    REQUIRE_EQ(pages.take(Gfp::high, 0, 2 * n), 2 * n);
    list(pages);
    for (u32 i = 0; i < 2 * n; ++i)
        sign(array[i], 8);
    const VmapStats before = vmap_stats();
    const u32 maps = 3 * (space_pages() / (n + 1) + 1);
    u32 wrong = 0;
    for (u32 i = 0; i < maps; ++i) {
        // Two areas in succession have different frames at the same offset.
        Page* const* first = array + (i % 2) * n;
        const Result<VirtAddr> area = vmap(first, n, VmapProt::rw);
        REQUIRE(area);
        for (u32 k = 0; k < n; k += 5)
            wrong += hal::load<u32>(page_of(*area, k)) != mark(page_to_pfn(first[k]), 0, 8);
        vunmap(*area);
    }
    CHECK_EQ(wrong, 0u);
    CHECK_GE(vmap_stats().rounds - before.rounds, 2u);
    for (u32 i = 0; i < 2 * n; ++i)
        wrong += !signed_by(array[i], 8);
    CHECK_EQ(wrong, 0u);
}

// The same with short rounds: nearly all addresses are in use, and the few free ones are reused repeatedly.
SELFTEST(vmap, reused_addresses_are_not_stale) {
    const KeepsFreeCounts counts;
    FrameChain pages;
    const u32 n = 512;
    REQUIRE_EQ(pages.take(Gfp::high, 0, n), n);
    list(pages);
    for (u32 i = 0; i < n; ++i)
        sign(array[i], 1);
    static constinit VirtAddr large[kMostAreas]{};
    u32 held = 0;
    while (const Result<VirtAddr> area = vmap(array, n, VmapProt::ro))
        large[held++] = *area;
    CHECK_GT(held, 0u);
    // At most n pages are free at the end of the range, and as many at its begin: 2000 areas of one page and its guard
    // make at least three rounds.
    const VmapStats before = vmap_stats();
    u32 wrong = 0, failed = 0;
    for (u32 i = 0; i < 2000; ++i) {
        Page* page = array[i % n];
        const Result<VirtAddr> area = vmap(&page, 1, VmapProt::rw);
        if (!area) {
            ++failed;
            continue;
        }
        wrong += !marks_hold(*area, page_to_pfn(page), 1);
        vunmap(*area);
    }
    CHECK_EQ(wrong, 0u);
    CHECK_EQ(failed, 0u);
    CHECK_GE(vmap_stats().rounds - before.rounds, 3u);
    for (u32 i = 0; i < held; ++i)
        vunmap(large[i]);
}

// vfree frees no frame before the flush: a stale translation may still lead to the frame (bugs 16 and 22).
SELFTEST(vmap, vfree_returns_frames_after_the_flush) {
    if (config::kDebug) SKIP("a DEBUG kernel flushes at once");
    const KeepsFreeCounts counts;
    const u32 before = free_in_all_zones();
    const Result<VirtAddr> area = vmalloc(10 * kPageSize);
    REQUIRE(area);
    CHECK_EQ(free_in_all_zones(), before - 10);
    const Pfn frame = frame_at(*area);
    vfree(*area);
    CHECK_EQ(free_in_all_zones(), before - 10);
    CHECK(pfn_to_page(frame)->type() == PageType::used);
    vmap_flush();
    CHECK_EQ(free_in_all_zones(), before);
    CHECK(pfn_to_page(frame)->type() == PageType::cached);
}

SELFTEST(vmap, vmalloc_is_zero_filled) {
    const KeepsFreeCounts counts;
    { // frames that are not zero are freed first
        FrameChain pages;
        pages.take(Gfp::high, 0, 40);
        for (Page* page : pages)
            memset_page(page, 0, 0xa5, kPageSize);
    }
    const u32 bytes = 32 * kPageSize - 100; // not a whole number of pages
    const Result<VirtAddr> area = vmalloc(bytes);
    REQUIRE(area);
    u32 sum = 0;
    for (u32 i = 0; i < 32 * kPageSize; i += 4)
        sum |= hal::load<u32>(*area + i);
    CHECK_EQ(sum, 0u);
    CHECK(readable(*area + bytes));
    CHECK(!readable(page_of(*area, 32)));
    u32 high = 0;
    for (u32 i = 0; i < 32; ++i) {
        hal::store<u32>(page_of(*area, i), i);
        high += is_highmem(frame_at(page_of(*area, i)));
    }
    for (u32 i = 0; i < 32; ++i)
        CHECK_EQ(hal::load<u32>(page_of(*area, i)), i);
    if (no_highmem_for(32) == nullptr) CHECK_EQ(high, 32u); // high memory is used first
    vfree(*area);
}

SELFTEST(vmap, impossible_requests_fail_cleanly) {
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    const VmapStats before = vmap_stats();
    const u32 space = space_pages() * kPageSize;
    for (const u32 bytes : {space, space + kPageSize, 0xffff'f000u, 0xffff'ffffu}) {
        const Result<VirtAddr> area = vmalloc(bytes);
        CHECK(!area && area.error() == Error::no_space);
    }
    const Result<VirtAddr> nothing = vmap(pages.begin(), 0, VmapProt::rw), empty = vmalloc(0);
    CHECK(!nothing && nothing.error() == Error::invalid);
    CHECK(!empty && empty.error() == Error::invalid);
    CHECK_EQ(vmap_stats().areas, before.areas);
    CHECK_EQ(vmap_stats().pages, before.pages);
}

// Addresses are used up before memory: the last requests fail; in the end all addresses and frames are free.
SELFTEST(vmap, address_space_can_be_full) {
    const KeepsFreeCounts counts;
    const VmapStats before = vmap_stats();
    FrameChain pages;
    REQUIRE_EQ(pages.take(Gfp::high, 0, kMost), kMost);
    list(pages);
    static constinit VirtAddr area[kMostAreas]{};
    u32 n = 0;
    Error why{};
    for (; n < kMostAreas; ++n) {
        const Result<VirtAddr> one = vmap(array, kMost, VmapProt::ro);
        if (!one) {
            why = one.error();
            break;
        }
        area[n] = *one;
    }
    CHECK(why == Error::no_space);
    CHECK_LE(n, space_pages() / (kMost + 1));
    CHECK_GE(n + 1, space_pages() / (kMost + 1));
    // A hole in the middle is found and used.
    if (n > 2) {
        vunmap(area[n / 2]);
        const Result<VirtAddr> again = vmap(array, kMost, VmapProt::ro);
        CHECK(again && *again == area[n / 2]);
        if (again) area[n / 2] = *again;
    }
    for (u32 i = 0; i < n; ++i)
        vunmap(area[i]);
    vmap_flush();
    CHECK_EQ(vmap_stats().areas, before.areas);
    CHECK_EQ(vmap_stats().pages, before.pages);
}

SELFTEST(vmap, wrong_addresses_panic) {
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    const Result<VirtAddr> mapped = vmap(pages.begin(), 2, VmapProt::rw), memory = vmalloc(kPageSize);
    REQUIRE(mapped && memory);
    const auto panics = [](auto&& call) { return contains(selftest::catch_panic(call), "is not the start"); };
    CHECK(panics([&] { vunmap(page_of(*mapped, 1)); }));
    CHECK(panics([&] { vunmap(*memory); })); // a vmalloc area
    CHECK(panics([&] { vfree(*mapped); }));
    CHECK(panics([&] { vunmap(layout::direct_map_end()); }));
    vunmap(*mapped);
    CHECK(panics([&] { vunmap(*mapped); }));
    vfree(*memory);
    CHECK(panics([&] { vfree(*memory); }));
    CHECK(hal::irqs_enabled());
}

} // namespace loft::guest::vmap_test
