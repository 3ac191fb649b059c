// Spinning for a lock, and the per-CPU lists and counts of held locks.
#include "mm/ground/spinlock.hpp"

#include "mm/ground/counters.hpp"

namespace loft {

LOFT_PERCPU hal::PerCpu<detail::HeldLocks> detail::held_locks;

void SpinLock::contend(u32 me) {
    detail::held_locks.add<&detail::HeldLocks::waits>(1);
    for (u32 found = kNobody; !owner_.compare_exchange(found, me); found = kNobody) {
        if (found == me) panic("spinlock: this CPU already holds it, taken at {:08x}", taken_at_.load());
        hal::cpu_relax();
    }
}

LockStats lock_stats_sum() {
    return sum_of_cpus([](CpuId cpu) {
        const detail::HeldLocks& one = detail::held_locks.of(cpu);
        return LockStats{one.taken, one.waits};
    });
}

} // namespace loft
