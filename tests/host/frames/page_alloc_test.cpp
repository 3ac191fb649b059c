// The page allocator: zones and fallback, reserves, per-CPU lists, blocks, and exhaustion.
#include "mm/frames/bootmem.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/frames/physmap.hpp"
#include "mm/windows/pkmap.hpp"
#include "tests/host/booted.hpp"

#include <set>

using namespace loft;
using namespace loft::test;

namespace {

u32 free_in(ZoneId zone) { return zone_info(zone).free; }
u32 all_free() { return free_in(ZoneId::dma) + free_in(ZoneId::normal) + free_in(ZoneId::high); }
ZoneId zone_of(Page* page) { return loft::zone_of(page_to_pfn(page)); }

// All frames that a request can get. A list that the reserve keeps from the request is drained, and the request
// repeated.
std::vector<Page*> take_all(Gfp gfp) {
    std::vector<Page*> pages;
    std::size_t before;
    do {
        before = pages.size();
        drain_local_pages();
        while (Page* page = alloc_page(gfp))
            pages.push_back(page);
    } while (pages.size() != before);
    return pages;
}
u32 count_in(const std::vector<Page*>& pages, ZoneId zone) {
    return static_cast<u32>(
        std::count_if(pages.begin(), pages.end(), [&](Page* page) { return zone_of(page) == zone; }));
}

} // namespace

TEST_CASE("page_alloc: a frame's zone follows from its address", "[page_alloc]") {
    Booted kernel;
    CHECK(loft::zone_of(Pfn{1u}) == ZoneId::dma);
    CHECK(loft::zone_of(Pfn{kDmaEnd - 1}) == ZoneId::dma);
    CHECK(loft::zone_of(Pfn{kDmaEnd}) == ZoneId::normal);
    CHECK(loft::zone_of(Pfn{layout::lowmem_end().value() - 1}) == ZoneId::normal);
    if (config::kHighMem) CHECK(loft::zone_of(layout::lowmem_end()) == ZoneId::high);
    CHECK(std::string{zone_name(ZoneId::dma)} == "DMA");
    CHECK(std::string{zone_name(ZoneId::normal)} == "Normal");
    CHECK(std::string{zone_name(ZoneId::high)} == "HighMem");
}

TEST_CASE("page_alloc: zones hold every usable frame that nobody has taken, and count the rest", "[page_alloc]") {
    Booted kernel;
    u32 managed[kZones]{}, present[kZones]{};
    for (const FrameRange& range : physmap().usable())
        for (u32 pfn = range.begin.value(); pfn < range.end.value(); ++pfn)
            ++present[static_cast<u32>(loft::zone_of(Pfn{pfn}))];
    u32 boot = 0;
    for (u32 i = 0; i < kZones; ++i) {
        const ZoneInfo info = zone_info(static_cast<ZoneId>(i));
        INFO(zone_name(static_cast<ZoneId>(i)));
        CHECK(info.present == present[i]);
        CHECK(info.managed <= present[i]);
        CHECK(info.free <= info.managed);
        boot += present[i] - info.managed;
        u32 by_order = 0;
        for (u32 order = 0; order <= kMaxOrder; ++order)
            by_order += info.by_order[order] << order;
        CHECK(by_order <= info.free);
        managed[i] = info.managed;
    }
    // The kernel's image, frame 0, and the frames of bootmem.
    CHECK(boot == 0x180 + 1 + bootmem_taken_frames());
    if (config::kHighMem) CHECK(managed[2] == present[2]);
}

TEST_CASE("page_alloc: each request gets the zone it likes best", "[page_alloc]") {
    Booted kernel;
    for (u32 order = 0; order < 4; ++order) {
        Page* dma = alloc_pages(Gfp::dma, order);
        Page* low = alloc_pages(Gfp::kernel, order);
        Page* high = alloc_pages(Gfp::high, order);
        REQUIRE((dma && low && high));
        CHECK(zone_of(dma) == ZoneId::dma);
        CHECK(zone_of(low) == ZoneId::normal);
        CHECK(zone_of(high) == (config::kHighMem ? ZoneId::high : ZoneId::normal));
        for (Page* page : {dma, low, high})
            free_pages(page, order);
    }
}

