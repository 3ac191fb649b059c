// For tests of the start of CPUs: what the hardware and boot/trampoline.asm do.
#pragma once

#include "arch/base/types.hpp"

namespace loft::sim {

// The first function of a CPU that is off: waits until it is called, takes the ticket, and enters the kernel by
// ap_entry. It stands for boot/trampoline.asm: a CPU is in its first page until it has a ticket, and then on the
// ticket's page tables, and on its stack. A CPU that finds the ticket of another one becomes that one.
[[noreturn]] void start_up_code();

// The kernel under test starts the CPUs that are off; so online_cpus() is its own word from here on, with those CPUs
// that run now.
void kernel_starts_cpus();
void kernel_starts_no_cpus();

bool& lacks_a_feature(CpuId cpu); // a test may set it; false at the begin of each schedule
u32 cpus_exchanged();             // that have become another one, in this schedule

} // namespace loft::sim
