// The description of the machine that mm needs to start. The kernel fills it from the multiboot information, a host
// test with values of its own.
#pragma once

#include "arch/base/types.hpp"

#include <span>

namespace loft {

// An entry of the firmware's memory map, unchanged. Entries may be unsorted, overlap, wrap, or have length zero.
struct FirmwareRange {
    static constexpr u32 kUsable = 1; // no other type is used as RAM (multiboot 0.6.96, 3.3)
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

struct FrameRange {
    Pfn begin{};
    Pfn end{}; // exclusive
    u32 frames() const { return end - begin; }
};

// An address at which an entry of the firmware's map begins or ends, and by how much the numbers of usable and of other
// entries that cover an address change there.
struct MapBorder {
    u64 at = 0;
    int usable = 0, other = 0;
};

// Memory that the kernel provides for mm's version of the map. A map of n entries has at most n usable runs and 2n
// borders. mm itself has no limit on n.
struct PhysMapRoom {
    std::span<FrameRange> ranges;
    std::span<MapBorder> borders;
    bool fits(std::size_t entries) const { return ranges.size() >= entries && borders.size() >= 2 * entries; }
};

// A part of the kernel's image, page-aligned virtual addresses in the direct map, end exclusive.
struct ImagePart {
    VirtAddr begin{};
    VirtAddr end{};
};

struct BootInfo {
    std::span<const FirmwareRange> firmware;
    std::span<const ReservedRange> reserved;
    PhysMapRoom room;      // for the map. All three lie in lowmem, in ranges that `reserved` lists
    PhysAddr stored_end{}; // the end of the memory that holds these three; 0: not in the machine's memory

    ImagePart text;                        // R-X
    ImagePart rodata;                      // R--
    ImagePart data;                        // RW-, .bss included
    std::span<const VirtAddr> guard_pages; // pages inside `data` to leave unmapped: one below each boot stack

    static constexpr u64 kAllHighMem = ~u64{0};
    u64 highmem_bytes = kAllHighMem; // `highmem=`: exactly this much; kAllHighMem: all of it
    u32 vmalloc_bytes = 0;           // `vmalloc=`: size of the vmap area; 0 is the default
    bool userpte_nohigh = false;     // `userpte=nohigh`: page tables of programs in lowmem only
};

} // namespace loft
