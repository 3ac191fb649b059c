// vmap and vmalloc: areas do not overlap, a guard page follows each, and the deferred flush always comes before an
// address or a frame is used again.
#include "mm/ground/context.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/host/booted.hpp"
#include "tests/host/oracle.hpp"

#include <map>

using namespace loft;
using namespace loft::test;

namespace {

// A small vmap range, so that a round ends soon.
Setup narrow(u32 cpus = 2) {
    Setup setup = small(cpus);
    setup.vmalloc = layout::kMinVmap;
    return setup;
}
constexpr u32 kAreaPages = layout::kMinVmap / kPageSize;

VirtAddr map_all(const std::vector<Page*>& pages, VmapProt prot = VmapProt::rw) {
    const Result<VirtAddr> addr = vmap(pages.data(), static_cast<u32>(pages.size()), prot);
    REQUIRE(addr);
    return *addr;
}
VirtAddr allocate(u32 bytes) {
    const Result<VirtAddr> addr = vmalloc(bytes);
    REQUIRE(addr);
    return *addr;
}
bool every_cpu_sees(VirtAddr va, const std::vector<Page*>& pages) {
    bool all = true;
    sim::machine().online().for_each([&](CpuId cpu) {
        sim::on_cpu(cpu, [&] {
            for (u32 i = 0; i < pages.size(); ++i)
                all &= shows(va + i * kPageSize, pages[i]);
        });
    });
    return all;
}
bool mapped(VirtAddr va) { return oracle_walk(kernel_root().value(), va.value()).has_value(); }
u64 flushes() {
    const sim::Counters c = sim::machine().total();
    return c.flush_non_global + c.flush_all;
}

} // namespace

TEST_CASE("vmap: frames lie one behind the other, in order, for every CPU", "[vmap]") {
    Booted kernel{small(3)};
    for (const u32 n : {1u, 2u, 7u, 8u, 9u, 16u, 23u, 300u}) {
        auto pages = stamped(n);
        std::reverse(pages.begin(), pages.end());
        const VirtAddr addr = map_all(pages);
        CHECK(addr.page_offset() == 0);
        CHECK(addr.value() >= layout::boundaries.vmap_begin);
        CHECK(addr.value() + n * kPageSize < layout::kVmapEnd);
        CHECK(every_cpu_sees(addr, pages));
        CHECK(vmap_stats().pages == n);
        vunmap(addr);
        CHECK(vmap_stats().pages == 0);
        free_all(pages);
    }
}

TEST_CASE("vmap: the same frame may be seen at several addresses", "[vmap]") {
    Booted kernel;
    auto pages = stamped(1);
    pages = {pages[0], pages[0], pages[0]};
    const VirtAddr addr = map_all(pages);
    CHECK(every_cpu_sees(addr, pages));
    const VirtAddr other = map_all(pages);
    CHECK(other != addr);
    hal::store<u32>(other + kPageSize + 64, 77u);
    CHECK(hal::load<u32>(addr + 64) == 77);
}

TEST_CASE("vmap: behind every area lies a page that is never mapped", "[vmap][vmap-guard]") {
    Booted kernel{narrow()};
    std::vector<std::pair<VirtAddr, u32>> areas;
    for (const u32 n : {1u, 5u, 3u, 1u, 9u}) {
        auto pages = stamped(n);
        areas.push_back({map_all(pages), n});
    }
    for (const auto& [addr, n] : areas) {
        CHECK_THROWS_AS(hal::load<u32>(addr + n * kPageSize), sim::PageFault);
        CHECK(mapped(addr + (n - 1) * kPageSize));
        CHECK_FALSE(mapped(addr + n * kPageSize));
        const VmapFault guard = vmap_fault(addr + n * kPageSize + 5);
        CHECK(guard.kind == VmapFault::Kind::guard);
        CHECK(guard.area == addr);
        CHECK(guard.pages == n);
    }
}

