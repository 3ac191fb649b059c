// The real-time clock of the board (Motorola MC146818A data sheet; ports 70h and 71h of the PC).
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Seconds since 1970-01-01 00:00, as if the clock ran in UTC; 0 if there is no clock, or none that shows a date. A date
// of 1970 to 1999 is taken for one of 2070 to 2099: the board counts years by two digits. Boot, one CPU. Waits for the
// end of an update of the clock, a few milliseconds at most; every wait has a bound.
u64 rtc_read();

// The same of a date: for rtc_read and its test. Months and days from 1.
u64 seconds_of_date(u32 year, u32 month, u32 day, u32 hour, u32 minute, u32 second);

// Its second hand: 0 to 59, or more where there is no clock. Waits for the end of an update, as above. Boot, one CPU.
u32 rtc_second();

} // namespace loft
