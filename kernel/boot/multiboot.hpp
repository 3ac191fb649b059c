// The boot loader's information: read once, checked, and copied. Nothing of the original is used later.
//
// The copies have the size of their contents. They lie in memory that the loader's map calls usable, at the lowest
// address above 1 MiB where nothing else is in use.
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/firmware/topology.hpp"
#include "mm/ground/boot_info.hpp"

#include <span>
#include <string_view>

namespace loft {

// How physical memory is read before mm_init: `read` copies it out (below 4 GiB), `at` returns a pointer (direct map
// only).
struct PhysicalMemory {
    PhysicalReader read;
    void* (*at)(PhysAddr from, u32 bytes);
};

// Reads the information at physical `info`, and finds the firmware's tables in memory. [image_begin, image_end) is the
// kernel image. Refuses to start when the magic number is not a multiboot loader's or the memory map cannot be used;
// any other malformed item is ignored with a warning. Boot, once, as soon as fixmap works (pagetable_early). Cost: for
// a map of n entries, about n reads for each candidate address of the copies.
void read_multiboot(const PhysicalMemory& memory, u32 magic, u32 info, PhysAddr image_begin, PhysAddr image_end);

// A file that the loader has put into memory.
struct BootModule {
    PhysAddr begin{};
    PhysAddr end{}; // exclusive
    std::string_view command;
};

// Results of read_multiboot. Text has printable characters and blanks only.
std::string_view multiboot_command_line();
std::span<const FirmwareRange> multiboot_memory_map();
std::span<const BootModule> multiboot_modules();
// Memory in use: the kernel image, the modules, the tables of loader and firmware, and the copies.
std::span<const ReservedRange> multiboot_reserved();
// Room for mm's own form of the map, and the end of it and the copies.
const PhysMapRoom& multiboot_map_room();
PhysAddr multiboot_stored_end();
// Adds one more range in use. Boot, before mm_init.
void reserve_memory(PhysAddr begin, PhysAddr end, const char* what);

} // namespace loft
