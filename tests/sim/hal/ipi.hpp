// hal/ipi of the simulated machine. Contract: arch/base/hal_contract.hpp.
//
// In an exploration the interrupt is pending until the schedule delivers it; otherwise the other CPU answers at once.
// The set is constant, and no memory of the kernel, unless the kernel under test starts CPUs.
#pragma once

#include "tests/sim/machine.hpp"
#include <hal/atomic.hpp>

namespace loft::hal {

// Of a kernel that starts CPUs itself: arch/i386/irq/smp.cpp.
extern Atomic<u32> loft_online_cpus;

namespace detail {
inline const Atomic<u32>* online_word = nullptr; // in use if the kernel starts CPUs
}
inline CpuSet online_cpus() {
    if (detail::online_word != nullptr) [[unlikely]]
        return CpuSet::from_bits(detail::online_word->load());
    return sim::machine().online();
}

inline void interrupt_cpu(CpuId cpu) {
    sim::schedule_point(sim::Point::ipi);
    sim::machine().interrupt_cpu(cpu);
}

} // namespace loft::hal
