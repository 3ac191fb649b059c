// Unexpected NMIs: the kernel counts them and continues, at any instruction, and each leaves the state unchanged.
#include "arch/base/not_copyable.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "kernel/programs/process.hpp"
#include "kernel/programs/programs.hpp"
#include "kernel/report/nmi.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "kernel/threads/thread.hpp"
#include "tests/guest/support.hpp"

#include <array>
#include <bit>

namespace loft::guest::nmi_test {
namespace {

const char* needs_two_cpus() { return hal::online_cpus().count() < 2 ? "one CPU" : nullptr; }

CpuId last_cpu() { return CpuId{31 - static_cast<u32>(std::countl_zero(hal::online_cpus().bits()))}; }

void send_nmi(CpuId cpu) {
    const IrqGuard off;
    if (!lapic_send(cpu_lapic_id(cpu), IpiKind::nmi, 0)) selftest::note("the local APIC does not send");
}

template <typename F> bool comes_true(F&& condition) {
    const hal::Deadline patience = hal::deadline(10'000);
    while (!condition()) {
        if (patience.expired()) return false;
        hal::cpu_relax();
    }
    return true;
}

// While the object exists, the last CPU sends NMIs to all others, at varying intervals.
class Storm : NotCopyable<Storm> {
  public:
    Storm() {
        auto run = [](void* argument) {
            Storm& storm = *static_cast<Storm*>(argument);
            selftest::Rng random{7};
            const CpuSet targets = hal::online_cpus().without(last_cpu());
            while (storm.stop_.load() == 0) {
                targets.for_each([](CpuId cpu) { send_nmi(cpu); });
                for (u32 i = random.below(3000); i != 0; --i)
                    hal::cpu_relax();
            }
        };
        thread_ = thread_create("nmi storm", run, this, CpuSet::only(last_cpu()));
    }
    ~Storm() {
        stop_.store(1);
        if (thread_ != nullptr) thread_join(thread_);
    }
    bool blows() const { return thread_ != nullptr; }

  private:
    hal::Atomic<u32> stop_;
    Thread* thread_ = nullptr;
};

} // namespace

// Sent by this CPU to itself, interrupts on and off.
SELFTEST(nmi, is_counted_and_survived) {
    if (!lapic_ready()) SKIP("no local APIC to send it");
    const MigrateGuard here;
    const CpuId me = hal::this_cpu();
    const u32 before = nmi_count(me);
    send_nmi(me);
    CHECK(comes_true([&] { return nmi_count(me) == before + 1; }));
    {
        const IrqGuard off;
        send_nmi(me);
        CHECK(comes_true([&] { return nmi_count(me) == before + 2; }));
        CHECK(!hal::irqs_enabled());
    }
    CHECK(!in_interrupt());
    CHECK(preemptible());
}

// While every kind of mapping is made and released, and while threads switch.
SELFTEST(nmi, storm_over_the_maps) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    if (const char* why = no_slots_for(4)) SKIP(why);
    warm_up_threads(4);
    const KeepsFreeCounts counts;
    const Pages<4> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages)
        sign(page, 3);
    const MigrateGuard here;
    const CpuId me = hal::this_cpu();
    const u32 before = nmi_count(me), wanted = selftest::full() ? 20'000 : 300;
    u32 wrong = 0, rounds = 0;
    {
        const Storm storm;
        REQUIRE(storm.blows());
        CHECK(comes_true([&] {
            const u32 a = rounds % 4, b = ++rounds % 4;
            {
                const LocalMap first{pages[a]};
                const AtomicMap second{pages[b]};
                wrong += !marks_hold(first.addr(), pages.pfn(a), 3) || !marks_hold(second.addr(), pages.pfn(b), 3);
            }
            {
                const KMap map{pages[a]};
                wrong += !marks_hold(map.addr(), pages.pfn(a), 3);
            }
            u32 ignored = 0;
            wrong += probe_read32(VirtAddr{0u}, ignored); // a fault; sometimes an NMI comes in its handler
            if (rounds % 8 == 0) yield();
            return nmi_count(me) - before >= wanted;
        }));
    }
    CHECK_EQ(wrong, 0u);
    CHECK_EQ(local_depth(), 0u);
    selftest::note("{} NMIs in {} rounds", nmi_count(me) - before, rounds);
}

// While programs run: in ring 3, in system calls, in their faults and in faults of user copies, on return to ring 3.
SELFTEST(nmi, storm_over_programs) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    const Storm storm;
    REQUIRE(storm.blows());
    for (const std::string_view name : {"cow", "tls", "fpu", "pointers"}) {
        if (find_program(name) == nullptr) SKIP("the programs did not come along");
        const Started started = process_start({.name = name});
        REQUIRE(started.process != nullptr);
        const u32 status = process_wait(started.process).value();
        if (!CHECK_EQ(status, 0u)) selftest::note("this was {}", name);
        process_wait_for_all();
    }
}

// An NMI ends a hlt: the CPU may then pull a thread from another CPU. It must leave idle before it runs the thread,
// because batches do not interrupt an idle CPU.
SELFTEST(nmi, wakes_an_idle_cpu_for_good) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    warm_up_threads(4);
    const KeepsFreeCounts counts;
    const CpuId target = last_cpu(), me = hal::this_cpu();
    const MigrateGuard here;
    hal::Atomic<u32> go, came, idle;
    // Two threads wait for this CPU, which is busy with the test; the first NMI lets the target CPU pull one.
    auto body = [&] {
        while (go.load() == 0)
            yield();
        set_affinity(CpuSet::only(me).with(target));
        for (u32 i = 0; i < 1000; ++i) {
            {
                const IrqGuard stay;
                if (hal::this_cpu() == target) {
                    came.fetch_add(1);
                    idle.fetch_add(tlb_is_idle(target));
                }
            }
            yield();
        }
    };
    u32 pulled = 0;
    for (u32 round = 0; round < (selftest::full() ? 200u : 20u); ++round) {
        go.store(0);
        const u32 before = scheduler_stats(target).pulled;
        Thread* const first = thread_create("one", body, CpuSet::only(me));
        Thread* const second = thread_create("other", body, CpuSet::only(me));
        go.store(1);
        for (u32 i = 0; i < 50; ++i) {
            send_nmi(target);
            yield();
        }
        for (Thread* thread : {first, second})
            if (CHECK(thread != nullptr)) thread_join(thread);
        pulled += scheduler_stats(target).pulled - before;
    }
    CHECK_EQ(idle.load(), 0u);
    selftest::note("{} threads pulled, {} looks on the CPU that was idle", pulled, came.load());
}

} // namespace loft::guest::nmi_test
