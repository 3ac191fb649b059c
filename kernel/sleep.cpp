// sleep_ms: a list of sleepers for each CPU, which only that CPU touches, with interrupts off.
#include "kernel/sleep.hpp"

#include "arch/i386/timer.hpp"
#include "kernel/scheduler.hpp"
#include "mm/context.hpp"

namespace loft {
namespace {

// On the stack of the thread that sleeps.
struct Sleeper {
    Sleeper* next = nullptr;
    u64 until = 0; // now_us
    ThreadId thread{};
    hal::Atomic<u32> woken;
};
struct Sleepers {
    Sleeper* first = nullptr; // in order of time
};
LOFT_PERCPU hal::PerCpu<Sleepers> sleepers;

} // namespace

void sleep_ms(u32 milliseconds) {
    might_sleep("sleep_ms");
    Sleeper me;
    me.until = now_us() + u64{milliseconds} * 1000;
    me.thread = hal::current_thread();
    {
        const IrqGuard guard;
        Sleeper** at = &sleepers.mine().first;
        while (*at != nullptr && (*at)->until <= me.until)
            at = &(*at)->next;
        me.next = *at;
        *at = &me;
    }
    while (me.woken.load() == 0)
        hal::park();
}

void wake_sleepers() {
    Sleeper*& first = sleepers.mine().first;
    if (first == nullptr) return;
    const u64 now = now_us();
    while (first != nullptr && first->until <= now) {
        Sleeper& sleeper = *first;
        first = sleeper.next;
        // Its stack is its own again as soon as it sees `woken`.
        const ThreadId thread = sleeper.thread;
        sleeper.woken.store(1);
        hal::unpark(thread);
    }
}

} // namespace loft
