// The instructions of arch/i386/isa/control.hpp that kernel/threads executes, on the simulated machine. A search path
// for the files that are compiled with kernel/threads finds this file first.
#pragma once

#include "tests/sim/stacks.hpp"
#include <hal/cpu.hpp>

namespace loft {

namespace eflags {
inline constexpr u32 interrupt = hal::detail::kInterruptFlag;
}

inline void disable_interrupts() { static_cast<void>(hal::irq_save()); }
inline void wait_for_interrupt() { sim::wait_for_interrupt(); }

} // namespace loft
