// What the boot loader said, read once, checked, and copied: nothing of it is used in place later.
//
// The copies are as long as what they hold, so they lie in memory that the loader's own map calls usable, at the lowest
// place above 1 MiB that nothing else is in.
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/firmware/topology.hpp"
#include "mm/ground/boot_info.hpp"

#include <span>
#include <string_view>

namespace loft {

// How physical memory is reached before mm: by copying it out (below 4 GiB), and in place (what the direct map will
// show).
struct PhysicalMemory {
    PhysicalReader read;
    void* (*at)(PhysAddr from, u32 bytes);
};

// Reads the information at physical `info`, and finds what the firmware left in memory. [image_begin, image_end) is the
// kernel itself. Refuses to start when the magic is not a multiboot loader's or the memory map cannot be used; whatever
// else is wrong is named in a warning and left out. Boot, once, as soon as fixmap works (pagetable_early). Cost: of a
// map of n entries, some n reads for each place that the copies do not fit at.
void read_multiboot(const PhysicalMemory& memory, u32 magic, u32 info, PhysAddr image_begin, PhysAddr image_end);

// A file that the loader put into memory.
struct BootModule {
    PhysAddr begin{};
    PhysAddr end{}; // exclusive
    std::string_view command;
};

// Results of read_multiboot. Text has printable characters and blanks only.
std::string_view multiboot_command_line();
std::span<const FirmwareRange> multiboot_memory_map();
std::span<const BootModule> multiboot_modules();
// Memory in use: the kernel's image, the modules, the loader's own tables, the firmware's, and the copies.
std::span<const ReservedRange> multiboot_reserved();
// Where mm keeps its own view of the map, and where that and the copies end.
const PhysMapRoom& multiboot_map_room();
PhysAddr multiboot_stored_end();
// One range more that is in use from the beginning. Boot, before mm_init.
void reserve_memory(PhysAddr begin, PhysAddr end, const char* what);

} // namespace loft
