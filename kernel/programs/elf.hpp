// Programs as files: ELF for i386 (System V ABI, edition 4.1, chapters 4 and 5; the i386 supplement), statically
// linked.
//
// A file comes from outside and nothing in it is believed: every offset, length and address is checked before it is
// used, and what is wrong is said in words.
#pragma once

#include "arch/base/error.hpp"
#include "mm/ground/layout.hpp"

#include <array>

namespace loft {

class AddressSpace;

// The bytes of a file.
class ProgramImage {
  public:
    virtual u32 size() const = 0;
    // Copies [offset, offset + bytes), which lies inside. False: it cannot be read. Preemptible context.
    [[nodiscard]] virtual bool read(u32 offset, void* to, u32 bytes) const = 0;

  protected:
    ~ProgramImage() = default;
};

// What becomes of a file in memory.
struct ElfPlan {
    static constexpr u32 kMaxSegments = 16;
    struct Segment {
        VirtAddr begin{};    // as the file says, not rounded
        u32 file_offset = 0; //
        u32 file_bytes = 0;  // from the file; the rest is zero
        u32 bytes = 0;
        bool read = false, write = false, exec = false;

        VirtAddr first_page() const { return begin.page(); }
        VirtAddr end_page() const { return VirtAddr{round_up(begin.value() + bytes, kPageSize)}; }
    };
    std::array<Segment, kMaxSegments> segments{};
    u32 count = 0;
    VirtAddr entry{};
    VirtAddr headers{};     // where the program finds its own program headers (AT_PHDR); 0: nowhere
    u32 header_count = 0;   //
    VirtAddr end{};         // behind everything: where brk begins
    bool stack_exec = true; // its stack may be executed: PT_GNU_STACK says so, or there is none, as in files of old
    bool read_exec = true;  // there is none: then all that it may read it may execute, too

    // Programs get no address above: the stack lies there.
    static constexpr u32 kHighestEnd = layout::kUserEnd - 16 * MiB;
};

// Reads the headers. Null if `plan` can be loaded; else what is wrong with the file, as the end of a sentence.
[[nodiscard]] const char* elf_examine(const ProgramImage& image, ElfPlan& plan);

// Maps and fills the segments in `space`, where none of them is yet, and sets where brk begins. Null, or what went
// wrong: the space may then have some of them. Preemptible context; the space need not be loaded.
[[nodiscard]] const char* elf_load(const ProgramImage& image, const ElfPlan& plan, AddressSpace& space);

} // namespace loft
