// ELF executables for i386 (System V ABI, edition 4.1, chapters 4 and 5; the i386 supplement), statically linked.
//
// The file is untrusted input: each offset, length and address is checked before use, and a problem is returned as
// text.
#pragma once

#include "arch/base/error.hpp"
#include "mm/ground/layout.hpp"

#include <array>

namespace loft {

class AddressSpace;
class MemoryObject;

// The memory layout of a program.
struct ElfPlan {
    static constexpr u32 kMaxSegments = 16;
    struct Segment {
        VirtAddr begin{};    // as in the file, not rounded
        u32 file_offset = 0; //
        u32 file_bytes = 0;  // number of bytes from the file; the rest is zero
        u32 bytes = 0;
        bool read = false, write = false, exec = false;

        VirtAddr first_page() const { return begin.page(); }
        VirtAddr end_page() const { return VirtAddr{round_up(begin.value() + bytes, kPageSize)}; }
    };
    std::array<Segment, kMaxSegments> segments{};
    u32 count = 0;
    VirtAddr entry{};
    VirtAddr headers{};     // where the program finds its program headers (AT_PHDR); 0: they are not mapped
    u32 header_count = 0;   // number of program headers (AT_PHNUM)
    VirtAddr end{};         // end of the last segment: brk begins here
    bool stack_exec = true; // executable stack: PT_GNU_STACK says so, or is absent (old files)
    bool read_exec = true;  // PT_GNU_STACK is absent: readable memory is executable, too

    // Segments end below this address: the stack lies above.
    static constexpr u32 kHighestEnd = layout::kUserEnd - 16 * MiB;
};

// Reads the headers. Null if `plan` can be loaded; else what is wrong with the file, as the end of a sentence.
// Preemptible context.
[[nodiscard]] const char* elf_examine(MemoryObject& file, ElfPlan& plan);

// Maps the segments in `space`, where none of them is yet, and sets where brk begins: private areas of the file, whose
// pages come by faults, and zeros behind them. What lies in a segment's first and last page beside the segment is what
// the file has there; behind the file's part of a longer segment it is zeros (ABI, figure 5-2). Null, or what went
// wrong: the space may then have some of the segments. Preemptible context; the space need not be loaded.
[[nodiscard]] const char* elf_load(MemoryObject& file, const ElfPlan& plan, AddressSpace& space);

} // namespace loft
