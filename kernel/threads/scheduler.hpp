// The scheduler: one run queue per CPU, first come, first served, with a time slice of one tick.
//
// A ready thread is in the queue of exactly one CPU. The lock of that queue is held during a stack switch and released
// by the thread that was switched to. So with the lock held, no thread in the queue, and none that was parked there, is
// still running on its stack.
//
// A CPU that goes away closes its queue: a thread that would come to it goes to another one.
//
// An idle CPU takes threads from other queues: when it goes idle, and after each interrupt. A busy CPU looks for a
// longer queue ten times a second. A thread stays on its CPU while it holds local maps or has disabled migration.
//
// PREEMPT=1: if a reschedule is requested, the CPU switches threads at the end of an interrupt, and when preemption is
// enabled again. PREEMPT=0: only where a thread gives up the CPU: yield, park, sleep, and what is built on them; and,
// as with PREEMPT=1, after an interrupt of ring 3.
//
// hal::park and hal::unpark (hal/thread.hpp) are defined here.
#pragma once

#include "arch/base/near_wrap.hpp"
#include "arch/base/not_copyable.hpp"
#include "arch/base/types.hpp"
#include "kernel/threads/thread.hpp"

namespace loft {

class AddressSpace;
struct TrapFrame;

// Lets another thread run, if one is ready on this CPU. Preemptible context.
void yield();
// Sleeps for at least this time; the resolution is the tick. Preemptible context.
void sleep_ms(u32 milliseconds);

// The calling thread stays on its CPU; pairs nest. Context: a thread.
void migrate_disable();
void migrate_enable();
class [[nodiscard]] MigrateGuard : NotCopyable<MigrateGuard> {
  public:
    MigrateGuard() { migrate_disable(); }
    ~MigrateGuard() { migrate_enable(); }
};

// From now on the calling thread runs on these CPUs only. Returns on one of them. While none of them is there
// (open_cpus), it may run anywhere; a tick, or its next wake-up, brings it back. The thread must not be bound to its
// CPU by a local map or migrate_disable. Preemptible context.
void set_affinity(CpuSet affinity);

// The running thread moves to `cpu` when it is next switched out, and a reschedule is requested. For the self-tests,
// also from interrupts. No effect if the thread is bound, or may not run there. Any context but NMI.
void request_move(CpuId cpu);

// From now on the calling thread has this address space, on whichever CPU it runs. Null: none; the loaded root then
// stays until another space is needed. The caller keeps the reference. Any thread context.
void use_space(AddressSpace* space);

// Makes the thread check whether it should go on: gives it a permit, and interrupts the CPU if it runs on another one.
// Context: any but NMI; the caller keeps the thread from being freed.
void interrupt_thread(const Thread& thread);

// --- Event counters of a CPU.
struct SchedulerStats {
    u32 ticks = near_wrap<u32>();
    u32 switches = near_wrap<u32>();
    u32 preemptions = near_wrap<u32>(); // switches that the thread did not ask for
    u32 pulled = near_wrap<u32>();      // threads taken from other CPUs
    u32 wakes = near_wrap<u32>();       // threads that this CPU made ready
    u32 kicks = near_wrap<u32>();       // reschedule interrupts sent
    u32 kicked = near_wrap<u32>();      // reschedule interrupts received
    u32 idles = near_wrap<u32>();       // times that the CPU halted
};
SchedulerStats scheduler_stats(CpuId cpu);
SchedulerStats scheduler_stats_sum(); // of all online CPUs
u32 ready_threads(CpuId cpu);         // in its queue
CpuSet idle_cpus();                   // a snapshot
CpuSet open_cpus();                   // those that take threads: online, and not about to go away; a snapshot
CpuSet closed_cpus();                 // those that are about to go, are away, or are about to come back; a snapshot

// --- For the beginning and end of a thread (lifecycle.cpp): stack switches.

enum class SwitchReason : u8 {
    yielded,   // the thread stays ready
    preempted, // it stays ready; it did not ask for the switch
    parked,    // it sleeps until it gets a permit; returns at once if it has one
    ended,     // it never runs again
};
// Gives the CPU to the next thread; returns when this thread has it again. A thread context, interrupts off.
void switch_away(SwitchReason reason);

// The second half of a switch, on the new stack; a new thread calls it first. Interrupts off.
void finish_switch();

// The CPU on which a thread that is in no queue should run. Any context.
CpuId choose_cpu(const Thread& thread);
// Puts a thread that is in no queue, and has left its stack, into the queue of a CPU. Any context.
void make_ready(Thread& thread, CpuId cpu);

// --- Boot.

// The calling context becomes thread "main"; from here on the tick schedules. Boot CPU, interrupts on.
void scheduler_init();
// Makes the idle thread of a CPU that has a per-CPU area and does not run yet. Returns its stack; none if there is no
// memory.
KernelStack scheduler_prepare_cpu(CpuId cpu);
// The idle loop of another CPU, which takes threads from here on. On the stack that scheduler_prepare_cpu made,
// interrupts off.
[[noreturn]] void scheduler_run(CpuId cpu);

// --- A CPU that goes away (hotplug.hpp).

// Closes the run queue of this CPU, unless another thread is bound to it: then false, and nothing has changed. From
// here on no thread comes to this CPU; those that waited in its queue have gone to others. When the calling thread
// leaves it, the idle loop calls cpu_departs. Looks at every thread with interrupts off. Context: a thread whose
// affinity is this CPU alone.
[[nodiscard]] bool scheduler_close();
// Up-call, defined by hotplug.cpp: the end of the idle loop. Interrupts off.
[[noreturn]] void cpu_departs();

// Preemption of the kernel: called at the end of every trap, after the interrupt-context accounting, interrupts off.
void preempt_after_trap(const TrapFrame& frame);
// Preemption of programs: called before the return to ring 3, interrupts off; with PREEMPT=0 and 1.
void preempt_program();

// --- Up-call, defined by sleep.cpp: rings the due alarms of this CPU, and on the boot CPU those of
// closed_cpus(). In the tick, interrupts off.
void ring_alarms();

} // namespace loft
