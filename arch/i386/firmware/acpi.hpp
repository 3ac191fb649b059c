// ACPI's description of CPUs and interrupt controllers: the MADT (ACPI 6.5, 5.2.12).
#pragma once

#include "arch/i386/firmware/topology.hpp"

namespace loft {

// Adds what the MADT says. False, and nothing is added, if there is no sound one. Pure but for `read` and the
// log.
bool read_acpi(PhysicalReader read, CpuTopology& topology);

// Where the root pointer and all sound tables are that it leads to, DSDT and FACS included. Pure but for `read` and the
// log.
void find_acpi_tables(PhysicalReader read, RangeFound found);

} // namespace loft
