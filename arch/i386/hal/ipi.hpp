// hal/ipi: the set of online CPUs, and interrupting one of them. Contract: arch/base/hal_contract.hpp.
#pragma once

#include "arch/base/cpu_set.hpp"

#include <hal/atomic.hpp>
#include <hal/cpu.hpp>

namespace loft::hal {

// arch/i386/irq/smp.cpp. A CPU adds itself to the set as its last step before ap_main, and then flushes its TLB: so it
// cannot hold a translation whose change did not interrupt it.
extern Atomic<u32> loft_online_cpus;

inline CpuSet online_cpus() {
    if constexpr (config::kSmp)
        return CpuSet::from_bits(loft_online_cpus.load());
    else
        return CpuSet::only(CpuId{0});
}

// Sends an interrupt to a physical destination. First waits, for a bounded time, until the local APIC has sent the
// previous one.
void interrupt_cpu(CpuId cpu); // arch/i386/irq/ipi.cpp

} // namespace loft::hal
