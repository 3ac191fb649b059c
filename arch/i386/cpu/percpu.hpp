// Areas: each CPU's copy of section .percpu.
//
// The boot CPU uses the section as linked. What a copy starts from is the section as it was before the first
// line of C++ wrote to it, kept aside by percpu_init.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Keeps the untouched section aside. Boot CPU, the first thing of all (descriptors_init calls it).
void percpu_init();

// How many bytes an area has. An area is page-aligned and in lowmem.
u32 percpu_bytes();

// Makes `area` the per-CPU variables of `cpu`, with their first values. From here on PerCpu::of(cpu) and
// the _init_cpu functions of mm and kernel may be used on it, although the CPU does not run yet. An area
// stays for good. Context: boot CPU; `cpu` is not 0 and has not run.
void percpu_adopt(CpuId cpu, VirtAddr area);

// Has an area: CPU 0, and those that percpu_adopt was called for.
bool percpu_exists(CpuId cpu);

} // namespace loft
