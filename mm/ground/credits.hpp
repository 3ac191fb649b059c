// Credits: a counting semaphore. Threads that wait for a credit get one in order of arrival.
//
// It uses park and unpark (hal/thread.hpp). An unpark that comes before the park is not lost: that park returns at
// once. So no wake-up is lost between the check of the count and the sleep (docs/bugs.md, bug 24).
#pragma once

#include "arch/base/chain.hpp"
#include "mm/ground/spinlock.hpp"
#include <hal/hal.hpp>

namespace loft {

// `n` credits. acquire takes one, or sleeps until it gets one.
//
//     value > 0   that many credits are free        value <= 0   none is free; -value threads wait, or are about to
//
// A release that finds a negative value hands its credit to the first thread in the queue instead of raising the count
// of free ones, so a thread that comes later cannot overtake. If that thread has not entered the queue yet, the credit
// is stored in `granted_` for it.
class Credits {
  public:
    constexpr Credits() = default;
    explicit constexpr Credits(u32 n) : value_{n} {}

    // Context: preemptible. Cost: one locked instruction if a credit is free. Returns true if the thread waited.
    bool acquire() { return !take() && (wait(), true); }
    // acquire() in two steps. If take() returns false, the caller must call wait().
    bool take() { return static_cast<int>(value_.fetch_sub(1) - 1) >= 0; }
    [[gnu::cold]] void wait();
    // Returns a credit; wakes the first waiting thread, if any. Any context but NMI.
    void release() {
        if (!value_.increment_is_positive()) [[unlikely]]
            hand_over();
    }
    // Takes a credit if one is free; false otherwise. Never waits.
    bool try_acquire();

    int value() const { return static_cast<int>(value_.load()); }
    void reset(u32 n); // boot, tests: no thread waits

  private:
    struct Waiter {
        Waiter* next = nullptr;
        ThreadId thread{};
        hal::Atomic<u32> granted;
    };

    [[gnu::cold]] void hand_over();

    hal::Atomic<u32> value_; // signed
    SpinLock lock_{LockRank::wait};
    Chain<Waiter, &Waiter::next> waiters_ LOFT_GUARDED_BY(lock_);
    u32 granted_ LOFT_GUARDED_BY(lock_) = 0;
};

} // namespace loft
