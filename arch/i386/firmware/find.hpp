// Finding what the firmware left: the description of the machine, and where its tables are.
#pragma once

#include "arch/i386/firmware/topology.hpp"

namespace loft {

// Reads what the firmware left, ACPI before MP tables. With neither, the boot CPU is all there is. Context:
// boot; costs what `read` costs, some hundred calls. Never fails.
CpuTopology find_topology(PhysicalReader read, u32 boot_lapic_id);

// What the BIOS keeps below 640 KiB, the tables of ACPI and the MP tables, wherever they lie: the firmware's map may
// call their memory usable. A table that is broken is not used, so it is not told of either. Context and cost as above.
void find_firmware_tables(PhysicalReader read, RangeFound found);

} // namespace loft
