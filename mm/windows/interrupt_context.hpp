// Entry and exit of every interrupt and exception: on exit the local maps and the counts are as they were on entry.
#pragma once

#include "arch/base/types.hpp"
#include "mm/tables/flush_clock.hpp"

namespace loft {

// The kernel calls these two around the handler of every interrupt and exception, except NMI and double fault. The
// handler's local slots lie above those of the interrupted context, and its limit is the end of the CPU's window.
// interrupt_leave panics if the handler has left a local mapping or has changed the preempt count. Context: interrupts
// off. Cost: none; a CPU that was idle and owes a flush flushes on entry (tlb_leave_idle).
struct InterruptCookie {
    u32 local_top;
    u32 local_limit;
    u32 preempt_count;
};
InterruptCookie interrupt_enter();
void interrupt_leave(const InterruptCookie& cookie);

} // namespace loft
