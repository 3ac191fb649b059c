// The frame of every interrupt and exception: it leaves the local maps and the counts as it found them.
#pragma once

#include "arch/base/types.hpp"
#include "mm/tables/flush_clock.hpp"

namespace loft {

// The kernel wraps every interrupt and exception (not NMI, not double fault) in these two: the handler has local slots
// and a limit of its own above those of the context that it interrupts. Leaving panics if the handler left a local
// mapping or a count behind. Context: interrupts off. Cost: none, but a CPU that was idle flushes what it owes
// (tlb_leave_idle).
struct InterruptCookie {
    u32 local_top;
    u32 local_limit;
    u32 preempt_count;
};
InterruptCookie interrupt_enter();
void interrupt_leave(const InterruptCookie& cookie);

} // namespace loft
