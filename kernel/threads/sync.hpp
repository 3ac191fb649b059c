// Waiting for other threads: WaitQueue and Completion, beside mm's Mutex (mm/ground/mutex.hpp) and Credits, a counting
// semaphore (mm/ground/credits.hpp).
//
// All of them wake in order of arrival. They are built on park and unpark, so no wake-up is lost.
#pragma once

#include "arch/base/chain.hpp"
#include "arch/base/not_copyable.hpp"
#include "mm/ground/context.hpp"
#include "mm/ground/credits.hpp"
#include "mm/ground/mutex.hpp"

namespace loft {

// Threads that wait for a condition. The thread that makes it true wakes afterwards:
//
//     waiter:  queue.wait([&] { return ready.load(); });        other:  ready.store(true); queue.wake_all();
//
// The condition is checked again after the waiter has entered the queue, so a wake-up in between is not lost.
class WaitQueue : NotCopyable<WaitQueue> {
  public:
    constexpr WaitQueue() = default;

    // Preemptible context. The calling thread may call `holds` many times; the lock is not held then.
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
    // The same, but returns false as soon as `stop()` is true. The thread that makes it true must give the waiter a
    // permit (hal::unpark). `holds` is checked first.
    template <typename F, typename G> bool wait(F&& holds, G&& stop) {
        might_sleep("wait");
        for (;;) {
            if (holds()) return true;
            if (stop()) return false;
            Waiter me;
            enter(me);
            while (me.woken.load() == 0 && !holds() && !stop())
                hal::park();
            if (me.woken.load() == 0 || stop()) leave(me); // an unused wake-up is passed on
        }
    }
    // Any context but NMI. Return the number of threads woken.
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
    Chain<Waiter, &Waiter::next> waiters_ LOFT_GUARDED_BY(lock_);
};

// An event that happens once (complete_all), or once for each waiter (complete).
class Completion {
  public:
    constexpr Completion() = default;

    void wait(); // preemptible context
    // Any context but NMI. complete lets one present or future waiter go on; complete_all all of them.
    void complete();
    void complete_all();
    bool done() const { return done_.load() != 0; }

  private:
    static constexpr u32 kAll = 0x8000'0000;
    bool take();

    hal::Atomic<u32> done_; // how many waiters may pass; kAll or more: all
    WaitQueue queue_;
};

} // namespace loft
