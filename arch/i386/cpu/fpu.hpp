// The FPU, MMX and SSE registers of programs. The kernel itself executes no instruction that uses them, except in these
// functions (scripts/check-kernel verifies it); so they are saved and loaded only when the CPU switches between
// programs.
//
// While a kernel thread runs, CR0.TS is set: an FPU instruction in the kernel traps.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// The area of FXSAVE (SDM vol. 1, 10.5.1); FNSAVE uses the first 108 bytes (8.1.10).
struct alignas(16) FpuState {
    u8 bytes[512];
};

// Chooses the save method of this machine from CPUID leaf 1, EDX. Boot CPU, once.
void fpu_choose(u32 features);
// The part of leaf 1, EDX that programs can use: only features with saved registers.
u32 fpu_usable(u32 features);
// True if another CPU supports the chosen method.
bool fpu_suits(u32 features);
// Sets the control bits of this CPU. Each CPU, once, before it runs a program.
void fpu_init_cpu();

// The initial state of a program: all registers empty, all exceptions masked.
void fpu_reset(FpuState& state);

// All of these: interrupts off, or a thread that cannot be preempted.
extern "C" void fpu_save(FpuState* state);       // the registers keep their contents
extern "C" void fpu_load(const FpuState* state); // from here on they may be used
void fpu_off();                                  // from here on using them traps

} // namespace loft