TEST_CASE("page_alloc: requests fall back downward only, and the fallbacks are counted", "[page_alloc]") {
    Booted kernel;
    const u32 before = alloc_stats().fallbacks;
    auto low = take_all(Gfp::kernel);
    CHECK(count_in(low, ZoneId::high) == 0);
    CHECK(count_in(low, ZoneId::dma) > 0);
    CHECK(alloc_stats().fallbacks - before == count_in(low, ZoneId::dma));
    CHECK(free_in(ZoneId::normal) == 0);
    CHECK(free_in(ZoneId::dma) == 0);
    if (config::kHighMem) {
        CHECK(free_in(ZoneId::high) > 0);
        CHECK(alloc_page(Gfp::dma) == nullptr);
        CHECK(alloc_page(Gfp::kernel) == nullptr);
        Page* high = new_page(Gfp::high);
        CHECK(zone_of(high) == ZoneId::high);
        free_page(high);
    }
    free_all(low);
    page_alloc_verify();
}

TEST_CASE("page_alloc: a dma request takes nothing but DMA", "[page_alloc]") {
    Booted kernel;
    const u32 others = free_in(ZoneId::normal) + free_in(ZoneId::high);
    auto pages = take_all(Gfp::dma);
    CHECK(count_in(pages, ZoneId::dma) == pages.size());
    CHECK(free_in(ZoneId::dma) == 0);
    CHECK(free_in(ZoneId::normal) + free_in(ZoneId::high) == others);
    CHECK(alloc_pages(Gfp::dma, 3) == nullptr);
    free_all(pages);
}

TEST_CASE("page_alloc: requests that could use high memory leave the reserve to the kernel", "[page_alloc]") {
    ONLY_WITH(config::kHighMem);
    Booted kernel;
    const ZoneInfo dma = zone_info(ZoneId::dma), normal = zone_info(ZoneId::normal), high = zone_info(ZoneId::high);
    CHECK(high.reserve == 0);
    CHECK(normal.reserve == high.managed / 32);
    CHECK(dma.reserve == (high.managed + normal.managed) / 32);

    auto pages = take_all(Gfp::high);
    CHECK(free_in(ZoneId::high) == 0);
    CHECK(free_in(ZoneId::normal) == normal.reserve);
    CHECK(free_in(ZoneId::dma) == dma.reserve);
    for (u32 order = 0; order <= kMaxOrder; ++order) {
        INFO("order " << order);
        CHECK(alloc_pages(Gfp::high, order) == nullptr);
    }
    // The kernel's own requests get the reserve, to the last frame.
    auto rest = take_all(Gfp::kernel);
    CHECK(rest.size() == normal.reserve + dma.reserve);
    CHECK(all_free() == 0);
    // A frame of it that comes back is for the kernel only, although it is in this CPU's list.
    Page* const one = rest.back();
    free_page(one);
    CHECK(alloc_page(Gfp::high) == nullptr);
    CHECK(alloc_page(Gfp::kernel) == one);
    free_all(rest);
    free_all(pages);
    page_alloc_verify();
}

TEST_CASE("page_alloc: a block for a high request does not cut into the reserve either", "[page_alloc]") {
    ONLY_WITH(config::kHighMem);
    Booted kernel;
    std::vector<Page*> blocks;
    while (Page* block = alloc_pages(Gfp::high, 4))
        blocks.push_back(block);
    for (const ZoneId zone : {ZoneId::normal, ZoneId::dma}) {
        CHECK(free_in(zone) >= zone_info(zone).reserve);
        CHECK(free_in(zone) < zone_info(zone).reserve + 600); // the frames above the reserve lie in smaller blocks
    }
    for (Page* block : blocks)
        free_pages(block, 4);
}

