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
        bool table; // changes of entries leave a mark: only those that have one are copied back
        std::vector<u8> bytes;
    };
    std::vector<u8> statics_;
    std::vector<Frame> frames_;
    std::vector<u8> states_;
};

} // namespace loft::sim
