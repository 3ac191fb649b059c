// hal/thread of the simulated machine. Contract: arch/base/hal_contract.hpp.
//
// Threads exist in an exploration only. Otherwise there is one thread, number 0, and a park without an earlier unpark
// throws BadAccess: it would never end.
#pragma once

#include "arch/base/types.hpp"

namespace loft::hal {

ThreadId current_thread();
void park();
void unpark(ThreadId thread);
void reschedule();

} // namespace loft::hal
