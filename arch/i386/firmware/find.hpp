// Finding the firmware's tables: the description of the machine, and the memory that they use.
#pragma once

#include "arch/i386/firmware/topology.hpp"

namespace loft {

// Reads the firmware's description, ACPI before MP tables. Without either, the boot CPU is the only one. Context: boot;
// cost: some hundred calls of `read`. Never fails.
CpuTopology find_topology(PhysicalReader read, u32 boot_lapic_id);

// Reports the BIOS data below 640 KiB, the ACPI and the MP tables, at any address: the firmware's map may call their
// memory usable. A broken table is not used, so it is not reported. Context and cost as above.
void find_firmware_tables(PhysicalReader read, RangeFound found);

} // namespace loft