TEST_CASE("vmap: protections are those that were asked for", "[vmap]") {
    Booted kernel;
    auto pages = stamped(1);
    const VirtAddr rw = map_all(pages, VmapProt::rw), ro = map_all(pages, VmapProt::ro),
                   rx = map_all(pages, VmapProt::rx);
    CHECK_NOTHROW(hal::store<u32>(rw + 8, 1u));
    CHECK(hal::load<u32>(ro + 8) == 1);
    CHECK_THROWS_AS(hal::store<u32>(ro + 8, 2u), sim::PageFault);
    CHECK_THROWS_AS(hal::store<u32>(rx + 8, 2u), sim::PageFault);
    CHECK_NOTHROW(sim::exec(rx));
    if (config::kPae) {
        CHECK_THROWS_AS(sim::exec(rw), sim::PageFault);
        CHECK_THROWS_AS(sim::exec(ro), sim::PageFault);
    }
    for (const VirtAddr addr : {rw, ro, rx})
        CHECK_FALSE(oracle_walk(kernel_root().value(), addr.value())->global); // a CR3 load must flush them
}

TEST_CASE("vmap: nothing, and more than there is, are errors", "[vmap]") {
    Booted kernel{narrow()};
    const Books before = books();
    Page* page = nullptr;
    CHECK(vmap(&page, 0, VmapProt::rw).error() == Error::invalid);
    CHECK(vmalloc(0).error() == Error::invalid);
    CHECK(vmalloc(layout::kMinVmap).error() == Error::no_space);
    CHECK(vmalloc(~0u).error() == Error::no_space);
    CHECK(since_start(vmap_stats().rounds) == 0); // nothing was looked for
    CHECK(books() == before);
    // The whole range: an area and its guard page.
    std::vector<Page*> pages(kAreaPages - 1, new_page());
    const VirtAddr all = map_all(pages);
    CHECK(vmap(&pages[0], 1, VmapProt::rw).error() == Error::no_space);
    vunmap(all);
    vmap_flush();
    pages.push_back(pages[0]);
    CHECK(vmap(pages.data(), kAreaPages, VmapProt::rw).error() == Error::no_space);
    CHECK(vmap_stats().areas == 0);
}

TEST_CASE("vmap: space that ran out is there again after an unmap", "[vmap]") {
    Booted kernel{narrow()};
    auto pages = stamped(15);
    std::vector<VirtAddr> areas;
    while (const Result<VirtAddr> addr = vmap(pages.data(), 15, VmapProt::rw))
        areas.push_back(*addr);
    CHECK(areas.size() == kAreaPages / 16);
    CHECK(every_cpu_sees(areas[20], pages));
    vunmap(areas[20]);
    auto others = stamped(15);
    const VirtAddr again = map_all(others);
    CHECK(again == areas[20]);
    CHECK(every_cpu_sees(again, others));
    CHECK(vmap(pages.data(), 1, VmapProt::rw).error() == Error::no_space);
}

TEST_CASE("vmap: a request that does not fit costs nothing, however often it is made", "[vmap]") {
    Booted kernel{narrow()};
    auto pages = stamped(15);
    while (vmap(pages.data(), 15, VmapProt::rw)) {
    }
    const Books before = books();
    for (u32 i = 0; i < 1000; ++i)
        REQUIRE(vmap(pages.data(), 15, VmapProt::rw).error() == Error::no_space);
    CHECK(books() == before);
}

TEST_CASE("vunmap: takes the start of an area and nothing else", "[vmap]") {
    Booted kernel;
    auto pages = stamped(3);
    const VirtAddr addr = map_all(pages), other = allocate(2 * kPageSize);
    CHECK_PANIC(vunmap(addr + kPageSize), "vunmap: ");
    CHECK_PANIC(vunmap(addr + 4), "is not the start of a vmap area");
    CHECK_PANIC(vunmap(VirtAddr{0u}), "is not the start of a vmap area");
    CHECK_PANIC(vunmap(other), "is not the start of a vmap area");
    CHECK_PANIC(vfree(addr), "vfree: ");
    CHECK_PANIC(vfree(other + kPageSize), "is not the start of a vmalloc area");
    CHECK(every_cpu_sees(addr, pages));
    vunmap(addr);
    vfree(other);
    CHECK_PANIC(vunmap(addr), "is not the start of a vmap area");
    CHECK_PANIC(vfree(other), "is not the start of a vmalloc area");
}

