// A schedule as text: its differences from the default. "57:p1 80:b0 90=1": CPU 1 takes step 57, CPU 0's store buffer
// takes step 80, and the first choice in step 90 is answered with 1 ("90=0=1": the second choice).
#pragma once

#include "tests/sim/strategy.hpp"

#include <map>
#include <string>

namespace loft::sim {

// `events`: the steps that were taken; the last one may be incomplete.
std::string schedule_text(const std::vector<Event>& events, u32 steps, const std::vector<AgentSet>& enabled);

class Replay final : public Strategy {
  public:
    explicit Replay(const std::string& text);

    u32 pick(AgentSet enabled) override;
    u32 choose(u32 possibilities) override;
    void done(u32, const Event&) override {}

  private:
    std::map<u32, u32> agent_;
    std::map<u32, std::vector<u32>> answers_;
    u32 step_ = ~0u;
    u32 choice_ = 0;
    Default default_;
};

} // namespace loft::sim
