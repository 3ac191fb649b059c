// Ring 3: going there.
//
// What comes back from ring 3 is a trap like any other (traps.hpp).
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/cpu/trap_frame.hpp"

namespace loft {

// Goes to ring 3 with these registers; the stack that is left is forgotten. Interrupts are off; so is everything that
// the kernel has to keep off for ring 3: the caller has done what return_to_user does. The frame's selectors may be
// anything: one that cannot be loaded becomes 0, or a general protection fault of the program.
extern "C" [[noreturn]] void enter_user(const TrapFrame* frame);

// The registers with which a program begins at `entry`: all 0.
TrapFrame first_user_frame(u32 entry, u32 stack);

} // namespace loft
