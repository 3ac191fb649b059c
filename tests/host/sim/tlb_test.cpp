// The simulated TLB goes stale: each kind of missing flush is found, and with the flush there is no error (anchors.md,
// "Emulators").
#include "tests/host/sim/fixture.hpp"

using namespace loft;
using namespace loft::sim;

TEST_CASE("a mapped page is read and written", "[sim]") {
    Rig r;
    REQUIRE_THROWS_AS(read(), PageFault);
    r.t.map(kVa, kFrameA);
    CHECK(read() == signature(kFrameA)); // not present to present needs no flush (SDM 4.10.4.3)
    hal::store<u32>(kVa + 8, 7u);
    CHECK(peek<u32>(Pfn{kFrameA}.phys() + 8) == 7);
    CHECK(r.m.possible(kVa).size() == 1);
}

TEST_CASE("remap: the old frame may still be seen until invlpg", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA);
    hal::pte_clear(r.cell);
    r.t.map(kVa, kFrameB);
    REQUIRE_THROWS_AS(read(), StaleAccess);
    CHECK(r.m.possible(kVa).size() == 2);
    CHECK(r.m.stale(kVa));
    hal::invlpg(kVa + 0x123);
    CHECK_FALSE(r.m.stale(kVa));
    CHECK(read() == signature(kFrameB));
}

TEST_CASE("unmap: an access may still succeed until the flush", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA);
    SECTION("never touched: it may have been cached all the same") {}
    SECTION("touched") { read(); }
    hal::pte_clear(r.cell);
    REQUIRE_THROWS_AS(read(), StaleAccess);
    REQUIRE_THROWS_AS(write(), StaleAccess);
    hal::invlpg(kVa);
    REQUIRE_THROWS_AS(read(), PageFault);
}

TEST_CASE("the same frame again is no difference", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA);
    hal::pte_clear(r.cell);
    r.t.map(kVa, kFrameA);
    CHECK(read() == signature(kFrameA));
}

TEST_CASE("the message names the line that changed the entry", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA);
    hal::pte_clear(r.cell);
    const std::string line = "sim/tlb_test.cpp:" + std::to_string(__LINE__ - 1);
    try {
        read();
        FAIL("not caught");
    } catch (const StaleAccess& e) {
        CHECK(e.says(line));
        CHECK(e.says("CPU 0 reads f8800000"));
        CHECK(e.says("frame 2000 (RW"));
    }
}

TEST_CASE("rights taken away: a write may still go through until the flush", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA);
    hal::pte_exchange(r.cell, Pte{Pfn{kFrameA}, kRo});
    CHECK(read() == signature(kFrameA));
    REQUIRE_THROWS_AS(write(), StaleAccess);
    hal::invlpg(kVa);
    REQUIRE_THROWS_AS(write(), PageFault); // CR0.WP
}

TEST_CASE("rights given: a spurious fault is possible until the flush", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA, kRo);
    hal::pte_exchange(r.cell, Pte{Pfn{kFrameA}, kRw});
    REQUIRE_THROWS_AS(write(), StaleAccess);
    hal::invlpg(kVa);
    CHECK_NOTHROW(write());
}

TEST_CASE("no-execute and user rights", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA, kRw | pte::no_execute);
    if constexpr (config::kPae) {
        REQUIRE_THROWS_AS(exec(kVa), PageFault);
        hal::pte_exchange(r.cell, Pte{Pfn{kFrameA}, kRw});
        REQUIRE_THROWS_AS(exec(kVa), StaleAccess);
        hal::invlpg(kVa);
    }
    CHECK_NOTHROW(exec(kVa));
    REQUIRE_THROWS_AS(user_read<u32>(kVa), PageFault);
    hal::pte_exchange(r.cell, Pte{Pfn{kFrameA}, kRo | pte::user});
    hal::invlpg(kVa);
    CHECK(user_read<u32>(kVa) == signature(kFrameA));
    REQUIRE_THROWS_AS(user_write<u32>(kVa, 1), PageFault);
}

