// The time of programs: now_us() (timer.hpp), and the date of the real-time clock at boot.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Microseconds from 1970-01-01 00:00 UTC to the time when now_us() was 0, or would have been 0 (kFirstUs). It does not
// change after boot, so the clocks of programs never jump or change speed. 0 if there is no real-time clock: programs
// then see 1970 at boot.
u64 boot_date_us();

void clock_init(); // boot, after timer_init: reads the real-time clock, and logs it

} // namespace loft
