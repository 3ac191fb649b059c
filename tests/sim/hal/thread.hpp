// hal/thread of the simulated machine: threads exist in an exploration. Contract:
// arch/base/hal_contract.hpp.
//
// Elsewhere everything is one thread, number 0, and a park that nobody has given the permit for throws
// BadAccess: it would never end.
#pragma once

#include "arch/base/types.hpp"

namespace loft::hal {

using loft::ThreadId;

ThreadId current_thread();
void park();
void unpark(ThreadId thread);
void reschedule();

} // namespace loft::hal
