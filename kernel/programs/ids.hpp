// Process and thread ids.
//
// Both come from one counter that goes upwards, so an id is not reused right after its release: a program that still
// knows it does not hit another process. An id in use is never handed out again; waiting and signalling rely on that.
// At the end the counter goes on with the lowest free id. Source: Linux's pid_max, 32768 on i386, and its
// RESERVED_PIDS; wait(2), "pid" is positive.
#pragma once

#include "arch/base/types.hpp"
#include "mm/ground/spinlock.hpp"

namespace loft {

class IdPool {
  public:
    static constexpr u32 kEnd = 32768;      // ids are above 0 and below this
    static constexpr u32 kFirstAgain = 300; // first id after the counter's end; lower ids are given out once

    // The first id is `after` + 1.
    explicit constexpr IdPool(u32 after = 0) : last_{after} {}

    // Returns a free id; 0 if there is none. Any context but NMI. Cost: a lock; checks 32 ids a step.
    u32 take();
    // Panics if the id is not in use. Any context but NMI.
    void give_back(u32 id);
    u32 in_use(); // any context but NMI

  private:
    u32 find(u32 begin, u32 end) const LOFT_REQUIRES(lock_); // the lowest free id, or 0

    SpinLock lock_;
    u32 last_ LOFT_GUARDED_BY(lock_);
    u32 in_use_ LOFT_GUARDED_BY(lock_) = 0;
    u32 taken_[kEnd / 32] LOFT_GUARDED_BY(lock_){1}; // one bit per id; 0 is never an id
};

} // namespace loft
