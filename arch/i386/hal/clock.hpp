// hal/clock: the bound of a wait, told by the time-stamp counter and by how often somebody looked. Contract:
// arch/base/hal_contract.hpp.
//
// The counter alone would not do. In an emulator it goes on while the host is busy with something else, and the CPU
// that is waited for has not executed anything meanwhile; nor has the one that waits. So a wait also lasts a number of
// looks.
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

// Any context. Before timer_init has measured the TSC the wait may be longer than asked for, never shorter.
Deadline deadline(u32 milliseconds); // arch/i386/irq/timer.cpp

} // namespace loft::hal
