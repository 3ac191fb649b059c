// Waiting for other threads: WaitQueue and Completion, beside mm's Mutex (mm/ground/mutex.hpp) and Credits, a counting
// semaphore (mm/ground/credits.hpp).
//
// All of them wake in order of arrival, and stand on park and unpark: there is no moment in which a wake-up goes
// unheard.
#pragma once

#include "mm/ground/context.hpp"
#include "mm/ground/credits.hpp"
#include "mm/ground/mutex.hpp"

namespace loft {

// Threads that wait until something holds. Whoever makes it hold, wakes afterwards:
//
//     waiter:  queue.wait([&] { return ready.load(); });        other:  ready.store(true); queue.wake_all();
//
// The condition is looked at while the thread is in the queue already, so a wake-up in between is not lost.
class WaitQueue {
  public:
    constexpr WaitQueue() = default;
    WaitQueue(const WaitQueue&) = delete;
    WaitQueue& operator=(const WaitQueue&) = delete;

    // Preemptible context. `holds` may be called many times, in this thread, with the lock not held.
    template <typename F> void wait(F&& holds) {
        might_sleep("wait");
        while (!holds()) {
            Waiter me;
            enter(me);
            if (holds()) {
                leave(me);
                return;
            }
            sleep(me);
        }
    }
    // The same, but gives up as soon as `stop()`, and returns false: whoever makes that true gives the thread a permit
    // (hal::unpark). `holds` comes first.
    template <typename F, typename G> bool wait(F&& holds, G&& stop) {
        might_sleep("wait");
        for (;;) {
            if (holds()) return true;
            if (stop()) return false;
            Waiter me;
            enter(me);
            while (me.woken.load() == 0 && !holds() && !stop())
                hal::park();
            if (me.woken.load() == 0 || stop()) leave(me); // a wake-up that is not used is passed on
        }
    }
    // Any context but NMI. Returns how many were woken.
    u32 wake_one() { return wake(1); }
    u32 wake_all() { return wake(~u32{0}); }

  private:
    struct Waiter {
        Waiter* next = nullptr;
        ThreadId thread{};
        hal::Atomic<u32> woken;
    };
    void enter(Waiter& waiter);
    void leave(Waiter& waiter);
    static void sleep(Waiter& waiter);
    u32 wake(u32 most);

    SpinLock lock_{LockRank::wait};
    Waiter* first_ LOFT_GUARDED_BY(lock_) = nullptr;
    Waiter* last_ LOFT_GUARDED_BY(lock_) = nullptr;
};

// Something that happens once (complete_all), or as often as it is waited for (complete).
class Completion {
  public:
    constexpr Completion() = default;

    void wait(); // preemptible context
    // Any context but NMI. One who waits, or will wait, may go on; or all of them, from now on.
    void complete();
    void complete_all();
    bool done() const { return done_.load() != 0; }

  private:
    static constexpr u32 kAll = 0x8000'0000;
    bool take();

    hal::Atomic<u32> done_; // how many may pass; kAll or more: everybody
    WaitQueue queue_;
};

} // namespace loft
