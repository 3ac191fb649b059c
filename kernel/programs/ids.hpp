// The numbers of processes and threads.
//
// They are counted together, and upwards, so that a number which was just given back is not the next one to be handed
// out: a program that still knows it hits nothing. A number stands for one thing at a time: whoever waits for, or
// signals, a number relies on that. So when the count has reached the end, it goes on with the lowest that is free.
// Source: Linux's pid_max, 32768 on i386, and its RESERVED_PIDS; wait(2), "pid" is positive.
#pragma once

#include "arch/base/types.hpp"
#include "mm/ground/spinlock.hpp"

namespace loft {

class IdPool {
  public:
    static constexpr u32 kEnd = 32768;      // ids are below it, and above 0
    static constexpr u32 kFirstAgain = 300; // after the end; what was started at boot keeps its small numbers to itself

    // Hands out ids from `after` + 1 on.
    explicit constexpr IdPool(u32 after = 0) : last_{after} {}

    // An id that nothing has; 0 if there is none. Any context but NMI. Cost: a lock; looks at 32 ids a step.
    u32 take();
    // Panics if nothing has it. Any context but NMI.
    void give_back(u32 id);
    u32 in_use(); // any context but NMI

  private:
    u32 find(u32 begin, u32 end) const LOFT_REQUIRES(lock_); // the lowest free one, or 0

    SpinLock lock_;
    u32 last_ LOFT_GUARDED_BY(lock_);
    u32 in_use_ LOFT_GUARDED_BY(lock_) = 0;
    u32 taken_[kEnd / 32] LOFT_GUARDED_BY(lock_){1}; // a bit each; 0 is no id
};

} // namespace loft