TEST_CASE("page_alloc: a reserve is never more than half of its zone", "[page_alloc]") {
    ONLY_WITH(config::kHighMem);
    Setup setup;
    setup.machine.ram = config::kPae ? 8 * GiB : 3 * GiB;
    Booted kernel{setup};
    const ZoneInfo dma = zone_info(ZoneId::dma), normal = zone_info(ZoneId::normal), high = zone_info(ZoneId::high);
    CHECK(dma.reserve == dma.managed / 2);
    CHECK(normal.reserve == std::min(high.managed / 32, normal.managed / 2));
}

TEST_CASE("page_alloc: blocks are contiguous, aligned to their size, and nobody else's", "[page_alloc]") {
    Booted kernel;
    const Books before = books();
    std::set<Pfn> seen;
    std::vector<std::pair<Page*, u32>> blocks;
    for (u32 order = 0; order <= kMaxOrder; ++order) {
        for (const Gfp gfp : {Gfp::kernel, Gfp::high}) {
            Page* block = alloc_pages(gfp, order);
            REQUIRE(block != nullptr);
            const Pfn pfn = page_to_pfn(block);
            CHECK(pfn.value() % (1u << order) == 0);
            CHECK(loft::zone_of(pfn) == loft::zone_of(pfn + ((1u << order) - 1)));
            CHECK(block->type() == PageType::used);
            CHECK(block->refs() == 1);
            for (u32 i = 0; i < 1u << order; ++i) {
                CHECK(seen.insert(pfn + i).second);
                if (i != 0) CHECK(block[i].type() == PageType::tail);
            }
            blocks.push_back({block, order});
        }
    }
    CHECK(alloc_pages(Gfp::high, kMaxOrder + 1) == nullptr);
    CHECK(alloc_pages(Gfp::high, 31) == nullptr);
    for (const auto& [block, order] : blocks)
        free_pages(block, order);
    for (const auto& [block, order] : blocks)
        for (u32 i = 1; i < 1u << order; ++i)
            CHECK(block[i].type() != PageType::tail);
    CHECK(books() == before);
}

TEST_CASE("page_alloc: a block is found although this CPU's list holds the frames that it needs", "[page_alloc]") {
    Booted kernel;
    auto pages = take_all(Gfp::dma);
    // The frames of one order-3 block go into this CPU's list; nothing else is free.
    const auto first =
        std::find_if(pages.begin(), pages.end(), [](Page* page) { return page_to_pfn(page).value() == 0x400; });
    REQUIRE(first != pages.end());
    std::erase_if(pages, [](Page* page) {
        if (page_to_pfn(page).value() / 8 != 0x400 / 8) return false;
        free_page(page);
        return true;
    });
    CHECK(zone_info(ZoneId::dma).by_order[0] == 0);
    Page* block = alloc_pages(Gfp::dma, 3);
    REQUIRE(block != nullptr);
    CHECK(page_to_pfn(block).value() == 0x400);
    free_pages(block, 3);
    free_all(pages);
    page_alloc_verify();
}

TEST_CASE("page_alloc: exhaustion is a null, nothing is lost, and all of it comes back", "[page_alloc]") {
    Booted kernel;
    const Books before = books();
    const u32 failures = alloc_stats().failures;
    for (u32 round = 0; round < 2; ++round) {
        auto pages = take_all(Gfp::high);
        auto rest = take_all(Gfp::kernel);
        std::set<Page*> distinct{pages.begin(), pages.end()};
        distinct.insert(rest.begin(), rest.end());
        CHECK(distinct.size() == pages.size() + rest.size());
        CHECK(all_free() == 0);
        for (u32 order = 0; order <= kMaxOrder; ++order)
            for (const Gfp gfp : {Gfp::dma, Gfp::kernel, Gfp::high})
                CHECK(alloc_pages(gfp, order) == nullptr);
        page_alloc_verify();
        free_all(pages);
        free_all(rest);
    }
    CHECK(alloc_stats().failures - failures >= 2 * 3 * (kMaxOrder + 1));
    drain_local_pages();
    CHECK(books() == before);
}

