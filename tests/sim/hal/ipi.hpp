// hal/ipi of the simulated machine. Contract: arch/base/hal_contract.hpp.
#pragma once

#include "tests/sim/machine.hpp"

namespace loft::hal {

inline CpuSet online_cpus() { return sim::machine().online(); }

inline void run_on(CpuSet others, void (*call)(void*), void* argument) {
    sim::schedule_point(sim::Point::ipi);
    sim::machine().run_on(others, call, argument);
}

} // namespace loft::hal
