// Credits: as many as there are, in order of arrival, and no release that goes unheard.
//
// Nobody sleeps here: where a thread would park, the test goes on with another one. The explorer has the rest.
#include "mm/ground/context.hpp"
#include "mm/ground/credits.hpp"
#include "tests/host/booted.hpp"
#include "tests/sim/fiber.hpp"

#include <deque>

using namespace loft;
using namespace loft::test;

namespace {

// Threads that stop before they look whether they have been given a credit, when told to.
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
    // Runs acquire() until the thread has its credit (true), or is in the queue and about to look.
    bool acquire(u32 i) {
        Thread& t = thread_[i];
        t.looked = t.done = false;
        t.fiber.start(&t.body);
        return go_on(i);
    }
    // It looks, and has its credit or parks.
    bool go_on(u32 i) {
        Thread& t = thread_[i];
        {
            // The only plain load in acquire() is the look at the waiter's own word.
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
    CHECK_THROWS_AS(credits.acquire(), sim::BadAccess); // whoever comes now parks
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
    credits.reset(1); // and is gone
    CHECK_FALSE(credits.acquire());
}

// Between any two steps of somebody who finds no credit, one is released: by an interrupt of this CPU, or by another
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
                    // Not while the queue is locked: an interrupt does not come, another CPU would wait.
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
        CHECK(at_once >= 1); // before it asked
        CHECK(waited >= 3);  // before it was in the queue, and after
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
    // A release is for the first one, whoever looks first.
    credits.release();
    CHECK_THROWS_AS(threads.go_on(3), sim::BadAccess); // not its turn: it parks
    CHECK(threads.go_on(1));
    CHECK(threads.waited(1));
    // Nobody who comes later is faster than they are.
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
        for (u32 i = 3; i-- > 0;) // it does not matter who looks when
            CHECK(threads.go_on(i));
    }
    credits.release();
    CHECK(credits.value() == 1);
}
