// CPUs go away and come back (kernel/threads/hotplug.hpp). A storm of it is in stress_test.cpp.
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/threads/hotplug.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/sync.hpp"
#include "mm/ground/counters.hpp"
#include "mm/ground/remote.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/guest/support.hpp"

#include <array>

namespace loft::guest::hotplug_test {
namespace {

const char* needs_two_cpus() { return hal::online_cpus().count() < 2 ? "one CPU" : nullptr; }

CpuSet others() { return hal::online_cpus().without(CpuId{0}); }
CpuId last_cpu() { return CpuId{31 - static_cast<u32>(std::countl_zero(hal::online_cpus().bits()))}; }

// A host may be busy: a CPU that comes too late is called again.
Hotplug bring_back(CpuId cpu) {
    Hotplug result = Hotplug::failed;
    for (u32 i = 0; i < 10 && result == Hotplug::failed; ++i)
        result = cpu_up(cpu);
    return result;
}
// Threads of earlier tests may hold a local map now and then.
Hotplug take_away(CpuId cpu) {
    Hotplug result = Hotplug::busy;
    for (u32 i = 0; i < 10 && result == Hotplug::busy; ++i)
        result = cpu_down(cpu);
    return result;
}

// Runs body() in a thread that has this affinity.
template <typename F> bool run_there(CpuId cpu, F&& body) {
    Thread* const thread = thread_create("there", body, CpuSet::only(cpu));
    if (thread == nullptr) return false;
    thread_join(thread);
    return true;
}

struct Registers {
    u32 cr0 = 0, cr3 = 0, cr4 = 0, efer = 0;
    bool operator==(const Registers&) const = default;
    static Registers here() {
        const u32 efer = hal::cpu_features().no_execute ? static_cast<u32>(read_msr(msr::efer)) : 0;
        return {read_cr0(), read_cr3(), read_cr4(), efer};
    }
};

} // namespace

SELFTEST(hotplug, what_is_refused) {
    CHECK_EQ(cpu_down(CpuId{0}), Hotplug::boot_cpu);
    const CpuId none{config::kMaxCpus};
    CHECK_EQ(cpu_down(none), config::kSmp ? Hotplug::no_such : Hotplug::boot_cpu);
    CHECK_EQ(cpu_up(none), Hotplug::no_such);
    CHECK_EQ(cpu_up(CpuId{0}), Hotplug::no_such);
    for (u32 cpu = hal::online_cpus().count(); cpu < config::kMaxCpus; ++cpu)
        CHECK_EQ(cpu_up(CpuId{cpu}), Hotplug::no_such); // it has never been there
    CHECK_EQ(hal::this_cpu().value(), 0u);
}

// Each CPU by itself: what ran or slept there runs elsewhere meanwhile, and goes back.
SELFTEST(hotplug, each_goes_and_returns) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    warm_up_threads(4);
    const CpuSet all = hal::online_cpus();
    const u32 ticks = scheduler_stats_sum().ticks;
    others().for_each([&](CpuId cpu) {
        const KeepsFreeCounts counts;
        Registers before, after;
        run_there(cpu, [&] { before = Registers::here(); });
        // One that sleeps there by an alarm, and may run nowhere else.
        hal::Atomic<u32> stop, at_home, abroad;
        auto body = [&] {
            while (stop.load() == 0) {
                (hal::this_cpu() == cpu ? at_home : abroad).fetch_add(1);
                sleep_ms(1);
            }
        };
        const auto moves = [](const hal::Atomic<u32>& count) {
            const u32 now = count.load();
            for (Patience patience{Patience::kSleeping}; count.load() - now < 3 && !patience.over();)
                sleep_ms(10);
            return count.load() - now >= 3;
        };
        Thread* const sleeper = thread_create("sleeper", body, CpuSet::only(cpu));
        if (!CHECK(sleeper != nullptr)) return;
        CHECK(moves(at_home));
        if (CHECK_EQ(take_away(cpu), Hotplug::done)) {
            CHECK_EQ(hal::online_cpus().bits(), all.without(cpu).bits());
            CHECK_EQ(open_cpus().bits(), all.without(cpu).bits());
            CHECK_EQ(ready_threads(cpu), 0u);
            CHECK_EQ(cpu_down(cpu), Hotplug::no_such);
            CHECK(moves(abroad));
            // A call of all CPUs does not wait for it, nor does a flush.
            hal::Atomic<u32> who;
            run_on(
                all,
                [](void* set) { static_cast<hal::Atomic<u32>*>(set)->fetch_or(CpuSet::only(hal::this_cpu()).bits()); },
                &who);
            CHECK_EQ(who.load(), all.without(cpu).without(hal::this_cpu()).bits());
            const Result<VirtAddr> area = vmalloc(kPageSize);
            if (CHECK(area)) vfree(*area);
            vmap_flush();
            CHECK_EQ(bring_back(cpu), Hotplug::done);
        }
        CHECK_EQ(open_cpus().bits(), all.bits());
        CHECK(moves(at_home)); // it goes back, and its alarms ring there
        stop.store(1);
        thread_join(sleeper);
        run_there(cpu, [&] { after = Registers::here(); });
        CHECK(before == after);
    });
    CHECK_GT(scheduler_stats_sum().ticks, ticks); // no count is lost
}

