// The helpers built on the mappings, and the conversion from an address to its page.
#include "mm/windows/vmap.hpp"
#include "tests/guest/support.hpp"

#include <algorithm>
#include <array>

namespace loft::guest::highmem_test {
namespace {

using selftest::contains;

// The expected and the actual bytes of a page.
constinit std::array<u8, kPageSize> expected{}, found{};

void fill_with_pattern(Page* page, u32 salt) {
    for (u32 i = 0; i < kPageSize; ++i)
        expected[i] = static_cast<u8>(i * 7 + (i >> 8) + salt);
    memcpy_to_page(page, 0, expected.data(), kPageSize);
}

bool is_as_expected(Page* page) {
    memcpy_from_page(found.data(), page, 0, kPageSize);
    return found == expected;
}

struct Range {
    u32 first, second; // offset and length, or start and end
};

} // namespace

SELFTEST(highmem, clear) {
    const KeepsFreeCounts counts;
    const Pages<3> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages)
        memset_page(page, 0, 0xff, kPageSize);
    clear_highpage(pages[1]);
    expected.fill(0);
    CHECK(is_as_expected(pages[1]));
    expected.fill(0xff); // the other page is unchanged
    CHECK(is_as_expected(pages[0]));
    CHECK(is_as_expected(pages[2]));
}

// Between pages of any two kinds (bug 21: a copy that assumed both in the direct map).
SELFTEST(highmem, copy_between_all_kinds_of_pages) {
    const KeepsFreeCounts counts;
    const Pages<2> high;
    const Pages<2> low{Gfp::kernel};
    REQUIRE(high.complete() && low.complete());
    Page* const all[]{high[0], high[1], low[0], low[1]};
    u32 salt = 0;
    for (Page* from : all) {
        for (Page* to : all) {
            if (to == from) continue;
            memset_page(to, 0, 0, kPageSize);
            fill_with_pattern(from, ++salt);
            copy_highpage(to, from);
            CHECK(is_as_expected(to));
            CHECK(is_as_expected(from));
        }
    }
}

