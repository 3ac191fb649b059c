// What mm has to know about the machine before it can start: filled by the kernel from the multiboot
// information, by a host test from its imagination.
#pragma once

#include "arch/base/types.hpp"

#include <span>

namespace loft {

// An entry of the firmware's memory map, as it came: unsorted, overlapping, wrapping, of length zero.
struct FirmwareRange {
    static constexpr u32 kUsable = 1; // every other type is not RAM for us (multiboot 0.6.96, 3.3)
    u64 base = 0;
    u64 length = 0;
    u32 type = 0;
};

// Physical memory that is in use before the allocator exists: image, modules, multiboot information.
struct ReservedRange {
    PhysAddr begin{};
    PhysAddr end{}; // exclusive
    const char* what = "";
};

// A part of the kernel's image, page-aligned virtual addresses in the direct map, end exclusive.
struct ImagePart {
    VirtAddr begin{};
    VirtAddr end{};
};

struct BootInfo {
    std::span<const FirmwareRange> firmware;
    std::span<const ReservedRange> reserved;

    ImagePart text;   // R-X
    ImagePart rodata; // R--
    ImagePart data;   // RW-, .bss included
    std::span<const VirtAddr>
        guard_pages; // pages inside `data` that are left unmapped: below each boot stack

    static constexpr u64 kAllHighMem = ~u64{0};
    u64 highmem_bytes = kAllHighMem; // `highmem=`: exactly this much, or as much as there is
    u32 vmalloc_bytes = 0;           // `vmalloc=`: size of the vmap area; 0 is the default
    bool userpte_nohigh = false;     // `userpte=nohigh`: page tables of programs in lowmem only
};

} // namespace loft