SELFTEST(hotplug, all_but_one_go) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    const KeepsFreeCounts counts;
    const CpuSet gone = others();
    u32 done = 0;
    gone.for_each([&](CpuId cpu) { done += take_away(cpu) == Hotplug::done; });
    CHECK_EQ(done, gone.count());
    CHECK_EQ(hal::online_cpus().count(), 1u);
    // Threads that may run anywhere run here.
    hal::Atomic<u32> been;
    auto body = [&] { been.fetch_or(CpuSet::only(hal::this_cpu()).bits()); };
    std::array<Thread*, 3> thread{};
    for (Thread*& one : thread)
        one = thread_create("one of many", body);
    for (Thread* one : thread)
        if (CHECK(one != nullptr)) thread_join(one);
    CHECK_EQ(been.load(), 1u);
    done = 0;
    gone.for_each([&](CpuId cpu) { done += bring_back(cpu) == Hotplug::done; });
    CHECK_EQ(done, gone.count());
    CHECK_EQ(hal::online_cpus().bits(), gone.with(CpuId{0}).bits());
}

// What was mapped when the CPU went is mapped otherwise when it comes back: by pkmap, by vmap, and by a local slot.
SELFTEST(hotplug, no_old_translation_returns) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    warm_up_threads(4);
    const KeepsFreeCounts counts;
    const CpuId cpu = last_cpu();
    const Pages<2> pages;
    if (!CHECK(pages.complete())) return;
    for (u32 i = 0; i < 2; ++i)
        sign(pages[i]);
    const auto seen_there = [&](VirtAddr at, u32 i) {
        bool right = false;
        return run_there(cpu, [&] { right = marks_hold(at, pages.pfn(i)); }) && right;
    };
    Page* const first[]{pages[0]};
    Page* const second[]{pages[1]};
    const Result<VirtAddr> area = vmap(first, 1, VmapProt::rw);
    if (!CHECK(area)) return;
    {
        const KMap map{pages[0]};
        CHECK(seen_there(map.addr(), 0));
    }
    CHECK(seen_there(*area, 0));
    CHECK_EQ(take_away(cpu), Hotplug::done);
    vunmap(*area);
    vmap_flush();
    // The same address, with luck; any one shows what is there.
    const Result<VirtAddr> other = vmap(second, 1, VmapProt::rw);
    const FlushTime debt = tlb_new_debt();
    CHECK_EQ(bring_back(cpu), Hotplug::done);
    CHECK(tlb_is_clean(cpu, debt)); // it owes nothing of the time before
    if (CHECK(other)) {
        CHECK(seen_there(*other, 1));
        vunmap(*other);
        vmap_flush();
    }
    {
        const KMap map{pages[1]};
        CHECK(seen_there(map.addr(), 1));
    }
}

SELFTEST(hotplug, stays_while_a_map_is_held) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    warm_up_threads(4);
    const KeepsFreeCounts counts;
    const CpuId cpu = last_cpu();
    const Pages<1> page;
    if (!CHECK(page.complete())) return;
    Completion held, go;
    u32 moved = 0;
    auto body = [&](bool by_map) {
        const CpuId before = hal::this_cpu();
        if (by_map) {
            const LocalMap map{page[0]};
            held.complete();
            go.wait();
            moved += hal::this_cpu() != before;
        } else {
            const MigrateGuard guard;
            held.complete();
            go.wait();
            moved += hal::this_cpu() != before;
        }
    };
    for (const bool by_map : {true, false}) {
        if (by_map && !uses_slot(page[0])) continue;
        auto run = [&] { body(by_map); };
        Thread* const holder = thread_create("holder", run, CpuSet::only(cpu));
        if (!CHECK(holder != nullptr)) return;
        held.wait();
        CHECK_EQ(cpu_down(cpu), Hotplug::busy);
        CHECK(hal::online_cpus().has(cpu) && open_cpus().has(cpu));
        go.complete();
        thread_join(holder);
        CHECK_EQ(take_away(cpu), Hotplug::done);
        CHECK_EQ(bring_back(cpu), Hotplug::done);
    }
    CHECK_EQ(moved, 0u);
}

// The thread that takes a CPU away may run there itself.
SELFTEST(hotplug, by_a_thread_of_the_cpu) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    warm_up_threads(2);
    const KeepsFreeCounts counts;
    const CpuId cpu = last_cpu();
    Hotplug down = Hotplug::failed;
    bool away = false, home = false;
    run_there(cpu, [&] {
        down = take_away(cpu);
        away = hal::this_cpu() != cpu;
        if (down == Hotplug::done) bring_back(cpu);
        for (Patience patience{Patience::kSleeping}; hal::this_cpu() != cpu && !patience.over();)
            sleep_ms(10);
        home = hal::this_cpu() == cpu;
    });
    CHECK_EQ(down, Hotplug::done);
    CHECK(away);
    CHECK(home);
}

} // namespace loft::guest::hotplug_test
