// kmap with many CPUs and many threads: the CPUs that a round of the pool interrupts, addresses that are used on a CPU
// that never called kmap, paths that take a lock, and the order in which waiting threads wake.
#include "arch/base/not_copyable.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "kernel/threads/sync.hpp"
#include "kernel/threads/thread.hpp"
#include "mm/ground/remote.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/pkmap.hpp"
#include "tests/guest/stepper.hpp"
#include "tests/guest/support.hpp"

#include <array>

namespace loft::guest::kmap_scale_test {
namespace {

const char* needs_two_cpus() { return hal::online_cpus().count() < 2 ? "one CPU" : nullptr; }
const char* flushes_at_each_unmap() { return config::kDebug ? "a DEBUG kernel flushes at each kunmap" : nullptr; }

CpuSet others() { return hal::online_cpus().without(hal::this_cpu()); }
CpuId first_other() { return CpuId{static_cast<u32>(std::countr_zero(others().bits()))}; }

template <typename F> bool yield_until(F&& holds) {
    for (Patience patience{Patience::kSpinning, 60}; !holds(); yield())
        if (patience.over()) return false;
    return true;
}
bool is_parked(const Thread* thread) { return thread->permit.load() == Thread::kAsleep; }

// A thread on every other CPU that keeps it busy, interrupts on, and executes requests.
class BusyOthers : NotCopyable<BusyOthers> {
  public:
    BusyOthers() {
        others().for_each([&](CpuId cpu) {
            Thread*& thread = thread_[cpu.value()];
            thread = thread_create("busy", *this, CpuSet::only(cpu));
            count_ += thread != nullptr;
        });
        while (running_.load() != count_)
            yield();
    }
    ~BusyOthers() {
        stop_.store(1);
        for (Thread* thread : thread_)
            if (thread != nullptr) thread_join(thread);
    }

    // Each CPU flushes its own TLB; returns when all have.
    void flush() {
        flushed_.store(0);
        orders_.fetch_add(1);
        while (flushed_.load() != count_)
            hal::cpu_relax();
    }
    void operator()() {
        u32 seen = orders_.load();
        running_.fetch_add(1);
        while (stop_.load() == 0) {
            hal::cpu_relax();
            if (orders_.load() == seen) continue;
            ++seen;
            {
                const IrqGuard here;
                tlb_flush_local_non_global();
            }
            flushed_.fetch_add(1);
        }
    }

  private:
    std::array<Thread*, config::kMaxCpus> thread_{};
    u32 count_ = 0;
    hal::Atomic<u32> stop_, running_, orders_, flushed_;
};

// The counters of the pool and the TLBs since the object was made.
class Cost {
  public:
    Cost() : tlb_{tlb_stats_sum()}, pool_{pkmap_stats()} {}
    u32 rounds() const { return tlb_stats_sum().rounds - tlb_.rounds; }
    u32 remote() const { return tlb_stats_sum().remote - tlb_.remote; }
    u32 clean() const { return tlb_stats_sum().skipped_clean - tlb_.skipped_clean; }
    u32 wraps() const { return pkmap_stats().wraps - pool_.wraps; }
    u32 maps() const { return pkmap_stats().maps - pool_.maps; }
    u32 reclaimed() const { return pkmap_stats().reclaimed - pool_.reclaimed; }
    u32 unused() const { return pkmap_stats().unused - pool_.unused; }

