// Page tables in high memory: mapped by the local slots, and by nothing else.
#include "mm/ground/context.hpp"
#include "mm/init.hpp"
#include "mm/spaces/highpte.hpp"
#include "mm/windows/page_walk.hpp"
#include "tests/host/oracle.hpp"
#include "tests/host/spaces/program.hpp"

#include <set>

using namespace loft;
using namespace loft::test;

namespace {

Setup nohigh() {
    Setup setup = small();
    setup.userpte_nohigh = true;
    return setup;
}
Pte directory_entry(const Page* table) { return Pte{page_to_pfn(table), pte::present | pte::write | pte::user}; }
RawPte raw_entry(const Page* table, VirtAddr va) {
    return sim::peek<RawPte>(page_to_pfn(table).phys() + paging::pte_index(va) * sizeof(RawPte));
}
Page* new_table() {
    Page* table = alloc_table();
    REQUIRE(table != nullptr);
    return table;
}

} // namespace

TEST_CASE("highpte: a new table is empty, counted, and high where it may be", "[highpte]") {
    Booted kernel;
    const Books before = books();
    Page* table = new_table();
    CHECK(table->type() == PageType::table);
    CHECK(table->payload() == 0);
    CHECK(is_highmem(table) == config::kHighPte);
    for (u32 i = 0; i < kPageSize; i += 4)
        REQUIRE(sim::peek<u32>(page_to_pfn(table).phys() + i) == 0);
    CHECK(page_table_stats().tables == 1);
    CHECK(page_table_stats().high == (config::kHighPte ? 1 : 0));
    Page* directory = alloc_directory();
    REQUIRE(directory != nullptr);
    CHECK_FALSE(is_highmem(directory));
    CHECK(page_table_stats().tables == 2);
    CHECK(page_table_stats().high == (config::kHighPte ? 1 : 0));
    CHECK(meminfo().page_tables == 8);
    CHECK(meminfo().page_tables_high == (config::kHighPte ? 4 : 0));
    free_table(table);
    free_table(directory);
    CHECK(page_table_stats().tables == 0);
    CHECK(page_table_stats().high == 0);
    CHECK(books() == before);
    REQUIRE_PANIC(free_table(new_page()), "type() == PageType::table");
}

TEST_CASE("highpte: userpte=nohigh keeps every table in lowmem", "[highpte]") {
    Booted kernel{nohigh()};
    for (u32 i = 0; i < 100; ++i)
        REQUIRE_FALSE(is_highmem(new_table()));
    CHECK(page_table_stats().tables == 100);
    CHECK(page_table_stats().high == 0);
}

TEST_CASE("highpte: tables in lowmem leave the kernel its reserve", "[highpte]") {
    Booted kernel{nohigh()};
    std::vector<Page*> tables;
    while (Page* table = alloc_table())
        tables.push_back(table);
    sim::machine().online().for_each([](CpuId cpu) { sim::on_cpu(cpu, [] { drain_local_pages(); }); });
    const ZoneInfo normal = zone_info(ZoneId::normal);
    CHECK(normal.user_reserve != 0);
    CHECK(normal.free >= normal.user_reserve);
    CHECK(normal.free <= normal.user_reserve + 64);
    Page* kernels = alloc_page(Gfp::kernel);
    CHECK(kernels != nullptr);
    for (Page* table : tables)
        free_table(table);
}

