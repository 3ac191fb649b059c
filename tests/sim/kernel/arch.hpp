// For the rig of thread-tests: what the interrupts of arch/i386 call, and the registers of programs.
#pragma once

#include "arch/i386/cpu/tls.hpp"
#include "arch/i386/cpu/trap_frame.hpp"

namespace loft::sim {

// Calls the handler that timer_set_tick_handler has set, if any. In the interrupt.
void call_tick_handler(TrapFrame& frame);

// In ring 3: one of the FPU's registers of this CPU, and the descriptors that it has loaded. An error if the FPU is
// off.
u8& fpu_register();
const TlsDescriptors& tls_registers();

} // namespace loft::sim
