// The local APIC (SDM vol. 3, chapter 10), in xAPIC mode: registers in a page of physical memory.
//
// The page has to be mapped, and arch does not know mm: the kernel maps lapic_phys_base(), uncached, and
// passes the address on.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Where the registers are, from the APIC base MSR (10.4.4). Any context.
PhysAddr lapic_phys_base();

// Enables the local APIC of this CPU at its mapped registers: spurious vector, virtual wire (the 8259 on
// LINT0, NMI on LINT1), all else masked. Boot, needs descriptors_init; once a CPU.
void lapic_init(VirtAddr registers);

bool lapic_ready(); // lapic_init has been called
u32 lapic_id();     // this CPU's APIC id

// End of interrupt: every handler of a vector from the local APIC but the spurious one. Any context.
void lapic_eoi();

// The timer, at the bus clock divided by 16 (10.5.4). One-shot without an interrupt, for calibration; the
// count left; periodic with vector::lapic_timer.
void lapic_timer_count_down();
u32 lapic_timer_left();
void lapic_timer_start_periodic(u32 count);
inline constexpr u32 kLapicTimerFull = 0xffff'ffff; // what lapic_timer_count_down starts from

} // namespace loft
