// Stopping the other CPUs, for a panic: by NMI, which also reaches a CPU with interrupts off.
#pragma once

#include "arch/base/cpu_set.hpp"
#include "arch/base/types.hpp"

namespace loft {

struct TrapFrame;

// Stops all other online CPUs and removes them from online_cpus(). Each one calls nmi_stop, and halts. Waits until they
// have, `milliseconds` at most, and returns those that have not. Any context; the other CPUs stop wherever they are,
// also with locks held. If several CPUs call it, it returns only on the first one; the others are stopped in here.
CpuSet stop_other_cpus(u32 milliseconds);

// Up-call, defined by the kernel, in the NMI on the CPU that is stopped: may save or print where it was. After its
// return the CPU is removed from online_cpus() and halts for good.
void nmi_stop(TrapFrame& frame);

} // namespace loft
