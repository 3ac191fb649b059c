// hal/clock of the simulated machine: each query advances the time. Contract: arch/base/hal_contract.hpp.
//
// In an exploration the schedule decides whether a deadline passes (Case::deadlines); with none of these, no deadline
// does: a wait that no other thread ends is found as a deadlock.
#pragma once

#include "tests/sim/schedule.hpp"

namespace loft::hal {

class Deadline {
  public:
    explicit constexpr Deadline(u32 milliseconds, u64 looks) : milliseconds_{milliseconds}, left_{looks} {}
    bool expired() const {
        if (sim::detail::exploring) return sim::detail::explore_deadline(milliseconds_);
        return left_ == 0 || --left_ == 0;
    }

  private:
    u32 milliseconds_;
    mutable u64 left_;
};

inline Deadline deadline(u32 milliseconds) {
    constexpr u64 kLooksPerMs = 10;
    return Deadline{milliseconds, milliseconds * kLooksPerMs};
}

} // namespace loft::hal
