// The memory that one step of a schedule has read and written. Two steps of different agents are independent if neither
// writes memory that the other accesses.
#pragma once

#include "arch/base/types.hpp"

#include <vector>

namespace loft::sim {

struct Touch {
    u64 place = 0;
    bool write = false;
};

class Footprint {
  public:
    void clear() { touches_.clear(); }
    void add(u64 place, bool write) {
        for (Touch& t : touches_) {
            if (t.place != place) continue;
            t.write |= write;
            return;
        }
        touches_.push_back({place, write});
    }
    void add(const Footprint& other) {
        for (const Touch& t : other.touches_)
            add(t.place, t.write);
    }
    bool conflicts(const Footprint& other) const {
        for (const Touch& a : touches_)
            for (const Touch& b : other.touches_)
                if (a.place == b.place && (a.write || b.write)) return true;
        return false;
    }
    auto begin() const { return touches_.begin(); }
    auto end() const { return touches_.end(); }

  private:
    std::vector<Touch> touches_;
};

} // namespace loft::sim
