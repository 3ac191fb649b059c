// A CPU goes away and comes back. Contract and protocol: hotplug.hpp.
#include "kernel/threads/hotplug.hpp"

#include "arch/i386/io/power.hpp"
#include "arch/i386/irq/smp.hpp"
#include "arch/i386/irq/timer.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/ground/mutex.hpp"
#include "mm/ground/remote.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/tables/space_root.hpp"

namespace loft {
namespace {

Mutex hotplug{"hotplug"}; // one CPU goes or comes at a time
hal::Atomic<u32> away;    // the CPUs that run nothing any more, and can be started again

constexpr u32 kTickMs = 1000 / kTicksPerSecond;

// By a thread on the CPU.
bool close_here() {
    for (u32 tries = 0; !scheduler_close(); ++tries) {
        if (tries == kHotplugTries) return false;
        sleep_ms(kTickMs);
    }
    return true;
}

} // namespace

Hotplug cpu_down(CpuId cpu) {
    might_sleep("cpu_down");
    if (!config::kSmp || cpu == CpuId{0}) return Hotplug::boot_cpu;
    const MutexGuard one_at_a_time{hotplug};
    if (cpu.value() >= config::kMaxCpus || !hal::online_cpus().has(cpu)) return Hotplug::no_such;
    const CpuSet before = thread_self()->affinity;
    set_affinity(CpuSet::only(cpu));
    const bool closed = close_here();
    set_affinity(before);
    if (!closed) return Hotplug::busy;
    while ((away.load() & CpuSet::only(cpu).bits()) == 0)
        hal::cpu_relax();
    smp_reset(cpu);
    return Hotplug::done;
}

void cpu_departs() {
    drain_local_pages();
    SpaceRoot::leave_all();
    smp_leave();
    remote_leave();
    away.fetch_or(CpuSet::only(hal::this_cpu()).bits());
    halt_forever();
}

Hotplug cpu_up(CpuId cpu) {
    might_sleep("cpu_up");
    if (cpu.value() >= config::kMaxCpus) return Hotplug::no_such;
    const MutexGuard one_at_a_time{hotplug};
    const u32 bit = CpuSet::only(cpu).bits();
    if ((away.load() & bit) == 0) return Hotplug::no_such;
    tlb_start_cpu(cpu);
    if (start_cpu_again(cpu) != CpuStart::online) return Hotplug::failed;
    away.fetch_and(~bit);
    while (!open_cpus().has(cpu))
        hal::cpu_relax();
    return Hotplug::done;
}

} // namespace loft