  private:
    TlbStats tlb_;
    PkmapStats pool_;
};

// Distinct pages, so many more than slots that every kmap is a miss.
struct Rig {
    explicit Rig(u32 slots) : pool{slots} { taken = pages.take(Gfp::high, 0, slots + slots / 2); }
    PoolOf pool;
    FrameChain pages;
    u32 taken = 0;
    bool ready() const { return taken == pkmap_slots() + pkmap_slots() / 2; }
};

template <typename F> void go_round(const Rig& rig, u32 wraps, bool touch, F&& after_each) {
    for (const u32 first = pkmap_stats().wraps; pkmap_stats().wraps - first < wraps;)
        for (Page* page : rig.pages) {
            {
                const KMap map{page};
                if (touch) hal::store<u32>(map.addr(), 1u);
            }
            after_each();
        }
}
void go_round(const Rig& rig, u32 wraps, bool touch = true) {
    go_round(rig, wraps, touch, [] {});
}

} // namespace

SELFTEST(kmap_scale, busy_cpus_that_have_flushed_are_left_alone) {
    if (const char* why = flushes_at_each_unmap()) SKIP(why);
    if (const char* why = needs_two_cpus()) SKIP(why);
    if (const char* why = no_highmem_for(128)) SKIP(why);
    warm_up_threads(others().count());
    const KeepsFreeCounts counts;
    const Rig rig{64};
    REQUIRE(rig.ready());
    BusyOthers busy;
    go_round(rig, 2);
    u32 n = 0;
    const auto now_and_then = [&] {
        if (++n % 16 == 0) busy.flush();
    };
    busy.flush();
    const Cost cost;
    go_round(rig, 3, true, now_and_then);
    selftest::note("{} wraps: {} remote requests, {} times that a CPU had flushed since", cost.wraps(), cost.remote(),
                   cost.clean());
    CHECK_EQ(cost.remote(), 0u);
    CHECK_GE(cost.clean(), cost.wraps() * others().count());
}

SELFTEST(kmap_scale, busy_cpus_are_asked_once_a_wrap_at_most) {
    if (const char* why = flushes_at_each_unmap()) SKIP(why);
    if (const char* why = needs_two_cpus()) SKIP(why);
    if (const char* why = no_highmem_for(128)) SKIP(why);
    warm_up_threads(others().count());
    const KeepsFreeCounts counts;
    const Rig rig{64};
    REQUIRE(rig.ready());
    const BusyOthers busy;
    go_round(rig, 2);
    const Cost cost;
    go_round(rig, 8);
    selftest::note("{} wraps, {} maps: {} rounds, {} remote requests", cost.wraps(), cost.maps(), cost.rounds(),
                   cost.remote());
    CHECK_LE(cost.rounds(), cost.wraps() + 1);
    CHECK_GT(cost.rounds(), 0u);
}

// A slot that was not accessed is in no TLB: no CPU is interrupted, busy or not.
SELFTEST(kmap_scale, slots_that_were_never_touched_cost_nothing) {
    if (const char* why = flushes_at_each_unmap()) SKIP(why);
    if (const char* why = needs_two_cpus()) SKIP(why);
    if (const char* why = no_highmem_for(128)) SKIP(why);
    if (!pkmap_accessed_bit_works()) SKIP("this machine's accessed bit tells nothing");
    warm_up_threads(others().count());
    const KeepsFreeCounts counts;
    const Rig rig{64};
    REQUIRE(rig.ready());
    const BusyOthers busy;
    go_round(rig, 3, false);
    const Cost cost;
    go_round(rig, 10, false);
    CHECK_EQ(cost.remote(), 0u);
    CHECK_GT(cost.reclaimed(), 9 * 32u);
    CHECK_EQ(cost.unused(), cost.reclaimed());
}

// The other CPU never calls kmap. It has the old translation in its TLB and gets the same address again when the slot
// maps another page. In every second round it is the first to access the page.
SELFTEST(kmap_scale, an_address_that_is_handed_over_is_never_stale) {
    if (const char* why = needs_two_cpus()) SKIP(why);
    if (const char* why = no_slots_for(64)) SKIP(why);
    warm_up_threads(1);
    const KeepsFreeCounts counts;
    const Rig rig{8};
    REQUIRE(rig.ready());
    for (Page* page : rig.pages)
        sign(page, 21);
    struct {
        hal::Atomic<u32> turn; // odd: the other CPU's turn
        hal::Plain<u32> address, pfn;
        hal::Atomic<u32> stop, wrong;
    } box;
    auto reader = [&] {
        while (box.stop.load() == 0) {
            hal::cpu_relax();
            if (box.turn.load() % 2 == 0) continue;
            const VirtAddr at{box.address.load()};
            const Pfn pfn{box.pfn.load()};
            box.wrong.fetch_add(!marks_hold(at, pfn, 21));
            write_marks(at, pfn, 21); // through a stale translation this would spoil another page
            box.turn.fetch_add(1);
        }
    };
    Thread* thread = thread_create("reader", reader, CpuSet::only(first_other()));
    REQUIRE(thread != nullptr);
    const Cost cost;
    const u32 rounds = selftest::full() ? 1000 : 25;
    u32 handed_over = 0, same_address = 0, wrong = 0;
    std::array<u32, 16> last{}; // for each slot the frame that it mapped at its last use here
    for (u32 i = 0; i < rounds; ++i)
        for (Page* page : rig.pages) {
            const Pfn pfn = page_to_pfn(page);
            const KMap map{page};
            if (i % 2 == 0) wrong += !marks_hold(map.addr(), pfn, 21);
            u32& before = last[map.addr().value() / kPageSize % last.size()];
            same_address += before != 0 && before != pfn.value();
            before = pfn.value();
            box.address.store(map.addr().value());
            box.pfn.store(pfn.value());
            box.turn.fetch_add(1);
            while (box.turn.load() % 2 != 0)
                hal::cpu_relax();
            ++handed_over;
        }
    box.stop.store(1);
    thread_join(thread);
    selftest::note("{} addresses handed over, {} of them showed another page before; {} wraps, {} rounds of flushes",
                   handed_over, same_address, cost.wraps(), cost.rounds());
    CHECK_GT(same_address, handed_over / 2);
    CHECK_EQ(box.wrong.load(), 0u);
    CHECK_EQ(wrong, 0u);
    u32 spoilt = 0;
    for (Page* page : rig.pages)
        spoilt += !signed_by(page, 21);
    CHECK_EQ(spoilt, 0u);
}

// Single-stepped: no instruction of kmap or kunmap holds a lock, except when the hand enters a half.
SELFTEST(kmap_scale, takes_no_lock) {
    if (const char* why = no_slots_for(4)) SKIP(why);
    const Pages<4> pages;
    REQUIRE(pages.complete());
    const PoolOf pool{4}; // the hand is before the first slot; each half has two slots
    u32 locked = 0;
    const auto look = [&] { locked += HeldLock::newest() != nullptr; };
    const auto step = [&](Page* page) {
        locked = 0;
        return step_through(
            [page] {
                static_cast<void>(kmap(page));
                kunmap(page);
            },
            look);
    };
    const u32 first = step(pages[0]);
    u32 again = 0;
    if (!config::kDebug) { // DEBUG reclaims an idle slot in kunmap, under the lock
        CHECK_EQ(locked, 0u);
        again = step(pages[0]);
        CHECK_EQ(locked, 0u);
        CHECK_LT(again, first);
    }
    const KMap user{pages[0]};
    const u32 shared = step(pages[0]);
    CHECK_EQ(locked, 0u);
    if (!config::kDebug) static_cast<void>(step(pages[1]));
    static_cast<void>(step(pages[2]));
    CHECK_GT(locked, 0u); // the check finds a lock that is held
    if (!config::kDebug) {
        static_cast<void>(step(pages[3])); // the hand is in the half: no lock
        CHECK_EQ(locked, 0u);
    }
    selftest::note("{} instructions for a page without a slot, {} for one that has it, {} for one that is in use",
                   first, again, shared);
}

SELFTEST(kmap_scale, who_waits_longest_is_next) {
    if (const char* why = no_slots_for(16)) SKIP(why);
    constexpr u32 kWaiters = 7;
    warm_up_threads(kWaiters);
    const KeepsFreeCounts counts;
    const Pages<kWaiters + 1> pages;
    REQUIRE(pages.complete());
    const PoolOf pool{2}; // one credit
    const u32 waits = pkmap_stats().waits;
    hal::Atomic<u32> passed, next;
    std::array<hal::Atomic<u32>, kWaiters> order;
    auto body = [&] {
        const u32 me = next.fetch_add(1);
        const KMap map{pages[me]};
        order[passed.fetch_add(1)].store(me);
        yield();
    };
    std::array<Thread*, kWaiters> thread{};
    static_cast<void>(kmap(pages[kWaiters]));
    u32 parked = 0;
    for (Thread*& one : thread) {
        one = thread_create("in line", body);
        if (one == nullptr) break;
        parked += yield_until([&] { return is_parked(one); });
    }
    CHECK_EQ(parked, kWaiters);
    CHECK_EQ(passed.load(), 0u);
    kunmap(pages[kWaiters]);
    for (Thread* one : thread)
        if (one != nullptr) thread_join(one);
    for (u32 i = 0; i < kWaiters; ++i)
        CHECK_EQ(order[i].load(), i);
    CHECK_EQ(pkmap_stats().waits, waits + kWaiters);
}

// A thread that comes later does not take the credit that a sleeping thread has been given.
SELFTEST(kmap_scale, nobody_overtakes) {
    if (const char* why = no_slots_for(4)) SKIP(why);
    warm_up_threads(1);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    const PoolOf pool{2};
    hal::Atomic<u32> has;
    auto body = [&] {
        const KMap map{pages[1]};
        has.store(1);
    };
    u32 overtaken = 0;
    for (u32 i = 0; i < 20; ++i) {
        has.store(0);
        static_cast<void>(kmap(pages[0]));
        Thread* thread = thread_create("sleeper", body);
        REQUIRE(thread != nullptr);
        CHECK(yield_until([&] { return is_parked(thread); }));
        kunmap(pages[0]);
        static_cast<void>(kmap(pages[0])); // returns after the sleeping thread has had its turn
        overtaken += has.load() == 0;
        kunmap(pages[0]);
        thread_join(thread);
    }
    CHECK_EQ(overtaken, 0u);
}

// Each thread holds two mappings, and there are slots for two threads at a time.
SELFTEST(kmap_scale, two_at_once_never_deadlock) {
    if (const char* why = no_slots_for(32)) SKIP(why);
    constexpr u32 kThreads = 9;
    warm_up_threads(kThreads);
    const KeepsFreeCounts counts;
    const Pages<16> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages)
        sign(page, 8);
    const PoolOf pool{4};
    const u32 waits = pkmap_stats().waits, thirds = pkmap_stats().thirds;
    const u32 rounds = selftest::full() ? 2000 : 80;
    hal::Atomic<u32> number, done, wrong;
    auto body = [&] {
        const u32 me = number.fetch_add(1);
        for (u32 i = 0; i < rounds; ++i) {
            const u32 a = (me * 7 + i) % 16, b = (me * 3 + i * 5) % 16;
            const KMap from{pages[a]};
            if (i % 2 == 0) yield();
            const KMap to{pages[b]};
            if (i % 3 == 0) yield();
            wrong.fetch_add(!marks_hold(from.addr(), pages.pfn(a), 8) || !marks_hold(to.addr(), pages.pfn(b), 8));
        }
        done.fetch_add(1);
    };
    std::array<Thread*, kThreads> thread{};
    for (Thread*& one : thread)
        one = thread_create("copies", body);
    CHECK(yield_until([&] { return done.load() == kThreads; }));
    for (Thread* one : thread)
        if (CHECK(one != nullptr)) thread_join(one);
    CHECK_EQ(wrong.load(), 0u);
    CHECK_GT(pkmap_stats().waits - waits, 0u);
    CHECK_EQ(pkmap_stats().thirds, thirds);
    CHECK_EQ(pkmap_use().used, 0u);
}

// Two threads and one credit: at every release the other thread sleeps or is about to.
SELFTEST(kmap_scale, no_wake_up_is_lost) {
    if (const char* why = no_slots_for(4)) SKIP(why);
    warm_up_threads(2);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    const PoolOf pool{2};
    const u32 rounds = selftest::full() ? 20'000 : 1000;
    hal::Atomic<u32> number, inside, wrong, done;
    auto body = [&] {
        Page* page = pages[number.fetch_add(1)];
        for (u32 i = 0; i < rounds; ++i) {
            const KMap map{page};
            wrong.fetch_add(inside.fetch_add(1) != 0);
            if (i % 4 == 0) yield();
            inside.fetch_sub(1);
        }
        done.fetch_add(1);
    };
    Thread* one = thread_create("ping", body);
    Thread* two = thread_create("pong", body);
    REQUIRE(one != nullptr && two != nullptr);
    CHECK(yield_until([&] { return done.load() == 2; }));
    thread_join(one);
    thread_join(two);
    CHECK_EQ(wrong.load(), 0u);
}

} // namespace loft::guest::kmap_scale_test
