// Per-CPU areas: copies of section .percpu.
//
// The boot CPU uses the section as linked. Each copy starts with the contents that the section had before any C++ wrote
// to it; percpu_init saves them.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Saves the initial contents of the section. Boot CPU, called first (by descriptors_init).
void percpu_init();

// The size of an area in bytes. An area is page-aligned and in lowmem.
u32 percpu_bytes();

// Makes `area` the per-CPU variables of `cpu`, with their initial values. From here on PerCpu::of(cpu) and the
// _init_cpu functions of mm and kernel may be used, although the CPU does not run yet. An area is never freed. Context:
// boot CPU; `cpu` is not 0 and has not run.
void percpu_adopt(CpuId cpu, VirtAddr area);

// True for CPU 0 and for those that percpu_adopt was called for.
bool percpu_exists(CpuId cpu);

} // namespace loft
