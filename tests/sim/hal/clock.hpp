// hal/clock of the simulated machine: each query advances the time. Contract: arch/base/hal_contract.hpp.
//
// In an exploration no deadline expires: a wait that no other thread ends is found as a deadlock.
#pragma once

#include "tests/sim/schedule.hpp"

namespace loft::hal {

class Deadline {
  public:
    explicit constexpr Deadline(u64 looks) : left_{looks} {}
    bool expired() const { return !sim::detail::exploring && (left_ == 0 || --left_ == 0); }

  private:
    mutable u64 left_;
};

inline Deadline deadline(u32 milliseconds) {
    constexpr u64 kLooksPerMs = 10;
    return Deadline{milliseconds * kLooksPerMs};
}

} // namespace loft::hal
