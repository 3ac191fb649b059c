// System calls: int 0x80 with the numbers, registers and answers of Linux on i386.
//
// The number comes in EAX, arguments in EBX, ECX, EDX, ESI, EDI, EBP; the answer goes back in EAX, a negative one is
// an errno (errno.hpp). What loft does not have is ENOSYS, and one line of the log for each call and program that
// asked.
#pragma once

namespace loft {

struct TrapFrame;

// A thread of a program, interrupts on, preemptible.
void system_call(TrapFrame& frame);

} // namespace loft
