// NMIs that loft has not sent itself: from a button, a watchdog, a memory error, or from software that ran before.
//
// An NMI may arrive between any two instructions, with interrupts off and with the log's lock held. So the handler only
// counts it; the next tick of its CPU logs it. With `nmi=panic` the handler panics at once, which shows where the CPU
// was: a CPU that hangs with interrupts off has no ticks.
//
// NMIs are blocked until the next IRET, which may be that of a fault (SDM vol. 3, 6.7.1). The handler does not fault,
// but the way back to a program may: a segment register whose descriptor the program has removed is loaded there
// (trap_entry.asm). Then an NMI comes on top of another one. That is harmless: an NMI runs on the interrupted stack,
// keeps nothing outside of it, and counts with one instruction.
//
// The NMI by which a panic stops the other CPUs does not get here (arch/i386/irq/stop.hpp).
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Whether the command line says `nmi=panic`. Once, when it is known.
void set_nmi_panics(bool wanted);

// Installs the handler. Boot CPU, once, before descriptors_init: an NMI without a handler would be a panic.
void nmi_init();

// NMIs of `cpu` so far. Any context.
u32 nmi_count(CpuId cpu);

// Logs the NMIs of this CPU: the first one at once, then each time that the count has doubled since the last report.
// Called by the tick, on its own CPU.
void nmi_report();

} // namespace loft
