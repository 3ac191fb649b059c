// Every schedule, up to the order of independent steps: dynamic partial-order reduction (Flanagan and Godefroid, POPL
// 2005) with sleep sets (Godefroid 1996), over agents that include the store buffers.
//
// A schedule runs with default choices to its end. If a step races with an earlier one of another agent (they conflict,
// and no other step orders them), the agent of the later step must also be tried at the place of the earlier one. When
// all branches after an agent's step have been run, the agent sleeps at that place: sibling branches do not try it
// again until a step that conflicts with its step wakes it.
//
// With a bound on preemptions all agents are tried at the earlier step, and at the places before it where a switch away
// from its CPU is no preemption. Sleep sets are not used (Coons, Musuvathi and McKinley, OOPSLA 2013).
//
// A bound on answers limits how often in a schedule a choice of the machine (was A set meanwhile, is the old
// translation used) has another answer than the usual one.
#pragma once

#include "tests/sim/place_map.hpp"
#include "tests/sim/strategy.hpp"

#include <array>

namespace loft::sim {

class Reduced final : public Strategy {
  public:
    explicit Reduced(u32 preemptions, u32 answers = ~0u, bool everything = false)
        : bound_{preemptions}, answers_{answers}, everything_{everything} {}

    u32 pick(AgentSet enabled) override;
    u32 choose(u32 possibilities) override;
    void done(u32 index, const Event& event) override;
    // Prepares the next schedule; false if there is none.
    bool next();

  private:
    // For each agent: the number of its last step that must precede.
    using Clock = std::array<u32, kMaxAgents>;
    static void join(Clock& into, const Clock& from);

    struct Sleeper {
        u32 agent;
        Footprint footprint;
    };
    struct Choice {
        u32 answer, possibilities;
    };
    struct Frame { // the state before a step
        AgentSet enabled = 0, to_try = 0, tried = 0;
        u32 agent = kNobody;
        u32 before = kNobody; // the agent of the last step that was not of a store buffer
        u32 last = kNobody;   // the agent of the last step
        u32 preemptions = 0;  // preemptions up to here
        std::vector<Sleeper> sleep;
        std::vector<Choice> choices;
        Footprint footprint; // of the agent's step, over all answers
    };
    struct Place {
        u32 writer = 0; // steps, counted from 1
        std::array<u32, kMaxAgents> reader{};
    };

    void start();
    bool bounded() const { return bound_ != ~0u; }
    u32 unusual_answers() const; // in the current schedule
    static bool continues(const Frame& frame);
    static bool preempts(const Frame& frame, u32 next);
    static bool same_cpu(u32 a, u32 b) { return cpu_of(a) == cpu_of(b); }
    static bool dependent(const Sleeper& sleeper, const Event& event);
    void race(u32 earlier, u32 later);
    void try_one_of_the_first(u32 index, u32 later);

    const u32 bound_;       // preemptions
    const u32 answers_;     // answers other than the first
    const bool everything_; // no reduction at all
    std::vector<Frame> frames_;
    u32 depth_ = 0; // the step that is being taken
    u32 choice_ = 0;
    bool started_ = false;

    // Data of the current schedule.
    std::vector<Clock> clocks_; // of each step
    std::vector<u32> agents_, blocks_;
    std::vector<u32> racing_; // earlier steps that race with the last step
    std::array<Clock, kMaxAgents> now_{}, woken_{};
    std::array<std::vector<u32>, kAgentGroups> stores_; // the steps whose stores are in the buffer
    std::array<u32, kAgentGroups> oldest_{};
    std::array<u32, kAgentGroups> last_of_cpu_{}, delivery_{}; // steps; the first counted from 1
    PlaceMap<Place> places_;                                   // the accesses to each place
    std::vector<Sleeper> inherited_;                           // the agents that still sleep after the last step
    Default default_;
};

} // namespace loft::sim
