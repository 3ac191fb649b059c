// Interrupts between CPUs, through the local APIC (SDM vol. 3, 10.6). hal::interrupt_cpu (hal/ipi.hpp) sends the other
// vector. Destinations are physical: logical ones in flat mode end at 8 CPUs.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Installs the handlers. Boot CPU, once, before any other CPU runs.
void ipi_init();

// Makes `cpu` (online, another one) call reschedule_interrupt soon. Any context but NMI.
void send_reschedule(CpuId cpu);

// Up-call, defined by the kernel: in the interrupt, between the trap hooks, after the acknowledgement.
void reschedule_interrupt();

} // namespace loft
