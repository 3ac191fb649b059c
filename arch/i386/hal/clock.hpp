// hal/clock: the time limit of a wait, by the time-stamp counter and by the number of checks. Contract:
// arch/base/hal_contract.hpp.
//
// The TSC alone is not enough: in an emulator it advances while the host runs other processes, so the awaited CPU may
// not have executed an instruction meanwhile. So a wait also lasts for a minimum number of checks.
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/isa/control.hpp"

#include <cstdint>

namespace loft::hal {

class Deadline {
  public:
    explicit constexpr Deadline(u64 tsc, u32 looks) : tsc_{tsc}, looks_{looks} {}
    bool expired() const {
        if (looks_ != 0) --looks_;
        return looks_ == 0 && static_cast<std::int64_t>(read_tsc() - tsc_) >= 0;
    }

  private:
    u64 tsc_;
    mutable u32 looks_;
};

// Any context. Before timer_init has measured the TSC, a wait may be longer than asked for, never shorter.
// At most two hours: the number of checks has 32 bits.
Deadline deadline(u32 milliseconds); // arch/i386/irq/timer.cpp

} // namespace loft::hal
