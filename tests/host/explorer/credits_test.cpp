// Credits, and kmap that sleeps on them, under every schedule: no thread waits for ever, none overtakes another.
#include "tests/host/explorer/rig.hpp"

#include "mm/ground/credits.hpp"

using namespace loft;
using namespace loft::test;

namespace {

Credits credits;
hal::Atomic<u32> holders;

void hold_and_release(u32 most) {
    credits.acquire();
    sim::expect(holders.fetch_add(1) < most, "no more hold a credit than there are");
    holders.fetch_sub(1);
    credits.release();
}

void prepare(Scene& s, u32 count) {
    s.small_kernel.marks_idle = false;
    s.explored.reset = [count, next = s.explored.reset] {
        next();
        credits.reset(count);
        holders.store(0);
    };
    s.explored.check = [count] { sim::expect(credits.value() == static_cast<int>(count), "every credit is back"); };
}

} // namespace

TEST_CASE("explorer: one credit, two CPUs", "[.explorer][explorer-credits]") {
    Scene s{2};
    prepare(s, 1);
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [] { hold_and_release(1); });
    CHECK(s.explore(sim::reduced()).complete);
}

TEST_CASE("explorer: one credit, two CPUs that do not wait for it", "[.explorer][explorer-credits]") {
    Scene s{2};
    prepare(s, 1);
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [] {
            if (!credits.try_acquire()) return;
            sim::expect(holders.fetch_add(1) == 0, "no more hold a credit than there are");
            holders.fetch_sub(1);
            credits.release();
        });
    CHECK(s.explore(sim::reduced()).complete);
}

TEST_CASE("explorer: one credit, two CPUs, twice each", "[.explorer][explorer-credits]") {
    Scene s{2};
    prepare(s, 1);
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [] {
            hold_and_release(1);
            hold_and_release(1);
        });
    s.explore(sim::reduced(schedules(20'000)));
}

TEST_CASE("explorer: one credit, three CPUs", "[.explorer][explorer-credits]") {
    Scene s{3};
    prepare(s, 1);
    for (u32 cpu = 0; cpu < 3; ++cpu)
        s.thread(cpu, [] { hold_and_release(1); });
    s.explore(sim::reduced(schedules(10'000), 2));
    s.explore(sim::random(schedules(5'000)));
}

TEST_CASE("explorer: a credit goes to who waits longest, not to who comes by", "[.explorer][explorer-credits]") {
    // All on one CPU, so that the order of arrival is the order of the queue.
    Scene s{1};
    prepare(s, 1);
    std::vector<u32> order;
    s.explored.reset = [&, next = s.explored.reset] {
        next();
        order.clear();
    };
    s.thread(0, [&] {
        credits.acquire();
        hal::reschedule(); // the others run until they wait
        hal::reschedule();
        credits.release();
        credits.acquire(); // queues behind them
        order.push_back(0);
        credits.release();
    });
    for (u32 thread = 1; thread < 3; ++thread)
        s.thread(0, [&, thread] {
            credits.acquire();
            order.push_back(thread);
            credits.release();
        });
    s.explored.check = [&] { sim::expect(order == std::vector<u32>{1, 2, 0}, "first come, first served"); };
    CHECK(s.explore(sim::reduced()).complete);
    // With a preemption at any step all threads still end.
    s.explored.check = [&] { sim::expect(order.size() == 3, "every thread got the credit"); };
    s.explored.preemptions = 2;
    s.explore(sim::reduced(schedules(20'000)));
}

TEST_CASE("explorer: threads that hold two mappings each do not wait for each other", "[.explorer][explorer-credits]") {
    ONLY_WITH(config::kHighMem);
    Scene s{2, 2, 6};
    const auto copy = [&s](u32 from, u32 to) {
        const GlobalAddr a = kmap(s.pages[from]), b = kmap(s.pages[to]);
        look(a, s.pages[from]);
        look(b, s.pages[to]);
        kunmap(s.pages[to]);
        kunmap(s.pages[from]);
    };
    SECTION("two CPUs") {
        for (u32 cpu = 0; cpu < 2; ++cpu)
            s.thread(cpu, [=] { copy(2 * cpu, 2 * cpu + 1); });
        s.explore(sim::reduced(schedules(10'000)));
    }
    SECTION("two CPUs, opposite directions") {
        s.thread(0, [=] { copy(0, 1); });
        s.thread(1, [=] { copy(1, 0); });
        s.explore(sim::reduced(schedules(10'000)));
    }
    SECTION("three threads on two CPUs, preempted and moved") {
        for (u32 i = 0; i < 3; ++i)
            s.thread(i % 2, [=] { copy(2 * i, (2 * i + 3) % 6); });
        s.explored.preemptions = 2;
        s.explored.roaming = true;
        s.explore(sim::random(schedules(10'000)));
    }
}
