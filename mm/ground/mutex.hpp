// Mutex: one owner at a time, who may sleep while he has it.
//
// It stands on Credits (mm/ground/credits.hpp), so it is fair: unlock hands it to the one who has waited longest, and
// nobody who comes later can take it first. A thread that keeps locking and unlocking cannot keep another one out.
#pragma once

#include "mm/ground/credits.hpp"

namespace loft {

// A thread that locks what it holds, or unlocks what it does not hold, is a panic.
class LOFT_LOCK("mutex") Mutex {
  public:
    constexpr Mutex() = default;
    explicit constexpr Mutex(const char* name) : name_{name} {}
    Mutex(const Mutex&) = delete;
    Mutex& operator=(const Mutex&) = delete;

    void lock() LOFT_TAKES();         // preemptible context (checked); sleeps until it is free
    bool try_lock() LOFT_TRIES(true); // preemptible context (checked); never waits
    void unlock() LOFT_GIVES_BACK();  // by the owner
    bool is_mine() const;

  private:
    Credits free_{1};
    hal::Atomic<u32> owner_; // ThreadId + 1, as the thread that boots is number 0; 0: nobody
    const char* name_ = "mutex";
};

class [[nodiscard]] LOFT_GUARD MutexGuard {
  public:
    explicit MutexGuard(Mutex& mutex) LOFT_TAKES(mutex) : mutex_{mutex} { mutex_.lock(); }
    ~MutexGuard() LOFT_GIVES_BACK() { mutex_.unlock(); }
    MutexGuard(const MutexGuard&) = delete;
    MutexGuard& operator=(const MutexGuard&) = delete;

  private:
    Mutex& mutex_;
};

} // namespace loft
