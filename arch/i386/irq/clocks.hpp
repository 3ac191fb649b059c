// Clocks of known frequency, to calibrate the time-stamp counter and the local APIC's timer.
//
// None of them is on every machine; a missing one is detected after a bounded number of reads.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// A clock that counts up and wraps.
struct Clock {
    const char* name;
    u32 khz;
    u32 mask; // the bits that count
    u32 (*read)();
};

// Channel 2 of the 8254. Starts it.
Clock pit_clock();

// Frequency of the time-stamp counter by CPUID: leaf 15h, or a hypervisor's leaf 4000'0010h. 0: not reported. The
// second one is the processor's base frequency (leaf 16h), which is close to it.
u32 tsc_khz_by_cpuid();
u32 base_khz_by_cpuid();

} // namespace loft
