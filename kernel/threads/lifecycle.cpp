// Thread creation and end. Contract: lifecycle.hpp.
#include "kernel/threads/lifecycle.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/cpu/switch.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/threads/scheduler.hpp"

namespace loft {
namespace {

// First function of a thread, on its own stack, interrupts off.
void begin_thread(void* argument) {
    finish_switch();
    Thread& me = *static_cast<Thread*>(argument);
    hal::irq_restore(eflags::interrupt);
    me.run(me.argument);
    thread_exit();
}

} // namespace

Thread* thread_create(std::string_view name, ThreadFunction run, void* argument, CpuSet affinity, Gfp gfp) {
    might_sleep("thread_create");
    LOFT_ASSERT(!affinity.empty());
    const KernelStack stack = make_stack(kThreadStackBytes, gfp);
    if (!stack.exists()) return nullptr;
    Thread* thread = take_descriptor(name);
    if (thread == nullptr) {
        give_back_stack(stack);
        return nullptr;
    }
    thread->run = run;
    thread->argument = argument;
    thread->stack_begin = stack.begin;
    thread->stack_end = stack.end;
    thread->affinity = affinity;
    thread->stack_pointer = prepare_stack(stack.end, begin_thread, thread);
    make_ready(*thread, choose_cpu(*thread));
    return thread;
}

void thread_exit() {
    might_sleep("thread_exit");
    report_leaks("ended", *thread_self());
    static_cast<void>(hal::irq_save());
    switch_away(SwitchReason::ended);
    panic("thread {} runs after its end", thread_self()->name);
}

void thread_join(Thread* thread) {
    might_sleep("thread_join");
    LOFT_ASSERT(thread != thread_self());
    // Two locked instructions (here and in thread_has_ended): either this thread sees `ended`, or the other one sees
    // `joiner`.
    if (thread->joiner.exchange(hal::current_thread().value()) != 0) panic("thread {} is joined twice", thread->name);
    while (thread->ended.load() == 0)
        hal::park();
    give_back_stack({thread->stack_begin, thread->stack_end});
    give_back_descriptor(*thread);
}

} // namespace loft
