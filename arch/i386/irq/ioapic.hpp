// The I/O APIC (Intel 82093AA data sheet): from its inputs to a vector on a CPU.
#pragma once

#include "arch/i386/firmware/topology.hpp"

namespace loft {

// Does an I/O APIC answer at these registers, mapped and uncached? What is written to them to find out does no harm to
// one. The caller knows that there is no memory. Boot CPU, interrupts off.
bool io_apic_answers(VirtAddr registers);

// The one that the functions below are about. Its registers are mapped, uncached, at `registers`. Masks all inputs,
// which is all there is to do about one that is not used. Boot CPU, interrupts off.
void io_apic_init(VirtAddr registers);

u32 io_apic_inputs();

// Sends what arrives at an input to one CPU, by its APIC id; masked at first. Interrupts are off, or the
// caller is the only user, here and below.
void io_apic_route(u32 input, LineMode mode, u32 lapic_id, u8 vector);
void io_apic_route_nmi(u32 input, LineMode mode, u32 lapic_id);
void io_apic_mask(u32 input);
void io_apic_unmask(u32 input);

} // namespace loft
