// CPUs of the simulated machine: private variables, interrupts, schedule points, flush sites, panics.
#include "arch/base/panic.hpp"
#include "tests/host/sim/fixture.hpp"

#include <numeric>

using namespace loft;
using namespace loft::sim;

namespace {

struct Vars {
    u32 a = 0;
    u32 b = 5;
};
LOFT_PERCPU hal::PerCpu<Vars> vars;

} // namespace

TEST_CASE("a per-CPU variable is the one of the CPU that runs", "[sim]") {
    Rig r;
    vars.of(kCpu0) = {};
    vars.store<&Vars::a>(3);
    vars.add<&Vars::a>(4);
    CHECK(vars.exchange_add<&Vars::a>(1) == 7);
    CHECK(vars.load<&Vars::a>() == 8);
    CHECK(vars.mine().b == 5);
    if (config::kMaxCpus < 2) return;
    on_cpu(kCpu1, [] {
        CHECK(hal::this_cpu() == kCpu1);
        vars.mine() = {};
        vars.store<&Vars::a>(100);
    });
    CHECK(vars.load<&Vars::a>() == 8);
    CHECK(vars.of(kCpu1).a == 100);
}

TEST_CASE("atomics", "[sim]") {
    hal::Atomic<u32> word{5};
    CHECK(word.exchange(6) == 5);
    u32 expected = 5;
    CHECK_FALSE(word.compare_exchange(expected, 9));
    CHECK(expected == 6);
    CHECK(word.compare_exchange(expected, 9));
    CHECK(word.fetch_add(1) == 9);
    CHECK(word.fetch_sub(2) == 10);
    CHECK(word.fetch_or(16) == 8);
    CHECK(word.fetch_and(16) == 24);
    CHECK(word.load() == 16);
    word.store(0);
    CHECK(word.load() == 0);
}

TEST_CASE("the interrupt flag is each CPU's own", "[sim]") {
    Machine m;
    CHECK_FALSE(hal::irqs_enabled()); // as boot leaves it
    const u32 nothing = hal::irq_save();
    hal::irq_restore(nothing);
    CHECK_FALSE(hal::irqs_enabled());
    m.here().interrupts = true;
    const u32 flags = hal::irq_save();
    CHECK_FALSE(hal::irqs_enabled());
    hal::irq_restore(flags);
    CHECK(hal::irqs_enabled());
}

TEST_CASE("other CPUs run a call with interrupts off, and come back", "[sim]") {
    if (config::kMaxCpus < 3) return;
    Rig r{{.cpus = 3}};
    CHECK(hal::online_cpus().count() == 3);
    u32 seen = 0;
    run_on(
        hal::online_cpus(),
        [](void* p) {
            CHECK_FALSE(hal::irqs_enabled());
            *static_cast<u32*>(p) |= 1u << hal::this_cpu().value();
        },
        &seen);
    CHECK(seen == 0b110); // not on the requesting CPU
    CHECK(r.m.total().ipis_sent == 2);
    on_cpu(kCpu1, [] { CHECK(hal::irqs_enabled()); });
    // A CPU that is not online is left out.
    seen = 0;
    run_on(
        CpuSet::only(CpuId{3}), [](void* p) { *static_cast<u32*>(p) = 1; }, &seen);
    CHECK(seen == 0);
    CHECK(r.m.total().ipis_sent == 2);
}

TEST_CASE("a CPU that has not been brought up is not there", "[sim]") {
    if (config::kMaxCpus < 2) return;
    Machine m{{.cpus = 2}};
    m.make_boot_info();
    remote_init();
    CHECK(hal::online_cpus() == CpuSet::only(kCpu0));
    REQUIRE_THROWS_AS(hal::interrupt_cpu(kCpu1), BadAccess);
    m.finish_boot();
    CHECK(hal::online_cpus().has(kCpu1));
    on_cpu(kCpu1, [&] { CHECK(hal::current_root().value() == m.boot_root()); });
}

TEST_CASE("on_cpu comes back by an exception too", "[sim]") {
    if (config::kMaxCpus < 2) return;
    Rig r;
    REQUIRE_THROWS_AS(on_cpu(kCpu1, [] { panic("{}", 1); }), Panic);
    CHECK(hal::this_cpu() == kCpu0);
}

