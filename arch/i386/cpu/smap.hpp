// Writes STAC and CLAC into the kernel's code, on a processor that has them.
#pragma once

namespace loft {

// Replaces the nop of every place that section .smap lists (isa/smap.hpp) by its instruction. Boot, once, before
// CR4.SMAP is set, before mm write-protects the text, and before other CPUs run. The processor must have SMAP: on
// others the instructions are undefined opcodes. The caller executes a serializing instruction afterwards (SDM vol. 3,
// 8.1.3).
void smap_write_instructions();

} // namespace loft
