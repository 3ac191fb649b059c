// Helpers built on the mappings: clearing, copying, and conversion between pages and addresses.
#include "mm/ground/context.hpp"
#include "mm/windows/highmem.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/host/booted.hpp"

#include <cstring>

using namespace loft;
using namespace loft::test;

namespace {

// The frame's bytes, read without page tables.
u8* bytes_of(Page* page) { return sim::ram_at(page_to_pfn(page).phys().value()); }

std::vector<u8> fill(Page* page, u32 seed) {
    Random random{seed};
    std::vector<u8> content(kPageSize);
    for (u8& byte : content)
        byte = static_cast<u8>(random());
    std::memcpy(bytes_of(page), content.data(), kPageSize);
    return content;
}
bool holds(Page* page, const std::vector<u8>& content) {
    return std::memcmp(bytes_of(page), content.data(), kPageSize) == 0;
}

// One page of each kind that the machine has.
std::vector<Page*> kinds() {
    std::vector<Page*> pages = {new_page(Gfp::kernel), new_page(Gfp::dma)};
    if (kHigh) pages.push_back(new_page(Gfp::high));
    return pages;
}

} // namespace

TEST_CASE("highmem: clear_highpage clears the page and nothing else", "[highmem]") {
    Booted kernel;
    for (Page* page : kinds()) {
        (void)fill(page, 1);
        const auto before = fill(page - 1, 2), after = fill(page + 1, 3);
        clear_highpage(page);
        CHECK(holds(page, std::vector<u8>(kPageSize)));
        CHECK(holds(page - 1, before));
        CHECK(holds(page + 1, after));
    }
    CHECK(books().held_maps == 0);
}

TEST_CASE("highmem: copy_highpage copies between pages of any kind", "[highmem]") {
    Booted kernel;
    const auto from = kinds(), to = kinds();
    u32 seed = 0;
    for (Page* source : from) {
        for (Page* target : to) {
            const auto content = fill(source, ++seed);
            (void)fill(target, ++seed);
            copy_highpage(target, source);
            CHECK(holds(target, content));
            CHECK(holds(source, content));
        }
    }
    const auto content = fill(from[0], 99);
    copy_highpage(from[0], from[0]);
    CHECK(holds(from[0], content));
    CHECK(books().held_maps == 0);
}

TEST_CASE("highmem: a copy maps the pages of high memory only", "[highmem]") {
    ONLY_WITH(kHigh && !kDebug);
    Booted kernel;
    const u32& misses = local_maps.of(CpuId{0}).misses;
    for (const Gfp from : {Gfp::kernel, Gfp::high})
        for (const Gfp to : {Gfp::kernel, Gfp::high}) {
            Page* const source = new_page(from);
            Page* const target = new_page(to);
            const u32 before = misses;
            copy_highpage(target, source);
            CHECK(misses - before == u32{from == Gfp::high} + u32{to == Gfp::high});
        }
}

TEST_CASE("highmem: a copy takes two slots: the 16th is not enough, and nothing stays behind", "[highmem]") {
    ONLY_WITH(config::kHighMem);
    Booted kernel;
    const std::vector<Page*> pages = new_pages(18);
    const auto content = fill(pages[16], 1);
    std::vector<LocalAddr> held;
    const auto hold = [&](u32 many) {
        while (held.size() < many)
            held.push_back(kmap_local_page(pages[held.size()]));
    };
    hold(14);
    copy_highpage(pages[17], pages[16]);
    CHECK(holds(pages[17], content));
    for (const u32 many : {15u, 16u}) {
        INFO(many << " are held");
        hold(many);
        CHECK_PANIC(copy_highpage(pages[17], pages[16]), "mapping number 17 does not fit");
        CHECK(local_depth() == many);
    }
    for (; !held.empty(); held.pop_back())
        kunmap_local(held.back());
    CHECK(local_depth() == 0);
}

