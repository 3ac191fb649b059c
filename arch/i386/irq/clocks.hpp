// Clocks whose frequency is known: what the time-stamp counter and the local APIC's timer are measured by.
//
// None of them is on every machine, so each says by itself that it is not there, after a bounded number of reads.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// One that counts up, round and round.
struct Clock {
    const char* name;
    u32 khz;
    u32 mask; // the bits that it has
    u32 (*read)();
};

// The 8254's channel 2. Starts it.
Clock pit_clock();

// Frequency of the time-stamp counter by CPUID: the processor's own leaf 15h, or what a hypervisor says in leaf
// 4000'0010h. 0: it is not said. And the frequency that is printed on the processor (leaf 16h), which is close to it.
u32 tsc_khz_by_cpuid();
u32 base_khz_by_cpuid();

} // namespace loft
