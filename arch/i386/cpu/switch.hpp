// From one kernel stack to another.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Saves what a function must preserve on the current stack, its pointer in *from, and returns on the stack
// `to`, which was left by this function or made by prepare_stack. Interrupts are off. Registers only: page
// tables, per-CPU state and the interrupt flag are the caller's business. Returns when somebody switches
// back, maybe on another CPU.
extern "C" void switch_stack(u32* from, u32 to);

// Makes a new stack that begins, when it is switched to, with entry(argument), interrupts off. `entry` does
// not return. The walk over frame pointers ends there.
u32 prepare_stack(VirtAddr top, void (*entry)(void*), void* argument);

// Where the stack pointer of this CPU begins when ring 3 is interrupted.
void set_kernel_stack(VirtAddr top);

} // namespace loft
