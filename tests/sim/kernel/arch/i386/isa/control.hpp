// The instructions of arch/i386/isa/control.hpp that the kernel's sources in thread-tests execute, on the simulated
// machine. A search path for the files that are compiled with these sources finds this file first.
#pragma once

#include "arch/i386/isa/control_bits.hpp"
#include "tests/sim/stacks.hpp"
#include <hal/cpu.hpp>

namespace loft {

static_assert(eflags::interrupt == hal::detail::kInterruptFlag);

inline void enable_interrupts() { hal::irq_restore(hal::kIrqsOn); }
inline void disable_interrupts() { static_cast<void>(hal::irq_save()); }
inline void wait_for_interrupt() { sim::wait_for_interrupt(); }

// The address of this CPU's last page fault.
inline u32 read_cr2() { return sim::machine().here().cr2; }
inline void write_cr2(u32 value) { sim::machine().here().cr2 = value; }
inline u32 read_cr4() { return 0; } // without SMEP and SMAP
u64 read_tsc();

} // namespace loft
