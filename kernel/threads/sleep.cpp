// Alarms: one list per CPU, in order of time; the CPU's tick checks it.
#include "kernel/threads/sleep.hpp"

#include "arch/i386/irq/timer.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/ground/context.hpp"
#include "mm/ground/spinlock.hpp"

namespace loft {
namespace {

// A thread may have migrated before it removes its alarm: so the list has a lock.
struct Alarms {
    SpinLock lock;
    Alarm::List list LOFT_GUARDED_BY(lock); // in order of time

    // Functions, because clang does not check the locks of constructors and destructors.
    template <typename F> void insert(Alarm& alarm, F&& is_after) {
        const SpinGuard guard{lock};
        list.insert(alarm, is_after);
    }
    void remove_if_there(Alarm& alarm) {
        const SpinGuard guard{lock};
        static_cast<void>(list.remove_if_there(alarm));
    }
};
LOFT_PERCPU hal::PerCpu<Alarms> alarms;

} // namespace

Alarm::Alarm(u64 when_us) : when_{when_us}, thread_{hal::current_thread()} {
    const IrqGuard same_cpu;
    cpu_ = hal::this_cpu();
    alarms.mine().insert(*this, [this](const Alarm& other) { return other.when_ > when_; });
}

// Takes the lock even if the alarm rang: the tick may be about to read `thread_`.
Alarm::~Alarm() { alarms.of(cpu_).remove_if_there(*this); }

void ring_alarms_of(CpuId cpu) {
    Alarms& its = alarms.of(cpu);
    const SpinGuard guard{its.lock};
    if (its.list.empty()) return;
    const u64 now = now_us();
    while (!its.list.empty() && its.list.first()->when_ <= now) {
        Alarm& alarm = *its.list.pop_front();
        alarm.rang_.store(1);
        hal::unpark(alarm.thread_);
    }
}

// Those of a CPU that is away are rung by the boot CPU, which never is.
void ring_alarms() {
    const CpuId me = hal::this_cpu();
    ring_alarms_of(me);
    if (me == CpuId{0}) closed_cpus().for_each(ring_alarms_of);
}

void sleep_ms(u32 milliseconds) {
    might_sleep("sleep_ms");
    const Alarm alarm{now_us() + u64{milliseconds} * 1000};
    while (!alarm.rang())
        hal::park();
}

} // namespace loft
