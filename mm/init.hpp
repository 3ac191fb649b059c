// Starting mm, and its sums.
#pragma once

#include "mm/frames/physmap.hpp"
#include "mm/ground/boot_info.hpp"

namespace loft {

// Boot, once, one CPU, interrupts off; the fixmap works already (pagetable_early). Reads the firmware's map,
// decides the layout, builds and loads the kernel's page tables, starts zones, object cache, pkmap, vmap and address
// spaces. Refuses to start when the machine or its map does not allow it. All calls of mm work when it returns.
void mm_init(const BootInfo& info);

// What mm keeps for each CPU, in its first state. mm_init does it for the CPUs that are online; a CPU that
// comes later is prepared by the one that starts it.
void mm_init_cpu(CpuId cpu);

// The firmware's map as mm understood it; valid after mm_init.
const PhysMap& physmap();

// The names and meanings of /proc/meminfo, in KiB.
struct MemInfo {
    u32 mem_total, mem_free;   // frames handed to the zones, and free
    u32 low_total, low_free;   // DMA and Normal
    u32 high_total, high_free; // HighMem
    u32 page_tables;           // tables and directories of programs
    u32 page_tables_high;      // of these, in high memory
    u32 bounce;                // bounce buffers
};
MemInfo meminfo();

} // namespace loft
