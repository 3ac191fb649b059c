// The local APIC (SDM vol. 3, chapter 10), in xAPIC mode: registers in a page of physical memory.
//
// The page has to be mapped, and arch does not know mm: the kernel maps lapic_phys_base(), uncached, and
// passes the address on.
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/firmware/topology.hpp"

namespace loft {

// Where the registers will be: the address that they have after a reset, wherever the APIC base MSR (10.4.4) has them
// now. Any context.
PhysAddr lapic_phys_base();

// Enables the local APIC of the boot CPU at its mapped registers: spurious vector, virtual wire (the 8259 on
// LINT0, NMI on LINT1), all else masked. What whoever ran before has left in service is ended, and all
// its sources are silent; what has arrived already is dropped when interrupts are let in (lapic_end_stray). Boot, needs
// descriptors_init; once.
void lapic_init(VirtAddr registers);

// The same on another CPU, without the virtual wire: each CPU finds its own registers at the same address.
void lapic_init_cpu();

bool lapic_ready(); // lapic_init has been called
u32 lapic_id();     // this CPU's APIC id

// This CPU's NMIs arrive where the firmware says, and the 8259 nowhere: interrupts come through the I/O APIC.
void lapic_leave_virtual_wire(const CpuTopology& topology);

// The APIC id of a CPU that is or was online; each CPU tells its own when it comes.
u32 cpu_lapic_id(CpuId cpu);
void set_cpu_lapic_id(CpuId cpu, u32 id);

// End of interrupt: every handler of a vector from the local APIC but the spurious one. Any context.
void lapic_eoi();

// True if an interrupt with this vector has arrived at this CPU and waits for it (10.8.4). Any context.
bool lapic_has_pending(u8 vector);

// The timer, at the bus clock divided by 16 (10.5.4). One-shot without an interrupt, for calibration; the
// count left; periodic with vector::lapic_timer.
void lapic_timer_count_down();
u32 lapic_timer_left();
void lapic_timer_start_periodic(u32 count);
void lapic_timer_stop();
inline constexpr u32 kLapicTimerFull = 0xffff'ffff; // what lapic_timer_count_down starts from

// The interrupt command register (10.6.1): to the one CPU with this APIC id. False, and nothing was sent,
// if the message before has not left within 100 ms. Interrupts are off, or this is an NMI after which
// nothing goes on.
enum class IpiKind : u32 { fixed = 0 << 8, nmi = 4 << 8, init = 5 << 8, start_up = 6 << 8 };
bool lapic_send(u32 lapic_id, IpiKind kind, u8 vector);

u32 lapic_errors(); // error interrupts so far, of all CPUs

} // namespace loft
