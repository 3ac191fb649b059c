// Fixed mappings: the windows through which boot reads memory that no other mapping shows.
#include "arch/i386/cpu/features.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "mm/init.hpp"
#include "mm/windows/fixmap.hpp"
#include "tests/guest/support.hpp"
#include "tests/guest/walker.hpp"

namespace loft::guest::fixmap_test {
namespace {

u64 reach() { return u64{1} << hal::cpu_features().phys_bits; }

void check_window_shows(Page* page) {
    const Pfn pfn = page_to_pfn(page);
    {
        const KMap map{page};
        write_all_words(map.addr(), pfn, 3);
    }
    {
        const BootWindow window{pfn.phys(), kPageSize};
        CHECK_EQ(window.bytes(), kPageSize);
        CHECK(all_words_hold(window.at(), pfn, 3));
        write_marks(window.at(), pfn, 4);
    }
    CHECK(signed_by(page, 4));
}

} // namespace

SELFTEST(fixmap, slots_are_pages_of_their_own) {
    for (u32 i = 0; i < static_cast<u32>(layout::Fix::count); ++i) {
        const VirtAddr va = layout::fix_addr(static_cast<layout::Fix>(i));
        CHECK_EQ(va.value(), 0xffff'e000u - i * kPageSize);
        CHECK_GE(va.value(), layout::kFixmapBase);
    }
}

SELFTEST(fixmap, window_reads_high_memory) {
    if (const char* why = no_highmem_for(1)) SKIP(why);
    const KeepsFreeCounts counts;
    Page* page = alloc_page(Gfp::high);
    REQUIRE(page != nullptr);
    CHECK_GE(page_to_pfn(page).phys().value(), u64{layout::boundaries.lowmem_bytes});
    check_window_shows(page);
    free_page(page);
}

SELFTEST(fixmap, window_reads_above_4_GiB) {
    if (physmap().end().phys().value() <= 4 * GiB + 8 * MiB) SKIP("this machine has no memory above 4 GiB");
    if (const char* why = too_long_to_take_everything()) SKIP(why);
    const KeepsFreeCounts counts;
    const PageAbove above{4 * GiB};
    REQUIRE(above.page != nullptr);
    CHECK_GE(page_to_pfn(above.page).phys().value(), 4 * GiB);
    check_window_shows(above.page);
}

// Sixteen pages, from the middle of the first one on.
SELFTEST(fixmap, window_spans_pages) {
    const KeepsFreeCounts counts;
    Page* block = alloc_pages(Gfp::high, 4);
    REQUIRE(block != nullptr);
    for (u32 i = 0; i < 16; ++i)
        sign(block + i, 9);
    {
        const BootWindow window{page_to_pfn(block).phys() + 0x123, 16 * kPageSize};
        CHECK_EQ(window.at().page_offset(), 0x123u);
        CHECK_EQ(window.bytes(), 16 * kPageSize - 0x123); // longer requests are cut
        u32 wrong = 0;
        for (u32 i = 0; i < 16; ++i)
            wrong += !marks_hold(window.at() - 0x123 + i * kPageSize, page_to_pfn(block + i), 9);
        CHECK_EQ(wrong, 0u);
    }
    {
        const BootWindow window{page_to_pfn(block).phys() + (kPageSize - 4), 8};
        CHECK_EQ(window.bytes(), 8u);
        CHECK_EQ(hal::load<u32>(window.at() + 4), mark(page_to_pfn(block + 1), 0, 9));
        CHECK(!readable(window.at() + 4 + kPageSize)); // no page more is mapped
    }
    free_pages(block, 4);
}

// The limit is the processor's physical address width. HIGHMEM=off uses less memory, but firmware tables may lie above.
SELFTEST(fixmap, window_ends_where_the_reach_ends) {
    const BootWindow last{PhysAddr{reach() - 16}, 64};
    CHECK_EQ(last.bytes(), 16u);
    CHECK(readable(last.at() + 12));
}

SELFTEST(fixmap, window_beyond_the_reach_is_empty) {
    const BootWindow beyond{PhysAddr{reach()}, 64};
    CHECK_EQ(beyond.bytes(), 0u);
}

// A window that is opened again maps its new frame; a closed one faults.
SELFTEST(fixmap, windows_are_never_stale) {
    const KeepsFreeCounts counts;
    const Pages<4> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages)
        sign(page);
    VirtAddr at;
    u32 wrong = 0;
    for (u32 round = 0; round < 8; ++round) {
        const Pfn pfn = pages.pfn(round % 4);
        {
            const BootWindow window{pfn.phys(), kPageSize};
            at = window.at();
            wrong += !marks_hold(at, pfn);
        }
        wrong += readable(at);
    }
    CHECK_EQ(wrong, 0u);
    // The same slot, set again without a clear in between.
    const auto slot = layout::Fix::boot_first;
    for (u32 i = 0; i < 4; ++i) {
        const VirtAddr va = fixmap_set(slot, pages.pfn(i), kernel_prot.data);
        CHECK(marks_hold(va, pages.pfn(i)));
    }
    fixmap_clear(slot);
    CHECK(!readable(layout::fix_addr(slot)));
}

SELFTEST(fixmap, lapic_is_mapped_uncached) {
    if (!lapic_ready()) SKIP("this machine has no local APIC");
    const VirtAddr va = layout::fix_addr(layout::Fix::lapic);
    const Mapping m = walk_naively(va.value());
    CHECK(m.present());
    CHECK(m.uncached);
    CHECK(m.writable);
    CHECK_EQ(m.phys, 0xfee0'0000u);
    u32 version = 0;
    CHECK(probe_read32(va + 0x30, version));
    CHECK_GE(version & 0xff, 0x10u);
    CHECK_LE(version & 0xff, 0x1fu);
}

} // namespace loft::guest::fixmap_test
