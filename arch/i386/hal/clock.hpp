// hal/clock: the bound of a wait, told by the time-stamp counter. Contract: arch/base/hal_contract.hpp.
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/control.hpp"

#include <cstdint>

namespace loft::hal {

class Deadline {
  public:
    explicit constexpr Deadline(u64 tsc) : tsc_{tsc} {}
    bool expired() const { return static_cast<std::int64_t>(read_tsc() - tsc_) >= 0; }

  private:
    u64 tsc_;
};

// Any context. Before timer_init has measured the TSC the wait may be longer than asked for, never shorter.
Deadline deadline(u32 milliseconds); // arch/i386/timer.cpp

} // namespace loft::hal
