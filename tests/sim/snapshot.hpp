// The bytes that a schedule begins with: mm's static objects, the memory that is in use, the frames' states.
#pragma once

#include "tests/sim/statics.hpp"

namespace loft::sim {

// Of the machine that exists. Nothing may be in any TLB that the tables do not say.
class Snapshot {
  public:
    Snapshot();
    void restore() const;

  private:
    struct Frame {
        u32 pfn;
        bool table; // nothing but what leaves a mark changes it: copied back only with one
        std::vector<u8> bytes;
    };
    std::vector<u8> statics_;
    std::vector<Frame> frames_;
    std::vector<u8> states_;
    std::vector<u64> roots_; // of the CPUs
    std::vector<u8> saved_;  // is the frame in frames_
};

} // namespace loft::sim
