// The CPUs that count. Contract: counters.hpp.
#include "mm/ground/counters.hpp"

namespace loft {
namespace {

constinit CpuSet counting; // each CPU enters before it starts, and stays

} // namespace

CpuSet counting_cpus() { return counting; }
void counters_init() { counting = {}; }
void counters_init_cpu(CpuId cpu) { counting = counting.with(cpu); }

} // namespace loft
