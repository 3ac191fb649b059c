// Mutex: one owner, which the mutex knows. explorer/space_test.cpp and credits_test.cpp test fairness and wake-ups.
#include "mm/ground/context.hpp"
#include "mm/ground/mutex.hpp"
#include "tests/host/explorer/rig.hpp"

using namespace loft;
using namespace loft::test;

TEST_CASE("mutex: belongs to whoever has locked it", "[mutex]") {
    Booted kernel;
    Mutex mutex{"of a test"};
    CHECK_FALSE(mutex.is_mine());
    unchecked::lock(mutex);
    CHECK(mutex.is_mine());
    unchecked::unlock(mutex);
    CHECK_FALSE(mutex.is_mine());
    {
        MutexGuard guard{mutex};
        CHECK(mutex.is_mine());
        CHECK_FALSE(unchecked::try_lock(mutex));
        CHECK(mutex.is_mine());
    }
    REQUIRE(unchecked::try_lock(mutex));
    CHECK(mutex.is_mine());
    unchecked::unlock(mutex);
}

TEST_CASE("mutex: what its owner must not do is a panic that names it", "[mutex]") {
    Booted kernel;
    Mutex mutex{"of a test"};
    REQUIRE_PANIC(unchecked::unlock(mutex), "mutex of a test: unlocked by thread 0, but not held");
    unchecked::lock(mutex);
    REQUIRE_PANIC(unchecked::lock(mutex), "mutex of a test: this thread already holds it");
    CHECK(mutex.is_mine());
    unchecked::unlock(mutex);
}

TEST_CASE("mutex: only where one may sleep", "[mutex]") {
    Booted kernel;
    Mutex mutex;
    {
        PreemptGuard guard;
        REQUIRE_PANIC(unchecked::lock(mutex), "lock of a mutex may sleep");
        REQUIRE_PANIC(unchecked::try_lock(mutex), "lock of a mutex may sleep");
    }
    as_interrupt([&] { CHECK_PANIC(unchecked::lock(mutex), "lock of a mutex may sleep"); });
    {
        IrqGuard guard;
        REQUIRE_PANIC(unchecked::lock(mutex), "lock of a mutex may sleep");
    }
    CHECK_FALSE(mutex.is_mine());
}

TEST_CASE("explorer: somebody else's unlock of a mutex is a panic", "[.explorer][explorer-mutex]") {
    Scene s{1};
    Mutex mutex{"of a test"};
    s.thread(0, [&] {
        unchecked::lock(mutex);
        hal::unpark(ThreadId{2});
        hal::park();
    });
    s.thread(0, [&] {
        hal::park();
        unchecked::unlock(mutex);
    });
    CHECK(s.attempt(sim::reduced(1)).failure == "mutex of a test: unlocked by thread 2, held by 1");
}

TEST_CASE("explorer: a mutex is held by one thread at a time, in order of arrival", "[.explorer][explorer-mutex]") {
    Scene s{2};
    Mutex mutex{"of a test"};
    hal::Plain<u32> inside, times;
    s.explored.reset = [&, next = s.explored.reset] {
        next();
        inside.store(0);
        times.store(0);
    };
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [&] {
            for (u32 i = 0; i < 2; ++i) {
                MutexGuard guard{mutex};
                sim::expect(inside.load() == 0, "no other thread is inside");
                inside.store(1);
                times.store(times.load() + 1);
                inside.store(0);
            }
        });
    s.explored.check = [&] {
        sim::expect(times.load() == 4, "nothing is lost");
        sim::expect(!mutex.is_mine(), "no thread holds it");
    };
    s.explore(sim::reduced(schedules(20'000)));
}
