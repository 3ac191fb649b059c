// Credits: a thread gets one if one is free, waiting threads get them in order of arrival, and no wake-up is lost.
//
// No thread sleeps here: where a thread would park, the test continues with another one. explorer/credits_test.cpp
// tests real threads.
#include "mm/ground/context.hpp"
#include "mm/ground/credits.hpp"
#include "tests/host/booted.hpp"
#include "tests/sim/fiber.hpp"

#include <deque>

using namespace loft;
using namespace loft::test;

namespace {

// Threads that stop on request before they check whether they have got a credit.
class Threads {
  public:
    explicit Threads(u32 count, Credits& credits) : thread_(count) {
        for (u32 i = 0; i < count; ++i)
            thread_[i].body = [this, i, &credits] {
                Thread& me = thread_[i];
                try {
                    me.waited = credits.acquire();
                    order_.push_back(i);
                } catch (...) {
                    me.failed = std::current_exception();
                }
                me.done = true;
                for (;;)
                    me.fiber.leave();
            };
    }
    // Runs acquire() until the thread has its credit (true), or is in the queue and about to check (false).
    bool acquire(u32 i) {
        Thread& t = thread_[i];
        t.looked = t.done = false;
        t.fiber.start(&t.body);
        return go_on(i);
    }
    // The thread checks: it has its credit (true), or parks.
    bool go_on(u32 i) {
        Thread& t = thread_[i];
        {
            // The only plain load in acquire() is that of the waiter's own word.
            sim::ScopedHook hook{[&](sim::Point point) {
                if (point != sim::Point::load || t.looked) return;
                t.looked = true;
                t.fiber.leave();
            }};
            t.fiber.resume();
        }
        if (t.failed) std::rethrow_exception(std::exchange(t.failed, nullptr));
        return t.done;
    }
    bool waited(u32 i) const { return thread_[i].waited; }
    const std::vector<u32>& order() const { return order_; }

  private:
    struct Thread {
        sim::Fiber fiber;
        std::function<void()> body;
        bool looked = false, done = false, waited = false;
        std::exception_ptr failed;
    };

    std::deque<Thread> thread_;
    std::vector<u32> order_;
};

} // namespace

TEST_CASE("Credits: as many as there are may be taken without waiting", "[wait]") {
    Booted kernel;
    Credits credits{3};
    for (u32 i = 0; i < 3; ++i)
        CHECK_FALSE(credits.acquire());
    CHECK(credits.value() == 0);
    CHECK_FALSE(credits.try_acquire());
    CHECK(credits.value() == 0);
    credits.release();
    CHECK(credits.value() == 1);
    CHECK(credits.try_acquire());
    credits.release();
    credits.release();
    CHECK_FALSE(credits.acquire());
    CHECK(credits.value() == 1);
    CHECK_FALSE(credits.acquire());
    CHECK_THROWS_AS(credits.acquire(), sim::BadAccess); // the next thread parks
    credits.reset(7);
    CHECK(credits.value() == 7);
}

TEST_CASE("Credits: whoever must wait parks, which atomic context must not; a credit that is there costs no sleep",
          "[wait]") {
    Booted kernel;
    Credits credits{1};
    {
        IrqGuard guard;
        CHECK_FALSE(credits.acquire());
    }
    PreemptGuard guard;
    CHECK_PANIC(credits.acquire(), "waiting for a credit may sleep");
    credits.reset(0);
    {
        IrqGuard irq;
        CHECK_PANIC(credits.acquire(), "waiting for a credit may sleep");
    }
}

TEST_CASE("Credits: nobody there who could release one: the thread parks for ever", "[wait]") {
    Booted kernel;
    Credits credits{0};
    CHECK_THROWS_AS(credits.acquire(), sim::BadAccess);
    CHECK(credits.value() == -1);
    credits.reset(1); // removes the thread from the queue
    CHECK_FALSE(credits.acquire());
}

// Between any two steps of a thread that finds no credit, one is released: by an interrupt of this CPU or by another
// CPU.
TEST_CASE("Credits: a release at any moment of an acquire is heard", "[wait]") {
    for (const bool other_cpu : {false, true}) {
        INFO("by another CPU " << other_cpu);
        Booted kernel{small(2)};
        Credits credits{0};
        u32 waited = 0, at_once = 0;
        bool released = false;
        for (u32 at = 0;; ++at) {
            INFO("step " << at);
            credits.reset(0);
            released = false;
            u32 points = 0;
            const auto acquire = [&] {
                sim::ScopedHook hook{[&](sim::Point) {
                    // Not while the queue is locked: interrupts are off, and another CPU would wait.
                    if (released || !kernel.machine.here().interrupts || points++ < at) return;
                    released = true;
                    if (other_cpu)
                        sim::on_cpu(CpuId{1}, [&] { credits.release(); });
                    else
                        as_interrupt([&] { credits.release(); });
                }};
                return credits.acquire();
            };
            bool slept = false;
            try {
                ++(acquire() ? waited : at_once);
            } catch (const sim::BadAccess&) {
                slept = true; // it parks before the release comes
            }
            if (slept) {
                REQUIRE_FALSE(released);
                break;
            }
            REQUIRE(released);
            REQUIRE(credits.value() == 0);
            REQUIRE_FALSE(credits.try_acquire());
        }
        CHECK(at_once >= 1); // released before take()
        CHECK(waited >= 3);  // released before the thread was in the queue, and after
    }
}

TEST_CASE("Credits: those who wait are served in the order in which they came", "[wait]") {
    Booted kernel;
    Credits credits{1};
    Threads threads{5, credits};
    CHECK(threads.acquire(0));
    CHECK_FALSE(threads.waited(0));
    for (u32 i = 1; i < 5; ++i)
        CHECK_FALSE(threads.acquire(i));
    CHECK(credits.value() == -4);
    // A release is for the first thread in the queue, even if another one checks earlier.
    credits.release();
    CHECK_THROWS_AS(threads.go_on(3), sim::BadAccess); // not its turn: it parks
    CHECK(threads.go_on(1));
    CHECK(threads.waited(1));
    // A thread that comes later does not overtake them.
    credits.release();
    CHECK_FALSE(credits.try_acquire());
    CHECK_FALSE(threads.acquire(0));
    CHECK(threads.go_on(2));
    CHECK(threads.order() == std::vector<u32>{0, 1, 2});
    CHECK(credits.value() == -3);
}

TEST_CASE("Credits: a queue that was emptied is filled again", "[wait]") {
    Booted kernel;
    Credits credits{0};
    Threads threads{3, credits};
    for (u32 round = 0; round < 3; ++round) {
        for (u32 i = 0; i < 3; ++i)
            CHECK_FALSE(threads.acquire(i));
        for (u32 i = 0; i < 3; ++i)
            credits.release();
        CHECK(credits.value() == 0);
        for (u32 i = 3; i-- > 0;) // the order in which they check does not matter
            CHECK(threads.go_on(i));
    }
    credits.release();
    CHECK(credits.value() == 1);
}
