// The 8254 programmable interval timer: a clock of known frequency, and the tick if the local APIC's timer does not
// work.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

inline constexpr u32 kPitHz = 1'193'182;

// Channel 2 (its output is unconnected while the speaker is off) counts down from 65536, periodically.
void pit_start_counter();
u16 pit_read_counter();

// Channel 0 raises IRQ 0 every `divisor` of its clocks.
void pit_start_tick(u16 divisor);

} // namespace loft
