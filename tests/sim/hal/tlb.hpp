// hal/tlb of the simulated machine: flushes, each with the line that requested it. Contract:
// arch/base/hal_contract.hpp.
#pragma once

#include "tests/sim/machine.hpp"

namespace loft::hal {

inline void invlpg(VirtAddr va, Site site = Site::current()) {
    sim::schedule_point(sim::Point::tlb);
    sim::machine().invlpg(va, site);
}
inline void flush_non_global(Site site = Site::current()) {
    sim::schedule_point(sim::Point::tlb);
    sim::machine().flush_non_global(site);
}
inline void flush_all(Site site = Site::current()) {
    sim::schedule_point(sim::Point::tlb);
    sim::machine().flush_all(site);
}

inline void load_root(PhysAddr root) {
    sim::schedule_point(sim::Point::tlb);
    sim::machine().load_root(root.value());
}
inline PhysAddr current_root() { return PhysAddr{sim::machine().here().root}; }

} // namespace loft::hal