TEST_CASE("page_alloc: single frames come from this CPU's list, filled and emptied in batches", "[page_alloc]") {
    Booted kernel;
    drain_local_pages();
    const AllocStats before = alloc_stats();
    std::vector<Page*> pages = new_pages(32, Gfp::kernel);
    CHECK(alloc_stats().refills - before.refills == 1);
    pages.push_back(new_page(Gfp::kernel));
    CHECK(alloc_stats().refills - before.refills == 2);
    // 31 in the list; 33 more fit, the next one empties half of it.
    for (const auto& page : new_pages(200, Gfp::kernel))
        pages.push_back(page);
    drain_local_pages();
    const u32 drains = alloc_stats().drains;
    for (u32 i = 0; i < 64; ++i) {
        free_page(pages.back());
        pages.pop_back();
    }
    CHECK(alloc_stats().drains == drains);
    free_page(pages.back());
    pages.pop_back();
    CHECK(alloc_stats().drains == drains + 1);
    // The frames that stay in the list serve the next requests.
    const u32 refills = alloc_stats().refills;
    for (u32 i = 0; i < 33; ++i)
        pages.push_back(new_page(Gfp::kernel));
    CHECK(alloc_stats().refills == refills);
    free_all(pages);
    page_alloc_verify();
}

// The lists are plain memory: an interrupt would find a half-done change.
TEST_CASE("page_alloc: a CPU's lists are touched with interrupts off only", "[page_alloc]") {
    ONLY_WITH(!config::kDebug); // the checks of DEBUG have variables of their own
    Booted kernel;
    u32 touched = 0;
    sim::ScopedHook hook{[&](sim::Point point) {
        if (point != sim::Point::percpu) return;
        ++touched;
        CHECK_FALSE(kernel.machine.here().interrupts);
    }};
    Page* page = alloc_page(Gfp::kernel);
    Page* block = alloc_pages(Gfp::kernel, 1);
    free_pages(block, 1);
    free_page(page);
    auto pages = new_pages(2 * detail::CachedFrames::kCapacity, Gfp::kernel);
    free_all(pages); // the list is full: the slow path
    auto rest = take_all(Gfp::kernel);
    CHECK(alloc_page(Gfp::kernel) == nullptr);
    CHECK(alloc_pages(Gfp::kernel, 1) == nullptr);
    free_all(rest);
    drain_local_pages();
    sim::set_schedule_hook({});
    CHECK(touched >= 4);
    CHECK(hal::irqs_enabled());
}

TEST_CASE("page_alloc: the frame that was freed last is used first", "[page_alloc]") {
    Booted kernel;
    Page* one = new_page();
    Page* two = new_page();
    free_page(one);
    free_page(two);
    CHECK(alloc_page(Gfp::high) == two);
    CHECK(alloc_page(Gfp::high) == one);
}

TEST_CASE("page_alloc: each CPU has lists of its own, and all of them count as free", "[page_alloc]") {
    Booted kernel{small(4)};
    const Books before = books();
    std::vector<Page*> pages[4];
    for (u32 cpu = 0; cpu < 4; ++cpu)
        sim::on_cpu(CpuId{cpu}, [&] { pages[cpu] = new_pages(40 + cpu, Gfp::kernel); });
    std::set<Page*> distinct;
    for (const auto& mine : pages)
        distinct.insert(mine.begin(), mine.end());
    CHECK(distinct.size() == 40 + 41 + 42 + 43);
    CHECK(free_in(ZoneId::normal) == before.free[1] - distinct.size());
    // Freed on another CPU than the one that allocated.
    for (u32 cpu = 0; cpu < 4; ++cpu)
        sim::on_cpu(CpuId{(cpu + 1) % 4}, [&] { free_all(pages[cpu]); });
    CHECK(books() == before);
    // A frame in a list is not in the buddy system.
    const ZoneInfo info = zone_info(ZoneId::normal);
    u32 in_buddy = 0;
    for (u32 order = 0; order <= kMaxOrder; ++order)
        in_buddy += info.by_order[order] << order;
    CHECK(in_buddy < info.free);
    for (u32 cpu = 0; cpu < 4; ++cpu)
        sim::on_cpu(CpuId{cpu}, [] { drain_local_pages(); });
    CHECK(books() == before);
}

