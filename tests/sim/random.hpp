// Random schedules, each from its seed. Three kinds in turn: a CPU takes some steps, then another one at random;
// priorities that drop at a few random steps (Burckhardt et al., "A randomized scheduler with probabilistic
// guarantees", ASPLOS 2010); the same with store buffers that drain as late as possible.
#pragma once

#include "tests/sim/strategy.hpp"

#include <array>

namespace loft::sim {

class Random final : public Strategy {
  public:
    explicit Random(u64 seed, u32 usual_steps);

    u32 pick(AgentSet enabled) override;
    u32 choose(u32 possibilities) override;
    bool timer() override;
    bool deadline() override { return below(2) != 0; }
    void done(u32, const Event&) override {}

  private:
    u64 number();
    u32 below(u32 limit) { return static_cast<u32>(number() % limit); }

    u64 state_;
    u32 kind_;
    u32 patience_; // kind 0: one change of the CPU in so many steps
    u32 step_ = 0;
    std::array<u32, kMaxAgents> priority_{};
    std::array<u32, 4> drops_{};  // steps
    std::array<u32, 4> timers_{}; // steps
    u32 lowest_ = 1u << 20;
    Default default_;
};

} // namespace loft::sim
