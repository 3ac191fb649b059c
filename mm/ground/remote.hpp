// Remote calls: a CPU makes other CPUs run a function, and waits until they have.
//
// Each CPU owns one Call and one word `asked`. The requesting CPU fills its Call, then sets its bit in the `asked` word
// of each target CPU. It sends an interrupt only if that word was 0. Otherwise an interrupt is already pending; its
// handler has not read the word yet and will find the new bit, too. A target CPU exchanges its whole word with 0, runs
// the call of each CPU in it, and removes itself from the `waiting` set of that Call: this is the acknowledgement.
//
// A CPU that waits, or that spins for a lock with interrupts off, answers requests from hal::cpu_relax(). So two CPUs
// that flush each other cannot deadlock (docs/bugs.md, bug 8).
//
// No CPU answers between its look at the set of online CPUs and its last request to them. So a CPU that leaves the set
// knows who can still ask it something: after a call that all others have answered, nobody (remote_leave).
#pragma once

#include "arch/base/cpu_set.hpp"
#include "arch/base/near_wrap.hpp"
#include <hal/hal.hpp>

namespace loft {

struct RemoteStats {
    u32 calls = near_wrap<u32>();      // run_on with at least one other CPU
    u32 interrupts = near_wrap<u32>(); // sent
    u32 answers = near_wrap<u32>();    // calls run for other CPUs
};
extern hal::PerCpu<RemoteStats> remote_stats;

// Every CPU of the set except this one runs call(argument) with interrupts off; returns when all have. A CPU that is
// not in hal::online_cpus() when the requests are sent is left out. Panics, naming the CPU, if one does not answer
// within kRemotePatienceMs.
// Context: any, interrupts on or off; not from within a call. `call` takes no lock and makes no remote call.
void run_on(CpuSet cpus, void (*call)(void*), void* argument);

// Far longer than any CPU keeps interrupts off without answering. An emulator with more CPUs than its host may not run
// one of them for many seconds.
inline constexpr u32 kRemotePatienceMs = 60'000;

// The last remote call of a CPU that has left hal::online_cpus(). When it returns, each request of this CPU has been
// answered, none follows, and no CPU interrupts it any more: neither for a call, nor otherwise after a look at the set
// with interrupts off. Context: interrupts off. Cost: one call of all other CPUs.
void remote_leave();

void remote_init();

} // namespace loft