TEST_CASE("page_alloc: what is not an allocated frame cannot be freed", "[page_alloc]") {
    Booted kernel;
    SECTION("double free of a frame in this CPU's list") {
        Page* page = new_page();
        free_page(page);
        CHECK_PANIC(free_page(page), "free already (double free)");
    }
    SECTION("double free of a frame in the buddy system") {
        Page* page = alloc_pages(Gfp::kernel, 2);
        free_pages(page, 2);
        CHECK_THROWS_AS(free_pages(page, 2), sim::Panic);
    }
    SECTION("double free of a largest block") {
        Page* page = alloc_pages(Gfp::kernel, kMaxOrder);
        free_pages(page, kMaxOrder);
        CHECK_PANIC(free_pages(page, kMaxOrder), "free already (double free)");
    }
    SECTION("a frame inside a block") {
        Page* page = alloc_pages(Gfp::kernel, 2);
        CHECK_PANIC(free_page(page + 1), "not the first of its allocation");
        free_pages(page, 2);
    }
    SECTION("more frames than were allocated") {
        Page* page = alloc_pages(Gfp::kernel, 2);
        CHECK_PANIC(free_pages(page, 3), "is not part of that allocation");
    }
    SECTION("an order that is none, or does not suit the frame") {
        Page* page = alloc_pages(Gfp::kernel, 2);
        CHECK_THROWS_AS(free_pages(page, kMaxOrder + 1), sim::Panic);
        Page* odd = alloc_page(Gfp::kernel);
        while (page_to_pfn(odd).value() % 2 == 0)
            odd = alloc_page(Gfp::kernel);
        CHECK_THROWS_AS(free_pages(odd, 1), sim::Panic);
    }
    SECTION("a frame that is no RAM") { CHECK_PANIC(free_page(pfn_to_page(Pfn{0xa0u})), "not allocated"); }
    SECTION("frame 0") { CHECK_PANIC(free_page(pfn_to_page(Pfn{0u})), "not allocated"); }
}

TEST_CASE("page_alloc: frames of any allocated type can be freed", "[page_alloc]") {
    Booted kernel;
    const Books before = books();
    for (const PageType type : {PageType::slab, PageType::table}) {
        Page* page = new_page(Gfp::kernel);
        page->set_type(type);
        free_page(page);
        page = alloc_pages(Gfp::kernel, 2);
        page->set_type(type);
        free_pages(page, 2);
    }
    CHECK(books() == before);
}

TEST_CASE("page_alloc: the last put_page frees", "[page_alloc]") {
    Booted kernel;
    const Books before = books();
    Page* page = new_page();
    get_page(page);
    put_page(page);
    CHECK(page->type() == PageType::used);
    CHECK(books() != before);
    put_page(page);
    CHECK(page->type() == PageType::cached);
    CHECK(books() == before);
}

TEST_CASE("page_alloc: a frame whose count is saturated is never freed", "[page_alloc]") {
    Booted kernel;
    Page* page = new_page();
    for (u32 i = 0; i < Page::kMaxRefs + 10; ++i)
        get_page(page);
    for (u32 i = 0; i < Page::kMaxRefs + 10; ++i)
        put_page(page);
    CHECK(page->type() == PageType::used);
    CHECK(page->refs() == Page::kMaxRefs);
}

TEST_CASE("page_alloc: a block whose frames kmap remembers can be freed, and is forgotten", "[page_alloc][pkmap]") {
    ONLY_WITH(config::kHighMem);
    Booted kernel;
    for (u32 order = 0; order < 3; ++order) {
        Page* block = alloc_pages(Gfp::high, order);
        for (u32 i = 0; i < 1u << order; ++i) {
            (void)hal::load<u32>(kmap(block + i));
            kunmap(block + i);
        }
        free_pages(block, order);
        for (u32 i = 0; i < 1u << order; ++i) {
            VirtAddr va;
            CHECK_FALSE(pkmap_address(block + i, va));
        }
    }
    CHECK(pkmap_use().used == 0);
    page_alloc_verify();
}

