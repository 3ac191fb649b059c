// Pages of programs on the simulated machine: spurious faults, and the translations that a fault removes.
#include "tests/host/sim/fixture.hpp"

using namespace loft;
using namespace loft::sim;

namespace {

const PteFlags kUserRw = kRw | pte::user, kUserRo = kRo | pte::user;

} // namespace

TEST_CASE("more rights on a program's page: a fault may come, and does not come twice", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA, kUserRo);
    hal::pte_exchange(r.cell, Pte{Pfn{kFrameA}, kUserRw});
    SECTION("the CPU has the old rights") {
        r.m.script_fills({true});
        REQUIRE_THROWS_AS(user_write<u32>(kVa, 1), PageFault);
        CHECK_FALSE(r.m.stale(kVa));
        CHECK_NOTHROW(user_write<u32>(kVa, 1));
    }
    SECTION("it has not") {
        r.m.script_fills({false});
        CHECK_NOTHROW(user_write<u32>(kVa, 1));
    }
    SECTION("the kernel is in the same position there") {
        r.m.script_fills({true});
        REQUIRE_THROWS_AS(write(), PageFault);
        CHECK_NOTHROW(write());
    }
}

TEST_CASE("another frame, or fewer rights, on a program's page is stale as ever", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA, kUserRo);
    hal::pte_exchange(r.cell, Pte{Pfn{kFrameB}, kUserRw});
    REQUIRE_THROWS_AS(user_write<u32>(kVa, 1), StaleAccess);
    hal::invlpg(kVa);
    hal::pte_exchange(r.cell, Pte{Pfn{kFrameB}, kUserRo});
    REQUIRE_THROWS_AS(user_write<u32>(kVa, 1), StaleAccess);
    // Also on the other CPU, until it flushes its own TLB.
    on_cpu(kCpu1, [] { REQUIRE_THROWS_AS(user_read<u32>(kVa), StaleAccess); });
}

TEST_CASE("the kernel needs the right to write a program's page", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA, kUserRo);
    CHECK(read() == signature(kFrameA));
    REQUIRE_THROWS_AS(write(), PageFault);
}

TEST_CASE("an old translation that leads to a frame which was given back is known", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA, kUserRw);
    hal::note_frame_used(Pfn{kFrameA}, 0);
    hal::pte_clear(r.cell);
    CHECK_FALSE(r.m.may_reach_free_frame(kCpu1));
    hal::note_frame_free(Pfn{kFrameA}, 0);
    CHECK(r.m.may_reach_free_frame(kCpu1));
    on_cpu(kCpu1, [] { hal::invlpg(kVa); });
    CHECK_FALSE(r.m.may_reach_free_frame(kCpu1));
}

TEST_CASE("one allocation fails, the one that was asked for", "[sim]") {
    Rig r;
    CHECK_FALSE(hal::out_of_memory());
    r.m.fail_allocation(2);
    CHECK_FALSE(hal::out_of_memory());
    CHECK_FALSE(hal::out_of_memory());
    CHECK_FALSE(r.m.allocation_failed());
    CHECK(hal::out_of_memory());
    CHECK(r.m.allocation_failed());
    CHECK_FALSE(hal::out_of_memory());
    r.m.fail_allocation(0);
    r.m.allow_allocations();
    CHECK_FALSE(hal::out_of_memory());
    CHECK_FALSE(r.m.allocation_failed());
}
