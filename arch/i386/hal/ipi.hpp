// hal/ipi: asking other CPUs to do something. Contract: arch/base/hal_contract.hpp.
//
// One CPU runs, so no set that is passed here can name another one.
#pragma once

#include "arch/base/cpu_set.hpp"
#include "arch/base/panic.hpp"

namespace loft::hal {

inline CpuSet online_cpus() { return CpuSet::only(CpuId{0}); }

inline void run_on(CpuSet others, void (*)(void*), void*) { LOFT_ASSERT(others.empty()); }

} // namespace loft::hal
