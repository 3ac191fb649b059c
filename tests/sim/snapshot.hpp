// The bytes that a schedule starts with: mm's static objects, the memory in use, the frames' states.
#pragma once

#include "arch/base/cpu_set.hpp"
#include "tests/sim/statics.hpp"

namespace loft::sim {

// A snapshot of the current machine. No TLB may hold a translation that differs from the tables.
class Snapshot {
  public:
    Snapshot();
    void restore() const;

  private:
    struct Frame {
        u32 pfn;
        bool table; // all changes of it set the dirty state: restored only if that is set
        std::vector<u8> bytes;
    };
    std::vector<u8> statics_;
    std::vector<Frame> frames_;
    std::vector<u8> states_;
    CpuSet online_;
    std::vector<u64> roots_; // of the CPUs
    std::vector<u8> saved_;  // for each frame: 1 if it is in frames_
};

} // namespace loft::sim
