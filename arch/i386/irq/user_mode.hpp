// Entering ring 3.
//
// Leaving ring 3 is a trap like any other (traps.hpp).
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/cpu/trap_frame.hpp"

namespace loft {

// Enters ring 3 with these registers; the current stack is abandoned. Interrupts are off, and the caller has done the
// work of return_to_user. The frame's selectors may have any values: one that cannot be loaded becomes 0, or a general
// protection fault of the program.
extern "C" [[noreturn]] void enter_user(const TrapFrame* frame);

// The initial registers of a program with entry point `entry`; all general registers are 0.
TrapFrame first_user_frame(u32 entry, u32 stack);

} // namespace loft
