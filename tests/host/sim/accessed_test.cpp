// The accessed bit as evidence: an atomic operation that takes an entry with A clear proves that no TLB holds it. No
// other operation proves that.
#include "tests/host/sim/fixture.hpp"

using namespace loft;
using namespace loft::sim;

namespace {
constexpr PteFlags kUntouched = pte::present | pte::write; // A and D clear
}

TEST_CASE("an access sets A and D", "[sim]") {
    Rig r{{.fills = Fills::never}};
    r.t.map(kVa, kFrameA, kUntouched);
    CHECK_FALSE(hal::pte_read(r.cell).has(pte::accessed));
    read();
    CHECK(hal::pte_read(r.cell).has(pte::accessed));
    CHECK_FALSE(hal::pte_read(r.cell).has(pte::dirty));
    write();
    CHECK(hal::pte_read(r.cell).has(pte::dirty));
}

TEST_CASE("taken atomically with A clear: no TLB holds it", "[sim]") {
    Rig r{{.fills = Fills::never}};
    r.t.map(kVa, kFrameA, kUntouched);
    SECTION("take") { CHECK_FALSE(hal::pte_take(r.cell).has(pte::accessed)); }
    SECTION("exchange") { CHECK_FALSE(hal::pte_exchange(r.cell, Pte{}).has(pte::accessed)); }
    REQUIRE_THROWS_AS(read(), PageFault);
    r.t.map(kVa, kFrameB);
    CHECK(read() == signature(kFrameB));
}

TEST_CASE("taken atomically with A set: it may be held", "[sim]") {
    Rig r{{.fills = Fills::never}};
    r.t.map(kVa, kFrameA, kUntouched);
    SECTION("because it was touched") { read(); }
    SECTION("because it was touched by another CPU") {
        if (config::kMaxCpus < 2) return;
        on_cpu(kCpu1, [] { read(); });
    }
    SECTION("because of a speculative fill") { r.m.script_fills({true}); }
    CHECK(hal::pte_take(r.cell).has(pte::accessed));
    r.t.map(kVa, kFrameB);
    REQUIRE_THROWS_AS(read(), StaleAccess);
}

TEST_CASE("a plain store never proves anything, whatever was read before it", "[sim]") {
    Rig r{{.fills = Fills::never}};
    r.t.map(kVa, kFrameA, kUntouched);
    CHECK_FALSE(hal::pte_read(r.cell).has(pte::accessed));
    SECTION("clear") { hal::pte_clear(r.cell); }
    SECTION("clear the low half") { hal::pte_clear_low(r.cell); }
    SECTION("overwrite") {
        hal::pte_clear(r.cell);
        r.t.map(kVa, kFrameB);
    }
    REQUIRE_THROWS_AS(read(), StaleAccess);
}

TEST_CASE("storing the same untouched entry again overwrites the evidence", "[sim]") {
    Rig r{{.fills = Fills::never}};
    r.t.map(kVa, kFrameA, kUntouched);
    hal::pte_set(r.cell, Pte{Pfn{kFrameA}, kUntouched});
    CHECK_FALSE(hal::pte_take(r.cell).has(pte::accessed));
    REQUIRE_THROWS_AS(read(), StaleAccess);
}

TEST_CASE("A cleared without a flush: a take that finds it clear proves nothing", "[sim]") {
    Rig r{{.fills = Fills::never}};
    r.t.map(kVa, kFrameA, kUntouched);
    read();
    hal::pte_exchange(r.cell, Pte{Pfn{kFrameA}, kUntouched});
    const bool flushed = GENERATE(false, true);
    if (flushed)
        hal::invlpg(kVa);
    else
        read(); // may hit the TLB; then it sets no A bit
    if (flushed) CHECK(r.m.here().stale.empty());
    CHECK_FALSE(hal::pte_take(r.cell).has(pte::accessed));
    if (flushed)
        REQUIRE_THROWS_AS(read(), PageFault);
    else
        REQUIRE_THROWS_AS(read(), StaleAccess);
}

