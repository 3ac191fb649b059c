// Who this CPU is, and where its copy of section .percpu lies. Contract: hal/cpu.hpp.
//
// The boot CPU is number 0 and uses the section as linked: its offset is 0, and so is everything here.
#include <hal/cpu.hpp>

namespace loft::hal {

extern "C" {
constinit u32 loft_percpu_offset[config::kMaxCpus]{};
LOFT_PERCPU u32 loft_my_offset = 0;
LOFT_PERCPU u32 loft_my_cpu = 0;
}

} // namespace loft::hal
