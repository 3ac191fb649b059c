// A CPU goes away and comes back.
//
// cpu_down. The calling thread moves to the CPU, and does there, with the lock of the CPU's run queue: if no other
// thread is bound to it, it closes the queue, and sends the threads in it to other CPUs. From here on no thread comes
// to this CPU. The calling thread moves away; the CPU is idle then, and its idle loop ends in cpu_departs, with
// interrupts off:
//
//     its free frames go back to their zones;
//     it loads the kernel's root, so no address space counts on it;
//     it leaves hal::online_cpus(): from here on nobody asks it to flush, and it accesses only its stack and static
//     objects, whose translations never change;
//     it makes a last remote call. When all other CPUs have answered, none of them is between its look at the set and
//     its request. So all requests to this CPU have come, and it answers them (remote_leave);
//     it says that it is away, and halts for ever.
//
// The calling thread waits for this and resets it by INIT.
//
// cpu_up starts it again, as at boot (arch/i386/irq/smp.hpp): per-CPU data, stacks and the idle thread are those it
// had. It enters the set, flushes its TLB, and opens its run queue.
//
// What does not move: interrupts of devices and NMIs of the board, which the boot CPU gets always; and the list of its
// alarms, which stays where it is: the tick of the boot CPU rings them while the CPU is away.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

enum class Hotplug : u8 {
    done,
    boot_cpu, // it cannot go: interrupts of devices need it. So the last CPU, which is this one, never goes
    no_such,  // down: it is not there. Up: it is there, or has never been
    busy,     // a thread that holds a local map, or has disabled migration, stayed on it too long
    failed,   // it was called, but did not come (start_cpu_again has logged it). It stays away
};

// Takes the CPU away. A thread that waits or runs on it goes on elsewhere; one whose affinity has no other CPU that is
// there may run on all CPUs until one of its own is back. If a thread is bound to the CPU by a local map or
// migrate_disable, waits for it, at most kHotplugTries ticks, and then changes nothing. PREEMPT=0: also waits until the
// threads there give up the CPU. Calls of cpu_down and cpu_up come one after the other. Context: a thread that is not
// bound, preemptible; not from the CPU's own idle thread. Cost: one remote call of all CPUs, one CR3 load on the CPU if
// it has a program's root, and no other TLB operation; 10 ms of spinning.
Hotplug cpu_down(CpuId cpu);
inline constexpr u32 kHotplugTries = 20;

// Brings a CPU back that cpu_down has taken away. When it returns `done`, threads can run there. Context: preemptible.
// Cost: the CPU flushes its TLB wholly; it owes no flush for debts before the call.
Hotplug cpu_up(CpuId cpu);

} // namespace loft
