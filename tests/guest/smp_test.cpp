// Several CPUs: their state, remote calls, and the CPUs that a flush interrupts.
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "kernel/threads/sync.hpp"
#include "kernel/threads/thread.hpp"
#include "mm/ground/remote.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/guest/support.hpp"

#include <array>

namespace loft::guest::smp_test {
namespace {

const char* needs_two_cpus() { return hal::online_cpus().count() < 2 ? "one CPU" : nullptr; }

CpuSet others() { return hal::online_cpus().without(hal::this_cpu()); }
CpuId first_other() { return CpuId{static_cast<u32>(std::countr_zero(others().bits()))}; }

// Runs body(cpu) in a thread on each CPU of the set, at the same time.
template <typename F> u32 on_each(CpuSet cpus, F& body) {
    std::array<Thread*, config::kMaxCpus> thread{};
    auto run = [&] { body(hal::this_cpu()); };
    u32 started = 0;
    cpus.for_each([&](CpuId cpu) {
        thread[cpu.value()] = thread_create("on each", run, CpuSet::only(cpu));
        started += thread[cpu.value()] != nullptr;
    });
    for (Thread* one : thread)
        if (one != nullptr) thread_join(one);
    return started;
}

} // namespace

SELFTEST(smp, all_cpus_answer) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    struct {
        hal::Atomic<u32> who, wrong;
    } seen;
    const u32 answers = remote_stats.of(first_other()).answers;
    run_on(
        hal::online_cpus(),
        [](void* argument) {
            auto& here = *static_cast<decltype(seen)*>(argument);
            here.who.fetch_or(CpuSet::only(hal::this_cpu()).bits());
            here.wrong.fetch_add(hal::irqs_enabled());
        },
        &seen);
    CHECK_EQ(seen.who.load(), others().bits());
    CHECK_EQ(seen.wrong.load(), 0u);
    CHECK_EQ(remote_stats.of(first_other()).answers, answers + 1);
}

// The control bits of the boot CPU are set on all CPUs: W^X and global pages hold on all of them or on none.
SELFTEST(smp, control_bits_are_the_same_everywhere) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    struct Bits {
        u32 cr0, cr3, cr4, efer;
        hal::Atomic<u32> wrong;
    };
    const auto efer = [] { return hal::cpu_features().no_execute ? static_cast<u32>(read_msr(msr::efer)) : 0; };
    // Not compared: A and D, which paging sets, and CD and NW, which the firmware sets.
    Bits bits{read_cr0(), read_cr3(), read_cr4(), efer(), {}};
    run_on(
        hal::online_cpus(),
        [](void* argument) {
            auto& want = *static_cast<Bits*>(argument);
            const u32 efer = hal::cpu_features().no_execute ? static_cast<u32>(read_msr(msr::efer)) : 0;
            want.wrong.fetch_add(read_cr0() != want.cr0 || read_cr3() != want.cr3 || read_cr4() != want.cr4 ||
                                 efer != want.efer);
        },
        &bits);
    CHECK_EQ(bits.wrong.load(), 0u);
}