SELFTEST(highmem, partial_copies) {
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    fill_with_pattern(pages[0], 1);
    static constinit std::array<u8, kPageSize> text{};
    const Range parts[]{{0, 1},     {0, kPageSize}, {kPageSize - 1, 1}, {1, 2}, {4093, 3},
                        {17, 4000}, {5, 0},         {kPageSize, 0}};
    for (const auto& [offset, bytes] : parts) {
        for (u32 i = 0; i < bytes; ++i)
            text[i] = static_cast<u8>(selftest::rng().next());
        memcpy_to_page(pages[0], offset, text.data(), bytes);
        std::copy_n(text.begin(), bytes, expected.begin() + offset);
        CHECK(is_as_expected(pages[0]));
        found.fill(0);
        memcpy_from_page(found.data(), pages[0], offset, bytes);
        CHECK(std::equal(text.begin(), text.begin() + bytes, found.begin()));
        CHECK(bytes == kPageSize || found[bytes] == 0);
        memset_page(pages[0], offset, 0x5a, bytes);
        std::fill_n(expected.begin() + offset, bytes, static_cast<u8>(0x5a));
        CHECK(is_as_expected(pages[0]));
    }
    const auto refused = [](std::string_view name, auto&& call) { return contains(selftest::catch_panic(call), name); };
    const Range beyond[]{{0, kPageSize + 1}, {1, kPageSize}, {kPageSize, 1}, {kPageSize + 1, 0}, {8, 0xffff'fffcu}};
    for (const auto& range : beyond) {
        const u32 offset = range.first, bytes = range.second;
        CHECK(refused("memcpy_to_page", [&] { memcpy_to_page(pages[0], offset, text.data(), bytes); }));
        CHECK(refused("memcpy_from_page", [&] { memcpy_from_page(text.data(), pages[0], offset, bytes); }));
        CHECK(refused("memset_page", [&] { memset_page(pages[0], offset, 1, bytes); }));
    }
    CHECK(is_as_expected(pages[0]));
}

// Bug 19: start behind end.
SELFTEST(highmem, zero_user) {
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    const Range ranges[]{{0, 0}, {100, 100}, {kPageSize, kPageSize}, {0, 1}, {4095, 4096}, {3, 1000}, {0, kPageSize}};
    for (const auto& [start, end] : ranges) {
        fill_with_pattern(pages[0], start + 1);
        zero_user(pages[0], start, end);
        std::fill(expected.begin() + start, expected.begin() + end, static_cast<u8>(0));
        CHECK(is_as_expected(pages[0]));
    }
    fill_with_pattern(pages[0], 3);
    const Range nonsense[]{
        {1, 0}, {kPageSize, 0}, {0, kPageSize + 1}, {kPageSize + 1, kPageSize + 1}, {0xffff'ffffu, 4}};
    for (const auto& range : nonsense) {
        const auto zero = [&] { zero_user(pages[0], range.first, range.second); };
        CHECK(contains(selftest::catch_panic(zero), "zero_user"));
    }
    CHECK(is_as_expected(pages[0]));
    CHECK_EQ(local_depth(), 0u);
}

// Whether a page has an address, and which.
SELFTEST(highmem, page_address) {
    const KeepsFreeCounts counts;
    const Pages<1> high;
    const Pages<1> low{Gfp::kernel};
    REQUIRE(high.complete() && low.complete());
    VirtAddr at;
    CHECK(page_address(low[0], at) && at == direct_addr(low.pfn(0)));
    if (!is_highmem(high[0])) SKIP("no high memory: the rest of this test needs it");
    CHECK(!page_address(high[0], at));
    {
        const KMap map{high[0]};
        CHECK(page_address(high[0], at) && at == VirtAddr{map.addr()});
    }
    CHECK(!page_address(high[0], at)); // its slot is idle, not used
    {
        const LocalMap map{high[0]}; // a local mapping does not count
        CHECK(!page_address(high[0], at));
    }
}

// Bug 3: the conversion was wrong for local addresses. Tested with offsets, at several depths, for each kind.
SELFTEST(highmem, kmap_to_page) {
    const KeepsFreeCounts counts;
    const Pages<4> high;
    const Pages<1> low{Gfp::kernel};
    REQUIRE(high.complete() && low.complete());
    for (const u32 offset : {0u, 4u, kPageSize - 1}) {
        CHECK(kmap_to_page(direct_addr(low.pfn(0)) + offset) == low[0]);
        const KMap pool{high[0]};
        CHECK(kmap_to_page(VirtAddr{pool.addr()} + offset) == high[0]);
        const LocalMap first{high[1]};
        const LocalMap second{high[2]};
        const AtomicMap third{high[3]};
        CHECK(kmap_to_page(VirtAddr{first.addr()} + offset) == high[1]);
        CHECK(kmap_to_page(VirtAddr{second.addr()} + offset) == high[2]);
        CHECK(kmap_to_page(VirtAddr{third.addr()} + offset) == high[3]);
        in_interrupt_do([&] {
            const LocalMap fourth{high[1]};
            CHECK(kmap_to_page(VirtAddr{fourth.addr()} + offset) == high[1]);
            CHECK(kmap_to_page(VirtAddr{first.addr()} + offset) == high[1]);
            CHECK(kmap_to_page(VirtAddr{second.addr()} + offset) == high[2]);
        });
    }
    // None of these addresses is a kmap or a local mapping.
    const Result<VirtAddr> area = vmap(high.begin(), 1, VmapProt::rw);
    REQUIRE(area);
    CHECK(kmap_to_page(*area) == nullptr);
    vunmap(*area);
    CHECK(kmap_to_page(VirtAddr{}) == nullptr);
    CHECK(kmap_to_page(layout::direct_map_end()) == nullptr);
    CHECK(kmap_to_page(VirtAddr{0xffff'fffcu}) == nullptr);
    if (!uses_slot(high[0])) return;
    CHECK(kmap_to_page(layout::pkmap_addr(0)) == nullptr);
    // A released slot is not a mapping, even if its entry is still present.
    VirtAddr stale;
    {
        const LocalMap map{high[0]};
        stale = map.addr();
    }
    CHECK(kmap_to_page(stale) == nullptr);
    {
        const KMap map{high[0]};
        stale = map.addr();
    }
    CHECK(kmap_to_page(stale) == nullptr);
}

} // namespace loft::guest::highmem_test
