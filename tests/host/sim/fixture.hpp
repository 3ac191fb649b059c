// The machine of the simulator's own tests: a few CPUs on one root built by hand, two frames with signatures.
#pragma once

#include "mm/ground/remote.hpp"
#include "tests/sim/handmade.hpp"

#include <catch2/catch.hpp>

namespace loft::sim {

inline constexpr VirtAddr kVa{0xf880'0000u};
inline constexpr u32 kFrameA = 0x2000, kFrameB = 0x2001;
inline constexpr CpuId kCpu0{0}, kCpu1{1};

struct Rig {
    explicit Rig(Options options = {}) : m{std::move(options)} {
        remote_init(); // mm_init does not run here, and an earlier test may have ended in the middle of a call
        t.entry(kVa);
        hal::load_root(t.root());
        m.finish_boot();
        for (u32 i = 0; i < 16; ++i)
            sign(kFrameA + i);
    }
    Machine m;
    Handmade t;
    hal::PteCell* cell = t.entry(kVa);
};

inline u32 read(VirtAddr va = kVa) { return hal::load<u32>(va); }
inline void write(VirtAddr va = kVa) { hal::store<u32>(va, hal::load<u32>(va)); }

} // namespace loft::sim
