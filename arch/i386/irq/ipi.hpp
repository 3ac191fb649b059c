// Interrupts from CPU to CPU, through the local APIC (SDM vol. 3, 10.6). hal::interrupt_cpu (hal/ipi.hpp) is
// the third of them. Destinations are physical: logical ones end at 8 CPUs in the flat mode.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Handlers for the vectors. Boot CPU, once, before any other CPU runs.
void ipi_init();

// `cpu` (online, another one) calls reschedule_interrupt soon. Any context but NMI.
void send_reschedule(CpuId cpu);

// Up-call, defined by the kernel: in the interrupt, between the trap hooks, acknowledged.
void reschedule_interrupt();

} // namespace loft