TEST_CASE("page_alloc: an interrupt between any two steps may allocate and free", "[page_alloc]") {
    Booted kernel;
    const Books before = books();
    std::vector<Page*> mine;
    Intruder intruder{[&] {
        as_interrupt([&] {
            Page* page = alloc_page(Gfp::kernel);
            Page* block = alloc_pages(Gfp::kernel, 1);
            REQUIRE((page && block));
            for (Page* p : mine)
                REQUIRE((p != page && p != block && p != block + 1));
            free_pages(block, 1);
            free_page(page);
        });
    }};
    const u32 points = sim::interrupt_at_every_point({.operation =
                                                          [&] {
                                                              Page* page = alloc_page(Gfp::kernel);
                                                              mine = {page};
                                                              Page* block = alloc_pages(Gfp::kernel, 1);
                                                              mine = {page, block, block + 1};
                                                              mine = {block, block + 1};
                                                              free_page(page);
                                                              mine = {};
                                                              free_pages(block, 1);
                                                          },
                                                      .intruder = std::ref(intruder),
                                                      .check = [&] { intruder.finish(); }});
    CHECK(points > 4);
    CHECK(books() == before);
}

TEST_CASE("page_alloc: random requests on four CPUs against a set of frames", "[page_alloc][random]") {
    for (u32 seed = 1; seed <= 6; ++seed) {
        INFO("seed " << seed);
        Random random{seed};
        Setup setup = small(4);
        setup.machine.seed = seed;
        Booted kernel{setup};
        const Books before = books();
        std::set<u32> taken;
        std::vector<std::pair<Page*, u32>> blocks;
        for (u32 step = 0; step < 6000; ++step) {
            sim::on_cpu(CpuId{below(random, 4)}, [&] {
                if (below(random, 7) < 4) {
                    const Gfp gfp = static_cast<Gfp>(below(random, 3));
                    const u32 order = below(random, 4) ? 0 : below(random, 8);
                    Page* block = alloc_pages(gfp, order);
                    if (block == nullptr) return;
                    const Pfn pfn = page_to_pfn(block);
                    const ZoneId zone = loft::zone_of(pfn);
                    REQUIRE((gfp == Gfp::high || zone != ZoneId::high));
                    REQUIRE((gfp != Gfp::dma || zone == ZoneId::dma));
                    REQUIRE(pfn.value() % (1u << order) == 0);
                    for (u32 i = 0; i < 1u << order; ++i)
                        REQUIRE(taken.insert(pfn.value() + i).second);
                    blocks.push_back({block, order});
                } else if (!blocks.empty()) {
                    std::swap(blocks[below(random, static_cast<u32>(blocks.size()))], blocks.back());
                    const auto [block, order] = blocks.back();
                    blocks.pop_back();
                    for (u32 i = 0; i < 1u << order; ++i)
                        REQUIRE(taken.erase(page_to_pfn(block).value() + i) == 1);
                    free_pages(block, order);
                }
            });
            if (step % 1000 == 0) {
                page_alloc_verify();
                REQUIRE(before.free[0] + before.free[1] + before.free[2] - all_free() == taken.size());
            }
        }
        for (const auto& [block, order] : blocks)
            free_pages(block, order);
        REQUIRE(books() == before);
    }
}

TEST_CASE("page allocator: programs get what was freed lately, and never the reserve", "[page_alloc]") {
    Booted kernel{small(1)};
    std::vector<Page*> taken;
    while (Page* const page = alloc_page(Gfp::user))
        taken.push_back(page);
    // This CPU's list of the zone is full of the kernel's frames then; together with the zone's they are the reserve.
    Page* const own = alloc_page(Gfp::kernel);
    REQUIRE(own != nullptr);
    CHECK(alloc_page(Gfp::user) == nullptr);
    free_page(own);
    CHECK(alloc_page(Gfp::user) == nullptr);
    for (u32 i = 0; i < 2; ++i, taken.pop_back())
        free_page(taken.back());
    for (u32 i = 0; i < 2; ++i) {
        taken.push_back(alloc_page(Gfp::user));
        REQUIRE(taken.back() != nullptr);
    }
    CHECK(alloc_page(Gfp::user) == nullptr);
    for (Page* const page : taken)
        free_page(page);
}
