// Physical memory wherever it is, through the boot windows of fixmap: for what loader and firmware left.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Copies `bytes` to `to`; false if they do not all lie where this kernel reaches. As arch/i386/firmware/topology.hpp
// wants a PhysicalReader. Context: boot, one CPU, from pagetable_early on. Cost: a flush of each page that was looked
// at.
bool read_physical(PhysAddr from, void* to, u32 bytes);

// The same, but below 4 GiB only: as long as it is not known how far the processor reaches (probe_reach).
bool read_below_4g(PhysAddr from, void* to, u32 bytes);

} // namespace loft
