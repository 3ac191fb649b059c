// The date. Contract: clock.hpp.
#include "kernel/threads/clock.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/io/rtc.hpp"
#include "arch/i386/irq/timer.hpp"

namespace loft {
namespace {
constinit u64 boot_date = 0; // us
}

u64 boot_date_us() { return boot_date; }

void clock_init() {
    const u64 seconds = rtc_read();
    if (seconds == 0) {
        log(LogLevel::notice, "clock", "no usable real-time clock: programs see the year 1970");
        return;
    }
    boot_date = seconds * 1'000'000 - now_us();
    log(LogLevel::info, "clock", "the real-time clock shows {} s since 1970", seconds);
}

} // namespace loft
