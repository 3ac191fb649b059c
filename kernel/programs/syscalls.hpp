// System calls: int 0x80 with the numbers, registers and results of Linux on i386.
//
// The number is in EAX, arguments are in EBX, ECX, EDX, ESI, EDI, EBP; the result is returned in EAX, an errno
// (errno.hpp) as a negative value. Unknown calls return ENOSYS; the first use of each number by a process is logged.
#pragma once

namespace loft {

struct TrapFrame;

// Context: a thread of a program, interrupts on, preemptible.
void system_call(TrapFrame& frame);

} // namespace loft
