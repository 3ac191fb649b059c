// Where page tables of programs may lie: wherever there is memory, if this kernel is made for it (HIGHPTE=1), nobody
// has said `userpte=nohigh`, and the processor finds them there.
//
// With PAE it has to find a table above 4 GiB (SDM vol. 3, 4.4.2: a directory entry has all bits of a table's
// address). QEMU's i386 program cuts it off at 32 bits, and faults for ever: so it is tried before any program
// depends on it.
#pragma once

namespace loft {

// Boot CPU, once, after mm_init, before other CPUs run and before there are address spaces. If the trial fails,
// tables stay in lowmem, and a warning says so: programs run, as long as lowmem lasts. Cost: two CR3 loads.
void choose_table_memory();

// What came of it. Any context.
bool tables_may_be_high();

} // namespace loft
