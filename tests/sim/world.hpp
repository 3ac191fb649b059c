// Running one schedule: the CPUs as fibers, the set of enabled agents, and a record of each step. The strategy chooses
// the agent of the next step (strategy.hpp).
#pragma once

#include "tests/sim/agents.hpp"
#include "tests/sim/explorer.hpp"
#include "tests/sim/fiber.hpp"
#include "tests/sim/machine.hpp"
#include "tests/sim/snapshot.hpp"
#include "tests/sim/stacks.hpp"
#include "tests/sim/strategy.hpp"

#include <deque>

namespace loft::sim {

class World {
  public:
    explicit World(const Case& c);
    ~World();

    enum class End : u8 { good, bad, pruned };
    End run(Strategy& strategy);
    const std::string& failure() const { return failure_; }
    const std::vector<Event>& events() const { return events_; } // the first steps() of them
    u32 steps() const { return steps_; }
    bool in_a_step() const { return in_a_step_; } // the schedule failed inside its last step

    // Called by fibers.
    void point(Point point);
    bool copies_are_steps() const { return case_.copy_points; }
    void touched(u64 place, bool write);
    void stored(); // a store was put into the store buffer
    void plain(u64 place, bool write) { event().footprint.add(place, write); }
    u32 choice(u32 possibilities);
    void interrupts(bool on);
    void send(u32 cpu, Interrupt what);
    void woke(u32 agent) { event().woke |= only(agent); }
    void stop(const std::string& text);
    void park();
    void unpark(u32 thread);
    void yield();
    u32 current_thread() const { return on_fiber_ && here().thread != kNobody ? here().thread + 1 : 0; }
    // Called by a kernel that has threads itself.
    void switch_stack(u32* from, u32 to);
    void set_kernel_stack(u32 end) { here().kernel_stack = end; }
    void halt();
    u32 ticks();
    bool deadline_passes(u32 milliseconds);
    u32 cpu_with_apic(u32 apic) const;
    void reset(u32 apic);
    void call(u32 apic);
    u32 apic_here() const { return here().apic; }
    void become(u32 cpu);
    void begin_on_stack(u32 end, std::function<void()> body);
    void listen() { here().listens = true; }
    void start_ticks();
    [[noreturn]] void stop_cpu();

  private:
    // The places that a CPU has read recently: a waiting loop continues when another agent has written one of them.
    class Watch {
      public:
        void clear() { *this = Watch{}; }
        void read(u64 place);
        bool written(u64 place); // true if this write wakes the loop
        bool woken() const { return woken_; }

      private:
        static constexpr u32 kPlaces = 16;
        u64 place_[kPlaces]{};
        bool fresh_[kPlaces]{}; // not written since
        u32 next_ = 0;
        bool woken_ = false;
    };
    struct Context { // p or i of a CPU
        Point next = Point::irq;
        bool waits = false;    // in cpu_relax
        bool returned = false; // a cpu_relax has ended by itself since another agent has written what it waits for
        Watch watch;
    };
    // A CPU that starts: off until INIT, reset until a start-up interrupt, called until it is known which one it is.
    enum class Power : u8 { off, reset, called, runs, stopped };
    struct Core {
        Power power = Power::runs;
        u32 apic = 0;        // the number of the hardware
        bool listens = true; // its local APIC is on
        Context program, interrupt;
        Fiber* fiber = nullptr;
        Fiber idle;
        u32 thread = kNobody;
        std::deque<u32> queue; // the threads that are ready
        bool in_handler = false;
        bool in_timer = false; // the handler of the timer, which runs as a part of the thread's step
        u32 requested = 0;     // the interrupts that are pending
        bool halted = false;
        bool interrupted = false;  // since it halted
        bool hlt_follows = false;  // an NMI came before the hlt, and the interrupt that comes now does, too
        u32 sender[kInterrupts]{}; // the steps that requested them
        u32 irqs_off_since = 0;    // the step that turned interrupts off
        u32 delivery = 0;          // the first step of the handler
        Interrupt delivered{};     // by that step
        // If the kernel has threads itself.
        Stack own{};            // the first stack, if the kernel did not make it
        Stack* stack = nullptr; // the stack in use
        u32 kernel_stack = 0;
        u32 ticks_left = 0, late_ticks_left = 0, nmis_left = 0;
    };
    struct Thread {
        u32 cpu = 0; // where it ran last
        Fiber fiber;
        std::function<void()> main;
        bool ended = false, parked = false, permit = false;
        bool leaving = false; // its old CPU still uses its stack
    };

    static constexpr u32 bit(Interrupt what) { return 1u << static_cast<u32>(what); }

    bool kernel_has_threads() const { return !case_.cpus.empty(); }
    Core& with_apic(u32 apic) { return cores_[cpu_with_apic(apic)]; }
    void change_power(Core& core, Power power);
    void lose_state(Core& core);
    Core& here() { return cores_[machine().current().value()]; }
    const Core& here() const { return cores_[machine().current().value()]; }
    Event& event() { return events_[steps_]; }
    void begin();
    void begin_cpu(u32 cpu);
    void give_ticks(Core& core);
    void judge_end();
    AgentSet enabled();
    AgentSet timers(u32 Core::*left) const;
    static bool can_run(const Core& core) { return core.power == Power::called || core.power == Power::runs; }
    bool ready(u32 cpu, const Context& context) const;
    bool can_interrupt(u32 cpu) const;
    bool enters_interrupt(u32 cpu);
    bool somebody_waits(const Core& core) const;
    void step(u32 agent);
    void nmi(u32 cpu);
    void idle_loop();
    void arrive();
    void interrupts_off();
    void interrupts_on();
    void order_program(bool off);
    void tell_who_runs();
    void thread_main(u32 thread);
    void deliver();
    void handle(Interrupt what);
    void check_stack(u32 cpu);
    void maybe_preempt();
    void make_ready(u32 thread, u32 home);
    void leave_cpu(bool stays_ready);
    void switch_to_next();
    Fiber& running() { return *here().fiber; }

    const Case& case_;
    Snapshot snapshot_;
    std::vector<Core> cores_;
    std::vector<std::unique_ptr<Thread>> threads_;
    std::function<void()> idle_body_;
    std::vector<Event> events_;
    u32 steps_ = 0;
    Strategy* strategy_ = nullptr;
    bool on_fiber_ = false;
    u32 ticks_ = 0;
    bool unseen_ = false;  // what the fiber accesses now is no step, and in no footprint
    bool deliver_ = false; // the fiber that is resumed takes an interrupt
    u32 preemptions_left_ = 0, deadlines_left_ = 0;
    bool failed_ = false, in_a_step_ = false;
    std::string failure_;
};

World& world(); // of the running exploration

} // namespace loft::sim
