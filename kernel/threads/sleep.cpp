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
    Alarm* first LOFT_GUARDED_BY(lock) = nullptr;
};
LOFT_PERCPU hal::PerCpu<Alarms> alarms;

} // namespace

Alarm::Alarm(u64 when_us) : when_{when_us}, thread_{hal::current_thread()} {
    const IrqGuard same_cpu;
    cpu_ = hal::this_cpu();
    Alarms& mine = alarms.mine();
    const SpinGuard guard{mine.lock};
    Alarm** at = &mine.first;
    while (*at != nullptr && (*at)->when_ <= when_)
        at = &(*at)->next_;
    next_ = *at;
    *at = this;
}

// Takes the lock even if the alarm rang: the tick may be about to read `thread_`.
Alarm::~Alarm() {
    Alarms& its = alarms.of(cpu_);
    const SpinGuard guard{its.lock};
    for (Alarm** at = &its.first; *at != nullptr; at = &(*at)->next_)
        if (*at == this) {
            *at = next_;
            return;
        }
}

void ring_alarms() {
    Alarms& mine = alarms.mine();
    const SpinGuard guard{mine.lock};
    if (mine.first == nullptr) return;
    const u64 now = now_us();
    while (mine.first != nullptr && mine.first->when_ <= now) {
        Alarm& alarm = *mine.first;
        mine.first = alarm.next_;
        alarm.rang_.store(1);
        hal::unpark(alarm.thread_);
    }
}

void sleep_ms(u32 milliseconds) {
    might_sleep("sleep_ms");
    const Alarm alarm{now_us() + u64{milliseconds} * 1000};
    while (!alarm.rang())
        hal::park();
}

} // namespace loft
