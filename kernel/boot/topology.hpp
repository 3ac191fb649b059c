// Finding the other CPUs and the I/O APIC.
#pragma once

#include "arch/i386/firmware/topology.hpp"

namespace loft {

// Reads the firmware's tables, and routes the ISA interrupts through the I/O APIC if there is one. After lapic_init,
// interrupts off, none of them unmasked. Boot CPU, once.
void read_topology();
// What it has found, for good.
const CpuTopology& cpu_topology();

} // namespace loft
