// Sleeping for a time: scheduler.hpp has the call; this is for the tick.
#pragma once

namespace loft {

// Wakes who has slept long enough on this CPU. In the tick, interrupts off.
void wake_sleepers();

} // namespace loft
