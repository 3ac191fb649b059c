// The explorer: the simulated CPUs under every schedule, or under many.
//
//     sim::Case c;                                          // after mm has booted on a sim::Machine
//     c.kernel = &kernel;                                   // interrupts, switches, idleness
//     c.threads = {{0, [] { ... }}, {1, [] { ... }}};       // which CPU, what it does
//     c.check = [] { ... };                                 // when all threads have ended
//     const sim::Report report = sim::explore(c, sim::reduced());
//
// Each schedule begins from the same bytes: those there were when explore() was called (snapshot.hpp), after
// `reset`. What ends one badly: anything that the machine or mm throws, expect(), a deadlock (somebody waits and
// nobody can move), a livelock (a schedule of more than `longest` steps). README.md says what counts as a step.
#pragma once

#include "arch/base/types.hpp"
#include "tests/sim/schedule.hpp"

#include <functional>
#include <string>
#include <vector>

namespace loft::sim {

// What the kernel above mm does, as small as can be. Called on the CPU that is meant.
class Kernel {
  public:
    virtual ~Kernel() = default;
    // An interrupt: its entry, `handler`, its exit. Interrupts are off.
    virtual void interrupt(const std::function<void()>& handler) = 0;
    // A thread leaves the CPU, or comes to it; interrupts are off.
    virtual void switch_out(u32 thread) = 0;
    virtual void switch_in(u32 thread) = 0;
    // After an interrupt: may the thread that runs be preempted now? If not, it is asked to do it itself.
    virtual bool may_preempt() = 0;
    virtual void ask_to_reschedule() = 0;
    virtual bool may_migrate(u32 thread) = 0; // one that does not run
    // The last thing before the CPU halts; interrupts are off.
    virtual void enter_idle() = 0;
};

struct ExploredThread {
    u32 cpu = 0;
    std::function<void()> body;
};

struct Case {
    Kernel* kernel = nullptr;
    std::vector<ExploredThread> threads;
    std::function<void()> reset = [] {};
    std::function<void()> check = [] {};
    u32 preemptions = 0;        // timer interrupts, at any step of a thread that has somebody to give way to
    bool roaming = false;       // whoever is preempted or woken may come to any CPU
    bool percpu_points = false; // operations on per-CPU variables are steps too: for one CPU's own races
    u32 longest = 20'000;
};

struct Plan {
    enum class Kind : u8 { reduced, all, random } kind = Kind::reduced;
    u64 limit = 0;         // schedules, at most
    u32 preemptions = ~0u; // reduced: how often a CPU that could go on gives way to another one
    u64 seed = 1;          // random: the first of `limit` seeds
};
// Every schedule, but for those that differ only in the order of steps that can change places; or as many as
// `limit`. With a bound: every one that needs at most so many changes between CPUs that are not forced.
inline Plan reduced(u64 limit = ~u64{0}, u32 preemptions = ~0u) { return {Plan::Kind::reduced, limit, preemptions, 1}; }
// Every schedule, without any reduction: for very small things, and to test the reduction.
inline Plan unreduced(u64 limit = ~u64{0}) { return {Plan::Kind::all, limit, ~0u, 1}; }
inline Plan random(u64 schedules, u64 seed = 1) { return {Plan::Kind::random, schedules, ~0u, seed}; }

struct Report {
    u64 schedules = 0; // that were run to their end
    u64 pruned = 0;    // that were given up: the rest was known to lead to one that had been run
    u64 steps = 0;
    u64 longest = 0;       // steps of a schedule
    bool complete = false; // reduced: there is no other schedule
    std::string failure;   // empty: all ended well
    std::string schedule;  // of the failure: what LOFT_SCHEDULE has to be
    std::string trace;     // its last steps
};

// With LOFT_SCHEDULE in the environment: that one schedule alone, all its steps printed.
Report explore(const Case& c, const Plan& plan);

// In a thread or a check of an exploration: ends it badly.
void expect(bool so, const char* what);

// From the machine.
void explore_stored();
void explore_interrupts(bool on);
void explore_send(CpuId to);
u32 explore_choice(u32 possibilities);

} // namespace loft::sim
