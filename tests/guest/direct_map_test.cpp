// The direct map: it maps all of lowmem, linearly, and nothing else.
#include "arch/i386/cpu/image.hpp"
#include "kernel/boot/cmdline.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/fixmap.hpp"
#include "tests/guest/support.hpp"
#include "tests/guest/walker.hpp"

namespace loft::guest::direct_map_test {
namespace {

constexpr u32 kLarge = config::kPae ? 2 * MiB : 4 * MiB;

bool writable(VirtAddr va) {
    u32 value = 0;
    return probe_read32(va, value) && probe_write32(va, value);
}

} // namespace

SELFTEST(direct_map, first_and_last_page_are_there) {
    const VirtAddr begin{0xc000'0000u}, end = layout::direct_map_end();
    CHECK(readable(begin));
    CHECK(readable(begin + kPageSize - 4));
    CHECK(readable(end - kPageSize));
    CHECK(writable(end - 4));
    CHECK(readable(VirtAddr{0xc00b'8000u})); // the VGA text screen
}

SELFTEST(direct_map, nothing_below_and_nothing_above) {
    const VirtAddr end = layout::direct_map_end();
    CHECK(!readable(VirtAddr{0xbfff'fffcu}));
    CHECK(!readable(VirtAddr{0xbfff'f000u}));
    CHECK(!readable(end));
    CHECK(!probe_write32(end, 0));
    CHECK(!readable(end + kPageSize - 4));
    // The hole: its first and last page, and one page in each MiB.
    const VirtAddr hole_end{layout::boundaries.vmap_begin};
    CHECK(!readable(hole_end - 4));
    u32 visible = 0;
    for (VirtAddr va = end; va < hole_end; va = va + MiB)
        visible += readable(va);
    CHECK_EQ(visible, 0u);
    // An access across the end of the last page, and a null pointer with a small positive or negative offset.
    CHECK(!readable(end - 2));
    CHECK(!readable(VirtAddr{}));
    CHECK(!readable(VirtAddr{0xffcu}));
    CHECK(!readable(VirtAddr{0xffff'f000u}));
    CHECK(!readable(VirtAddr{0xffff'fffcu}));
}

SELFTEST(direct_map, stack_guards_fault) {
    for (const char* guard : {__boot_stack_guard, __df_stack_guard}) {
        const VirtAddr va = image_addr(guard);
        CHECK(!readable(va));
        CHECK(!readable(va + kPageSize - 4));
        CHECK(!probe_write32(va, 0));
        CHECK(readable(va + kPageSize));
        CHECK(readable(va - 4));
    }
}

SELFTEST(direct_map, is_linear) {
    u32 wrong = 0;
    for_each_mapping([&](const Mapping& m) {
        if (m.va < 0xc000'0000u || m.va >= layout::direct_map_end().value()) return;
        if (m.phys != m.va - 0xc000'0000u && wrong++ == 0) selftest::note("{:08x} shows physical {:09x}", m.va, m.phys);
    });
    CHECK_EQ(wrong, 0u);
}

// With PSE or PAE every range that can be one large page is one; with `nopse` none is.
SELFTEST(direct_map, page_sizes) {
    const bool large_wanted = hal::cpu_features().large_pages;
    if (options().nopse) CHECK(!large_wanted);
    const u32 image_begin = round_down(image_addr(__text_begin).value(), kLarge);
    const u32 image_end = round_up(image_addr(__data_end).value(), kLarge);
    u32 wrong = 0;
    for (u64 va = 0xc000'0000u; va + kLarge <= layout::direct_map_end().value(); va += kLarge) {
        const u32 at = static_cast<u32>(va);
        const bool first = at == 0xc000'0000u; // its first MiB mixes memory types
        const bool image = at >= image_begin && at < image_end;
        const Mapping m = walk_naively(at + kLarge / 2);
        const bool large = m.bytes == kLarge;
        if (large != (large_wanted && !first && !image) && wrong++ == 0)
            selftest::note("{:08x} is mapped by pages of {} KiB", at, m.bytes / KiB);
    }
    CHECK_EQ(wrong, 0u);
    // A last range that is shorter than a large page uses small pages and ends at the end of memory.
    const VirtAddr last = layout::direct_map_end() - 4;
    if (layout::direct_map_end().value() % kLarge != 0) CHECK_EQ(walk_naively(last.value()).bytes, kPageSize);
}

SELFTEST(direct_map, kernel_pages_are_global) {
    const bool wanted = hal::cpu_features().global;
    u32 wrong = 0;
    for_each_mapping([&](const Mapping& m) {
        if (m.va >= 0xc000'0000u && m.va < layout::direct_map_end().value()) wrong += m.global != wanted;
    });
    CHECK_EQ(wrong, 0u);
}

// The same frame through the direct map and through another mapping, at both ends of each zone of lowmem.
SELFTEST(direct_map, shows_the_frame_it_says) {
    const KeepsFreeCounts counts;
    for (const Gfp gfp : {Gfp::dma, Gfp::kernel}) {
        if (gfp == Gfp::dma && zone_info(ZoneId::dma).managed == 0) continue; // no memory below 16 MiB
        FrameChain pages;
        pages.take(gfp, 0, 64);
        for (Page* page : pages) {
            const Pfn pfn = page_to_pfn(page);
            write_marks(direct_addr(pfn), pfn, 7);
        }
        u32 wrong = 0;
        for (Page* page : pages) {
            const BootWindow window{page_to_pfn(page).phys(), kPageSize};
            wrong += !marks_hold(window.at(), page_to_pfn(page), 7);
        }
        CHECK_GT(pages.blocks(), 0u);
        CHECK_EQ(wrong, 0u);
    }
}

} // namespace loft::guest::direct_map_test
