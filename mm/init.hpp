// Initialisation of mm, and meminfo.
#pragma once

#include "mm/frames/physmap.hpp"
#include "mm/ground/boot_info.hpp"

namespace loft {

// Boot, once, one CPU, interrupts off; the fixmap works already (pagetable_early). Reads the firmware's map, computes
// the layout, builds and loads the kernel's page tables, initialises zones, object cache, pkmap, vmap and address
// spaces. Refuses to start if the machine or its map does not allow it. All functions of mm work when it returns.
void mm_init(const BootInfo& info);

// Initialises the per-CPU data of mm. mm_init calls it for the CPUs that are online; the CPU that starts another one
// calls it for that one.
void mm_init_cpu(CpuId cpu);

// The sorted and trimmed memory map; valid after mm_init.
const PhysMap& physmap();

// The names and meanings of /proc/meminfo, in KiB.
struct MemInfo {
    u32 mem_total, mem_free;   // memory of all zones, and the free part
    u32 low_total, low_free;   // DMA and Normal
    u32 high_total, high_free; // HighMem
    u32 page_tables;           // tables and directories of programs
    u32 page_tables_high;      // of these, in high memory
    u32 cached, dirty;         // pages of files, and of swap areas; those of them that are to be written
    u32 swap_total, swap_free;
    u32 bounce; // the bounce frames of all disks (mm/cache/block.hpp)
};
MemInfo meminfo();

} // namespace loft
