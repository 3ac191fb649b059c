// CPUs and interrupt controllers in ACPI: the MADT (ACPI 6.5, 5.2.12).
#pragma once

#include "arch/i386/firmware/topology.hpp"

namespace loft {

// Adds the contents of the MADT. False, and nothing is added, if there is no valid one. Pure but for `read` and the
// log.
bool read_acpi(PhysicalReader read, CpuTopology& topology);

// Reports the root pointer and all valid tables that it leads to, DSDT and FACS included. Pure but for `read` and the
// log.
void find_acpi_tables(PhysicalReader read, RangeFound found);

} // namespace loft