// No register state of earlier software on these CPUs is visible to loft or its programs (tests/shim: `used-machine`).
SELFTEST(smp, nothing_is_left_of_what_ran_before) {
    struct Seen {
        u32 wrong = 0; // one bit for each register
        static bool is(u32 reg, u64 wanted) {
            u64 value = wanted; // a register that this processor lacks counts as right
            static_cast<void>(probe_read_msr(reg, value));
            return value == wanted;
        }
        void look() {
            const bool as_wanted[]{
                is(msr::efer, hal::cpu_features().no_execute ? msr::efer_nxe : 0),
                is(msr::sysenter_cs, 0),
                is(msr::debug_control, 0),
                is(msr::pat, msr::pat_at_reset),
                read_dr7() == kDr7Nothing,
                read_ldtr() == 0,
                (read_msr(msr::apic_base) & 0xffff'ffff'ffff'fe00) == 0xfee0'0800, // on, xAPIC, at the default address
            };
            for (u32 i = 0; i < std::size(as_wanted); ++i)
                wrong |= !as_wanted[i] ? 1u << i : 0;
        }
    };
    const MigrateGuard here;
    std::array<Seen, config::kMaxCpus> seen;
    seen[hal::this_cpu().value()].look();
    run_on(
        others(), [](void* all) { (*static_cast<decltype(seen)*>(all))[hal::this_cpu().value()].look(); }, &seen);
    hal::online_cpus().for_each([&](CpuId cpu) {
        if (!CHECK_EQ(seen[cpu.value()].wrong, 0u))
            selftest::note("CPU {}: registers {:x}", cpu, seen[cpu.value()].wrong);
    });
}

SELFTEST(smp, every_cpu_ticks) {
    std::array<u32, config::kMaxCpus> before{};
    hal::online_cpus().for_each([&](CpuId cpu) { before[cpu.value()] = scheduler_stats(cpu).ticks; });
    const auto all_have_ticked = [&] {
        bool all = true;
        hal::online_cpus().for_each(
            [&](CpuId cpu) { all = all && scheduler_stats(cpu).ticks - before[cpu.value()] >= 2; });
        return all;
    };
    for (Patience patience{Patience::kSleeping}; !all_have_ticked() && !patience.over();)
        sleep_ms(10);
    CHECK(all_have_ticked());
}

// Two CPUs ask each other with interrupts off: both answer while they wait (bug 8).
SELFTEST(smp, calls_cross) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    const u32 rounds = selftest::full() ? 20'000 : 200;
    const CpuSet pair = CpuSet::only(hal::this_cpu()).with(first_other());
    hal::Atomic<u32> calls, ready;
    auto body = [&](CpuId cpu) {
        ready.fetch_add(1);
        while (ready.load() != 2)
            yield();
        const IrqGuard off;
        for (u32 i = 0; i < rounds; ++i)
            run_on(
                pair.without(cpu), [](void* n) { static_cast<hal::Atomic<u32>*>(n)->fetch_add(1); }, &calls);
    };
    CHECK_EQ(on_each(pair, body), 2u);
    CHECK_EQ(calls.load(), 2 * rounds);
}

// Every CPU asks every other CPU, some with interrupts off: each call runs exactly once on each CPU.
SELFTEST(smp, calls_storm) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    const u32 rounds = selftest::full() ? 5000 : 80;
    static std::array<hal::Atomic<u32>, config::kMaxCpus> got;
    static std::array<hal::Atomic<u32>, config::kMaxCpus> sent;
    for (u32 i = 0; i < config::kMaxCpus; ++i) {
        got[i].store(0);
        sent[i].store(0);
    }
    const CpuSet online = hal::online_cpus();
    const u32 seed = selftest::rng().next();
    auto body = [&](CpuId me) {
        selftest::Rng random{seed + me.value()};
        for (u32 i = 0; i < rounds; ++i) {
            const CpuSet to = CpuSet::from_bits(online.bits() & random.next()).without(me);
            to.for_each([](CpuId cpu) { sent[cpu.value()].fetch_add(1); });
            const auto answer = [](void*) { got[hal::this_cpu().value()].fetch_add(1); };
            if (random.below(2) == 0) {
                run_on(to, answer, nullptr);
            } else {
                const IrqGuard off;
                run_on(to, answer, nullptr);
            }
        }
    };
    CHECK_EQ(on_each(online, body), online.count());
    online.for_each([](CpuId cpu) { CHECK_EQ(got[cpu.value()].load(), sent[cpu.value()].load()); });
}

// Two CPUs flush each other: on both, every address shows its own page at any time.
SELFTEST(smp, flushes_cross) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    if (const char* why = no_highmem_for(64)) SKIP(why);
    const u32 rounds = selftest::full() ? 3000 : 60;
    const CpuSet pair = CpuSet::only(hal::this_cpu()).with(first_other());
    hal::Atomic<u32> wrong;
    auto body = [&](CpuId) {
        Pages<4> pages;
        if (!pages.complete()) {
            wrong.fetch_add(1);
            return;
        }
        for (Page* page : pages)
            sign(page, 3);
        for (u32 i = 0; i < rounds; ++i) {
            const Result<VirtAddr> area = vmap(pages.begin(), 4, VmapProt::rw);
            if (!area) {
                wrong.fetch_add(1);
                continue;
            }
            for (u32 k = 0; k < 4; ++k)
                wrong.fetch_add(!marks_hold(*area + k * kPageSize, pages.pfn(k), 3));
            vunmap(*area);
            vmap_flush();
        }
    };
    CHECK_EQ(on_each(pair, body), 2u);
    CHECK_EQ(wrong.load(), 0u);
}