TEST_CASE("vmap: an unmapped address is not used again before every CPU has forgotten it", "[vmap]") {
    Booted kernel{narrow(3)};
    // Areas of 7 pages and a guard make many rounds through the range; every CPU accesses all of them.
    for (u32 i = 0; i < 5 * kAreaPages / 8; ++i) {
        auto pages = stamped(7);
        const VirtAddr addr = map_all(pages);
        REQUIRE(every_cpu_sees(addr, pages));
        vunmap(addr);
        free_all(pages);
    }
    CHECK(vmap_stats().areas == 0);
    CHECK(since_start(vmap_stats().rounds) >= 4);
    if (!kDebug) CHECK(flushes() == since_start(vmap_stats().flushes) * 3);
}

TEST_CASE("vunmap: the flush comes when a round ends, or when too many pages wait", "[vmap]") {
    ONLY_WITH(!kDebug);
    Booted kernel{small(2)};
    auto pages = stamped(256);
    u32 waiting = 0;
    while (waiting + 256 <= kLazyPages) {
        const VirtAddr addr = map_all(pages);
        CHECK_FALSE(mapped(addr + 256 * kPageSize));
        vunmap(addr);
        waiting += 256;
        CHECK(vmap_stats().lazy_pages == waiting);
        CHECK_FALSE(mapped(addr));
        CHECK(vmap_fault(addr).kind == VmapFault::Kind::lazy);
    }
    CHECK(flushes() == 0);
    CHECK(since_start(vmap_stats().flushes) == 0);
    vunmap(map_all({pages[0]}));
    CHECK(since_start(vmap_stats().flushes) == 1);
    CHECK(vmap_stats().lazy_pages == 0);
    CHECK(flushes() == 2);
    CHECK(since_start(vmap_stats().rounds) == 0);
}

TEST_CASE("vmap: a few pages are flushed one by one, on every CPU", "[vmap]") {
    ONLY_WITH(!kDebug);
    Booted kernel{small(2)};
    auto pages = stamped(3);
    const VirtAddr one = map_all(pages), two = map_all(pages);
    vunmap(one);
    vunmap(two);
    vmap_flush();
    CHECK(kernel.machine.total().invlpg == 2 * 6);
    CHECK(flushes() == 0);
    CHECK(since_start(vmap_stats().flushes) == 1);
    vmap_flush();
    CHECK(since_start(vmap_stats().flushes) == 1); // no flush is owed
    CHECK(vmap_fault(one).kind == VmapFault::Kind::unused);
}

TEST_CASE("vunmap: DEBUG flushes at once, so that a use afterwards faults on every CPU", "[vmap]") {
    ONLY_WITH(kDebug);
    Booted kernel{small(2)};
    auto pages = stamped(3);
    const VirtAddr addr = map_all(pages), memory = allocate(kPageSize);
    CHECK(every_cpu_sees(addr, pages));
    sim::on_cpu(CpuId{1}, [&] { (void)hal::load<u32>(memory); });
    vunmap(addr);
    vfree(memory);
    CHECK(vmap_stats().lazy_pages == 0);
    for (u32 cpu = 0; cpu < 2; ++cpu) {
        sim::on_cpu(CpuId{cpu}, [&] {
            CHECK_THROWS_AS(hal::load<u32>(addr), sim::PageFault);
            CHECK_THROWS_AS(hal::load<u32>(memory), sim::PageFault);
        });
    }
}

TEST_CASE("vunmap: the frames are the caller's at once", "[vmap]") {
    Booted kernel;
    const Books before = books();
    auto pages = stamped(4);
    const VirtAddr addr = map_all(pages);
    vunmap(addr);
    for (Page* page : pages)
        CHECK(page->type() == PageType::used);
    free_all(pages);
    vmap_flush();
    CHECK(vmap_stats().lazy_pages == 0);
    CHECK(books().free[2] == before.free[2]);
}

