// Asking other CPUs to do something, and waiting until they have.
//
// Each CPU owns one Call, which it fills and then shows to others; each CPU has a word `asked` in which bit i says "CPU
// i asks". The one who asks sets its bit and sends an interrupt only if the word was empty: if it was not, the
// interrupt that is on its way has not looked at the word yet, and will find the new bit too. The one who answers takes
// the whole word at once, does what each CPU in it wants, and takes itself out of that Call's `waiting` set, which is
// the acknowledgement.
//
// A CPU that waits, or spins for a lock with its interrupts off, answers from hal::cpu_relax(): two CPUs that flush
// each other never wait for each other (bug 8).
#pragma once

#include "arch/base/cpu_set.hpp"
#include <hal/hal.hpp>

namespace loft {

struct RemoteStats {
    u32 calls = 0;      // run_on with somebody to ask
    u32 interrupts = 0; // sent
    u32 answers = 0;
};
extern hal::PerCpu<RemoteStats> remote_stats;

// Every CPU of the set but this one runs call(argument) with interrupts off; returns when all have. A CPU that does not
// answer within kPatienceMs is a panic that names it.
// Context: any, interrupts on or off; not from within a call. `call` takes no lock and asks nobody.
void run_on(CpuSet cpus, void (*call)(void*), void* argument);

// Far longer than any CPU keeps its interrupts off without answering. An emulator with more CPUs than its host can
// leave one of them standing for many seconds.
inline constexpr u32 kRemotePatienceMs = 60'000;

void remote_init();

} // namespace loft
