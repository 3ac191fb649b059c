// Reads physical memory at any address through the boot slots of fixmap: for the data of loader and firmware.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Copies `bytes` to `to`; false if part of them lies above this kernel's reach. A PhysicalReader
// (arch/i386/firmware/topology.hpp). Context: boot, one CPU, from pagetable_early on. Cost: one flushed page per page
// read.
bool read_physical(PhysAddr from, void* to, u32 bytes);

// The same, but below 4 GiB only: for use before the physical-address width is known (probe_reach).
bool read_below_4g(PhysAddr from, void* to, u32 bytes);

} // namespace loft
