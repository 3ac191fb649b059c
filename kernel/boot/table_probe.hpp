// Whether user page tables may lie in high memory: yes if the kernel is built for it (HIGHPTE=1), the command line does
// not say `userpte=nohigh`, and the processor reads page tables there.
//
// With PAE a processor must do so above 4 GiB (SDM vol. 3, 4.4.2: a directory entry holds all bits of a table's
// address). QEMU's i386 program truncates the address to 32 bits and then faults forever, so this is probed before any
// program depends on it.
#pragma once

namespace loft {

// Boot CPU, once, after mm_init, before other CPUs run and before there are address spaces. If the probe fails, page
// tables stay in lowmem and a warning is logged: programs run as long as lowmem lasts. Cost: two CR3 loads.
void choose_table_memory();

// The result. Any context.
bool tables_may_be_high();

} // namespace loft
