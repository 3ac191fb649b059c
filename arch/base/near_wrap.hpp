// Start values of counters: shortly before their wrap in DEBUG kernels, host tests and explorations, else 0.
//
// A counter of 32 bits that starts at 0 wraps for the first time after minutes, days or years, when no test looks any
// more. So where tests look it starts a few steps before (as the ticks of Linux start five minutes before theirs):
//
//     u32 flushes = near_wrap<u32>();        // FFFFFFF8, or 0
//     while (now.flushes - then.flushes < n)  // a reader compares distances: these hold across the wrap
//
// docs/counters.md lists the counters of loft, and what happens at the wrap of each.
#pragma once

#include "arch/base/config.hpp"
#include "arch/base/types.hpp"

namespace loft {

// The value from which a counter reaches `end` in `steps` steps; 0 in a kernel that starts its counters at 0. `end` is
// the value at which it begins again, or at which a u64 carries into its high half; 0: the end of T.
template <std::unsigned_integral T> constexpr T near_wrap(T steps = 8, T end = 0) {
    return config::kNearWrap ? static_cast<T>(end - steps) : T{0};
}

// The events that a counter, or the sum of those of `cpus` CPUs, has counted since it started at near_wrap<u32>(): for
// the log, and for tests that expect a number.
constexpr u32 since_start(u32 counter, u32 cpus = 1) { return counter - cpus * near_wrap<u32>(); }

} // namespace loft
