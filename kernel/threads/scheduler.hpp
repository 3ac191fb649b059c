// Who runs where: a run queue for each CPU, first come, first served, a slice of one tick.
//
// A thread that is ready is in the queue of exactly one CPU. The lock of that queue is held while the CPU goes from one
// stack to the next, and given back by the thread that was switched to: whoever holds the lock knows that no thread in
// the queue, and none that was put to sleep there, is still on its stack elsewhere.
//
// A CPU that has nothing to do takes from others: when it goes idle, and at each tick. A busy CPU looks for a longer
// queue ten times a second. A thread stays where it is while it holds local maps or has disabled migration.
//
// PREEMPT=1: the CPU changes threads at the end of an interrupt, and where preemption is allowed again, if somebody
// else should run. PREEMPT=0: only where a thread gives the CPU away: yield, park, sleep, and what is built on them;
// and, as with PREEMPT=1, where an interrupt found it in ring 3.
//
// hal::park and hal::unpark (hal/thread.hpp) are defined here.
#pragma once

#include "arch/base/types.hpp"
#include "kernel/threads/thread.hpp"

namespace loft {

class AddressSpace;
struct TrapFrame;

// Lets another thread run, if one is ready on this CPU. Preemptible context.
void yield();
// Sleeps for at least so long; as precise as the tick. Preemptible context.
void sleep_ms(u32 milliseconds);

// The thread that calls stays on its CPU; pairs nest. Context: a thread.
void migrate_disable();
void migrate_enable();
class [[nodiscard]] MigrateGuard {
  public:
    MigrateGuard() { migrate_disable(); }
    ~MigrateGuard() { migrate_enable(); }
    MigrateGuard(const MigrateGuard&) = delete;
    MigrateGuard& operator=(const MigrateGuard&) = delete;
};

// From now on the thread that calls runs on these CPUs only (at least one is online). Returns on one of them. It must
// not be bound to its CPU by a local map or by migrate_disable. Preemptible context.
void set_affinity(CpuSet affinity);

// The thread that runs here goes to `cpu` when it is switched out next, and is switched out as soon as it may be: for
// the self-tests, also from interrupts. Nothing happens if it is bound, or may not run there. Any context but NMI.
void request_move(CpuId cpu);

// From now on the thread that calls has this address space below the kernel's, wherever it runs; null: none, and
// whatever is loaded stays until it is in somebody's way. The reference is the caller's. Any thread context.
void use_space(AddressSpace* space);

// Makes the thread look whether it should go on: gives it a permit, and if it runs on another CPU, interrupts that CPU.
// Context: any but NMI; the thread cannot go away.
void interrupt_thread(const Thread& thread);

// --- What happened on a CPU.
struct SchedulerStats {
    u32 ticks = 0;
    u32 switches = 0;
    u32 preemptions = 0; // of these, those that the thread did not ask for
    u32 pulled = 0;      // threads taken from other CPUs
    u32 wakes = 0;       // threads made ready from here
    u32 kicks = 0;       // reschedule interrupts sent
    u32 kicked = 0;      // and received
    u32 idles = 0;       // times that the CPU stopped to wait
};
SchedulerStats scheduler_stats(CpuId cpu);
SchedulerStats scheduler_stats_sum(); // of all online CPUs
u32 ready_threads(CpuId cpu);         // in its queue
CpuSet idle_cpus();                   // as seen just now

// --- For a thread's beginning and end (lifecycle.cpp): going from one stack to the next.

enum class SwitchReason : u8 {
    yielded,   // the thread stays ready
    preempted, // it stays ready, and did not ask
    parked,    // until it is given a permit; returns at once if it has one
    ended,     // for good
};
// Gives the CPU to the next thread; returns when this one has it again. A thread context, interrupts off.
void switch_away(SwitchReason reason);

// The second half of a switch, on the new stack: the first thing that a new thread calls. Interrupts off.
void finish_switch();

// Where a thread that is in no queue should run. Any context.
CpuId choose_cpu(const Thread& thread);
// Puts a thread that is in no queue, and has left its stack, into the queue of a CPU. Any context.
void make_ready(Thread& thread, CpuId cpu);

// --- Boot.

// The context that calls becomes thread "main"; the tick schedules from here on. Boot CPU, interrupts on.
void scheduler_init();
// An idle thread for a CPU that has a per-CPU area and does not run yet; its stack, or none if there is no memory.
KernelStack scheduler_prepare_cpu(CpuId cpu);
// The idle loop of another CPU. On the stack that scheduler_prepare_cpu made, interrupts off.
[[noreturn]] void scheduler_run(CpuId cpu);

// At the end of every trap, after the account of interrupt contexts, interrupts off: the kernel's preemption.
void preempt_after_trap(const TrapFrame& frame);
// Before ring 3 goes on, interrupts off: programs are preempted by every kernel, PREEMPT=0 or 1.
void preempt_program();

// --- Up-call, defined by sleep.cpp: rings what is due of this CPU's alarms. In the tick, interrupts off.
void ring_alarms();

} // namespace loft
