// The 256 interrupt vectors and their use.
#pragma once

#include "arch/base/types.hpp"

namespace loft::vector {

// Exceptions (SDM vol. 3, table 6-1).
inline constexpr u8 divide_error = 0, debug = 1, nmi = 2, breakpoint = 3, overflow = 4, bound_range = 5,
                    invalid_opcode = 6, no_fpu = 7, double_fault = 8, invalid_tss = 10, segment_not_present = 11,
                    stack_fault = 12, general_protection = 13, page_fault = 14, x87_error = 16, alignment_check = 17,
                    machine_check = 18, simd_error = 19;
inline constexpr u8 last_exception = 31;
inline constexpr u8 first_interrupt = 16; // lowest vector that a local APIC can deliver (SDM vol. 3, 10.5.2)

// The sixteen inputs of the two 8259s.
inline constexpr u8 pic_base = 0x20;
inline constexpr u8 pic_irq0 = pic_base + 0, pic_irq7 = pic_base + 7, pic_irq15 = pic_base + 15;

// Messages of PCI devices (kernel/devices/interrupt.hpp).
inline constexpr u8 first_message = 0x90;
inline constexpr u32 messages = 16;

// Linux's system call: besides the breakpoint, the only gate that ring 3 may enter by an instruction.
inline constexpr u8 system_call = 0x80;

// The local APIC. The low four bits of the spurious vector are 1, as the oldest models require (SDM 10.9).
inline constexpr u8 lapic_timer = 0xec, lapic_error = 0xfe, lapic_spurious = 0xff;

// Interrupts between CPUs (ipi.hpp). Priority above devices and timer: another CPU waits for them.
inline constexpr u8 ipi_reschedule = 0xf0, ipi_call = 0xf1;

} // namespace loft::vector
