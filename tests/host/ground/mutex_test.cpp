// Mutex: one owner, who is known. That it is fair and wakes is the business of explorer/space_test.cpp and
// credits_test.cpp.
#include "mm/ground/context.hpp"
#include "mm/ground/mutex.hpp"
#include "tests/host/explorer/rig.hpp"

using namespace loft;
using namespace loft::test;

TEST_CASE("mutex: belongs to whoever has locked it", "[mutex]") {
    Booted kernel;
    Mutex mutex{"of a test"};
    CHECK_FALSE(mutex.is_mine());
    mutex.lock();
    CHECK(mutex.is_mine());
    mutex.unlock();
    CHECK_FALSE(mutex.is_mine());
    {
        MutexGuard guard{mutex};
        CHECK(mutex.is_mine());
        CHECK_FALSE(mutex.try_lock());
        CHECK(mutex.is_mine());
    }
    REQUIRE(mutex.try_lock());
    CHECK(mutex.is_mine());
    mutex.unlock();
}

TEST_CASE("mutex: what its owner must not do is a panic that names it", "[mutex]") {
    Booted kernel;
    Mutex mutex{"of a test"};
    REQUIRE_PANIC(mutex.unlock(), "mutex of a test: unlocked by thread 0, held by nobody");
    mutex.lock();
    REQUIRE_PANIC(mutex.lock(), "mutex of a test: this thread already holds it");
    CHECK(mutex.is_mine());
    mutex.unlock();
}

TEST_CASE("mutex: only where one may sleep", "[mutex]") {
    Booted kernel;
    Mutex mutex;
    {
        PreemptGuard guard;
        REQUIRE_PANIC(mutex.lock(), "lock of a mutex may sleep");
        REQUIRE_PANIC(mutex.try_lock(), "lock of a mutex may sleep");
    }
    as_interrupt([&] { CHECK_PANIC(mutex.lock(), "lock of a mutex may sleep"); });
    {
        IrqGuard guard;
        REQUIRE_PANIC(mutex.lock(), "lock of a mutex may sleep");
    }
    CHECK_FALSE(mutex.is_mine());
}

TEST_CASE("explorer: somebody else's unlock of a mutex is a panic", "[.explorer][explorer-mutex]") {
    Scene s{1};
    Mutex mutex{"of a test"};
    s.thread(0, [&] {
        mutex.lock();
        hal::unpark(ThreadId{2});
        hal::park();
    });
    s.thread(0, [&] {
        hal::park();
        mutex.unlock();
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
                sim::expect(inside.load() == 0, "nobody else is inside");
                inside.store(1);
                times.store(times.load() + 1);
                inside.store(0);
            }
        });
    s.explored.check = [&] {
        sim::expect(times.load() == 4, "nothing is lost");
        sim::expect(!mutex.is_mine(), "nobody holds it");
    };
    s.explore(sim::reduced(schedules(20'000)));
}
