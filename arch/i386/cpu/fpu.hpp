// The registers of FPU, MMX and SSE: they belong to programs. The kernel executes no instruction that touches them,
// but the ones behind these calls (scripts/check-kernel sees to it); so they are saved and loaded when the CPU goes
// from one program to another, and at no other time.
//
// While a thread of the kernel runs, CR0.TS is set: an instruction that got into the kernel by mistake traps.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// What FXSAVE writes (SDM vol. 1, 10.5.1), or FNSAVE in the first 108 bytes (8.1.10).
struct alignas(16) FpuState {
    u8 bytes[512];
};

// Boot CPU, once: how this machine saves, from leaf 1, EDX of CPUID.
void fpu_choose(u32 features);
// What of leaf 1, EDX a program can use: registers that are not saved are none of its own.
u32 fpu_usable(u32 features);
// Another CPU can do it the same way.
bool fpu_suits(u32 features);
// Sets the control bits of this CPU. Each CPU, once; no program runs on it yet.
void fpu_init_cpu();

// What a program begins with: all registers empty, all exceptions masked.
void fpu_reset(FpuState& state);

// All of these: interrupts off, or a thread that cannot be preempted.
extern "C" void fpu_save(FpuState* state);       // the registers stay as they are
extern "C" void fpu_load(const FpuState* state); // and may be used from here on
void fpu_off();                                  // they may not be used

} // namespace loft
