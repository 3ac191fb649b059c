// Remote calls: when run_on returns, every CPU of the set has run the call, and a CPU that waits still answers.
//
// Here an interrupt is answered at once; explorer/remote_test.cpp tests all other orders.
#include "mm/ground/remote.hpp"
#include "mm/ground/spinlock.hpp"
#include "tests/host/booted.hpp"

#include <optional>

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kCpus = 4;

// What the call found on each CPU.
struct Seen {
    u32 calls[kCpus]{};
    bool interrupts_on = false;
    u32 total() const { return calls[0] + calls[1] + calls[2] + calls[3]; }

    static void note(void* argument) {
        Seen& seen = *static_cast<Seen*>(argument);
        ++seen.calls[hal::this_cpu().value()];
        seen.interrupts_on |= hal::irqs_enabled();
    }
};
CpuSet set_of(u32 bits) { return CpuSet::from_bits(bits); }

} // namespace

TEST_CASE("run_on: every CPU of the set but this one does it, once, with interrupts off", "[remote]") {
    Booted kernel{small(kCpus)};
    for (u32 bits = 0; bits < 1u << kCpus; ++bits) {
        for (u32 me = 0; me < kCpus; ++me) {
            Seen seen;
            for (u32 cpu = 0; cpu < kCpus; ++cpu)
                remote_stats.of(CpuId{cpu}) = {};
            sim::on_cpu(CpuId{me}, [&] { run_on(set_of(bits), Seen::note, &seen); });
            const u32 others = set_of(bits).without(CpuId{me}).count();
            for (u32 cpu = 0; cpu < kCpus; ++cpu) {
                const u32 once = cpu != me && set_of(bits).has(CpuId{cpu}) ? 1 : 0;
                REQUIRE(seen.calls[cpu] == once);
                REQUIRE(since_start(remote_stats.of(CpuId{cpu}).answers) == once);
            }
            REQUIRE_FALSE(seen.interrupts_on);
            REQUIRE(since_start(remote_stats.of(CpuId{me}).calls) == (others != 0 ? 1 : 0));
            REQUIRE(since_start(remote_stats.of(CpuId{me}).interrupts) == others);
        }
    }
}

TEST_CASE("run_on: leaves interrupts as they were, also when nobody is asked", "[remote]") {
    Booted kernel{small(2)};
    Seen seen;
    for (const bool on : {true, false}) {
        kernel.machine.here().interrupts = on;
        run_on(CpuSet::only(CpuId{1}), Seen::note, &seen);
        CHECK(hal::irqs_enabled() == on);
        run_on(CpuSet::only(CpuId{0}), Seen::note, &seen);
        CHECK(hal::irqs_enabled() == on);
        run_on(CpuSet{}, Seen::note, &seen);
        CHECK(hal::irqs_enabled() == on);
    }
    kernel.machine.here().interrupts = true;
    CHECK(seen.total() == 2);
    CHECK(kernel.machine.total().ipis_sent == 2);
}

TEST_CASE("run_on: is not interrupted from the question to the last answer", "[remote]") {
    Booted kernel{small(3)};
    Seen seen;
    bool asked = false;
    sim::ScopedHook hook{[&](sim::Point point) {
        asked |= point == sim::Point::atomic; // its bit is set in the word of a target CPU
        if (asked && seen.total() < 2) CHECK_FALSE(kernel.machine.here().interrupts);
    }};
    run_on(kernel.machine.online(), Seen::note, &seen);
    CHECK(seen.total() == 2);
}

TEST_CASE("remote_answer: a CPU that nobody asks does nothing", "[remote]") {
    Booted kernel{small(2)};
    for (const bool on : {true, false}) {
        kernel.machine.here().interrupts = on;
        remote_answer();
        CHECK(hal::irqs_enabled() == on);
    }
    kernel.machine.here().interrupts = true;
    CHECK(since_start(remote_stats.of(CpuId{0}).answers) == 0);
}