TEST_CASE("rights of the directory entry count, and go stale", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA);
    const Pte pde = hal::pte_read(r.t.directory(kVa));
    hal::pte_exchange(r.t.directory(kVa), pde.without(pte::write));
    REQUIRE_THROWS_AS(write(), StaleAccess);
    hal::invlpg(kVa);
    REQUIRE_THROWS_AS(write(), PageFault);
}

TEST_CASE("invlpg of another page does not help", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA);
    hal::pte_clear(r.cell);
    hal::invlpg(kVa + kPageSize);
    REQUIRE_THROWS_AS(read(), StaleAccess);
    SECTION("a CR3 load does") { hal::flush_non_global(); }
    SECTION("loading the same root does") { hal::load_root(r.t.root()); }
    SECTION("a full flush does") { hal::flush_all(); }
    REQUIRE_THROWS_AS(read(), PageFault);
}

TEST_CASE("global pages survive a CR3 load", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA, kRw | pte::global);
    hal::pte_clear(r.cell);
    hal::flush_non_global();
    REQUIRE_THROWS_AS(read(), StaleAccess);
    SECTION("invlpg takes them") { hal::invlpg(kVa); }
    SECTION("so does a full flush") { hal::flush_all(); }
    REQUIRE_THROWS_AS(read(), PageFault);
}

TEST_CASE("without CR4.PGE the global bit means nothing", "[sim]") {
    Rig r{{.features = {.global = false}}};
    r.t.map(kVa, kFrameA, kRw | pte::global);
    hal::pte_clear(r.cell);
    hal::flush_non_global();
    REQUIRE_THROWS_AS(read(), PageFault);
}

TEST_CASE("another CPU has its own TLB", "[sim]") {
    if (config::kMaxCpus < 2) return;
    Rig r;
    r.t.map(kVa, kFrameA);
    hal::pte_clear(r.cell);
    r.t.map(kVa, kFrameB);
    hal::invlpg(kVa);
    CHECK(read() == signature(kFrameB));
    on_cpu(kCpu1, [] { REQUIRE_THROWS_AS(read(), StaleAccess); });
    run_on(
        CpuSet::only(kCpu1), [](void*) { hal::invlpg(kVa); }, nullptr);
    CHECK(on_cpu(kCpu1, [] { return read(); }) == signature(kFrameB));
    CHECK(r.m.counters(kCpu0).ipis_sent == 1);
    CHECK(r.m.counters(kCpu1).ipis_received == 1);
    CHECK(r.m.counters(kCpu1).invlpg == 1);
}

TEST_CASE("a CPU on another root is concerned as far as it shares tables, or keeps global pages", "[sim]") {
    if (config::kMaxCpus < 2) return;
    Rig r{{.cpus = 2}};
    Handmade other{0x1800};
    const bool shared = GENERATE(false, true);
    const bool global = GENERATE(false, true);
    CAPTURE(shared, global);
    r.t.map(kVa, kFrameA, global ? kRw | pte::global : kRw);
    if (shared) hal::pte_set(other.directory(kVa), hal::pte_read(r.t.directory(kVa)));
    on_cpu(kCpu1, [&] { hal::load_root(other.root()); });
    hal::pte_clear(r.cell);
    hal::invlpg(kVa);
    on_cpu(kCpu1, [&] {
        if (shared || global)
            REQUIRE_THROWS_AS(read(), StaleAccess);
        else
            REQUIRE_THROWS_AS(read(), PageFault);
        hal::invlpg(kVa);
        REQUIRE_THROWS_AS(read(), PageFault);
    });
}

