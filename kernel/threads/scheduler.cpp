// The scheduler. Contract: scheduler.hpp.
#include "kernel/threads/scheduler.hpp"

#include "arch/base/chain.hpp"
#include "arch/base/panic.hpp"
#include "arch/i386/cpu/fpu.hpp"
#include "arch/i386/cpu/image.hpp"
#include "arch/i386/cpu/switch.hpp"
#include "arch/i386/irq/ipi.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/irq/traps.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/report/nmi.hpp"
#include "kernel/threads/user_thread.hpp"
#include "mm/ground/context.hpp"
#include "mm/ground/counters.hpp"
#include "mm/ground/spinlock.hpp"
#include "mm/spaces/address_space.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/tables/tlb_batch.hpp"

namespace loft {
namespace {

constexpr u32 kBalanceTicks = 10;

struct RunQueue {
    Thread* current = nullptr; // the running thread; null before the scheduler runs on this CPU
    Thread* idle = nullptr;
    Thread* previous = nullptr; // the CPU is leaving its stack
    SpinLock lock;              // guards the queue and the links of its threads
    Chain<Thread, &Thread::next> threads LOFT_GUARDED_BY(lock);
    hal::Plain<u32> length; // other CPUs read it without the lock
    SchedulerStats stats;

    void push(Thread& thread) LOFT_REQUIRES(lock) {
        threads.push_back(thread);
        length.add(1);
    }
    // Takes the first thread for which `wanted` holds.
    template <typename F> Thread* take(F&& wanted) LOFT_REQUIRES(lock) {
        Thread* const thread = threads.take(wanted);
        if (thread != nullptr) length.add(0u - 1);
        return thread;
    }
};
LOFT_PERCPU hal::PerCpu<RunQueue> run_queues;

hal::Atomic<u32> idle_bits; // a hint
// The CPUs whose queues are closed: they take no thread. A bit changes under the lock of its queue.
hal::Atomic<u32> closed_bits;

bool is_closed(CpuId cpu) { return config::kSmp && (closed_bits.load() >> cpu.value() & 1) != 0; }

// Where a thread with this affinity may run now: if none of its CPUs is there, anywhere.
CpuSet possible_cpus(CpuSet affinity) {
    const CpuSet open = open_cpus(), possible = CpuSet::from_bits(affinity.bits() & open.bits());
    return possible.empty() ? open : possible;
}
CpuId first_of(CpuSet set) { return CpuId{static_cast<u32>(std::countr_zero(set.bits()))}; }

Thread* current() { return run_queues.load<&RunQueue::current>(); }

// True if this thread, which is not running, may move to `cpu`.
bool may_go(const Thread& thread, CpuId cpu) {
    return possible_cpus(thread.affinity).has(cpu) && thread.migrate_disabled == 0 && thread.local.depth == 0;
}

void set_idle(CpuId cpu, bool idle) {
    if (idle)
        idle_bits.fetch_or(1u << cpu.value());
    else
        idle_bits.fetch_and(~(1u << cpu.value()));
}

// Takes a thread from the longest queue, if that has at least `least` threads. Interrupts are off, no queue is locked.
bool pull(u32 least) {
    const CpuId me = hal::this_cpu();
    CpuId from = me;
    u32 longest = least - 1;
    hal::online_cpus().without(me).for_each([&](CpuId cpu) {
        const RunQueue& queue = run_queues.of(cpu);
        const u32 length = queue.length.load();
        if (length <= longest) return;
        if (length == 1 && queue.current == queue.idle) return; // that CPU was idle and is about to take it
        longest = length;
        from = cpu;
    });
    if (from == me) return false;
    RunQueue& victim = run_queues.of(from);
    victim.lock.lock();
    Thread* thread = victim.take([me](const Thread& t) { return may_go(t, me); });
    if (thread != nullptr) thread->state = ThreadState::moving;
    victim.lock.unlock();
    if (thread == nullptr) return false;
    ++thread->migrations;
    ++run_queues.mine().stats.pulled;
    make_ready(*thread, me);
    return true;
}

void on_tick(TrapFrame&) {
    nmi_report();
    RunQueue& mine = run_queues.mine();
    if (mine.current == nullptr) return;
    const u32 tick = ++mine.stats.ticks;
    ring_alarms();
    if (mine.current != mine.idle) {
        const CpuId me = hal::this_cpu();
        // A thread none of whose CPUs was there goes back to the first that is.
        if (const CpuSet own = possible_cpus(mine.current->affinity); !own.has(me)) request_move(first_of(own));
        if (tick % kBalanceTicks == me.value() % kBalanceTicks) pull(mine.length.load() + 2);
    }
    if (mine.length.load() != 0) context.store<&Context::reschedule>(1); // the time slice is over
}

[[noreturn]] void idle_loop() {
    for (;;) {
        disable_interrupts();
        if (is_closed(hal::this_cpu())) {
            set_idle(hal::this_cpu(), false);
            cpu_departs();
        }
        RunQueue& mine = run_queues.mine();
        if (mine.length.load() != 0 || pull(1)) {
            switch_away(SwitchReason::yielded);
        } else {
            report_leaks("went idle", *mine.idle);
            ++mine.stats.idles;
            // From here to the hlt, no address is accessed whose translation can change; the interrupt that ends the
            // hlt checks the flush clock first.
            tlb_enter_idle();
            wait_for_interrupt();
            // The interrupt's handler has run; an NMI or a system management interrupt also ends a hlt (SDM vol. 2,
            // "HLT").
            disable_interrupts();
            tlb_leave_idle();
        }
    }
}

void begin_idle(void*) {
    finish_switch();
    idle_loop();
}

// Save and restore the per-CPU state of a thread. `reschedule` belongs to the CPU and stays.
void keep(Thread& thread) {
    Context& mine = context.mine();
    LOFT_ASSERT(mine.preempt_count == 0);
    thread.context = mine;
    local_switch_out(thread.local);
}
void put_back(const Thread& thread) {
    Context& mine = context.mine();
    mine.preempt_count = thread.context.preempt_count;
    mine.pagefaults_off = thread.context.pagefaults_off;
    mine.minus_kmaps = thread.context.minus_kmaps;
    local_switch_in(thread.local);
}

// Sets the new state of the thread that leaves the CPU. False: it had a permit, and goes on running.
bool put_away(RunQueue& mine, Thread& me, SwitchReason reason) LOFT_REQUIRES(mine.lock) {
    switch (reason) {
    case SwitchReason::parked: {
        u32 permit = Thread::kNoPermit;
        if (me.permit.compare_exchange(permit, Thread::kAsleep)) {
            me.state = ThreadState::parked;
            return true;
        }
        return false;
    }
    case SwitchReason::ended:
        me.state = ThreadState::ended;
        return true;
    case SwitchReason::preempted:
    case SwitchReason::yielded:
        break;
    }
    if (&me == mine.idle) return true;
    const u32 wish = me.move_to;
    me.move_to = 0;
    const bool bound = local_held() || me.migrate_disabled != 0;
    if (wish != 0 && wish != me.cpu.value() + 1 && !bound && possible_cpus(me.affinity).has(CpuId{wish - 1})) {
        me.state = ThreadState::moving;
        me.cpu = CpuId{wish - 1};
    } else {
        me.state = ThreadState::ready;
        mine.push(me);
    }
    return true;
}

} // namespace

Thread* thread_self() { return current(); }

ThreadId hal::current_thread() {
    const Thread* me = current();
    return ThreadId{me != nullptr ? me->id.load() : 0};
}

// The lock is taken on one stack and released on the next.
void switch_away(SwitchReason reason) LOFT_UNCHECKED {
    RunQueue& mine = run_queues.mine();
    Thread& me = *mine.current;
    LOFT_ASSERT(HeldLock::newest() == nullptr);
    mine.lock.lock();
    context.store<&Context::reschedule>(0);
    if (!put_away(mine, me, reason)) {
        mine.lock.unlock();
        return;
    }
    Thread* next = mine.take([](const Thread&) { return true; });
    if (next == nullptr) next = mine.idle;
    next->state = ThreadState::running;
    if (next == &me) {
        mine.lock.unlock();
        return;
    }
    ++mine.stats.switches;
    ++next->switches;
    if (reason == SwitchReason::preempted && &me != mine.idle) ++mine.stats.preemptions;
    const CpuId cpu = hal::this_cpu();
    if (next == mine.idle)
        set_idle(cpu, true);
    else if (&me == mine.idle)
        set_idle(cpu, false);

    keep(me);
    if (me.user != nullptr) user_registers_save(*me.user);
    mine.previous = &me;
    mine.current = next;
    set_kernel_stack(next->stack_end);
    put_back(*next);
    space_switch(next->space);
    if (next->user != nullptr)
        user_registers_load(*next->user);
    else if (me.user != nullptr)
        fpu_off();
    switch_stack(&me.stack_pointer, next->stack_pointer);
    finish_switch();
}

// The CPU may differ from the one that this thread left: all per-CPU data is looked up again.
[[gnu::noinline]] void finish_switch() LOFT_UNCHECKED {
    RunQueue& mine = run_queues.mine();
    Thread& previous = *mine.previous;
    const ThreadState state = previous.state;
    const CpuId to = previous.cpu;
    mine.lock.unlock();
    // Once the lock is free, other CPUs may run a ready thread, and wake a parked one.
    if (state == ThreadState::moving) {
        ++previous.migrations;
        make_ready(previous, to);
    } else if (state == ThreadState::ended) {
        thread_has_ended(previous);
    }
}

void make_ready(Thread& thread, CpuId cpu) {
    const u32 flags = hal::irq_save();
    RunQueue& queue = run_queues.of(cpu);
    queue.lock.lock();
    if (is_closed(cpu)) { // since the caller has chosen it
        queue.lock.unlock();
        make_ready(thread, choose_cpu(thread));
        hal::irq_restore(flags);
        return;
    }
    thread.cpu = cpu;
    thread.state = ThreadState::ready;
    queue.push(thread);
    const bool waits = queue.current == queue.idle;
    queue.lock.unlock();
    if (cpu == hal::this_cpu()) {
        if (waits) context.store<&Context::reschedule>(1);
    } else if (waits) {
        ++run_queues.mine().stats.kicks;
        send_reschedule(cpu);
    }
    hal::irq_restore(flags);
}

CpuId choose_cpu(const Thread& thread) {
    if (thread.migrate_disabled != 0 || thread.local.depth != 0) return thread.cpu;
    const CpuSet possible = possible_cpus(thread.affinity);
    const CpuSet idle = CpuSet::from_bits(possible.bits() & idle_bits.load());
    if (idle.has(thread.cpu)) return thread.cpu;
    if (!idle.empty()) return first_of(idle);
    return possible.has(thread.cpu) ? thread.cpu : first_of(possible);
}

void hal::park() {
    might_sleep("park");
    const u32 flags = irq_save();
    switch_away(SwitchReason::parked);
    // An exchange, not a store: it makes the writes of the thread that gave the permit visible here.
    current()->permit.exchange(Thread::kNoPermit);
    irq_restore(flags);
}

void hal::unpark(ThreadId id) {
    Thread* thread = thread_of(id);
    if (thread == nullptr || thread->permit.exchange(Thread::kPermit) != Thread::kAsleep) return;
    // The thread sleeps, and only this caller may wake it. When the lock of its queue is free, it has left its stack.
    const u32 flags = irq_save();
    RunQueue& queue = run_queues.of(thread->cpu);
    queue.lock.lock();
    queue.lock.unlock();
    ++run_queues.mine().stats.wakes;
    make_ready(*thread, choose_cpu(*thread));
    irq_restore(flags);
}

void hal::reschedule() {
    if (!preemptible() || current() == nullptr) return; // the end of the interrupt, or the next tick, checks again
    const u32 flags = irq_save();
    switch_away(SwitchReason::preempted);
    irq_restore(flags);
}

void preempt_after_trap(const TrapFrame& frame) {
    if constexpr (!config::kPreempt) return;
    if (frame.from_user()) return; // preempt_program comes next
    if (context.load<&Context::reschedule>() == 0 || context.load<&Context::preempt_count>() != 0 ||
        (frame.eflags & eflags::interrupt) == 0)
        return;
    if (current() != nullptr) switch_away(SwitchReason::preempted);
}

void preempt_program() {
    while (context.load<&Context::reschedule>() != 0)
        switch_away(SwitchReason::preempted);
}

void reschedule_interrupt() {
    ++run_queues.mine().stats.kicked;
    context.store<&Context::reschedule>(1);
}

void yield() {
    might_sleep("yield");
    const u32 flags = hal::irq_save();
    switch_away(SwitchReason::yielded);
    hal::irq_restore(flags);
    hal::cpu_relax(); // a thread that yields in a loop may wait for another CPU, as in a spin
}

void migrate_disable() {
    if (Thread* me = current()) ++me->migrate_disabled;
}
void migrate_enable() {
    Thread* me = current();
    if (me == nullptr) return;
    LOFT_ASSERT(me->migrate_disabled != 0);
    --me->migrate_disabled;
}

void set_affinity(CpuSet affinity) {
    might_sleep("set_affinity");
    LOFT_ASSERT(!affinity.empty());
    const u32 flags = hal::irq_save();
    Thread& me = *current();
    LOFT_ASSERT(me.migrate_disabled == 0 && !local_held());
    me.affinity = affinity;
    // Again, if the CPU that is chosen closes before the thread is there.
    for (CpuSet possible = possible_cpus(affinity); !possible.has(hal::this_cpu());
         possible = possible_cpus(affinity)) {
        me.move_to = first_of(possible).value() + 1;
        switch_away(SwitchReason::yielded);
    }
    hal::irq_restore(flags);
}

void request_move(CpuId cpu) {
    const u32 flags = hal::irq_save();
    if (Thread* me = current()) {
        me->move_to = cpu.value() + 1;
        context.store<&Context::reschedule>(1);
    }
    hal::irq_restore(flags);
}

void use_space(AddressSpace* space) {
    const IrqGuard same_cpu;
    current()->space = space;
    space_switch(space);
}

void interrupt_thread(const Thread& thread) {
    hal::unpark(ThreadId{thread.id.load()});
    const IrqGuard same_cpu;
    const CpuId cpu = thread.cpu;
    if (cpu != hal::this_cpu() && *const_cast<Thread* const volatile*>(&run_queues.of(cpu).current) == &thread)
        send_reschedule(cpu);
}

SchedulerStats scheduler_stats(CpuId cpu) { return run_queues.of(cpu).stats; }

SchedulerStats scheduler_stats_sum() { return sum_of_cpus(scheduler_stats); }

u32 ready_threads(CpuId cpu) { return run_queues.of(cpu).length.load(); }
CpuSet idle_cpus() { return CpuSet::from_bits(idle_bits.load()); }
CpuSet closed_cpus() { return CpuSet::from_bits(config::kSmp ? closed_bits.load() : 0); }
CpuSet open_cpus() { return CpuSet::from_bits(hal::online_cpus().bits() & ~closed_cpus().bits()); }

namespace {

// True if another thread must stay on this CPU: it waits in its queue, or sleeps. The lock of the queue is held, and
// the caller runs, so no other thread of this CPU changes.
bool somebody_is_bound(const RunQueue& mine) {
    struct Search {
        const Thread& me;
        CpuId cpu;
        bool found;
    } search{*mine.current, hal::this_cpu(), false};
    for_each_thread(
        [](const Thread& thread, void* argument) {
            Search& s = *static_cast<Search*>(argument);
            const bool stays = thread.migrate_disabled != 0 || thread.local.depth != 0;
            const bool waits = thread.state == ThreadState::ready || thread.state == ThreadState::parked;
            if (thread.cpu == s.cpu && &thread != &s.me && waits && stays) s.found = true;
        },
        &search);
    return search.found;
}

} // namespace

bool scheduler_close() {
    const u32 flags = hal::irq_save();
    RunQueue& mine = run_queues.mine();
    mine.lock.lock();
    const bool bound = somebody_is_bound(mine);
    if (!bound) closed_bits.fetch_or(CpuSet::only(hal::this_cpu()).bits());
    while (!bound) {
        Thread* const thread = mine.take([](const Thread&) { return true; });
        if (thread == nullptr) break;
        thread->state = ThreadState::moving;
        mine.lock.unlock();
        ++thread->migrations;
        make_ready(*thread, choose_cpu(*thread));
        mine.lock.lock();
    }
    mine.lock.unlock();
    hal::irq_restore(flags);
    return !bound;
}

namespace {

// Makes the idle thread of a CPU; its stack begins in the idle loop.
Thread* make_idle(CpuId cpu) {
    const KernelStack stack = make_stack(kThreadStackBytes);
    if (!stack.exists()) return nullptr;
    BufferSink<Thread::kNameBytes> name;
    format(name, "idle/{}", cpu);
    Thread* idle = thread_adopt(name.view(), stack);
    if (idle == nullptr) {
        give_back_stack(stack);
        return nullptr;
    }
    idle->cpu = cpu;
    idle->affinity = CpuSet::only(cpu);
    idle->state = ThreadState::ready;
    idle->stack_pointer = prepare_stack(stack.end, begin_idle, nullptr);
    run_queues.of(cpu).idle = idle;
    return idle;
}

} // namespace

void scheduler_init() {
    const CpuId cpu = hal::this_cpu();
    const VirtAddr stack_end = image_addr(__boot_stack_top);
    Thread* main = thread_adopt("main", {stack_end - kBootStackBytes, stack_end});
    if (main == nullptr || make_idle(cpu) == nullptr) refuse("not enough memory for the first two threads");
    main->cpu = cpu;
    main->state = ThreadState::running;
    // The boot thread measures and tests per-CPU state.
    main->affinity = CpuSet::only(cpu);
    const u32 flags = hal::irq_save();
    run_queues.of(cpu).current = main;
    timer_set_tick_handler(on_tick);
    hal::irq_restore(flags);
}

KernelStack scheduler_prepare_cpu(CpuId cpu) {
    const Thread* idle = make_idle(cpu);
    if (idle == nullptr) return {};
    return {idle->stack_begin, idle->stack_end};
}

void scheduler_run(CpuId cpu) {
    RunQueue& mine = run_queues.of(cpu);
    mine.lock.lock();
    mine.current = mine.idle;
    mine.idle->state = ThreadState::running;
    set_idle(cpu, true);
    closed_bits.fetch_and(~CpuSet::only(cpu).bits());
    mine.lock.unlock();
    idle_loop();
}

} // namespace loft
