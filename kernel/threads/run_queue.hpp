// What the scheduler and the threads' beginning and end share: going from one stack to the next.
#pragma once

#include "kernel/threads/thread.hpp"

namespace loft {

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

} // namespace loft