TEST_CASE("highmem: memcpy_to_page and memcpy_from_page move exactly what they are told", "[highmem]") {
    Booted kernel;
    Random random{5};
    for (Page* page : kinds()) {
        auto content = fill(page, 7);
        for (u32 i = 0; i < 200; ++i) {
            const u32 offset = below(random, kPageSize + 1);
            const u32 count = below(random, kPageSize - offset + 1);
            INFO("offset " << offset << ", bytes " << count);
            std::vector<u8> piece(count + 1, 0xee);
            memcpy_from_page(piece.data(), page, offset, count);
            REQUIRE(std::equal(piece.begin(), piece.end() - 1, content.begin() + offset));
            REQUIRE(piece.back() == 0xee);
            for (u8& byte : piece)
                byte = static_cast<u8>(random());
            memcpy_to_page(page, offset, piece.data(), count);
            std::copy(piece.begin(), piece.end() - 1, content.begin() + offset);
            REQUIRE(holds(page, content));
        }
    }
    CHECK(books().held_maps == 0);
}

TEST_CASE("highmem: memset_page and zero_user change exactly their range", "[highmem]") {
    Booted kernel;
    for (Page* page : kinds()) {
        auto content = fill(page, 11);
        const auto set = [&](u32 from, u32 to, u8 value) {
            std::fill(content.begin() + from, content.begin() + to, value);
        };
        memset_page(page, 100, 0xab, 1000);
        set(100, 1100, 0xab);
        CHECK(holds(page, content));
        zero_user(page, 3, 5);
        set(3, 5, 0);
        CHECK(holds(page, content));
        zero_user(page, 4000, kPageSize);
        set(4000, kPageSize, 0);
        CHECK(holds(page, content));
        zero_user(page, 200, 200);
        zero_user(page, kPageSize, kPageSize);
        memset_page(page, kPageSize, 1, 0);
        CHECK(holds(page, content));
        zero_user(page, 0, kPageSize);
        CHECK(holds(page, std::vector<u8>(kPageSize)));
    }
}

TEST_CASE("highmem: a range that does not lie in the page is a panic before anything is mapped or written",
          "[highmem]") {
    Booted kernel;
    Page* page = new_page();
    const auto content = fill(page, 13);
    u8 buffer[16] = {};
    for (const auto& [offset, bytes] : {std::pair{0u, kPageSize + 1},
                                        {kPageSize - 8, 9u},
                                        {kPageSize, 1u},
                                        {kPageSize + 1, 0u},
                                        {8u, ~0u - 7},
                                        {~0u, 1u}}) {
        INFO("offset " << offset << ", bytes " << bytes);
        CHECK_PANIC(memcpy_to_page(page, offset, buffer, bytes), "do not lie in one page");
        CHECK_PANIC(memcpy_from_page(buffer, page, offset, bytes), "do not lie in one page");
        CHECK_PANIC(memset_page(page, offset, 0, bytes), "do not lie in one page");
    }
    CHECK_PANIC(zero_user(page, 5, 4), "zero_user: [5, 4) is no range of a page");
    CHECK_PANIC(zero_user(page, 0, kPageSize + 1), "is no range of a page");
    CHECK_PANIC(zero_user(page, ~0u, 0), "is no range of a page");
    CHECK(holds(page, content));
    CHECK(books().held_maps == 0);
}

TEST_CASE("highmem: the helpers work in an interrupt, in the middle of a mapping", "[highmem]") {
    Booted kernel;
    Page *a = new_page(), *b = new_page();
    const auto content = fill(a, 17);
    const LocalAddr held = kmap_local_page(a);
    as_interrupt([&] {
        copy_highpage(b, a);
        clear_highpage(a);
    });
    CHECK(holds(b, content));
    CHECK(hal::load<u32>(held) == 0);
    kunmap_local(held);
}

TEST_CASE("highmem: an interrupt that copies between any two steps of a copy", "[highmem][interrupt]") {
    Booted kernel{small(1)};
    std::vector<Page*> pages = new_pages(4);
    const auto one = fill(pages[0], 19), two = fill(pages[2], 23);
    Intruder intruder{[&] { as_interrupt([&] { copy_highpage(pages[3], pages[2]); }); }};
    const u32 points = sim::interrupt_at_every_point({.operation = [&] { copy_highpage(pages[1], pages[0]); },
                                                      .intruder = std::ref(intruder),
                                                      .prepare =
                                                          [&] {
                                                              (void)fill(pages[1], 29);
                                                              (void)fill(pages[3], 31);
                                                          },
                                                      .check =
                                                          [&] {
                                                              intruder.finish();
                                                              REQUIRE(holds(pages[1], one));
                                                              if (intruder.runs() > 0) REQUIRE(holds(pages[2], two));
                                                          }});
    CHECK(points >= 2);
    CHECK(local_depth() == 0);
}

