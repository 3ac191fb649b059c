// The 8254 programmable interval timer: a clock of known frequency, and a tick where there is no better one.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

inline constexpr u32 kPitHz = 1'193'182;

// Channel 2, whose output goes nowhere while the speaker is off, counts down from 65536 round and round.
void pit_start_counter();
u16 pit_read_counter();

// Channel 0 interrupts (IRQ 0) every `divisor` of its clocks.
void pit_start_tick(u16 divisor);

} // namespace loft
