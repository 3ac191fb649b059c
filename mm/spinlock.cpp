// The locks each CPU holds, and how many it has taken.
#include "mm/spinlock.hpp"

namespace loft {

LOFT_PERCPU hal::PerCpu<detail::HeldLocks> detail::held_locks;

LockStats lock_stats_sum() {
    LockStats sum;
    hal::online_cpus().for_each([&](CpuId cpu) {
        const detail::HeldLocks& one = detail::held_locks.of(cpu);
        sum.taken += one.taken;
        sum.waits += one.waits;
    });
    return sum;
}

} // namespace loft
