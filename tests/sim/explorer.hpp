// The explorer: the simulated CPUs under every schedule, or under many.
//
//     sim::Case c;                                          // after mm has booted on a sim::Machine
//     c.kernel = &kernel;                                   // interrupts, switches, idle loops
//     c.threads = {{0, [] { ... }}, {1, [] { ... }}};       // CPU and body of each thread
//     c.check = [] { ... };                                 // when all threads have ended
//     const sim::Report report = sim::explore(c, sim::reduced());
//
// Each schedule starts with the same bytes: those at the call of explore() (snapshot.hpp), changed by `reset`. A
// schedule fails if the machine or mm throws, expect() fails, or by a deadlock (a thread waits and no agent can take a
// step) or a livelock (more than `longest` steps). README.md defines a step.
#pragma once

#include "arch/base/types.hpp"
#include "tests/sim/schedule.hpp"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace loft::sim {

// A minimal kernel above mm. Its functions are called on the CPU that they are about.
class Kernel {
  public:
    virtual ~Kernel() = default;
    // An interrupt: its entry, `handler`, its exit. Interrupts are off. A kernel that has threads itself may switch
    // them on the way out; it need not return.
    virtual void interrupt(const std::function<void()>& handler) = 0;
    // A thread is switched out of the CPU, or in; interrupts are off.
    virtual void switch_out(u32 thread) = 0;
    virtual void switch_in(u32 thread) = 0;
    // After an interrupt: may the current thread be preempted now? If not, ask_to_reschedule() is called.
    virtual bool may_preempt() = 0;
    virtual void ask_to_reschedule() = 0;
    virtual bool may_migrate(u32 thread) = 0; // `thread` does not run
    // Called last before the CPU halts; interrupts are off.
    virtual void enter_idle() = 0;

    // --- Of a kernel that has threads itself (Case::cpus).
    // The handlers of these interrupts: called inside interrupt().
    virtual void reschedule_asked() {}
    virtual void tick() {}
    // An NMI: its entry, its handler, its exit, in one step. It changes only the static objects of this name.
    virtual void nmi() {}
    virtual std::string_view changed_by_nmi() { return {}; }
    // True when all threads have done what the test is about. If no agent can take a step before, that is a deadlock,
    // and threads() describes the threads.
    virtual bool done() { return true; }
    virtual std::string threads() { return {}; }
};

struct ExploredThread {
    u32 cpu = 0;
    std::function<void()> body;
};

// A CPU under a kernel that has threads itself: what it runs first, and the end of the stack for that, which
// prepare_stack has made; 0: a stack of its own. `body` does not return.
struct ExploredCpu {
    u32 stack_end = 0;
    std::function<void()> body;
    bool off = false; // it runs nothing before it is reset and called (stacks.hpp)
};

struct Case {
    Kernel* kernel = nullptr;
    std::vector<ExploredThread> threads;
    // Instead of `threads`, if the kernel under test has threads itself and switches stacks (stacks.hpp). CPU 0 begins
    // with interrupts on, the others with interrupts off.
    std::vector<ExploredCpu> cpus;
    // Ticks of each of these CPUs at any step, at most. If there are any, some more come when no other agent can take a
    // step: then time passes.
    u32 ticks = 0;
    // NMIs of each of `nmi_cpus`, between any two steps of its program and its interrupts.
    u32 nmis = 0;
    u32 nmi_cpus = ~0u;
    // Deadlines of waits of `patience_ms` at most: so many of them may pass while another CPU can take a step. When no
    // agent can take a step, those that are waited for pass. No longer one ever does.
    u32 deadlines = 0;
    u32 patience_ms = 0;
    std::function<void()> start_up_code; // of a CPU that was reset after it had run or was called
    bool handlers_nest = false;          // a kernel that has threads itself may turn interrupts on in a handler
    std::function<void()> reset = [] {};
    std::function<void()> check = [] {};
    u32 preemptions = 0;        // timer interrupts, at any step of a thread while another thread is ready
    bool roaming = false;       // a thread that is preempted or woken may continue on any CPU
    bool percpu_points = false; // operations on per-CPU variables are steps, too: for races within one CPU
    // Accesses to plain memory are steps, too: in a configuration that sees them (races.hpp).
    bool plain_points = false;
    // What the kernel does after a copy from a program is another step than the end of the copy.
    bool copy_points = false;
    // Loads of page-table entries are steps. If not, they are part of the step before, and the reduction does not see
    // that they depend on stores to them: for cases in which a lock orders them.
    bool table_points = true;
    u32 longest = 20'000;
};

struct Plan {
    enum class Kind : u8 { reduced, all, random } kind = Kind::reduced;
    u64 limit = 0;         // schedules, at most
    u32 preemptions = ~0u; // reduced: how often a CPU that could continue is switched away from
    u32 answers = ~0u;     // reduced: how often the machine chooses another answer than the usual one
    u64 seed = 1;          // random: the first of `limit` seeds
};
// Every schedule, except those that differ only in the order of independent steps; at most `limit`. With a bound: those
// that need at most so many preemptions of a CPU that could continue, and so many unusual answers of the machine.
inline Plan reduced(u64 limit = ~u64{0}, u32 preemptions = ~0u, u32 answers = ~0u) {
    return {Plan::Kind::reduced, limit, preemptions, answers, 1};
}
// Every schedule, without reduction: for very small cases, and to test the reduction.
inline Plan unreduced(u64 limit = ~u64{0}) { return {Plan::Kind::all, limit, ~0u, ~0u, 1}; }
inline Plan random(u64 schedules, u64 seed = 1) { return {Plan::Kind::random, schedules, ~0u, ~0u, seed}; }

struct Report {
    u64 schedules = 0; // run to their end
    u64 pruned = 0;    // ended early: equivalent to one that had been run
    u64 steps = 0;
    u64 longest = 0;       // steps of a schedule
    bool complete = false; // reduced: all schedules have been run
    std::string failure;   // empty: none failed
    std::string schedule;  // of the failure: the value for LOFT_SCHEDULE
    std::string trace;     // its last steps
};

// The plan that LOFT_EXPLORE in the environment makes of this one. `full`: a reduced exploration has no limit. N:
// the limit is so many times as high.
Plan as_wished(Plan plan);
// What has been run: "complete", "complete within 2 preemptions, 1 answer", "stopped within ..." (at the limit, or at a
// failure), "by chance". scripts/runner/host.py makes a table of it.
std::string extent(const Plan& plan, const Report& report);

// Adds the schedules to the total, which the test program prints at its end.
void count_in_total(const Report& report);

// With LOFT_SCHEDULE in the environment: runs that schedule alone and prints all its steps.
Report explore(const Case& c, const Plan& plan);

// In a thread or a check of an exploration: the schedule fails if `so` is false.
void expect(bool so, const char* what);
u32 ticks_so_far(); // of all timers in this schedule; a step that asks depends on the timers

// The interrupts of a CPU. Of those that are pending, the last one of these comes first.
enum class Interrupt : u8 { device, tick, reschedule, call };
inline constexpr u32 kInterrupts = 4;

// The name of a place (schedule.hpp), for messages.
std::string place_name(u64 place);

// Called by the machine.
void explore_stored();
void explore_plain(u64 place, bool write); // the step accesses plain memory
void explore_interrupts(bool on);
void explore_send(CpuId to, Interrupt what = Interrupt::call);
u32 explore_choice(u32 possibilities);
void explore_device(u32 device); // this step gives work to a device that had none

} // namespace loft::sim
