// PAE only: PDPTEs that the CPU latches until CR3 is loaded, entries written in halves, reserved bits.
#include "tests/host/sim/fixture.hpp"

using namespace loft;
using namespace loft::sim;

TEST_CASE("a PDPTE counts from the next CR3 load on", "[sim]") {
    if constexpr (config::kPae) {
        Rig r;
        constexpr VirtAddr va{0x4000'0000u};
        Handmade other{0x1800};
        other.map(va, kFrameB);
        const Pte old = hal::pte_read(r.t.pdpte(va));
        r.t.map(va, kFrameA);
        CHECK(read(va) == signature(kFrameA));
        SECTION("taken away") {
            hal::pte_clear(r.t.pdpte(va));
            CHECK(read(va) == signature(kFrameA)); // still latched
            hal::invlpg(va);
            CHECK(read(va) == signature(kFrameA));
            hal::flush_non_global();
            REQUIRE_THROWS_AS(read(va), PageFault);
        }
        SECTION("changed") {
            hal::pte_exchange(r.t.pdpte(va), hal::pte_read(other.pdpte(va)));
            CHECK(read(va) == signature(kFrameA));
            hal::load_root(r.t.root());
            CHECK(read(va) == signature(kFrameB));
            hal::pte_exchange(r.t.pdpte(va), old);
            hal::flush_all();
            CHECK(read(va) == signature(kFrameA));
        }
        SECTION("another CPU latches for itself") {
            if (config::kMaxCpus < 2) return;
            hal::pte_clear(r.t.pdpte(va));
            hal::flush_non_global();
            REQUIRE_THROWS_AS(read(va), PageFault);
            CHECK(on_cpu(kCpu1, [&] { return read(va); }) == signature(kFrameA));
        }
        SECTION("global pages below it outlive the CR3 load") {
            r.t.map(va + kPageSize, kFrameA, kRw | pte::global);
            hal::pte_clear(r.t.pdpte(va));
            hal::flush_non_global();
            REQUIRE_THROWS_AS(read(va), PageFault);
            REQUIRE_THROWS_AS(read(va + kPageSize), StaleAccess);
        }
    }
}

TEST_CASE("an entry changed in halves while it is present is seen in between", "[sim]") {
    if constexpr (config::kPae) {
        Rig r;
        // Frames whose numbers differ in both halves, above and below 4 GiB.
        r.t.map(kVa, 0x2000);
        bool seen = false;
        {
            ScopedHook hook{[&](Point p) {
                if (p != Point::pte_store || seen) return;
                seen = hal::pte_high(r.cell) == 1;
            }};
            hal::pte_set(r.cell, Pte{Pfn{0x10'3000u}, kRw}); // an error: the entry is present
        }
        CHECK(seen);
        hal::pte_clear(r.cell);
        bool torn = false;
        for (const Translation& t : r.m.possible(kVa))
            torn |= t.pfn == 0x10'2000;
        CHECK(torn);
    }
}

TEST_CASE("64-bit entries reach above 4 GiB", "[sim]") {
    if constexpr (config::kPae) {
        Rig r{{.ram = 8 * GiB}};
        sign(0x1f'f000);
        r.t.map(kVa, 0x1f'f000);
        CHECK(read() == signature(0x1f'f000));
        const Pte old = hal::pte_take(r.cell);
        CHECK(old.pfn().value() == 0x1f'f000);
        CHECK(hal::pte_high(r.cell) == 0);
    }
}

TEST_CASE("reserved bits are an error", "[sim]") {
    if constexpr (config::kPae) {
        SECTION("an address above 36 bits") {
            Rig r;
            r.t.map(kVa, 1u << 24);
            REQUIRE_THROWS_AS(read(), BadAccess);
        }
        SECTION("NX where the CPU does not have it") {
            Rig r{{.features = {.no_execute = false}}};
            r.t.map(kVa, kFrameA, kRw | pte::no_execute);
            REQUIRE_THROWS_AS(read(), BadAccess);
        }
        SECTION("rights in a PDPTE") {
            Rig r;
            hal::pte_exchange(r.t.pdpte(VirtAddr{0u}), hal::pte_read(r.t.pdpte(VirtAddr{0u})).with(pte::write));
            REQUIRE_THROWS_AS(hal::load_root(r.t.root()), BadAccess);
        }
    }
    Rig r;
    r.t.map_large(VirtAddr{0xd000'0000u}, 0x4000 + 4); // not aligned to its size
    REQUIRE_THROWS_AS(read(VirtAddr{0xd000'0000u}), BadAccess);
    REQUIRE_THROWS_AS(hal::load_root(PhysAddr{u64{0x1000'0010}}), BadAccess);
    REQUIRE_THROWS_AS(hal::load_root(PhysAddr{u64{0x3'0000'0000}}), BadAccess);
}