TEST_CASE("highpte: pte_offset_map shows the entry of the address, wherever the table is", "[highpte]") {
    Booted kernel;
    for (Page* table : {new_table(), alloc_directory()}) {
        const Pte pmd = directory_entry(table);
        u32 n = 0;
        for (const u32 va : {0u, 0x1000u, 0x40'0000u - 0x1000u, 0x1234'5678u, 0xbfff'f000u}) {
            const u32 depth = local_depth();
            hal::PteCell* entry = pte_offset_map(pmd, VirtAddr{va});
            CHECK(local_depth() == depth + (config::kHighPte && (config::kDebug || is_highmem(table)) ? 1 : 0));
            hal::pte_set(entry, Pte{Pfn{0x100u + ++n}, pte::present});
            pte_unmap(entry);
            CHECK(local_depth() == depth);
            CHECK(raw_entry(table, VirtAddr{va}) == ((0x100u + n) << kPageShift | 1));
            hal::PteCell* again = pte_offset_map(pmd, VirtAddr{va});
            CHECK(hal::pte_read(again).pfn() == Pfn{0x100u + n});
            hal::pte_clear(again);
            pte_unmap(again);
        }
    }
}

TEST_CASE("highpte: any entry of the table gives the mapping back", "[highpte]") {
    Booted kernel;
    const Pte pmd = directory_entry(new_table());
    for (const u32 away : {0u, 1u, paging::kPtesPerTable - 1}) {
        hal::PteCell* entry = pte_offset_map(pmd, VirtAddr{0u});
        pte_unmap(entry + away);
        CHECK(local_depth() == 0);
    }
    PteMap map{pmd, VirtAddr{0x3000u}};
    hal::pte_set(map.cell(2), Pte{Pfn{7u}, pte::present});
    CHECK(hal::pte_read(PteMap{pmd, VirtAddr{0x5000u}}.cell()).pfn() == Pfn{7u});
}

TEST_CASE("highpte: the kernel's own tables are reached by the same calls", "[highpte]") {
    Booted kernel;
    for (const VirtAddr va : {layout::fix_addr(layout::Fix::boot_first), VirtAddr{layout::boundaries.vmap_begin},
                              VirtAddr{layout::kPageOffset}}) {
        const Walk walk = page_walk(kernel_root(), va);
        if (walk.large) continue;
        REQUIRE(walk.directory.present());
        PteMap entry{walk.directory, va};
        CHECK(hal::pte_read(entry.cell()) == walk.entry);
    }
    // An entry that is written through it is seen by the walker.
    Page* page = new_page();
    stamp(page);
    const VirtAddr va{layout::kVmapEnd - kPageSize};
    {
        PteMap entry{page_walk(kernel_root(), va).directory, va};
        hal::pte_set(entry.cell(), Pte{page_to_pfn(page), kernel_prot.pool});
    }
    CHECK(shows(va, page));
    CHECK(hal::pte_read(kernel_pte(va)).pfn() == page_to_pfn(page));
}

TEST_CASE("highpte: takes no lock, does not sleep, and flushes one page at most", "[highpte]") {
    Booted kernel;
    const Pte pmd = directory_entry(new_table()), other = directory_entry(new_table());
    std::set<sim::Point> points;
    const auto pair = [&](Pte table) {
        sim::ScopedHook hook{[&](sim::Point point) { points.insert(point); }};
        pte_unmap(pte_offset_map(table, VirtAddr{0x5000u}));
    };
    pair(pmd);
    pair(other);
    const u64 before = kernel.machine.total().invlpg;
    pair(pmd);
    CHECK(kernel.machine.total().invlpg - before <= 1);
    pair(pmd); // the slot maps the table already
    if (!config::kDebug) CHECK(kernel.machine.total().invlpg - before <= 1);
    CHECK(kernel.machine.total().ipis_sent == 0);
    if (config::kDebug) points.erase(sim::Point::irq), points.erase(sim::Point::pte_locked); // DEBUG's checks use these
    for (const sim::Point point : {sim::Point::atomic, sim::Point::ipi, sim::Point::relax, sim::Point::thread,
                                   sim::Point::irq, sim::Point::pte_locked, sim::Point::pte_atomic})
        CHECK_FALSE(points.contains(point));
}

TEST_CASE("highpte: works in interrupts, with interrupts off, and with every kmap slot taken", "[highpte]") {
    Booted kernel;
    const Pte pmd = directory_entry(new_table());
    const auto use = [&] {
        PteMap entry{pmd, VirtAddr{0x7000u}};
        hal::pte_set(entry.cell(), Pte{Pfn{9u}, pte::present});
        CHECK(hal::pte_read(entry.cell()).pfn() == Pfn{9u});
        hal::pte_clear(entry.cell());
    };
    as_interrupt(use);
    {
        IrqGuard guard;
        use();
    }
    if constexpr (config::kHighMem) {
        pkmap_set_slots(2);
        Page* page = new_page();
        const GlobalAddr held = kmap(page);
        CHECK(held.value() != 0);
        use();
        kunmap(page);
    }
}

TEST_CASE("highpte: mappings nest, and are undone in order", "[highpte]") {
    ONLY_WITH(config::kHighPte);
    Booted kernel;
    const Pte a = directory_entry(new_table()), b = directory_entry(new_table());
    hal::PteCell* first = pte_offset_map(a, VirtAddr{0u});
    hal::PteCell* second = pte_offset_map(b, VirtAddr{0u});
    REQUIRE_PANIC(pte_unmap(first), "is not the youngest mapping");
    pte_unmap(second);
    pte_unmap(first);
    REQUIRE_PANIC(pte_unmap(first), "nothing is mapped");
    CHECK(local_depth() == 0);
}

TEST_CASE("highpte: an interrupt that maps tables too harms nobody", "[highpte][interrupt]") {
    Booted kernel;
    Page* mine = new_table();
    Page* others = new_table();
    hal::pte_set(PteMap{directory_entry(mine), VirtAddr{0u}}.cell(), Pte{Pfn{1u}, pte::present});
    hal::pte_set(PteMap{directory_entry(others), VirtAddr{0u}}.cell(), Pte{Pfn{2u}, pte::present});
    Intruder intruder{[&] {
        as_interrupt([&] {
            REQUIRE(hal::pte_read(PteMap{directory_entry(others), VirtAddr{0u}}.cell()).pfn() == Pfn{2u});
        });
    }};
    sim::interrupt_at_every_point({.operation =
                                       [&] {
                                           PteMap map{directory_entry(mine), VirtAddr{0u}};
                                           REQUIRE(hal::pte_read(map.cell()).pfn() == Pfn{1u});
                                       },
                                   .intruder = [&] { intruder(); },
                                   .check = [&] { intruder.finish(); }});
    CHECK(intruder.runs() != 0);
}

TEST_CASE("highpte: a missing pte_unmap is seen where a context ends", "[highpte]") {
    ONLY_WITH(config::kHighPte);
    Booted kernel;
    Page* table = new_table();
    CHECK(local_check_leaks("returned to its program"));
    hal::PteCell* entry = pte_offset_map(directory_entry(table), VirtAddr{0u});
    CHECK_FALSE(local_check_leaks("returned to its program"));
    CHECK(sim::machine().logged("returned to its program with 1 local mappings held"));
    CHECK(sim::machine().logged(sim::text("shows frame {}", page_to_pfn(table))));
    pte_unmap(entry);
    if (config::kDebug) {
        // DEBUG finds it also for a table in lowmem, which needs no slot otherwise.
        entry = pte_offset_map(directory_entry(alloc_directory()), VirtAddr{0u});
        CHECK_FALSE(local_check_leaks("returned to its program"));
        pte_unmap(entry);
        // And a table that is freed while it is mapped.
        entry = pte_offset_map(directory_entry(table), VirtAddr{0u});
        REQUIRE_PANIC(free_table(table), "a local mapping still shows it");
        pte_unmap(entry);
    }
}

TEST_CASE("highpte: no memory for a table is an answer", "[highpte]") {
    Booted kernel;
    const u32 asked = for_every_failure([](const std::function<void()>& arm) {
        arm();
        Page* table = alloc_table();
        Page* directory = table != nullptr ? alloc_directory() : nullptr;
        CHECK((table == nullptr || directory == nullptr) == one_failed());
        if (directory != nullptr) free_table(directory);
        if (table != nullptr) free_table(table);
        CHECK(page_table_stats().tables == 0);
    });
    CHECK(asked == 2);
}

TEST_CASE("highpte: what programs take leaves the kernel something, also without high memory", "[highpte]") {
    Booted kernel;
    std::vector<Page*> pages;
    while (Page* page = alloc_page(Gfp::user))
        pages.push_back(page);
    for (const ZoneId id : {ZoneId::normal, ZoneId::dma}) {
        const ZoneInfo zone = zone_info(id);
        CHECK(zone.user_reserve >= zone.reserve);
        CHECK(zone.user_reserve >= zone.managed / 64);
        CHECK(zone.free >= zone.user_reserve);
    }
    CHECK(zone_info(ZoneId::high).free == 0);
    Page* kernels = alloc_page(Gfp::kernel);
    REQUIRE(kernels != nullptr);
    free_page(kernels);
    free_all(pages);
}
