// Strategies: the choice of the agent that takes the next step of a schedule.
#pragma once

#include "tests/sim/agents.hpp"
#include "tests/sim/footprint.hpp"
#include "tests/sim/schedule.hpp"

#include <vector>

namespace loft::sim {

struct Event {
    u32 agent = 0;
    u32 thread = 0; // the thread that the CPU runs, counted from 1; 0 if it is idle
    Point point = Point::irq;
    bool drained = false;  // the step waited for its CPU's store buffer to be empty
    bool delivery = false; // the entry of an interrupt
    // To come before this step, the other half of this CPU (its program or its interrupt) would have to come before
    // step `block`: in between, interrupts are off or the handler runs.
    u32 block = 0;
    u32 stored = 0;          // the number of stores that it has put into the buffer
    AgentSet woke = 0;       // the agents that waited for this step
    u32 cause = 0;           // of a delivery: the step that sent the interrupt
    std::vector<u32> chosen; // answers to choices, in order
    Footprint footprint;
};

class Strategy {
  public:
    virtual ~Strategy() = default;
    // Returns one of `enabled`, which is not empty, or kNobody to end the schedule early.
    virtual u32 pick(AgentSet enabled) = 0;
    virtual u32 choose(u32 possibilities) = 0;
    virtual bool timer() { return choose(2) != 0; }    // does the timer interrupt this step?
    virtual bool deadline() { return choose(2) != 0; } // does a deadline pass while others can take a step?
    virtual void done(u32 index, const Event& event) = 0;
    virtual void finished(bool) {}
};

// The default choice: the CPU of the last step continues as long as it can; its buffer is drained only when it must be,
// devices work when no CPU can go on, and no timer ticks, and no NMI comes, before nothing else can take a step.
class Default {
  public:
    u32 pick(AgentSet enabled) const {
        if (last_ != kNobody) {
            if (in(enabled, last_)) return last_;
            const u32 program = agent(cpu_of(last_), Role::program); // after its interrupt
            if (role_of(last_) == Role::interrupt && in(enabled, program)) return program;
            const u32 buffer = agent(cpu_of(last_), Role::buffer);
            if (in(enabled, buffer)) return buffer;
        }
        const auto first = [enabled](Role role) {
            for (u32 cpu = 0; cpu < kMaxExploredCpus; ++cpu)
                if (in(enabled, agent(cpu, role))) return agent(cpu, role);
            return kNobody;
        };
        for (const Role role : {Role::program, Role::interrupt, Role::buffer})
            if (const u32 found = first(role); found != kNobody) return found;
        for (u32 device = 0; device < kMaxDevices; ++device)
            if (in(enabled, device_agent(device))) return device_agent(device);
        const u32 tick = first(Role::timer);
        return tick != kNobody ? tick : first(Role::nmi);
    }
    void taken(u32 agent) {
        if (role_of(agent) == Role::program || role_of(agent) == Role::interrupt) last_ = agent;
    }
    u32 last() const { return last_; }

  private:
    u32 last_ = kNobody;
};

} // namespace loft::sim
