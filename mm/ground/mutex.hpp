// Mutex: a lock that is owned by one thread, which may sleep while it holds the lock.
//
// It uses Credits (mm/ground/credits.hpp), so it is fair: unlock hands it to the thread that has waited longest. A
// thread that locks and unlocks in a loop cannot starve another one.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "mm/ground/credits.hpp"

namespace loft {

// Panics if a thread locks a mutex that it holds, or unlocks one that it does not hold.
class LOFT_LOCK("mutex") Mutex : NotCopyable<Mutex> {
  public:
    constexpr Mutex() = default;
    explicit constexpr Mutex(const char* name) : name_{name} {}

    void lock() LOFT_TAKES();         // preemptible context (checked); sleeps until it is free
    bool try_lock() LOFT_TRIES(true); // preemptible context (checked); never waits
    void unlock() LOFT_GIVES_BACK();  // by the owner
    bool is_mine() const;

  private:
    Credits free_{1};
    hal::Atomic<u32> owner_; // ThreadId + 1, because the boot thread has number 0; 0: not held
    const char* name_ = "mutex";
};

class [[nodiscard]] LOFT_GUARD MutexGuard : NotCopyable<MutexGuard> {
  public:
    explicit MutexGuard(Mutex& mutex) LOFT_TAKES(mutex) : mutex_{mutex} { mutex_.lock(); }
    ~MutexGuard() LOFT_GIVES_BACK() { mutex_.unlock(); }

  private:
    Mutex& mutex_;
};

} // namespace loft
