// hal/ipi of the simulated machine. Contract: arch/base/hal_contract.hpp.
//
// In an exploration the interrupt is pending until the schedule delivers it; otherwise the other CPU answers at once.
#pragma once

#include "tests/sim/machine.hpp"

namespace loft::hal {

inline CpuSet online_cpus() { return sim::machine().online(); }

inline void interrupt_cpu(CpuId cpu) {
    sim::schedule_point(sim::Point::ipi);
    sim::machine().interrupt_cpu(cpu);
}

} // namespace loft::hal
