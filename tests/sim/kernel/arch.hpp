// For the rig of kernel/threads: what the interrupts of arch/i386 call.
#pragma once

#include "arch/i386/cpu/trap_frame.hpp"

namespace loft::sim {

// Calls the handler that timer_set_tick_handler has set, if any. In the interrupt.
void call_tick_handler(TrapFrame& frame);

} // namespace loft::sim
