// The programs that came with the kernel: multiboot modules.
#pragma once

#include "kernel/programs/elf.hpp"
#include "mm/ground/layout.hpp"

#include <string_view>

namespace loft {

// A module's bytes, where the loader has put them: in frames that nobody else was given. Readable wherever this
// kernel reaches.
class ModuleImage final : public ProgramImage {
  public:
    constexpr ModuleImage() = default;
    ModuleImage(PhysAddr begin, u32 size) : begin_{begin}, size_{size} {}
    u32 size() const override { return size_; }
    bool read(u32 offset, void* to, u32 bytes) const override;

  private:
    PhysAddr begin_{};
    u32 size_ = 0;
};

struct Program {
    std::string_view name;      // the last part of its path
    std::string_view arguments; // the rest of the module's line
    ModuleImage image;
};

// Looks at the modules and says which of them are no programs. Boot, once, after mm_init.
void programs_init();

// Null: there is no such program. Any context.
const Program* find_program(std::string_view name);
u32 program_count();

} // namespace loft
