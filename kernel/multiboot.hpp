// What the boot loader said, read once, checked, and copied: nothing of it is used in place later.
#pragma once

#include "arch/base/types.hpp"
#include "mm/boot_info.hpp"

#include <span>
#include <string_view>

namespace loft {

// Reads the information at physical `info` into static storage. Refuses to start when the magic is not a
// multiboot loader's or the memory map cannot be used; whatever else is wrong is named in a warning and left
// out. Boot, once, as soon as fixmap works (pagetable_early).
void read_multiboot(u32 magic, u32 info);

// A file that the loader put into memory.
struct BootModule {
    PhysAddr begin{};
    PhysAddr end{}; // exclusive
    std::string_view command;
};

// Results of read_multiboot.
std::string_view multiboot_command_line();
std::span<const FirmwareRange> multiboot_memory_map();
std::span<const BootModule> multiboot_modules();
// Memory in use: the kernel's image, the modules, and the loader's own tables.
std::span<const ReservedRange> multiboot_reserved();
// One range more that is in use from the beginning. Boot, before mm_init.
void reserve_memory(PhysAddr begin, PhysAddr end, const char* what);

} // namespace loft
