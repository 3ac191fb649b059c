// Waiting for other threads: Mutex, WaitQueue, Completion. A counting semaphore is mm's Credits (mm/wait.hpp).
//
// All of them wake in order of arrival, and stand on park and unpark: there is no moment in which a wake-up goes unheard.
#pragma once

#include "mm/context.hpp"
#include "mm/wait.hpp"

namespace loft {

// One owner at a time, in order of arrival: unlock hands the mutex to the one who has waited longest. A thread that locks
// what it holds, or unlocks what it does not hold, is a panic.
class Mutex {
  public:
    constexpr Mutex() = default;
    explicit constexpr Mutex(const char* name) : name_{name} {}
    Mutex(const Mutex&) = delete;
    Mutex& operator=(const Mutex&) = delete;

    void lock();     // preemptible context
    bool try_lock(); // preemptible context; never waits
    void unlock();   // by the owner
    bool is_mine() const;

  private:
    Credits free_{1};
    hal::Atomic<u32> owner_; // ThreadId
    const char* name_ = "mutex";
};

class [[nodiscard]] MutexGuard {
  public:
    explicit MutexGuard(Mutex& mutex) : mutex_{mutex} { mutex_.lock(); }
    ~MutexGuard() { mutex_.unlock(); }
    MutexGuard(const MutexGuard&) = delete;
    MutexGuard& operator=(const MutexGuard&) = delete;

  private:
    Mutex& mutex_;
};

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
    Waiter* first_ = nullptr;
    Waiter* last_ = nullptr;
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
