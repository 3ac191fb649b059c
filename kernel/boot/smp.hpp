// Starting the other CPUs.
#pragma once

#include "arch/base/types.hpp"
#include "mm/ground/boot_info.hpp"

#include <span>

namespace loft {

struct CpuTopology;

// A page below 1 MiB for the start-up code: usable memory, not in use. The caller must keep it from the allocator. 0 if
// there is none: then the other CPUs stay off. Pure.
PhysAddr choose_trampoline(std::span<const FirmwareRange> firmware, std::span<const ReservedRange> reserved);

// Starts the other CPUs of the topology, so that at most `most` run. A CPU that does not come up is reported and left
// out. The topology must stay valid. Boot CPU, thread "main", interrupts on; once.
void start_other_cpus(const CpuTopology& topology, u32 most, PhysAddr trampoline);

} // namespace loft
