// The local APIC (SDM vol. 3, chapter 10), in xAPIC mode: registers in a page of physical memory.
//
// arch does not depend on mm, so the kernel maps lapic_phys_base(), uncached, and passes the address.
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/firmware/topology.hpp"

namespace loft {

// The physical address of the registers from lapic_init on: that after a reset, whatever the APIC base MSR (10.4.4)
// says now. Any context.
PhysAddr lapic_phys_base();

// Enables the local APIC of the boot CPU at its mapped registers: spurious vector, virtual wire (the 8259 on LINT0, NMI
// on LINT1), everything else masked. Interrupts that earlier software left in service are ended, and all its sources
// are masked; an interrupt that is already pending is dropped when interrupts are enabled (lapic_end_stray). Boot,
// needs descriptors_init; once.
void lapic_init(VirtAddr registers);

// The same on another CPU, without the virtual wire: each CPU has its own registers at the same address.
void lapic_init_cpu();

bool lapic_ready(); // lapic_init has been called
u32 lapic_id();     // this CPU's APIC id

// Routes this CPU's NMIs as the firmware says and disconnects the 8259: interrupts come through the I/O APIC.
void lapic_leave_virtual_wire(const CpuTopology& topology);

// The APIC id of a CPU that is or was online; each CPU sets its own when it starts.
u32 cpu_lapic_id(CpuId cpu);
void set_cpu_lapic_id(CpuId cpu, u32 id);

// End of interrupt: called by every handler of a local APIC vector except the spurious one. Any context.
void lapic_eoi();

// True if an interrupt with this vector is pending at this CPU (10.8.4). Any context.
bool lapic_has_pending(u8 vector);

// The timer, at the bus clock divided by 16 (10.5.4): one-shot without an interrupt, for calibration; its remaining
// count; periodic with vector::lapic_timer; stopped.
void lapic_timer_count_down();
u32 lapic_timer_left();
void lapic_timer_start_periodic(u32 count);
void lapic_timer_stop();
inline constexpr u32 kLapicTimerFull = 0xffff'ffff; // initial count of lapic_timer_count_down

// Sends by the interrupt command register (10.6.1) to the CPU with this APIC id. False, and nothing was sent, if the
// previous message has not left within 100 ms. Interrupts are off, or this is an NMI that does not return.
enum class IpiKind : u32 { fixed = 0 << 8, nmi = 4 << 8, init = 5 << 8, start_up = 6 << 8 };
bool lapic_send(u32 lapic_id, IpiKind kind, u8 vector);

u32 lapic_errors(); // error interrupts so far, of all CPUs

} // namespace loft
