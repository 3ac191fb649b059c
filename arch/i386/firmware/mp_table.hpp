// CPUs and interrupt controllers in the tables before ACPI: MultiProcessor Specification 1.4, 4 and 5.
#pragma once

#include "arch/i386/firmware/topology.hpp"

namespace loft {

// Adds the contents of the MP tables, or of a default configuration. False, and nothing is added, if there are no valid
// ones. Pure but for `read` and the log.
bool read_mp_tables(PhysicalReader read, CpuTopology& topology);

// Reports the memory of the tables. Pure but for `read`.
void find_mp_tables(PhysicalReader read, RangeFound found);

} // namespace loft
