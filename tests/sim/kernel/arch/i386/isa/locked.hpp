// The instruction of arch/i386/isa/locked.hpp, on the simulated machine.
#pragma once

#include "tests/sim/machine.hpp"

namespace loft {

inline u32 compare_exchange_word(VirtAddr word, u32 expected, u32 next) {
    sim::schedule_point(sim::Point::atomic);
    u8* const at = sim::machine().access(word, sizeof next, sim::Access::write);
    u32 before = 0;
    std::memcpy(&before, at, sizeof before);
    if (before == expected) sim::machine().write(at, &next, sizeof next);
    return before;
}

} // namespace loft
