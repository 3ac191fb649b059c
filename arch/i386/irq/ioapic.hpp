// The I/O APIC (Intel 82093AA data sheet): routes its inputs to a vector on a CPU.
#pragma once

#include "arch/i386/firmware/topology.hpp"

namespace loft {

// True if there is an I/O APIC at these registers, mapped uncached. The test writes registers, which does no harm to an
// I/O APIC. The caller has checked that there is no memory. Boot CPU, interrupts off.
bool io_apic_answers(VirtAddr registers);

// Selects the I/O APIC for the functions below; its registers are mapped, uncached, at `registers`. Masks all inputs:
// for an I/O APIC that is not used, nothing else is needed. Boot CPU, interrupts off.
void io_apic_init(VirtAddr registers);

u32 io_apic_inputs();

// Routes an input to the CPU with this APIC id, masked at first. Here and below: interrupts are off, or the caller is
// the only user.
void io_apic_route(u32 input, LineMode mode, u32 lapic_id, u8 vector);
void io_apic_route_nmi(u32 input, LineMode mode, u32 lapic_id);
void io_apic_mask(u32 input);
void io_apic_unmask(u32 input);

} // namespace loft
