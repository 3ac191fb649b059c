// The real-time clock of the board (Motorola MC146818A data sheet; ports 70h and 71h of the PC).
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Seconds since 1970-01-01 00:00, assuming that the clock runs in UTC; 0 if there is no clock, or no valid date. The
// clock has two-digit years, which count as 2000 to 2099. Boot, one CPU. Waits for the end of an update of the clock, a
// few milliseconds at most; every wait has a limit.
u64 rtc_read();

// The same for a given date: for rtc_read and its test. Months and days count from 1.
u64 seconds_of_date(u32 year, u32 month, u32 day, u32 hour, u32 minute, u32 second);

// The clock's second: 0 to 59, or more if there is no clock. Waits for the end of an update, as above. Boot, one CPU.
u32 rtc_second();

} // namespace loft
