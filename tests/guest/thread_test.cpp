// Threads and the objects on which they wait: on one CPU or on many, preemptible or not.
#include "arch/i386/irq/timer.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "kernel/threads/sleep.hpp"
#include "kernel/threads/sync.hpp"
#include "kernel/threads/thread.hpp"
#include "tests/guest/support.hpp"

#include <array>
#include <optional>

namespace loft::guest::thread_test {
namespace {

using selftest::contains;

CpuSet this_cpu_only() { return CpuSet::only(hal::this_cpu()); } // the tests' own thread stays on its CPU

// Yields until `holds` is true; false if that takes too long.
template <typename F> bool yield_until(F&& holds) {
    for (Patience patience{Patience::kSpinning}; !holds(); yield())
        if (patience.over()) return false;
    return true;
}

bool is_parked(const Thread* thread) { return thread->permit.load() == Thread::kAsleep; }

} // namespace

SELFTEST(thread, main_is_a_thread) {
    const Thread* me = thread_self();
    REQUIRE(me != nullptr);
    CHECK_EQ(me->name_view(), std::string_view{"main"});
    CHECK_EQ(hal::current_thread().value(), me->id.load());
    CHECK(thread_of(hal::current_thread()) == me);
    CHECK(me->state == ThreadState::running);
    CHECK_EQ(me->cpu.value(), hal::this_cpu().value());
}

SELFTEST(thread, a_hundred_begin_and_end) {
    constexpr u32 kThreads = 100;
    warm_up_threads(kThreads);
    const KeepsFreeCounts counts;
    static std::array<Thread*, kThreads> thread;
    hal::Atomic<u32> ran, same_stack;
    const Thread* main = thread_self();
    auto body = [&] {
        const VirtAddr here{reinterpret_cast<u32>(__builtin_frame_address(0))};
        const Thread* me = thread_self();
        if (me == main || here < me->stack_begin || here >= me->stack_end) same_stack.fetch_add(1);
        ran.fetch_add(1);
    };
    u32 failed = 0;
    for (Thread*& one : thread) {
        one = thread_create("many", body);
        failed += one == nullptr;
    }
    CHECK_EQ(failed, 0u);
    for (Thread* one : thread)
        if (one != nullptr) thread_join(one);
    CHECK_EQ(ran.load(), kThreads);
    CHECK_EQ(same_stack.load(), 0u);
}

SELFTEST(thread, an_unmapped_page_lies_below_each_stack) {
    warm_up_threads(4);
    const KeepsFreeCounts counts;
    hal::Atomic<u32> wrong;
    auto body = [&] {
        const Thread* me = thread_self();
        wrong.fetch_add(readable(me->stack_begin - 4));
        wrong.fetch_add(!readable(me->stack_begin));
        wrong.fetch_add(!in_stack_guard(me->stack_begin - 4));
        wrong.fetch_add(in_stack_guard(me->stack_begin));
    };
    for (u32 i = 0; i < 4; ++i) {
        Thread* thread = thread_create("stack", body);
        REQUIRE(thread != nullptr);
        thread_join(thread);
    }
    for_each_thread([](const Thread& thread,
                       void* bad) { static_cast<hal::Atomic<u32>*>(bad)->fetch_add(readable(thread.stack_begin - 4)); },
                    &wrong);
    CHECK_EQ(wrong.load(), 0u);
}

SELFTEST(thread, ping_pong) {
    warm_up_threads(2);
    const KeepsFreeCounts counts;
    constexpr u32 kRounds = 2000;
    hal::Atomic<u32> ball;
    hal::Atomic<Thread*> player[2];
    u32 wrong = 0;
    // Player `who` waits for its turn and passes the turn on.
    const auto play = [&](u32 who) {
        while (player[1 - who].load() == nullptr)
            yield();
        const ThreadId other{player[1 - who].load()->id.load()};
        for (u32 round = 0; round < kRounds; ++round) {
            while (ball.load() % 2 != who)
                hal::park();
            wrong += ball.load() != 2 * round + who;
            ball.fetch_add(1);
            hal::unpark(other);
        }
    };
    auto ping = [&] { play(0); };
    auto pong = [&] { play(1); };
    player[0].store(thread_create("ping", ping));
    player[1].store(thread_create("pong", pong));
    REQUIRE(player[0].load() != nullptr && player[1].load() != nullptr);
    // After thread_join a descriptor may be reused. The other player does not read it any more: both have read the id
    // of their partner before the first turn.
    thread_join(player[0].load());
    thread_join(player[1].load());
    CHECK_EQ(ball.load(), 2 * kRounds);
    CHECK_EQ(wrong, 0u);
}

// An unpark before the park is not lost, and two unparks count as one.
SELFTEST(thread, unpark_before_park) {
    const u32 switches = scheduler_stats(hal::this_cpu()).switches;
    hal::unpark(hal::current_thread());
    hal::unpark(hal::current_thread());
    const Thread* me = thread_self();
    CHECK_EQ(me->permit.load(), u32{Thread::kPermit});
    hal::park();
    CHECK_EQ(me->permit.load(), u32{Thread::kNoPermit});
    if (!config::kPreempt) CHECK_EQ(scheduler_stats(hal::this_cpu()).switches, switches);

    // The second park finds no permit and sleeps until the next unpark.
    hal::Atomic<u32> woken;
    const ThreadId main = hal::current_thread();
    auto body = [&] {
        woken.store(1);
        hal::unpark(main);
    };
    Thread* thread = thread_create("waker", body, this_cpu_only());
    REQUIRE(thread != nullptr);
    while (woken.load() == 0)
        hal::park();
    thread_join(thread);
    // A thread that has ended, and one that never existed.
    hal::unpark(ThreadId{thread->id.load() + (1u << 10)});
    hal::unpark(ThreadId{0});
    hal::unpark(ThreadId{~u32{0}});
}

SELFTEST(thread, mutex_counts_right) {
    constexpr u32 kThreads = 8, kRounds = 500;
    warm_up_threads(kThreads);
    const KeepsFreeCounts counts;
    Mutex mutex;
    volatile u32 counter = 0;
    hal::Atomic<u32> inside, wrong;
    auto body = [&] {
        for (u32 i = 0; i < kRounds; ++i) {
            const MutexGuard guard{mutex};
            wrong.fetch_add(inside.fetch_add(1) != 0 || !mutex.is_mine());
            const u32 seen = counter;
            if (i % 16 == 0) yield(); // other threads run, and wait for the mutex
            counter = seen + 1;
            inside.fetch_sub(1);
        }
    };
    std::array<Thread*, kThreads> thread;
    for (Thread*& one : thread)
        one = thread_create("counter", body);
    for (Thread* one : thread) {
        REQUIRE(one != nullptr);
        thread_join(one);
    }
    CHECK_EQ(u32{counter}, kThreads * kRounds);
    CHECK_EQ(wrong.load(), 0u);
    CHECK(!mutex.is_mine());
    bool is_free = false;
    if (mutex.try_lock()) {
        is_free = true;
        mutex.unlock();
    }
    CHECK(is_free);
}

SELFTEST(thread, mutex_wakes_in_order) {
    constexpr u32 kThreads = 6;
    warm_up_threads(kThreads);
    const KeepsFreeCounts counts;
    Mutex mutex;
    std::array<u32, kThreads> order{};
    u32 passed = 0;
    struct Waiter {
        Mutex& mutex;
        std::array<u32, kThreads>& order;
        u32& passed;
        u32 number;
        void operator()() {
            const MutexGuard guard{mutex};
            order[passed++] = number;
        }
    };
    std::array<Waiter, kThreads> waiter{Waiter{mutex, order, passed, 0}, Waiter{mutex, order, passed, 1},
                                        Waiter{mutex, order, passed, 2}, Waiter{mutex, order, passed, 3},
                                        Waiter{mutex, order, passed, 4}, Waiter{mutex, order, passed, 5}};
    std::array<Thread*, kThreads> thread{};
    std::optional<MutexGuard> held{std::in_place, mutex};
    for (u32 i = 0; i < kThreads; ++i) {
        thread[i] = thread_create("in line", waiter[i]);
        REQUIRE(thread[i] != nullptr);
        CHECK(yield_until([&] { return is_parked(thread[i]); }));
    }
    CHECK(!mutex.try_lock());
    held.reset();
    for (Thread* one : thread)
        thread_join(one);
    for (u32 i = 0; i < kThreads; ++i)
        CHECK_EQ(order[i], i);
}

SELFTEST(thread, misuse_of_a_mutex_panics) {
    Mutex mutex{"mine"};
    const auto lock = [&]() LOFT_UNCHECKED { mutex.lock(); };
    const auto unlock = [&]() LOFT_UNCHECKED { mutex.unlock(); };
    CHECK(contains(selftest::catch_panic(unlock), "mutex mine: unlocked by"));
    lock();
    CHECK(contains(selftest::catch_panic(lock), "already holds it"));
    unlock();
    const auto in_atomic = [&] {
        const PreemptGuard atomic;
        lock();
    };
    CHECK(contains(selftest::catch_panic(in_atomic), "lock of a mutex may sleep, called in atomic context"));
    const auto in_interrupt = [&] { in_interrupt_do(lock); };
    CHECK(contains(selftest::catch_panic(in_interrupt), "may sleep, called in atomic context"));
    const auto with_interrupts_off = [&] {
        const IrqGuard off;
        hal::park();
    };
    CHECK(contains(selftest::catch_panic(with_interrupts_off), "park may sleep"));
}

SELFTEST(thread, misuse_of_a_spinlock_panics) {
    SpinLock zone{LockRank::zone}, cache{LockRank::cache};
    const auto twice = [&]() LOFT_UNCHECKED {
        const SpinGuard outer{zone};
        const SpinGuard inner{zone};
    };
    const auto in_wrong_order = [&] {
        const SpinGuard outer{zone};
        const SpinGuard inner{cache};
    };
    const auto in_order = [&] {
        const SpinGuard outer{cache};
        const SpinGuard inner{zone};
    };
    CHECK(contains(selftest::catch_panic(twice), config::kDebug ? "rank" : "already holds it"));
    if (config::kDebug) CHECK(contains(selftest::catch_panic(in_wrong_order), "while rank"));
    CHECK(selftest::catch_panic(in_order).empty());
    CHECK(!zone.held() && !cache.held());
}

SELFTEST(thread, completion) {
    constexpr u32 kThreads = 5;
    warm_up_threads(kThreads);
    const KeepsFreeCounts counts;
    Completion once;
    once.complete();
    CHECK(once.done());
    once.wait(); // returns at once
    CHECK(!once.done());

    Completion start;
    hal::Atomic<u32> passed;
    auto body = [&] {
        start.wait();
        passed.fetch_add(1);
    };
    std::array<Thread*, kThreads> thread{};
    for (Thread*& one : thread) {
        one = thread_create("waits", body);
        REQUIRE(one != nullptr);
        CHECK(yield_until([&] { return is_parked(one); }));
    }
    CHECK_EQ(passed.load(), 0u);
    for (u32 i = 1; i <= 2; ++i) {
        start.complete();
        CHECK(yield_until([&] { return passed.load() == i; }));
    }
    sleep_ms(20);
    CHECK_EQ(passed.load(), 2u);
    start.complete_all();
    for (Thread* one : thread)
        thread_join(one);
    CHECK_EQ(passed.load(), kThreads);
    start.wait(); // stays completed
    start.wait();
}

// No thread sleeps while its condition holds, whether the condition or the wait comes first.
SELFTEST(thread, wait_queue_loses_nothing) {
    constexpr u32 kThreads = 4, kItems = 400;
    warm_up_threads(2 * kThreads);
    const KeepsFreeCounts counts;
    WaitQueue queue;
    hal::Atomic<u32> items, eaten;
    const auto take = [&] {
        u32 have = items.load();
        do {
            if (have == 0) return false;
        } while (!items.compare_exchange(have, have - 1));
        return true;
    };
    auto consumer = [&] {
        for (u32 i = 0; i < kItems; ++i) {
            queue.wait(take);
            eaten.fetch_add(1);
        }
    };
    auto producer = [&] {
        for (u32 i = 0; i < kItems; ++i) {
            items.fetch_add(1);
            queue.wake_one();
            if (i % 7 == 0) yield();
        }
    };
    std::array<Thread*, 2 * kThreads> thread;
    for (u32 i = 0; i < 2 * kThreads; ++i)
        thread[i] = i % 2 == 0 ? thread_create("consumer", consumer) : thread_create("producer", producer);
    for (Thread* one : thread) {
        REQUIRE(one != nullptr);
        thread_join(one);
    }
    CHECK_EQ(eaten.load(), kThreads * kItems);
    CHECK_EQ(items.load(), 0u);
    CHECK_EQ(queue.wake_all(), 0u);
}

// A sleep lasts at least the requested time, and at most a number of ticks, however long these take.
SELFTEST(thread, sleep_is_long_enough) {
    for (const u32 ms : {1u, 15u, 40u}) {
        const u64 start = now_us();
        const u32 first = ticks_of(hal::this_cpu());
        sleep_ms(ms);
        CHECK_GE(now_us() - start, u64{ms} * 1000);
        CHECK_LE(ticks_of(hal::this_cpu()) - first, ms * kTicksPerSecond / 1000 + 3);
    }
    sleep_ms(0);
}

SELFTEST(thread, sleepers_wake_in_order_of_time) {
    warm_up_threads(3);
    const KeepsFreeCounts counts;
    hal::Atomic<u32> order; // one digit for each thread
    const u64 start = now_us();
    const auto nap = [&](u32 ms, u32 digit) {
        const Alarm alarm{start + ms * 1000};
        while (!alarm.rang())
            hal::park();
        for (u32 old = order.load(); !order.compare_exchange(old, old * 10 + digit);)
            continue;
    };
    auto a = [&] { nap(150, 3); };
    auto b = [&] { nap(20, 1); };
    auto c = [&] { nap(80, 2); };
    std::array<Thread*, 3> thread{};
    {
        // No tick checks the alarms before all of them are set, however long that takes. All are on one CPU, so they
        // are in one list.
        const TickPause pause;
        thread = {thread_create("long", a, this_cpu_only()), thread_create("short", b, this_cpu_only()),
                  thread_create("middle", c, this_cpu_only())};
        for (Thread* one : thread)
            if (CHECK(one != nullptr)) CHECK(yield_until([&] { return is_parked(one); }));
    }
    for (Thread* one : thread)
        if (one != nullptr) thread_join(one);
    CHECK_EQ(order.load(), 123u);
}

// A thread that never yields is preempted.
SELFTEST(thread, a_spinning_thread_is_preempted) {
    if (!config::kPreempt) SKIP("this kernel is not preemptible");
    warm_up_threads(2);
    const KeepsFreeCounts counts;
    hal::Atomic<u32> stop, turns;
    auto spin = [&] {
        while (stop.load() == 0)
            turns.fetch_add(1);
    };
    Thread* first = thread_create("spin", spin, this_cpu_only());
    Thread* second = thread_create("spin", spin, this_cpu_only());
    REQUIRE(first != nullptr && second != nullptr);
    const u32 preemptions = scheduler_stats(hal::this_cpu()).preemptions;
    // This thread spins as well and is preempted, too.
    u32 seen = turns.load();
    for (u32 changes = 0; changes < 3;) {
        const u32 now = turns.load();
        changes += now != seen;
        seen = now;
    }
    sleep_ms(30);
    CHECK_GT(turns.load(), seen);
    CHECK_GE(scheduler_stats(hal::this_cpu()).preemptions - preemptions, 3u);
    // No switch while preemption is off; a switch as soon as it is on again.
    {
        const PreemptGuard atomic;
        const u32 before = turns.load();
        CHECK(spin_for_ticks(3));
        CHECK_EQ(turns.load(), before);
        seen = before;
    }
    CHECK_GT(turns.load(), seen);
    stop.store(1);
    thread_join(first);
    thread_join(second);
}

SELFTEST(thread, a_cooperative_kernel_waits_for_a_yield) {
    if (config::kPreempt) SKIP("this kernel is preemptible");
    warm_up_threads(1);
    const KeepsFreeCounts counts;
    hal::Atomic<u32> ran;
    auto body = [&] { ran.store(1); };
    Thread* thread = thread_create("later", body, this_cpu_only());
    REQUIRE(thread != nullptr);
    CHECK(spin_for_ticks(3));
    CHECK_EQ(ran.load(), 0u);
    yield();
    CHECK_EQ(ran.load(), 1u);
    thread_join(thread);
}

// A thread finds its held slots after a switch, unchanged by the slots of other threads.
SELFTEST(thread, local_maps_survive_switches) {
    if (const char* why = no_slots_for(8 * 3)) SKIP(why);
    constexpr u32 kThreads = 8, kDepth = 3, kRounds = 50;
    warm_up_threads(kThreads);
    const KeepsFreeCounts counts;
    const Pages<kThreads * kDepth> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages)
        sign(page, 1);
    hal::Atomic<u32> number, wrong;
    auto body = [&] {
        const u32 me = number.fetch_add(1);
        const CpuId cpu = hal::this_cpu();
        for (u32 round = 0; round < kRounds; ++round) {
            const u32 first = (me + round) % kThreads * kDepth;
            const LocalMap a{pages[first]};
            const CpuId bound = hal::this_cpu();
            yield();
            const LocalMap b{pages[first + 1]};
            yield();
            {
                const LocalMap c{pages[first + 2]};
                yield();
                wrong.fetch_add(!marks_hold(c.addr(), pages.pfn(first + 2), 1));
            }
            yield();
            wrong.fetch_add(!marks_hold(b.addr(), pages.pfn(first + 1), 1));
            wrong.fetch_add(!marks_hold(a.addr(), pages.pfn(first), 1));
            wrong.fetch_add(hal::this_cpu() != bound || local_depth() != 2);
        }
        static_cast<void>(cpu);
    };
    std::array<Thread*, kThreads> thread;
    for (u32 i = 0; i < kThreads; ++i)
        thread[i] = i % 2 == 0 ? thread_create("maps", body, this_cpu_only()) : thread_create("maps", body);
    for (Thread* one : thread) {
        REQUIRE(one != nullptr);
        thread_join(one);
    }
    CHECK_EQ(wrong.load(), 0u);
    CHECK_EQ(local_depth(), 0u);
}

