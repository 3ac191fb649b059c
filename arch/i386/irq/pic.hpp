// The two 8259 interrupt controllers of the PC.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Moves their vectors out of the range of the exceptions, to vector::pic_base, and masks all inputs. Needs
// descriptors_init; interrupts are off. Boot CPU, once.
void pic_init();

// IRQ 0-15. Interrupts are off, or the caller is the only user. An unmasked IRQ's handler calls pic_eoi.
void pic_unmask(u32 irq);
void pic_mask(u32 irq);
void pic_eoi(u32 irq);
// The input has asked again, and the CPU has not heard of it yet.
bool pic_has_pending(u32 irq);

} // namespace loft