// Idle CPUs are not interrupted for old debts: they check the clock before they run anything. An idle CPU wakes a
// hundred times a second for its tick and is then not idle, so the test needs one period without a tick.
SELFTEST(smp, idle_cpus_are_left_alone) {
    if (config::kDebug) SKIP("a DEBUG kernel flushes at each kunmap");
    if (const char* why = needs_two_cpus()) SKIP(why);
    if (const char* why = no_highmem_for(pkmap_slots() + 64)) SKIP(why);
    const KeepsFreeCounts counts;
    FrameChain pages;
    REQUIRE_EQ(pages.take(Gfp::high, 0, pkmap_slots() + 64), pkmap_slots() + 64);
    const auto go_round = [&](u32 wraps) {
        for (const u32 first = pkmap_stats().wraps; pkmap_stats().wraps - first < wraps;)
            for (Page* page : pages) {
                const KMap map{page};
                hal::store<u32>(map.addr(), 1u);
            }
    };
    go_round(2);
    constexpr u32 kWraps = 4, kTries = 50;
    bool left_alone = false;
    u32 skipped = 0, asked = 0;
    for (u32 i = 0; i < kTries && !left_alone; ++i) {
        sleep_ms(11); // all CPUs go idle
        const TlbStats before = tlb_stats_sum();
        const u32 wraps = pkmap_stats().wraps;
        go_round(kWraps);
        const TlbStats after = tlb_stats_sum();
        left_alone = after.remote == before.remote;
        asked += after.remote - before.remote;
        skipped += after.skipped_idle - before.skipped_idle;
        // Even busy ones would be interrupted once a wrap.
        CHECK_LE(after.rounds - before.rounds, pkmap_stats().wraps - wraps + 1);
    }
    // With many CPUs, one of them always has its tick.
    if (others().count() < 8) CHECK(left_alone);
    CHECK_GT(skipped, 4 * asked);
    selftest::note("{} interrupts, {} times that an idle CPU got none", asked, skipped);
}

// Busy CPUs are interrupted at most once in each round of the pool.
SELFTEST(smp, busy_cpus_are_asked_once_a_wrap) {
    if (config::kDebug) SKIP("a DEBUG kernel flushes at each kunmap");
    if (const char* why = needs_two_cpus()) SKIP(why);
    if (const char* why = no_highmem_for(pkmap_slots() + 64)) SKIP(why);
    const KeepsFreeCounts counts;
    FrameChain pages;
    REQUIRE_EQ(pages.take(Gfp::high, 0, pkmap_slots() + 64), pkmap_slots() + 64);
    hal::Atomic<u32> stop, running;
    auto spin = [&] {
        running.fetch_add(1);
        while (stop.load() == 0)
            hal::cpu_relax();
    };
    std::array<Thread*, config::kMaxCpus> thread{};
    others().for_each([&](CpuId cpu) { thread[cpu.value()] = thread_create("busy", spin, CpuSet::only(cpu)); });
    while (running.load() != others().count())
        yield();
    const auto go_round = [&](u32 wraps) {
        for (const u32 first = pkmap_stats().wraps; pkmap_stats().wraps - first < wraps;)
            for (Page* page : pages) {
                const KMap map{page};
                hal::store<u32>(map.addr(), 1u);
            }
    };
    go_round(2);
    const TlbStats before = tlb_stats_sum();
    const u32 wraps = pkmap_stats().wraps;
    go_round(6);
    const TlbStats after = tlb_stats_sum();
    CHECK_LE(after.rounds - before.rounds, pkmap_stats().wraps - wraps + 1);
    CHECK_GT(after.rounds - before.rounds, 0u);
    stop.store(1);
    for (Thread* one : thread)
        if (one != nullptr) thread_join(one);
}

// Load balancing: idle CPUs take threads from CPUs that have several.
SELFTEST(smp, idle_cpus_pull_threads) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    hal::Atomic<u32> stop, been, begun;
    auto body = [&] {
        set_affinity(CpuSet::only(CpuId{0}));
        begun.fetch_add(1);
        set_affinity(kEveryCpu); // still on this CPU, but may migrate now
        while (stop.load() == 0) {
            been.fetch_or(CpuSet::only(hal::this_cpu()).bits());
            yield();
        }
    };
    const u32 threads = 2 * hal::online_cpus().count();
    static std::array<Thread*, 2 * config::kMaxCpus> thread;
    for (u32 i = 0; i < threads; ++i)
        thread[i] = thread_create("anywhere", body, CpuSet::only(CpuId{0}));
    for (Patience patience{2 * Patience::kSleeping, 20}; been.load() != hal::online_cpus().bits() && !patience.over();)
        sleep_ms(10);
    CHECK_EQ(been.load(), hal::online_cpus().bits());
    stop.store(1);
    for (u32 i = 0; i < threads; ++i)
        if (CHECK(thread[i] != nullptr)) thread_join(thread[i]);
}

} // namespace loft::guest::smp_test
