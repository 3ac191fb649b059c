// The locks each CPU holds.
#include "mm/spinlock.hpp"

namespace loft::detail {

LOFT_PERCPU hal::PerCpu<HeldLocks> held_locks;

} // namespace loft::detail