TEST_CASE("reading A branches, both ways", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA, kUntouched);
    r.m.script_fills({false, true});
    CHECK_FALSE(hal::pte_read(r.cell).has(pte::accessed));
    CHECK((hal::pte_low(r.cell) & Pte{Pfn{0u}, pte::accessed}.low()) != 0);
    CHECK(hal::pte_read(r.cell).has(pte::accessed)); // it stays
    CHECK(r.m.fills_asked() == 2);
}

TEST_CASE("the random choice takes both sides and repeats with its seed", "[sim]") {
    const auto pattern = [](u64 seed) {
        Rig r{{.seed = seed}};
        std::string taken;
        for (u32 i = 0; i < 64; ++i) {
            r.t.map(kVa, kFrameA, kUntouched);
            taken += hal::pte_take(r.cell).has(pte::accessed) ? '1' : '0';
        }
        return taken;
    };
    const std::string one = pattern(1);
    CHECK(one.find('0') != std::string::npos);
    CHECK(one.find('1') != std::string::npos);
    CHECK(one == pattern(1));
    CHECK(one != pattern(2));
}

TEST_CASE("an entry that no CPU can reach is never filled", "[sim]") {
    Rig r{{.fills = Fills::always}};
    constexpr VirtAddr va{0xe000'0000u};
    const u32 table = r.t.fresh();
    hal::PteCell* cell = Handmade::cell_in(table, 0);
    const auto filled = [&] { return hal::pte_read(cell).has(pte::accessed); };
    hal::pte_set(cell, Pte{Pfn{kFrameA}, kUntouched});
    CHECK_FALSE(filled());

    hal::pte_set(r.t.directory(va), Pte{Pfn{table}, pte::present | pte::write});
    CHECK(filled());
    hal::pte_clear(cell);
    hal::pte_clear(r.t.directory(va));
    hal::pte_set(cell, Pte{Pfn{kFrameA}, kUntouched});
    CHECK(filled()); // by the old directory entry
    hal::pte_clear(cell);
    run_on(
        hal::online_cpus(), [](void*) { hal::flush_all(); }, nullptr);
    hal::flush_all();
    hal::pte_set(cell, Pte{Pfn{kFrameA}, kUntouched});
    CHECK_FALSE(filled());
}

TEST_CASE("a fill comes through the directory entry, and sets its A too", "[sim]") {
    Rig r{{.fills = Fills::never}};
    constexpr VirtAddr va{0xe000'0000u};
    const u32 table = r.t.fresh();
    hal::pte_set(Handmade::cell_in(table, 0), Pte{Pfn{kFrameA}, kUntouched});
    hal::pte_set(r.t.directory(va), Pte{Pfn{table}, pte::present | pte::write});
    CHECK_FALSE(hal::pte_read(r.t.directory(va)).has(pte::accessed));
    r.m.script_fills({true});
    CHECK(hal::pte_read(Handmade::cell_in(table, 0)).has(pte::accessed));
    CHECK(hal::pte_take(r.t.directory(va)).has(pte::accessed));
    REQUIRE_THROWS_AS(read(va), StaleAccess);
}

TEST_CASE("a directory entry taken atomically with A clear leaves nothing below it", "[sim]") {
    Rig r{{.fills = Fills::never}};
    constexpr VirtAddr va{0xe000'0000u};
    const u32 table = r.t.fresh();
    hal::pte_set(Handmade::cell_in(table, 0), Pte{Pfn{kFrameA}, kUntouched});
    hal::pte_set(r.t.directory(va), Pte{Pfn{table}, pte::present | pte::write});
    const bool touched = GENERATE(false, true);
    if (touched) read(va);
    CHECK(hal::pte_take(r.t.directory(va)).has(pte::accessed) == touched);
    if (touched)
        REQUIRE_THROWS_AS(read(va), StaleAccess);
    else
        REQUIRE_THROWS_AS(read(va), PageFault);
}