TEST_CASE("highmem: LocalMap, AtomicMap and KMap undo themselves, in the opposite order", "[highmem]") {
    Booted kernel;
    const Books before = books();
    std::vector<Page*> pages = new_pages(3);
    for (Page* page : pages)
        stamp(page);
    const Books held = books();
    {
        LocalMap first{pages[0]};
        LocalMap second{pages[1]};
        CHECK(shows(first.addr(), pages[0]));
        CHECK(shows(second.addr(), pages[1]));
        {
            KMap global{pages[2]};
            CHECK(shows(global.addr(), pages[2]));
            CHECK(pkmap_use().used == (kHigh ? 1 : 0));
        }
        AtomicMap third{pages[2]};
        CHECK(shows(third.addr(), pages[2]));
        CHECK_FALSE(preemptible());
        CHECK(local_depth() == (kHigh ? 3 : 0));
    }
    CHECK(preemptible());
    CHECK(pkmap_use().used == 0);
    CHECK(books() == held);
    free_all(pages);
    CHECK(books() == before);
}

TEST_CASE("page_address: a lowmem page's place, or the pool's while somebody uses it", "[highmem]") {
    Booted kernel;
    VirtAddr va;
    Page* low = new_page(Gfp::kernel);
    REQUIRE(page_address(low, va));
    CHECK(va == direct_addr(page_to_pfn(low)));
    ONLY_WITH(kHigh);
    Page* high = new_page();
    CHECK_FALSE(page_address(high, va));
    const LocalAddr local = kmap_local_page(high);
    CHECK_FALSE(page_address(high, va)); // a local mapping does not count
    kunmap_local(local);
    const GlobalAddr global = kmap(high);
    REQUIRE(page_address(high, va));
    CHECK(va == VirtAddr{global});
    kunmap(high);
    CHECK_FALSE(page_address(high, va));
}

TEST_CASE("kmap_to_page: right for direct, local and pool addresses, null for all others", "[highmem]") {
    Booted kernel;
    Page* low = new_page(Gfp::kernel);
    CHECK(kmap_to_page(direct_addr(page_to_pfn(low)) + 4095) == low);
    CHECK(kmap_to_page(VirtAddr{layout::kPageOffset}) == pfn_to_page(Pfn{0u}));
    CHECK(kmap_to_page(layout::direct_map_end() - 1) == pfn_to_page(Pfn{layout::lowmem_end().value() - 1}));
    for (const u32 va : {0u, 0x0804'8000u, layout::kPageOffset - 1, layout::direct_map_end().value(),
                         layout::boundaries.vmap_begin, layout::kFixmapBase, 0xffff'ffffu})
        CHECK(kmap_to_page(VirtAddr{va}) == nullptr);
    ONLY_WITH(kHigh);
    Page *a = new_page(), *b = new_page();
    const LocalAddr first = kmap_local_page(a), second = kmap_local_page(b);
    CHECK(kmap_to_page(first + 100) == a);
    CHECK(kmap_to_page(second + 4095) == b);
    const GlobalAddr global = kmap(b);
    CHECK(kmap_to_page(VirtAddr{global} + 17) == b);
    sim::on_cpu(CpuId{1}, [&] {
        CHECK(kmap_to_page(global) == b);
        CHECK(kmap_to_page(first) == nullptr); // held on another CPU
    });
    kunmap(b);
    kunmap_local(second);
    CHECK(kmap_to_page(global) == nullptr);
    CHECK(kmap_to_page(second) == nullptr);
    kunmap_local(first);
}

TEST_CASE("kmap_to_page: works in the direct map of a machine whose frame table is shorter", "[highmem]") {
    // 20 MiB less the ACPI tables at its end: the table ends at a block of the largest order.
    Setup setup = small(1);
    setup.highmem = BootInfo::kAllHighMem;
    setup.machine.ram = 20 * MiB;
    Booted kernel{setup};
    const VirtAddr last = layout::direct_map_end() - 1;
    CHECK(kmap_to_page(last) == pfn_to_page(direct_phys(last).pfn()));
}