// The counts of preemption and page faults belong to the thread.
SELFTEST(thread, counts_belong_to_the_thread) {
    warm_up_threads(1);
    const KeepsFreeCounts counts;
    hal::Atomic<u32> step, wrong;
    auto body = [&] {
        pagefault_disable();
        step.store(1);
        while (step.load() != 2)
            yield();
        wrong.fetch_add(!pagefaults_disabled());
        pagefault_enable();
        wrong.fetch_add(pagefaults_disabled());
    };
    Thread* thread = thread_create("careful", body, this_cpu_only());
    REQUIRE(thread != nullptr);
    CHECK(yield_until([&] { return step.load() == 1; }));
    CHECK(!pagefaults_disabled());
    step.store(2);
    thread_join(thread);
    CHECK(!pagefaults_disabled());
    CHECK_EQ(wrong.load(), 0u);
}

SELFTEST(thread, affinity_is_kept) {
    warm_up_threads(1);
    const KeepsFreeCounts counts;
    hal::Atomic<u32> wrong, been;
    const CpuSet online = hal::online_cpus();
    online.for_each([&](CpuId cpu) {
        auto body = [&, cpu] {
            for (u32 i = 0; i < 5; ++i) {
                wrong.fetch_add(hal::this_cpu() != cpu);
                yield();
            }
            sleep_ms(1);
            wrong.fetch_add(hal::this_cpu() != cpu);
            been.fetch_or(CpuSet::only(cpu).bits());
        };
        Thread* thread = thread_create("bound", body, CpuSet::only(cpu));
        if (CHECK(thread != nullptr)) thread_join(thread);
    });
    CHECK_EQ(been.load(), online.bits());
    CHECK_EQ(wrong.load(), 0u);
}

