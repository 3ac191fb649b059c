// Credits: a counter of things that may be taken, with a queue of threads that wait for one, first come, first served.
//
// It stands on park and unpark (hal/thread.hpp): a permit that was given before the thread parked is not lost, so there
// is no moment between "nothing there" and "asleep" in which a wake-up could go unheard (bug 24).
#pragma once

#include "mm/ground/spinlock.hpp"
#include <hal/hal.hpp>

namespace loft {

// `n` credits. acquire takes one, or sleeps until it is given one, in order of arrival.
//
//     value > 0   free credits           value <= 0   nobody may pass; -value threads wait, or are about to
//
// A release that finds a negative value hands its credit to the first in the queue instead of putting it back, so that
// nobody who comes later can take it first. If the one who is about to wait has not entered the queue yet, the credit
// waits for it in `granted`.
class Credits {
  public:
    constexpr Credits() = default;
    explicit constexpr Credits(u32 n) : value_{n} {}

    // Preemptible context. Cost: one locked instruction while there are credits. Returns true if it had to wait.
    bool acquire() { return !take() && (wait(), true); }
    // The same in two: wait() if take() says that there was none. Then it must be called.
    bool take() { return static_cast<int>(value_.fetch_sub(1) - 1) >= 0; }
    [[gnu::cold]] void wait();
    // Any context.
    void release() {
        if (!value_.increment_is_positive()) [[unlikely]]
            hand_over();
    }
    // Takes one if there is one.
    bool try_acquire();

    int value() const { return static_cast<int>(value_.load()); }
    void reset(u32 n); // boot, tests: nobody waits

  private:
    struct Waiter {
        Waiter* next = nullptr;
        hal::ThreadId thread{};
        hal::Atomic<u32> granted;
    };

    [[gnu::cold]] void hand_over();

    hal::Atomic<u32> value_; // signed
    SpinLock lock_{LockRank::wait};
    Waiter* first_ LOFT_GUARDED_BY(lock_) = nullptr;
    Waiter* last_ LOFT_GUARDED_BY(lock_) = nullptr;
    u32 granted_ LOFT_GUARDED_BY(lock_) = 0;
};

} // namespace loft