TEST_CASE("something can happen between any two operations", "[sim]") {
    Rig r;
    u32 value = 0, before = 0;
    std::vector<u32> found;
    const u32 points = at_every_point({
        .operation =
            [&] {
                hal::pte_set(r.cell, Pte{Pfn{kFrameA}, kRw});
                before = hal::load<u32>(kVa);
                hal::pte_clear(r.cell);
                hal::invlpg(kVa);
            },
        .intruder =
            [&] {
                found.push_back(hal::pte_read(r.cell).low() != 0);
                ++value;
            },
    });
    const u32 stores = config::kPae ? 2 : 1;
    CHECK(points == 2 * stores + 2); // set, load, clear, invlpg
    CHECK(value == points);
    CHECK(before == signature(kFrameA));
    CHECK(std::accumulate(found.begin(), found.end(), 0u) == 2); // before the load, and before the clear
}

TEST_CASE("an interrupt comes only where interrupts are on", "[sim]") {
    Rig r;
    hal::Atomic<u32> word;
    u32 nested = 0;
    const u32 points = interrupt_at_every_point({
        .operation =
            [&] {
                word.load();
                const u32 flags = hal::irq_save(); // one point, before it takes effect
                word.load();
                word.load();
                hal::irq_restore(flags); // one point, after it has
            },
        .intruder =
            [&] {
                CHECK_FALSE(hal::irqs_enabled());
                word.load(); // inside a hook there are no schedule points
                ++nested;
            },
    });
    CHECK(points == 3);
    CHECK(nested == 3);
    CHECK(hal::irqs_enabled());
}

TEST_CASE("a loop that waits for nobody ends", "[sim]") {
    Rig r;
    hal::Atomic<u32> word;
    REQUIRE_THROWS_AS(
        [&] {
            while (word.load() == 0)
                hal::cpu_relax();
        }(),
        BadAccess);
    u32 left = 100;
    ScopedHook hook{[&](Point p) {
        if (p == Point::relax && --left == 0) word.store(1);
    }};
    while (word.load() == 0)
        hal::cpu_relax();
    CHECK(left == 0);
}

TEST_CASE("flushes of one line can be left out", "[sim]") {
    Rig r;
    const auto wanted = [](hal::Site site = hal::Site::current()) { hal::invlpg(kVa, site); };
    const u32 line = __LINE__ + 4;
    const auto round = [&](u32 frame) {
        hal::pte_clear(r.cell);
        r.t.map(kVa, frame);
        wanted();
        return read();
    };
    CHECK(round(kFrameA) == signature(kFrameA));
    const u64 flushed = r.m.total().invlpg;
    const std::string here = "tests/host/sim/cpu_test.cpp:" + std::to_string(line);
    drop_flush_site("host/sim/cpu_test.cpp:1");
    CHECK(round(kFrameB) == signature(kFrameB));
    CHECK(dropped_flushes() == 0);
    drop_flush_site(here);
    REQUIRE_THROWS_AS(round(kFrameA), StaleAccess);
    CHECK(dropped_flushes() == 1);
    CHECK(r.m.total().invlpg == flushed + 1);
    drop_flush_site("");
    CHECK(round(kFrameB) == signature(kFrameB));
}

TEST_CASE("a left-out flush does not latch PDPTEs either", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA);
    hal::pte_clear(r.cell);
    drop_flush_site("sim/cpu_test.cpp:" + std::to_string(__LINE__ + 1));
    hal::flush_non_global();
    drop_flush_site("");
    REQUIRE_THROWS_AS(read(), StaleAccess);
}

TEST_CASE("panic, refuse, assertions and log lines can be read", "[sim]") {
    Machine m;
    try {
        panic("slot {} holds {:08x}", 3, 0xabcu);
    } catch (const Panic& p) {
        CHECK(p.text() == "slot 3 holds 00000abc");
    }
    REQUIRE_THROWS_AS(refuse("no memory"), Refused);
    REQUIRE_THROWS_AS(LOFT_ASSERT(1 + 1 == 3), Panic);
    log(LogLevel::info, "mm", "{} frames", 12);
    REQUIRE(m.log().size() == 1);
    CHECK(m.log()[0] == "mm: 12 frames");
    CHECK(m.logged("12 frames"));
}

TEST_CASE("counters", "[sim]") {
    Rig r;
    const Counters before = r.m.total();
    hal::invlpg(kVa);
    hal::flush_non_global();
    hal::flush_all();
    hal::load_root(hal::current_root());
    const Counters after = r.m.total();
    CHECK(after.invlpg == before.invlpg + 1);
    CHECK(after.flush_non_global == before.flush_non_global + 1);
    CHECK(after.flush_all == before.flush_all + 1);
    CHECK(after.load_root == before.load_root + 1);
}
