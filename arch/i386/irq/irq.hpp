// The sixteen ISA interrupts: through the I/O APIC if there is one, otherwise through the two 8259s. Their vectors are
// the same: vector::pic_base + irq.
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/isa/vectors.hpp"

namespace loft {

struct CpuTopology;

// Moves the vectors of the 8259s away from the exceptions; all inputs are masked. Needs descriptors_init; interrupts
// are off. Boot CPU, once.
void irq_init();

constexpr u32 kTimerIrq = 0;

// Routes the ISA interrupts through the I/O APIC that io_apic_init selected; it is at `address`, and the timer has an
// input there. All its inputs are masked then, and the 8259s are no longer used. Without this call the 8259s stay in
// use. Needs lapic_init; interrupts are off; no interrupt is unmasked yet. Boot CPU, once.
void irq_use_io_apic(const CpuTopology& topology, PhysAddr address);

// "I/O APIC" or "8259".
const char* irq_controller();

// False: the interrupt arrives nowhere (another one uses the input of its number).
bool irq_is_connected(u32 irq);
// For an interrupt of PCI devices: level triggered; at the I/O APIC also active low, unless the firmware says something
// else. Not for 0, 1, 2, 8 and 13. It is masked; interrupts are off, or the caller is the only user.
void irq_make_level(u32 irq);

// The boot CPU receives the interrupt; its handler (trap_set_handler) begins with irq_is_real, returns if that is false
// (it is spurious, counted and ended), and otherwise ends with irq_eoi. The handler of the tick does not ask: that
// interrupt is edge triggered and never spurious. Interrupts are off, or the caller is the only user.
void irq_unmask(u32 irq);
void irq_mask(u32 irq);
bool irq_is_real(u32 irq);
void irq_eoi(u32 irq);
bool irq_has_pending(u32 irq); // raised again, and waiting until interrupts are on
constexpr u8 irq_vector(u32 irq) { return static_cast<u8>(vector::pic_base + irq); }

} // namespace loft