// CPU 0 has set its bit and has not sent the interrupt yet. CPU 1 asks the same CPU: no second interrupt is needed, and
// when the target CPU reads the word, it answers both.
TEST_CASE("run_on: two CPUs that ask a third one share one interrupt", "[remote]") {
    Booted kernel{small(3)};
    Seen first, second;
    u32 points = 0;
    {
        sim::ScopedHook hook{[&](sim::Point point) {
            if (point != sim::Point::ipi || points++ != 0) return;
            sim::on_cpu(CpuId{1}, [&] {
                // CPU 1 waits until CPU 2 reads its word, which happens before the next step of CPU 0.
                sim::ScopedHook inner{[&](sim::Point at) {
                    if (at == sim::Point::relax) sim::on_cpu(CpuId{2}, [] { hal::cpu_relax(); });
                }};
                run_on(CpuSet::only(CpuId{2}), Seen::note, &second);
            });
        }};
        run_on(CpuSet::only(CpuId{2}), Seen::note, &first);
    }
    CHECK(first.calls[2] == 1);
    CHECK(second.calls[2] == 1);
    CHECK(since_start(remote_stats.of(CpuId{0}).interrupts) == 1);
    CHECK(since_start(remote_stats.of(CpuId{1}).interrupts) == 0);
    CHECK(since_start(remote_stats.of(CpuId{2}).answers) == 2);
}

// CPU 1 asks CPU 0 at every step of CPU 0's request to CPU 1: both wait, and both answer while they wait.
TEST_CASE("run_on: two CPUs that ask each other, at every step", "[remote]") {
    Booted kernel{small(2)};
    Seen mine, theirs;
    Intruder intruder{[&] {
        // Not while CPU 1 answers: a call makes no remote call.
        if (sim::machine().cpu(CpuId{1}).interrupts)
            sim::on_cpu(CpuId{1}, [&] { run_on(CpuSet::only(CpuId{0}), Seen::note, &theirs); });
    }};
    u32 rounds = 0;
    const u32 points = sim::at_every_point({
        .operation = [&] { run_on(CpuSet::only(CpuId{1}), Seen::note, &mine); },
        .intruder = std::ref(intruder),
        .check = [&] { REQUIRE(mine.calls[1] == ++rounds); },
    });
    intruder.finish();
    CHECK(points > 15);
    CHECK(theirs.calls[0] >= 10);
}

TEST_CASE("run_on: a CPU that spins for a lock with its interrupts off still answers", "[remote]") {
    Booted kernel{small(2)};
    SpinLock lock;
    std::optional<SpinGuard> held{std::in_place, lock};
    Seen seen;
    u32 turns = 0;
    sim::on_cpu(CpuId{1}, [&] {
        sim::ScopedHook hook{[&](sim::Point point) {
            if (point != sim::Point::relax || ++turns != 3) return;
            CHECK_FALSE(kernel.machine.cpu(CpuId{1}).interrupts);
            sim::on_cpu(CpuId{0}, [&] {
                run_on(CpuSet::only(CpuId{1}), Seen::note, &seen);
                held.reset();
            });
        }};
        SpinGuard guard{lock};
        CHECK(turns == 3);
    });
    CHECK(seen.calls[1] == 1);
}

TEST_CASE("run_on: a CPU that does not answer is a panic that names it, not a hang", "[remote]") {
    // CPU 2's interrupt is lost: CPU 0's bit is set in its word already, but no CPU has sent an interrupt.
    Setup setup = small(3);
    setup.machine.patience = 10'000'000;
    Booted kernel{setup};
    Seen seen;
    const auto give_up = [&] {
        sim::ScopedHook hook{[](sim::Point point) {
            if (point == sim::Point::ipi) throw std::runtime_error{"lost"};
        }};
        run_on(CpuSet::only(CpuId{2}), Seen::note, &seen);
    };
    CHECK_THROWS_AS(give_up(), std::runtime_error);
    sim::on_cpu(CpuId{1}, [&] {
        CHECK_PANIC(run_on(set_of(0b101), Seen::note, &seen),
                    "CPU 2 does not answer: asked " + std::to_string(kRemotePatienceMs) + " ms ago by CPU 1");
    });
    CHECK(seen.calls[0] == 1);
    CHECK(seen.calls[2] == 0);
}

TEST_CASE("remote_init: forgets questions that were under way", "[remote]") {
    {
        Booted kernel{small(2)};
        Seen seen;
        sim::ScopedHook hook{[](sim::Point point) {
            if (point == sim::Point::ipi) throw std::runtime_error{"gone"};
        }};
        CHECK_THROWS_AS(run_on(CpuSet::only(CpuId{1}), Seen::note, &seen), std::runtime_error);
    }
    Booted kernel{small(2)};
    Seen seen;
    sim::on_cpu(CpuId{1}, [] { remote_answer(); });
    CHECK(since_start(remote_stats.of(CpuId{1}).answers) == 0);
    run_on(CpuSet::only(CpuId{1}), Seen::note, &seen);
    CHECK(seen.calls[1] == 1);
    CHECK(kernel.machine.total().ipis_sent == 1);
}
