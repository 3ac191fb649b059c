// NMIs that loft has not sent itself: from a button, from a watchdog, from memory that found an error, or left over by
// whoever ran before.
//
// Each is counted and survived, wherever it came. It may come between any two instructions, with interrupts off, with
// the lock of the log taken: so the NMI itself only counts, and the next tick of its CPU says what happened.
// `nmi=panic` stops the kernel at once instead, and shows where it was: a kernel that hangs with its interrupts off has
// no ticks.
//
// The NMI by which a panic stops the other CPUs does not get here (arch/i386/irq/smp.hpp).
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// What the command line says about `nmi=panic`; once, when it is known.
void set_nmi_panics(bool wanted);

// Installs the handler. Boot CPU, once.
void nmi_init();

// So far, on this CPU. Any context.
u32 nmi_count(CpuId cpu);

// Names what came since the last report: at once when it is the first, then each time that the count has doubled. The
// tick, on its own CPU.
void nmi_report();

} // namespace loft
