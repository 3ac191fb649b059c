// The programs that were loaded with the kernel: multiboot modules.
#pragma once

#include "arch/base/types.hpp"

#include <string_view>

namespace loft {

class MemoryObject;

struct Program {
    std::string_view name;      // the last part of its path
    std::string_view arguments; // the rest of the module's line
    PhysAddr begin{};
    u32 bytes = 0;
};

// Finds the programs among the modules and logs which modules are none. Boot, once, after mm_init.
void programs_init();

// Null: there is no such program. Any context.
const Program* find_program(std::string_view name);
u32 program_count();

// The file of a program that find_program returned, with a reference for the caller. Null: no memory. Preemptible
// context. All who use it at the same time have the same object: its text is in memory once.
[[nodiscard]] MemoryObject* open_program(const Program& program);

} // namespace loft
