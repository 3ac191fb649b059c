// The spin lock: one holder, interrupts off while it is held, and a panic instead of an endless spin on recursion.
#include "mm/ground/context.hpp"
#include "mm/ground/spinlock.hpp"
#include "tests/host/booted.hpp"

#include <new>
#include <optional>

using namespace loft;
using namespace loft::test;

TEST_CASE("spinlock: is held for the length of a scope, with interrupts off", "[spinlock]") {
    Booted kernel;
    SpinLock lock;
    CHECK_FALSE(lock.held());
    {
        SpinGuard guard{lock};
        CHECK(lock.held());
        CHECK_FALSE(hal::irqs_enabled());
    }
    CHECK_FALSE(lock.held());
    CHECK(hal::irqs_enabled());
}

TEST_CASE("spinlock: interrupts that were off stay off", "[spinlock]") {
    Booted kernel;
    SpinLock one, two;
    {
        SpinGuard outer{one};
        { SpinGuard inner{two}; }
        CHECK_FALSE(hal::irqs_enabled());
    }
    CHECK(hal::irqs_enabled());
}

TEST_CASE("spinlock: interrupts go off before the lock is taken and come on after it is given back", "[spinlock]") {
    Booted kernel;
    SpinLock lock;
    sim::ScopedHook hook{[&](sim::Point) {
        if (lock.held()) CHECK_FALSE(kernel.machine.here().interrupts);
    }};
    SpinGuard guard{lock};
}

TEST_CASE("spinlock: taking it twice on one CPU is a panic, not a hang", "[spinlock]") {
    Booted kernel;
    SpinLock lock;
    SpinGuard guard{lock};
    CHECK_PANIC(SpinGuard{lock}, "this CPU already holds it");
    sim::on_cpu(CpuId{1}, [&] { CHECK(lock.held()); });
}

TEST_CASE("spinlock: another CPU waits until the holder gives it back", "[spinlock]") {
    Booted kernel;
    SpinLock lock;
    std::optional<SpinGuard> mine{std::in_place, lock};
    u32 waits = 0;
    sim::on_cpu(CpuId{1}, [&] {
        sim::ScopedHook hook{[&](sim::Point point) {
            if (point != sim::Point::relax) return;
            if (++waits == 5) sim::on_cpu(CpuId{0}, [&] { mine.reset(); });
        }};
        SpinGuard guard{lock};
        CHECK(waits == 5);
        CHECK(lock.held());
    });
    CHECK_FALSE(lock.held());
}

TEST_CASE("spinlock: a CPU that waits for nobody is noticed", "[spinlock]") {
    Booted kernel;
    SpinLock lock;
    SpinGuard guard{lock};
    sim::on_cpu(CpuId{1}, [&] { CHECK_THROWS_AS(SpinGuard{lock}, sim::BadAccess); });
}

TEST_CASE("spinlock: reset forgets a holder that is gone", "[spinlock]") {
    Booted kernel;
    SpinLock lock;
    std::optional<SpinGuard> gone{std::in_place, lock};
    lock.reset();
    CHECK_FALSE(lock.held());
    CHECK_NOTHROW(SpinGuard{lock});
    gone.reset();
}

TEST_CASE("spinlock: without a guard, for the scheduler", "[spinlock]") {
    Booted kernel;
    SpinLock lock;
    IrqGuard guard;
    lock.lock();
    CHECK(lock.held());
    CHECK(HeldLock::newest() == nullptr);
    CHECK_PANIC(unchecked::lock(lock), "this CPU already holds it");
    lock.unlock();
    CHECK_FALSE(lock.held());
}

TEST_CASE("spinlock: a context that is given up gives back the locks it took, and no others", "[spinlock]") {
    Booted kernel;
    SpinLock outer, inner, innermost;
    SpinGuard mine{outer};
    HeldLock* const until = HeldLock::newest();
    {
        // Never destroyed, like the objects on a stack that a panic abandons.
        alignas(SpinGuard) static std::byte gone[2][sizeof(SpinGuard)];
        ::new (gone[0]) SpinGuard{inner};
        ::new (gone[1]) SpinGuard{innermost};
    }
    CHECK(innermost.held());
    HeldLock::abandon(until);
    CHECK_FALSE(inner.held());
    CHECK_FALSE(innermost.held());
    CHECK(outer.held());
    CHECK(HeldLock::newest() == until);
}

TEST_CASE("spinlock: DEBUG knows the order in which locks are taken", "[spinlock]") {
    ONLY_WITH(config::kDebug);
    Booted kernel;
    SpinLock vmap{LockRank::vmap}, zone{LockRank::zone}, other_zone{LockRank::zone}, last, other_last;
    {
        SpinGuard a{vmap};
        SpinGuard b{zone};
        SpinGuard c{last};
        SpinGuard d{other_last}; // locks of the last rank nest
    }
    {
        SpinGuard a{zone};
        CHECK_PANIC(SpinGuard{vmap}, "spinlock: rank 1");
        CHECK_PANIC(SpinGuard{other_zone}, "while rank 4 is held");
    }
    {
        SpinGuard a{last};
        CHECK_PANIC(SpinGuard{zone}, "is held");
        // Another CPU holds nothing.
        sim::on_cpu(CpuId{1}, [&] { CHECK_NOTHROW(SpinGuard{zone}); });
    }
}

TEST_CASE("spinlock: with_lock holds it for a body, interrupts off, and gives both back", "[spinlock]") {
    Booted kernel;
    SpinLock lock;
    CHECK(with_lock(lock, [&] {
              CHECK(lock.held());
              CHECK_FALSE(hal::irqs_enabled());
              return 7;
          }) == 7);
    CHECK_FALSE(lock.held());
    CHECK(hal::irqs_enabled());
    CHECK(HeldLock::newest() == nullptr);
    // Interrupts are off at every point at which the lock is held.
    sim::ScopedHook hook{[&](sim::Point) {
        if (lock.held()) CHECK_FALSE(kernel.machine.here().interrupts);
    }};
    with_lock(lock, [] {});
}

TEST_CASE("spinlock: what is taken, and what is waited for, is counted on the CPU that does it", "[spinlock]") {
    Booted kernel;
    SpinLock lock;
    const LockStats before = lock_stats_sum();
    { SpinGuard guard{lock}; }
    with_lock(lock, [] {});
    CHECK(lock_stats_sum().taken == before.taken + 2);
    CHECK(lock_stats_sum().waits == before.waits);
    std::optional<SpinGuard> mine{std::in_place, lock};
    sim::on_cpu(CpuId{1}, [&] {
        u32 relaxed = 0;
        sim::ScopedHook hook{[&](sim::Point point) {
            if (point == sim::Point::relax && ++relaxed == 3) sim::on_cpu(CpuId{0}, [&] { mine.reset(); });
        }};
        SpinGuard guard{lock};
    });
    CHECK(lock_stats_sum().taken == before.taken + 4);
    CHECK(lock_stats_sum().waits == before.waits + 1); // one wait, however long it lasts
}
