// The page below 1 MiB in which every starting CPU begins (boot/trampoline.asm), and the ticket that it takes there.
#pragma once

#include "arch/base/types.hpp"

#include <hal/hal.hpp>

namespace loft {

// Tells a starting CPU which CPU it becomes. The trampoline reads the first two words.
struct Ticket {
    enum class Progress : u32 { none, expected, online, given_up, unsuitable };

    hal::Plain<u32> root;      // of the kernel's page tables
    hal::Plain<u32> stack_top; // of that CPU's first thread
    hal::Plain<CpuId> cpu;
    hal::Atomic<Progress> progress;
    VirtAddr double_fault_stack_top{};
    u64 arrival = 0; // time-stamp counter of that CPU
};

// Copies the trampoline to `page`, with the boot CPU's control bits, and makes the tables on which a CPU turns paging
// on. There is no ticket. Returns the vector of the start-up interrupts. The kernel's page tables are loaded. Boot CPU.
u8 trampoline_prepare(PhysAddr page);

// Shows the ticket to the CPUs that start. One of them takes it, and sees all that the caller has written before. There
// is no other ticket.
void trampoline_offer(Ticket& ticket);
// From here on no CPU finds a ticket. False: one has taken it.
bool trampoline_withdraw();

// Defined by smp.cpp: what the CPU that has taken the ticket does next. On the ticket's stack and page tables,
// interrupts off, without descriptors.
extern "C" [[noreturn]] void ap_entry(Ticket* ticket);

} // namespace loft
