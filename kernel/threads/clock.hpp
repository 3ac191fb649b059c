// What time programs are told it is: microseconds of now_us() (timer.hpp), and the date that the board's clock showed
// at boot.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Microseconds since 1970-01-01 00:00 UTC at the time when now_us() was 0. Nothing changes it after the boot, so the
// clocks of programs go neither backward nor at another speed. 0 if the board has no clock: then it is 1970 at boot.
u64 boot_date_us();

void clock_init(); // boot, after timer_init: reads the board's clock, and says what it shows

} // namespace loft
