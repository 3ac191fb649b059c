// hal/thread of the simulated machine, for a kernel without threads: those of the explorer.
#include "tests/sim/world.hpp"

#include <hal/cpu.hpp>
#include <hal/thread.hpp>

namespace loft::hal {

ThreadId current_thread() { return ThreadId{sim::detail::exploring ? sim::world().current_thread() : 0}; }

void park() {
    if (sim::detail::exploring) return sim::world().park();
    // A spurious return, after each step of a device.
    if (!sim::machine().step_a_device())
        throw sim::BadAccess{"park: there is no other thread, and no device, that could wake this one"};
}
void unpark(ThreadId thread) {
    if (sim::detail::exploring) sim::world().unpark(thread.value() - 1);
}
void reschedule() {
    if (sim::detail::exploring) return sim::world().yield();
    ++sim::machine().counters(this_cpu()).reschedules;
}

} // namespace loft::hal
