// Finding and starting the other CPUs.
#pragma once

#include "arch/base/types.hpp"
#include "mm/ground/boot_info.hpp"

#include <span>

namespace loft {

// A page below 1 MiB for the start-up code: usable memory, not in use. The caller must keep it from the allocator. 0 if
// there is none: then the other CPUs stay off. Pure.
PhysAddr choose_trampoline(std::span<const FirmwareRange> firmware, std::span<const ReservedRange> reserved);

// Reads the firmware's tables, and routes the ISA interrupts through the I/O APIC if there is one. After lapic_init,
// interrupts off, none of them unmasked. Boot CPU, once.
void read_topology();

// Starts every CPU that the firmware lists and `maxcpus=` allows. A CPU that does not come up is reported and left out.
// Boot CPU, thread "main", interrupts on; once.
void start_other_cpus(PhysAddr trampoline);

} // namespace loft
