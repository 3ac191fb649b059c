// The real-time clock. Contract: rtc.hpp.
#include "arch/i386/io/rtc.hpp"

#include "arch/i386/isa/control.hpp"

#include <array>

namespace loft {
namespace {

constexpr u16 kIndex = 0x70, kData = 0x71;
constexpr u8 kStatusA = 0x0a, kStatusB = 0x0b;
constexpr u8 kUpdating = 0x80;                // status A
constexpr u8 kHours24 = 0x02, kBinary = 0x04; // status B
constexpr u8 kAfternoon = 0x80;               // flag of the hour, in 12-hour mode
constexpr u32 kMostReads = 20'000;            // of a port: microseconds each; an update takes two milliseconds

u8 read(u8 reg) {
    out8(kIndex, reg); // bit 7 clear: NMIs stay enabled
    return in8(kData);
}

// Second, minute, hour, day, month, year, in the format of the registers.
using Registers = std::array<u8, 6>;
Registers read_all() { return {read(0), read(2), read(4), read(7), read(8), read(9)}; }

bool settled() {
    for (u32 i = 0; i < kMostReads; ++i)
        if (!(read(kStatusA) & kUpdating)) return true;
    return false; // without a clock, all bits read as 1
}

u32 number_of(u8 value, u8 status) { return status & kBinary ? value : (value >> 4) * 10u + (value & 15u); }

} // namespace

u64 seconds_of_date(u32 year, u32 month, u32 day, u32 hour, u32 minute, u32 second) {
    // Years begin in March here, so that a leap day is the last day of its year.
    const u32 shifted = month <= 2 ? year - 1 : year, from_march = (month + 9) % 12;
    const u32 days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + (from_march * 153 + 2) / 5 + day - 1;
    constexpr u32 kDays1970 = 719'468; // the same sum for 1970-01-01
    return u64{days - kDays1970} * 86'400 + u64{hour} * 3600 + u64{minute} * 60 + second;
}

u32 rtc_second() { return settled() ? number_of(read(0), read(kStatusB)) : ~0u; }

u64 rtc_read() {
    // Two equal readings: no update came in between.
    Registers now{}, before{};
    bool same = false;
    for (u32 i = 0; i < 4 && !same; ++i) {
        if (!settled()) return 0;
        before = read_all();
        if (!settled()) return 0;
        now = read_all();
        same = now == before;
    }
    if (!same) return 0;
    const u8 status = read(kStatusB);
    const auto number = [&](u8 value) { return number_of(value, status); };
    u32 hour = number(now[2] & ~(status & kHours24 ? 0 : kAfternoon));
    if (!(status & kHours24)) hour = hour % 12 + (now[2] & kAfternoon ? 12 : 0);
    const u32 second = number(now[0]), minute = number(now[1]), day = number(now[3]), month = number(now[4]),
              year = number(now[5]);
    if (second > 59 || minute > 59 || hour > 23 || day - 1 > 30 || month - 1 > 11 || year > 99) return 0;
    return seconds_of_date(2000 + year, month, day, hour, minute, second);
}

} // namespace loft
