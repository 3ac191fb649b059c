// hal/ipi: the other CPUs, and how to get the attention of one. Contract: arch/base/hal_contract.hpp.
#pragma once

#include "arch/base/cpu_set.hpp"

#include <hal/atomic.hpp>
#include <hal/cpu.hpp>

namespace loft::hal {

// arch/i386/irq/smp.cpp. A CPU enters the set itself, as its last step before ap_main, and then flushes its TLB:
// a change of a page table that did not interrupt it is one that it has not seen before either.
extern Atomic<u32> loft_online_cpus;

inline CpuSet online_cpus() {
    if constexpr (config::kSmp)
        return CpuSet::from_bits(loft_online_cpus.load());
    else
        return CpuSet::only(CpuId{0});
}

// An interrupt to a physical destination. Waits, for a bounded time, until the local APIC has sent the one
// before.
void interrupt_cpu(CpuId cpu); // arch/i386/irq/ipi.cpp

} // namespace loft::hal
