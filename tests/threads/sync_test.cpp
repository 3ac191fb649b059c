// Waiting for other threads and for time: mutexes, wait queues, completions, alarms.
#include "tests/threads/rig.hpp"

#include <array>
#include <cstring>
#include <new>

using namespace loft;
using namespace loft::test;

namespace {

// Made again for each schedule: one that is given up half-way leaves them in use.
std::optional<Mutex> mutex;
std::optional<WaitQueue> queue;
std::optional<Completion> completion;

constexpr u64 kTickUs = 10'000;

} // namespace

TEST_CASE("threads: one thread at a time holds a mutex", "[.threads][threads-sync]") {
    Scene s{3};
    u32 inside = 0;
    const auto enter = [&] {
        MutexGuard guard{*mutex};
        sim::expect(inside++ == 0, "nobody else is inside");
        s.word[0].add(1);
        sim::expect(inside-- == 1, "nobody else has come");
    };
    s.reset = [&] {
        inside = 0;
        mutex.emplace("test");
    };
    s.main([&] {
        enter();
        enter();
    });
    s.thread(1, enter);
    s.thread(1, enter);
    s.thread(2, enter);
    s.check = [&] { sim::expect(s.word[0].load() == 5, "every one has been inside"); };
    s.explored.ticks = 1;
    s.explore(sim::reduced(schedules(4'000), 1));
    s.explore(sim::random(schedules(6'000)));
}

TEST_CASE("threads: a wait queue loses no wake-up", "[.threads][threads-sync]") {
    Scene s{3};
    s.reset = [] { queue.emplace(); };
    s.main([&] { queue->wait([&] { return s.count[0].load() != 0; }); });
    s.thread(1, [&] { queue->wait([&] { return s.count[0].load() != 0; }); });
    s.thread(2, [&] {
        s.count[0].store(1);
        queue->wake_all();
    });
    s.explore(sim::reduced(schedules(6'000), 2));
    s.explore(sim::random(schedules(5'000)));
}

TEST_CASE("threads: a waiter that needs no wake-up any more passes it on", "[.threads][threads-sync]") {
    Scene s{3};
    s.reset = [] { queue.emplace(); };
    enum { first_is_in, second_is_in, it_holds, first_is_woken };
    const auto until = [&s](u32 what) {
        while (s.count[what].load() == 0)
            hal::cpu_relax();
    };
    s.main([&] {
        bool again = false;
        queue->wait([&] {
            if (!std::exchange(again, true)) return false;
            s.count[first_is_in].store(1);
            until(first_is_woken);
            return true;
        });
    });
    s.thread(1, [&] {
        until(first_is_in);
        bool again = false;
        queue->wait([&] {
            if (std::exchange(again, true)) s.count[second_is_in].store(1);
            return s.count[it_holds].load() != 0;
        });
    });
    s.thread(2, [&] {
        until(second_is_in);
        s.count[it_holds].store(1);
        queue->wake_one();
        s.count[first_is_woken].store(1);
    });
    s.explore(sim::reduced(schedules(4'000), 2));
}

TEST_CASE("threads: a waiter that is stopped leaves the queue to the others", "[.threads][threads-sync]") {
    Scene s{2};
    s.reset = [] { queue.emplace(); };
    Thread* stopped = nullptr;
    const auto there = [&s] { return s.count[0].load() != 0; };
    s.main([&] { queue->wait(there); });
    stopped = s.thread(1, [&] {
        // Who does not use a wake-up passes it on.
        if (queue->wait(there, [&] { return s.count[1].load() != 0; })) queue->wake_one();
    });
    s.thread(1, [&] {
        s.count[1].store(1);
        interrupt_thread(*stopped);
        s.count[0].store(1);
        queue->wake_one();
    });
    s.explored.ticks = 1;
    s.explore(sim::reduced(schedules(6'000), 1));
    s.explore(sim::random(schedules(6'000)));
}

TEST_CASE("threads: a completion lets one waiter pass for each complete()", "[.threads][threads-sync]") {
    Scene s{3};
    s.reset = [] { completion.emplace(); };
    s.main([] { completion->wait(); });
    s.thread(1, [] { completion->wait(); });
    s.thread(2, [] {
        completion->complete();
        completion->complete();
    });
    s.check = [] { sim::expect(!completion->done(), "two have passed"); };
    s.explore(sim::reduced(schedules(6'000), 2));
    s.explore(sim::random(schedules(5'000)));
}

TEST_CASE("threads: who sleeps wakes when its time has come, and not before", "[.threads][threads-time]") {
    Scene s{2};
    s.main([] {
        const u64 begin = now_us();
        sleep_ms(10);
        sim::expect(now_us() >= begin + kTickUs, "it has slept long enough");
    });
    s.thread(1, [] {
        const u64 begin = now_us();
        sleep_ms(20);
        sim::expect(now_us() >= begin + 2 * kTickUs, "it has slept long enough");
    });
    s.explored.ticks = 2;
    s.explore(sim::reduced(schedules(4'000), 1));
    s.explore(sim::random(schedules(5'000)));
}

TEST_CASE("threads: an alarm rings while a thread is created", "[.threads][threads-time]") {
    // Both make a thread ready: the tick must not come while the creator holds the lock of the queue.
    Scene s{1};
    s.main([&] {
        yield(); // the other one falls asleep
        auto body = [&s] { s.word[0].store(1); };
        Thread* const made = thread_create("made", body, cpus_of({0}));
        sim::expect(made != nullptr, "there is memory for a thread");
        thread_join(made);
        sim::expect(s.word[0].load() == 1, "it has run");
    });
    s.thread(0, [] { sleep_ms(10); });
    s.explored.ticks = 1;
    s.explore(sim::reduced(schedules(4'000)));
}

TEST_CASE("threads: an alarm and a wake-up at the same time", "[.threads][threads-time]") {
    Scene s{2};
    s.reset = [] { queue.emplace(); };
    s.main([&] {
        bool woken;
        {
            const Alarm alarm{now_us() + kTickUs};
            woken = queue->wait([&] { return s.count[0].load() != 0; }, [&] { return alarm.rang(); });
        }
        sim::expect(woken || sim::ticks_so_far() != 0, "it did not end without a reason");
    });
    s.thread(1, [&] {
        s.count[0].store(1);
        queue->wake_one();
    });
    s.explored.ticks = 2;
    s.explore(sim::reduced(schedules(6'000), 2));
    s.explore(sim::random(schedules(6'000)));
}

TEST_CASE("threads: an alarm that is gone does not ring, whichever CPU has it", "[.threads][threads-time]") {
    // The memory of the alarm is used again: the tick must not touch it. Its thread may have moved meanwhile.
    Scene s{2};
    alignas(Alarm) std::array<u8, sizeof(Alarm)> room{};
    s.main([&] {
        Alarm* const alarm = new (room.data()) Alarm{now_us() + kTickUs};
        set_affinity(cpus_of({1}));
        while (s.word[0].load() == 0 && !alarm->rang())
            hal::park();
        alarm->~Alarm();
        room.fill(0);
        set_affinity(cpus_of({0}));
        sleep_ms(20);
        sim::expect(room == std::array<u8, sizeof(Alarm)>{}, "it does not ring afterwards");
    });
    s.thread(1, [&] {
        s.word[0].store(1);
        hal::unpark(s.main_id);
    });
    s.explored.ticks = 2;
    s.explore(sim::random(schedules(6'000)));
}
