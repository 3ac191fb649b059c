// Switching kernel stacks.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Saves the callee-saved registers on the current stack and its pointer in *from, then returns on the stack `to`, which
// was left by this function or made by prepare_stack. Interrupts are off. The caller switches page tables, per-CPU
// state and the interrupt flag. Returns when another thread switches back, possibly on another CPU.
extern "C" void switch_stack(u32* from, u32 to);

// Makes a stack that begins, when it is switched to, with entry(argument), interrupts off. `entry` does not return. The
// chain of frame pointers ends there.
u32 prepare_stack(VirtAddr top, void (*entry)(void*), void* argument);

// The stack pointer with which this CPU enters the kernel from ring 3.
void set_kernel_stack(VirtAddr top);

} // namespace loft
