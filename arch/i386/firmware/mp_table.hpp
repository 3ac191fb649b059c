// The description of CPUs and interrupt controllers from before ACPI: MultiProcessor Specification 1.4, 4 and
// 5.
#pragma once

#include "arch/i386/firmware/topology.hpp"

namespace loft {

// Adds what the MP tables say, or one of the default configurations. False, and nothing is added, if there
// are no sound ones. Pure but for `read` and the log.
bool read_mp_tables(PhysicalReader read, CpuTopology& topology);

// Where they are. Pure but for `read`.
void find_mp_tables(PhysicalReader read, RangeFound found);

} // namespace loft