TEST_CASE("global pages of the old root, large ones too, survive the new one", "[sim]") {
    Rig r;
    Handmade other{0x1800};
    const bool large = GENERATE(false, true);
    constexpr VirtAddr va{0xd000'0000u};
    if (large)
        r.t.map_large(va, 0x4000, kRw | pte::global);
    else
        r.t.map(va, 0x4000, kRw | pte::global);
    sign(0x4000);
    CHECK(read(va) == signature(0x4000));
    hal::load_root(other.root());
    REQUIRE_THROWS_AS(read(va), StaleAccess);
    hal::flush_all();
    REQUIRE_THROWS_AS(read(va), PageFault);
}

TEST_CASE("splitting a large page needs a flush of its whole range", "[sim]") {
    Rig r;
    constexpr VirtAddr va{0xd000'0000u};
    constexpr u32 pages = paging::kPtesPerTable;
    r.t.map_large(va, 0x4000, kRw | pte::global);
    CHECK_NOTHROW(write(va + 5 * kPageSize));
    // The same frames in 4 KiB pages, page 5 read-only, page 6 not present.
    const u32 table = r.t.fresh();
    for (u32 i = 0; i < pages; ++i)
        if (i != 6) hal::pte_set(Handmade::cell_in(table, i), Pte{Pfn{0x4000u + i}, i == 5 ? kRo : kRw});
    hal::pte_exchange(r.t.directory(va), Pte{Pfn{table}, kRw});

    CHECK_NOTHROW(write(va + 4 * kPageSize)); // the translation has not changed
    REQUIRE_THROWS_AS(write(va + 5 * kPageSize), StaleAccess);
    REQUIRE_THROWS_AS(read(va + 6 * kPageSize), StaleAccess);
    SECTION("one invlpg leaves the 4 KiB fragments of the other pages (bug 13)") {
        hal::invlpg(va);
        REQUIRE_THROWS_AS(write(va + 5 * kPageSize), StaleAccess);
        hal::invlpg(va + 5 * kPageSize);
        REQUIRE_THROWS_AS(write(va + 5 * kPageSize), PageFault);
        REQUIRE_THROWS_AS(read(va + 6 * kPageSize), StaleAccess);
    }
    SECTION("every page") {
        for (u32 i = 0; i < pages; ++i)
            hal::invlpg(va + i * kPageSize);
        REQUIRE_THROWS_AS(write(va + 5 * kPageSize), PageFault);
        REQUIRE_THROWS_AS(read(va + 6 * kPageSize), PageFault);
        CHECK(r.m.here().stale.empty());
    }
    SECTION("everything") {
        hal::flush_all();
        REQUIRE_THROWS_AS(write(va + 5 * kPageSize), PageFault);
        CHECK(r.m.here().stale.empty());
    }
    SECTION("a CR3 load is not enough: it was global") {
        hal::flush_non_global();
        REQUIRE_THROWS_AS(write(va + 5 * kPageSize), StaleAccess);
    }
}

TEST_CASE("paging-structure caches: the old table is walked until any invlpg", "[sim]") {
    Rig r;
    r.t.entry(kVa);
    const u32 old_table = r.t.table_frame(kVa);
    const Pte pde = hal::pte_read(r.t.directory(kVa));
    const VirtAddr other = kVa + 7 * kPageSize; // was not mapped when the directory entry was cleared
    hal::pte_clear(r.t.directory(kVa));
    REQUIRE_THROWS_AS(read(other), PageFault);

    SECTION("an entry written to the old table afterwards may be used") {
        hal::pte_set(Handmade::cell_in(old_table, 7), Pte{Pfn{kFrameB}, kRw});
        REQUIRE_THROWS_AS(read(other), StaleAccess);
        SECTION("and may have been cached in the last moment: invlpg of another page leaves that") {
            hal::invlpg(kVa);
            REQUIRE_THROWS_AS(read(other), StaleAccess);
            hal::invlpg(other);
            REQUIRE_THROWS_AS(read(other), PageFault);
        }
        SECTION("a CR3 load forgets both") {
            hal::flush_non_global();
            REQUIRE_THROWS_AS(read(other), PageFault);
        }
        SECTION("but not a global page that was translated that way") {
            hal::pte_set(Handmade::cell_in(old_table, 8), Pte{Pfn{kFrameB}, kRw | pte::global});
            hal::flush_non_global();
            REQUIRE_THROWS_AS(read(other + kPageSize), StaleAccess);
        }
        SECTION("taken away again: it stays possible") {
            hal::pte_clear(Handmade::cell_in(old_table, 7));
            REQUIRE_THROWS_AS(read(other), StaleAccess);
        }
    }
    SECTION("after an invlpg anywhere the old table is only memory") {
        hal::invlpg(VirtAddr{0x1000u});
        hal::pte_set(Handmade::cell_in(old_table, 7), Pte{Pfn{kFrameB}, kRw});
        REQUIRE_THROWS_AS(read(other), PageFault);
    }
    SECTION("giving the table's frame back before the flush is caught") {
        hal::note_frame_used(Pfn{old_table}, 0);
        REQUIRE_THROWS_AS(hal::note_frame_free(Pfn{old_table}, 0), ReleasedAccess);
        if (r.m.options().cpus > 1)
            run_on(
                hal::online_cpus().without(kCpu0), [](void*) { hal::flush_all(); }, nullptr);
        hal::invlpg(kVa);
        CHECK_NOTHROW(hal::note_frame_free(Pfn{old_table}, 0));
    }
    SECTION("linked tables must not be given back at all") {
        run_on(
            hal::online_cpus().without(kCpu0), [](void*) { hal::flush_all(); }, nullptr);
        hal::flush_all();
        hal::pte_set(r.t.directory(kVa), pde);
        hal::note_frame_used(Pfn{old_table}, 0);
        REQUIRE_THROWS_AS(hal::note_frame_free(Pfn{old_table}, 0), ReleasedAccess);
    }
}

TEST_CASE("a directory entry that goes takes nothing out of the TLB", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA);
    hal::pte_clear(r.t.directory(kVa));
    hal::invlpg(VirtAddr{0x1000u}); // empties the paging-structure caches, but leaves the page's translation
    REQUIRE_THROWS_AS(read(), StaleAccess);
    hal::invlpg(kVa);
    REQUIRE_THROWS_AS(read(), PageFault);
}

TEST_CASE("a table that is reached from two places is stale in both", "[sim]") {
    Rig r;
    constexpr VirtAddr twin{0xe000'0000u};
    hal::pte_set(r.t.directory(twin), hal::pte_read(r.t.directory(kVa)));
    r.t.map(kVa, kFrameA);
    CHECK(read(twin) == signature(kFrameA));
    hal::pte_clear(r.cell);
    hal::invlpg(kVa);
    REQUIRE_THROWS_AS(read(), PageFault);
    REQUIRE_THROWS_AS(read(twin), StaleAccess);
}

TEST_CASE("plain stores into a live table, through a mapping, count as changes", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA);
    r.t.map(kVa + kPageSize, r.t.table_frame(kVa));
    hal::zero_words(kVa + kPageSize, 8);
    REQUIRE_THROWS_AS(read(), StaleAccess);
    hal::invlpg(kVa);
    REQUIRE_THROWS_AS(read(), PageFault);
}

TEST_CASE("many remaps without a flush stay cheap and stay stale", "[sim]") {
    Rig r;
    for (u32 i = 0; i < 10'000; ++i) {
        hal::pte_clear(r.cell);
        r.t.map(kVa, 0x3000 + i);
    }
    REQUIRE_THROWS_AS(read(), StaleAccess);
    CHECK(r.m.possible(kVa).size() < 8);
    hal::invlpg(kVa);
    CHECK_NOTHROW(read());
}

TEST_CASE("an old translation knows that its frame has been given back", "[sim]") {
    MaySet set;
    set.add_page(5, {Translation{kFrameA, true, true, false, false}, {}});
    set.add_page(6, {Translation{kFrameB, true, true, false, false}, {}});
    set.give_back(kFrameA);
    REQUIRE(set.of(5, {}).size() == 1);
    CHECK(set.of(5, {})[0].given_back);
    CHECK_FALSE(set.of(6, {})[0].given_back);
}