TEST_CASE("vmalloc: memory is zero, contiguous, whole pages, from high frames where there are some", "[vmap]") {
    Booted kernel{small(2)};
    const Books before = books();
    for (const u32 bytes : {1u, kPageSize, kPageSize + 1, 20 * kPageSize}) {
        INFO("bytes " << bytes);
        const VirtAddr addr = allocate(bytes);
        for (u32 at = 0; at < round_up(bytes, kPageSize); at += 4)
            if (hal::load<u32>(addr + at) != 0) FAIL("not zero");
        CHECK_THROWS_AS(hal::load<u32>(addr + round_up(bytes, kPageSize)), sim::PageFault);
        if (config::kHighMem) CHECK(is_highmem(PhysAddr{oracle_walk(kernel_root().value(), addr.value())->phys}.pfn()));
        hal::store<u32>(addr + (bytes - 1) / 4 * 4, 0xffff'ffffu);
        vfree(addr);
    }
    vmap_flush();
    CHECK(books().free[2] == before.free[2]);
    CHECK(vmap_stats().areas == 0);
}

TEST_CASE("vfree: no frame goes back before the flush", "[vmap]") {
    ONLY_WITH(!kDebug);
    Booted kernel{small(3)};
    const Books before = books();
    const VirtAddr addr = allocate(10 * kPageSize);
    for (u32 cpu = 0; cpu < 3; ++cpu)
        sim::on_cpu(CpuId{cpu}, [&] { (void)hal::load<u32>(addr + 9 * kPageSize); });
    const Books held = books();
    CHECK(held != before);
    vfree(addr);
    CHECK(books() == held);
    CHECK_FALSE(mapped(addr));
    vmap_flush();
    CHECK(books() == before);
    for (u32 cpu = 0; cpu < 3; ++cpu)
        sim::on_cpu(CpuId{cpu}, [&] { CHECK_THROWS_AS(hal::load<u32>(addr + 9 * kPageSize), sim::PageFault); });
}

TEST_CASE("vmalloc: frames that wait for their flush are found when memory is short", "[vmap]") {
    Booted kernel{small(2)};
    Shortage shortage{0, config::kHighMem ? 4 : 0};
    ONLY_WITH(config::kHighMem);
    for (u32 round = 0; round < 3; ++round) {
        const VirtAddr addr = allocate(4 * kPageSize);
        CHECK(vmalloc(kPageSize).error() == Error::no_memory);
        vfree(addr);
    }
}

// For every number of free frames: either the call succeeds, or nothing has changed.
TEST_CASE("vmalloc: a failure at any allocation leaks nothing", "[vmap][shortage]") {
    constexpr u32 kPages = 5;
    u32 failed = 0, worked = 0;
    for (u32 low = 0; low < (config::kHighMem ? 3 : kPages + 3); ++low) {
        for (u32 high = 0; high < (config::kHighMem ? kPages + 2 : 1); ++high) {
            INFO("free: low " << low << ", high " << high);
            Booted kernel{small(2)};
            Shortage shortage{low, high};
            const Books before = books();
            const VmapStats stats = vmap_stats();
            const Result<VirtAddr> addr = vmalloc(kPages * kPageSize);
            if (addr) {
                ++worked;
                vfree(*addr);
                vmap_flush();
            } else {
                ++failed;
                CHECK(addr.error() == Error::no_memory); // and the frames that it got are free again
            }
            CHECK(vmap_stats().areas == stats.areas);
            CHECK(vmap_stats().pages == 0);
            CHECK(vmap_stats().lazy_pages == 0);
            CHECK(books() == before);
        }
    }
    CHECK(failed >= kPages);
    CHECK(worked >= 1);
}

TEST_CASE("vmap: needs no memory: what it knows of addresses is there from boot on", "[vmap][shortage]") {
    Booted kernel{narrow()};
    auto pages = stamped(2);
    Shortage shortage{0, 0};
    const Books before = books();
    std::vector<VirtAddr> areas;
    while (const Result<VirtAddr> addr = vmap(pages.data(), 2, VmapProt::rw))
        areas.push_back(*addr);
    CHECK(areas.size() == kAreaPages / 3);
    CHECK(vmap(pages.data(), 2, VmapProt::rw).error() == Error::no_space);
    CHECK(every_cpu_sees(areas.back(), pages));
    for (const VirtAddr addr : areas)
        vunmap(addr);
    vmap_flush();
    CHECK(books() == before);
    CHECK(vmap_stats().areas == 0);
}

TEST_CASE("vmap: is caught in every context that must not sleep", "[vmap]") {
    Booted kernel;
    auto pages = stamped(1);
    const VirtAddr addr = map_all(pages), memory = allocate(1);
    const auto all_caught = [&] {
        CHECK_PANIC((void)vmap(pages.data(), 1, VmapProt::rw), "vmap may sleep");
        CHECK_PANIC(vunmap(addr), "vunmap may sleep");
        CHECK_PANIC((void)vmalloc(1), "vmalloc may sleep");
        CHECK_PANIC(vfree(memory), "vfree may sleep");
        CHECK_PANIC(vmap_flush(), "vmap_flush may sleep");
    };
    {
        PreemptGuard guard;
        all_caught();
    }
    {
        IrqGuard guard;
        all_caught();
    }
    as_interrupt(all_caught);
    vunmap(addr);
    vfree(memory);
}

TEST_CASE("vmap_fault: says what an address is to the area", "[vmap]") {
    Booted kernel{narrow()};
    using Kind = VmapFault::Kind;
    CHECK(vmap_fault(VirtAddr{layout::boundaries.vmap_begin - 1}).kind == Kind::none);
    CHECK(vmap_fault(VirtAddr{layout::kVmapEnd}).kind == Kind::none);
    CHECK(vmap_fault(VirtAddr{layout::boundaries.vmap_begin}).kind == Kind::unused);
    CHECK(vmap_fault(VirtAddr{layout::kVmapEnd - 1}).kind == Kind::unused);
    auto pages = stamped(3);
    const VirtAddr addr = map_all(pages);
    const auto check = [&](VirtAddr va, Kind kind) {
        const VmapFault fault = vmap_fault(va);
        CHECK(fault.kind == kind);
        CHECK(fault.area == addr);
        CHECK(fault.pages == 3);
    };
    check(addr, Kind::mapped);
    check(addr + 3 * kPageSize - 1, Kind::mapped);
    check(addr + 3 * kPageSize, Kind::guard);
    check(addr + 4 * kPageSize - 1, Kind::guard);
    CHECK(vmap_fault(addr + 4 * kPageSize).kind == Kind::unused);
    vunmap(addr);
    for (u32 page = 0; page < 4 && !kDebug; ++page)
        check(addr + page * kPageSize + 4, Kind::lazy);
    vmap_flush();
    CHECK(vmap_fault(addr).kind == Kind::unused);
}

TEST_CASE("vmap_maps_frame: finds the frames that areas show, until they are unmapped", "[vmap]") {
    Booted kernel;
    auto pages = stamped(3);
    CHECK_FALSE(vmap_maps_frame(page_to_pfn(pages[2])));
    const VirtAddr addr = map_all(pages);
    for (Page* page : pages)
        CHECK(vmap_maps_frame(page_to_pfn(page)));
    CHECK_FALSE(vmap_maps_frame(page_to_pfn(new_page())));
    vunmap(addr);
    for (Page* page : pages)
        CHECK_FALSE(vmap_maps_frame(page_to_pfn(page)));
}

TEST_CASE("vmap: init forgets the areas of a machine that is gone", "[vmap]") {
    {
        Booted kernel;
        (void)allocate(MiB);
        auto pages = stamped(3);
        vunmap(map_all(pages));
    }
    Booted kernel;
    CHECK(vmap_stats().areas == 0);
    CHECK(vmap_stats().lazy_pages == 0);
    CHECK(map_all(stamped(1)).value() == layout::boundaries.vmap_begin);
}

TEST_CASE("vmap: free neighbours become one, however many they are", "[vmap]") {
    Booted kernel{narrow()};
    auto page = stamped(1);
    const std::vector<Page*> all(kAreaPages - 1, page[0]);
    for (const u32 held : {0u, 3u, 200u}) { // the area that is released last
        std::vector<VirtAddr> areas;
        while (const Result<VirtAddr> addr = vmap(page.data(), 1, VmapProt::rw))
            areas.push_back(*addr);
        REQUIRE(areas.size() == kAreaPages / 2);
        for (u32 i = 0; i < areas.size(); ++i)
            if (i != held) vunmap(areas[i]);
        CHECK(vmap(all.data(), kAreaPages - 1, VmapProt::rw).error() == Error::no_space);
        CHECK(every_cpu_sees(areas[held], page));
        vunmap(areas[held]);
        const VirtAddr one = map_all(all);
        CHECK(one.value() == layout::boundaries.vmap_begin);
        CHECK(every_cpu_sees(one, all));
        vunmap(one);
    }
}

TEST_CASE("vmap: addresses that are left over at the end of a round are used in the next", "[vmap]") {
    Booted kernel{narrow()};
    const auto large = [](u32 pages) { return std::vector<Page*>(pages, pfn_to_page(Pfn{1u})); };
    const VirtAddr first = map_all(large(kAreaPages - 7)); // 6 pages stay free
    CHECK(vmap(large(6).data(), 6, VmapProt::ro).error() == Error::no_space);
    const VirtAddr second = map_all(large(3)); // 2 stay free
    CHECK(vmap(large(2).data(), 2, VmapProt::ro).error() == Error::no_space);
    const VirtAddr third = map_all(large(1)); // none stays free
    CHECK(vmap(large(1).data(), 1, VmapProt::ro).error() == Error::no_space);
    CHECK(second == first + (kAreaPages - 6) * kPageSize);
    CHECK(third == second + 4 * kPageSize);
    CHECK(third.value() + 2 * kPageSize == layout::kVmapEnd);
    vunmap(second);
    CHECK(map_all(large(2)) == second); // one page stays free between two areas: too small for any area
    CHECK(vmap(large(1).data(), 1, VmapProt::ro).error() == Error::no_space);
    CHECK(vmap_stats().areas == 3);
    CHECK(vmap_stats().pages == kAreaPages - 7 + 2 + 1);
}

// Frames are freed while any lock may be held, so this DEBUG check takes none; meanwhile areas are made and released.
TEST_CASE("vmap_maps_frame: what is mapped all the time is found, whatever another CPU does meanwhile", "[vmap]") {
    Booted kernel{narrow()};
    auto pages = stamped(3);
    const auto area = [&](u32 count, Page* page) { return map_all(std::vector<Page*>(count, page)); };
    const auto release = [](std::initializer_list<VirtAddr> areas) {
        for (const VirtAddr addr : areas)
            vunmap(addr);
        vmap_flush();
    };
    (void)area(1, pages[0]);
    const VirtAddr hole = area(5, pages[1]);
    (void)area(1, pages[2]);
    (void)area(kAreaPages - 11, pages[0]); // the rest of the range
    release({hole});
    for (const u32 which : {0u, 2u}) {
        bool found = false;
        // The hole is two free runs, which become one.
        const u32 points = sim::at_every_point(
            {.operation = [&] { found = vmap_maps_frame(page_to_pfn(pages[which])); },
             .intruder = [&] { CHECK(try_on_cpu(CpuId{1}, [&] { release({area(5, pages[1])}); })); },
             .prepare =
                 [&] {
                     release({area(2, pages[1]), area(2, pages[1])});
                 },
             .check = [&] { CHECK(found); }});
        CHECK(points >= 2);
        CHECK(vmap_stats().areas == 3);
    }
}

// The model: a list of areas, by address.
TEST_CASE("vmap: random areas on three CPUs against a list of them", "[vmap][random]") {
    for (u32 seed = 1; seed <= 6; ++seed) {
        INFO("seed " << seed);
        Random random{seed};
        Setup setup = narrow(3);
        setup.machine.seed = seed;
        Booted kernel{setup};
        const u32 high_free = zone_info(config::kHighMem ? ZoneId::high : ZoneId::normal).free;
        struct Mapping {
            std::vector<Page*> pages; // empty: vmalloc
            u32 count;
            u32 word;
        };
        std::map<u32, Mapping> areas;
        auto pool = stamped(64);
        const auto check_alone = [&](VirtAddr addr, u32 count) {
            const u32 end = addr.value() + (count + 1) * kPageSize;
            REQUIRE(addr.value() >= layout::boundaries.vmap_begin);
            REQUIRE(end <= layout::kVmapEnd);
            for (const auto& [at, area] : areas)
                REQUIRE((end <= at || at + (area.count + 1) * kPageSize <= addr.value()));
        };
        u32 no_space = 0;
        for (u32 step = 0; step < 2500; ++step) {
            sim::on_cpu(CpuId{below(random, 3)}, [&] {
                const u32 what = below(random, 10);
                const u32 count = 1 + (below(random, 20) ? below(random, 24) : below(random, 300));
                if (what < 3) {
                    std::vector<Page*> pages;
                    for (u32 i = 0; i < count; ++i)
                        pages.push_back(pool[below(random, 64)]);
                    const Result<VirtAddr> addr = vmap(pages.data(), count, VmapProt::rw);
                    if (!addr) {
                        REQUIRE(addr.error() == Error::no_space);
                        ++no_space;
                        return;
                    }
                    check_alone(*addr, count);
                    areas[addr->value()] = {pages, count, 0};
                } else if (what < 5) {
                    const Result<VirtAddr> addr = vmalloc(count * kPageSize);
                    if (!addr) {
                        ++no_space;
                        return;
                    }
                    check_alone(*addr, count);
                    const u32 at = below(random, count) * kPageSize;
                    REQUIRE(hal::load<u32>(*addr + at) == 0);
                    for (u32 i = 0; i < count; ++i)
                        hal::store<u32>(*addr + i * kPageSize, step + i);
                    areas[addr->value()] = {{}, count, step};
                } else if (areas.empty()) {
                    return;
                } else {
                    auto it = areas.lower_bound(layout::boundaries.vmap_begin + below(random, layout::kMinVmap));
                    if (it == areas.end()) it = areas.begin();
                    const VirtAddr addr{it->first};
                    const Mapping& area = it->second;
                    for (u32 i = 0; i < area.count; i += 1 + below(random, 3)) {
                        if (area.pages.empty())
                            REQUIRE(hal::load<u32>(addr + i * kPageSize) == area.word + i);
                        else
                            REQUIRE(shows(addr + i * kPageSize, area.pages[i]));
                    }
                    if (what < 7) return;
                    area.pages.empty() ? vfree(addr) : vunmap(addr);
                    areas.erase(it);
                }
            });
            if (step % 64 == 0) {
                u32 pages = 0;
                for (const auto& [at, area] : areas)
                    pages += area.count;
                REQUIRE(vmap_stats().areas == areas.size());
                REQUIRE(vmap_stats().pages == pages);
                const VirtAddr any{layout::boundaries.vmap_begin + below(random, layout::kMinVmap)};
                auto next = areas.upper_bound(any.value());
                const bool inside =
                    next != areas.begin() && any.value() < (--next)->first + next->second.count * kPageSize;
                REQUIRE((vmap_fault(any).kind == VmapFault::Kind::mapped) == inside);
                REQUIRE(mapped(any) == inside);
            }
        }
        REQUIRE(since_start(vmap_stats().rounds) > 1);
        for (const auto& [at, area] : areas)
            area.pages.empty() ? vfree(VirtAddr{at}) : vunmap(VirtAddr{at});
        vmap_flush();
        free_all(pool);
        CHECK(vmap_stats().areas == 0);
        if (config::kHighMem) CHECK(zone_info(ZoneId::high).free == high_free);
    }
}
