// The two 8259 interrupt controllers of the PC.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Moves their vectors away from the exceptions, to vector::pic_base, and masks all inputs. Needs descriptors_init;
// interrupts are off. Boot CPU, once.
void pic_init();

// IRQ 0-15. Interrupts are off, or the caller is the only user. The handler of an unmasked IRQ calls pic_eoi.
void pic_unmask(u32 irq);
void pic_mask(u32 irq);
void pic_eoi(u32 irq);
// True if the input has requested again and the CPU has not acknowledged it yet.
bool pic_has_pending(u32 irq);

} // namespace loft
