// The sixteen ISA interrupts, wherever they are wired: through the I/O APIC where one is found, else through
// the two 8259s. Their vectors are the same: vector::pic_base + irq.
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/isa/vectors.hpp"

namespace loft {

struct CpuTopology;

// The 8259s, out of the way of the exceptions, all inputs masked. Needs descriptors_init; interrupts are off.
// Boot CPU, once.
void irq_init();

constexpr u32 kTimerIrq = 0;

// ISA interrupts arrive at the I/O APIC that io_apic_init was called for, which is at `address` and has an input for
// the timer. All its inputs are masked then, and the 8259s have nothing more to say. Without this call the 8259s stay.
// Needs lapic_init; interrupts are off; nothing is unmasked yet. Boot CPU, once.
void irq_use_io_apic(const CpuTopology& topology, PhysAddr address);

// "I/O APIC" or "8259".
const char* irq_controller();

// The boot CPU gets the interrupt; its handler (trap_set_handler) ends with irq_eoi. Interrupts are off, or
// the caller is the only user.
void irq_unmask(u32 irq);
void irq_mask(u32 irq);
void irq_eoi(u32 irq);
bool irq_has_pending(u32 irq); // it has come again, and waits until interrupts are on
constexpr u8 irq_vector(u32 irq) { return static_cast<u8>(vector::pic_base + irq); }

} // namespace loft
