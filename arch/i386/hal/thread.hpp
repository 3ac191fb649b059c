// hal/thread: threads, as mm uses them: current thread, sleeping, waking. Contract: arch/base/hal_contract.hpp.
//
// The kernel's scheduler defines these.
#pragma once

#include "arch/base/types.hpp"

namespace loft::hal {

ThreadId current_thread();
void park();
void unpark(ThreadId thread);
void reschedule();

} // namespace loft::hal