SELFTEST(thread, travels_where_it_is_sent) {
    warm_up_threads(1);
    const KeepsFreeCounts counts;
    const CpuSet online = hal::online_cpus();
    hal::Atomic<u32> wrong, been;
    auto body = [&] {
        for (u32 round = 0; round < 20; ++round)
            online.for_each([&](CpuId cpu) {
                set_affinity(CpuSet::only(cpu));
                wrong.fetch_add(hal::this_cpu() != cpu);
                wrong.fetch_add(thread_self()->cpu != cpu);
                been.fetch_or(CpuSet::only(cpu).bits());
            });
        set_affinity(kEveryCpu);
        // On request the thread migrates when it yields or is preempted.
        online.for_each([&](CpuId cpu) {
            request_move(cpu);
            yield();
            wrong.fetch_add(hal::this_cpu() != cpu && thread_self()->move_to != 0);
        });
    };
    Thread* thread = thread_create("traveller", body);
    REQUIRE(thread != nullptr);
    thread_join(thread);
    CHECK_EQ(been.load(), online.bits());
    CHECK_EQ(wrong.load(), 0u);
}

SELFTEST(thread, a_bound_thread_stays) {
    if (hal::online_cpus().count() < 2) SKIP("one CPU");
    if (const char* why = no_slots_for(1)) SKIP(why);
    warm_up_threads(1);
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    hal::Atomic<u32> moved, ran;
    auto body = [&] {
        const auto try_to_move = [&] {
            const CpuId before = hal::this_cpu();
            for (u32 i = 0; i < 5; ++i) {
                hal::online_cpus().for_each([&](CpuId cpu) {
                    request_move(cpu);
                    yield();
                    moved.fetch_add(hal::this_cpu() != before);
                });
                sleep_ms(1);
                moved.fetch_add(hal::this_cpu() != before);
            }
        };
        {
            const MigrateGuard bound;
            const MigrateGuard twice;
            try_to_move();
        }
        {
            const LocalMap map{pages[0]};
            try_to_move();
        }
        ran.store(1);
    };
    Thread* thread = thread_create("bound", body);
    REQUIRE(thread != nullptr);
    thread_join(thread);
    CHECK_EQ(ran.load(), 1u);
    CHECK_EQ(moved.load(), 0u);
}

SELFTEST(thread, exit_with_a_leak_is_reported) {
    if (const char* why = no_slots_for(2)) SKIP(why);
    warm_up_threads(1);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    const u32 leaks = thread_leaks();
    auto body = [&] {
        static_cast<void>(kmap_local_page(pages[0]));
        static_cast<void>(kmap_local_page(pages[1]));
    };
    selftest::note("two errors about a thread that leaks are expected here");
    Thread* thread = thread_create("leaky", body, this_cpu_only());
    REQUIRE(thread != nullptr);
    thread_join(thread);
    CHECK_EQ(thread_leaks(), leaks + 1);
    CHECK_EQ(local_depth(), 0u);
}

} // namespace loft::guest::thread_test
