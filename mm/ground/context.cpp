// The counts of a context, and the panic of might_sleep. Contract: context.hpp.
#include "mm/ground/context.hpp"

namespace loft {

LOFT_PERCPU hal::PerCpu<Context> context;

void sleep_in_atomic(const char* what) {
    const Context& now = context.mine();
    panic("{} may sleep, called in atomic context: preempt count {}, interrupt depth {}, interrupts {}", what,
          now.preempt_depth(), now.irq_depth(), hal::irqs_enabled() ? "on" : "off");
}

} // namespace loft
