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
// The first call of a handler. False: the request has disappeared; the chip has had all that it needs, and the handler
// returns.
bool pic_is_real(u32 irq);
// From now on the input is level triggered, by the register that boards with PCI have (82371SB data sheet, 2.5.3).
// Not for 0, 1, 2, 8 and 13.
void pic_make_level(u32 irq);
// True if the input has requested again and the CPU has not acknowledged it yet.
bool pic_has_pending(u32 irq);

} // namespace loft
