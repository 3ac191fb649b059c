// Running a test's code between two operations. Contract: schedule.hpp.
#include "tests/sim/schedule.hpp"

#include "tests/sim/machine.hpp"

namespace loft::sim {
namespace {

Hook current_hook;

// One pass with the intruder at point number `at`; false if the operation had fewer points.
bool one_round(const Rounds& rounds, u32 at, bool only_with_interrupts) {
    rounds.prepare();
    u32 seen = 0;
    bool done = false;
    {
        ScopedHook hook{[&](Point) {
            if (only_with_interrupts && !machine().here().interrupts) return;
            if (seen++ != at) return;
            done = true;
            if (only_with_interrupts)
                interrupt(rounds.intruder);
            else
                rounds.intruder();
        }};
        rounds.operation();
    }
    rounds.check();
    return done;
}

u32 all_rounds(const Rounds& rounds, bool only_with_interrupts) {
    u32 at = 0;
    while (one_round(rounds, at, only_with_interrupts))
        ++at;
    return at;
}

} // namespace

const char* point_name(Point point) {
    constexpr const char* kNames[] = {"memory", "pte load", "pte store", "pte locked load", "pte exchange",
                                      "tlb",    "load",     "store",     "locked",          "percpu",
                                      "irq",    "ipi",      "relax",     "thread",          "assist",
                                      "plain",  "stack",    "io",        "copied"};
    return kNames[static_cast<u32>(point)];
}

namespace detail {

void run_hook(Point point) {
    struct Disarmed {
        Disarmed() { hook_armed = false; }
        ~Disarmed() { hook_armed = static_cast<bool>(current_hook); }
    } disarmed;
    const Hook hook = current_hook; // the hook may replace itself
    hook(point);
}

} // namespace detail

void set_schedule_hook(Hook hook) {
    current_hook = std::move(hook);
    detail::hook_armed = static_cast<bool>(current_hook);
}

void interrupt(const std::function<void()>& handler) {
    struct Flag {
        Cpu& cpu = machine().here();
        bool before = cpu.interrupts;
        Flag() { cpu.interrupts = false; }
        ~Flag() { cpu.interrupts = before; }
    } flag;
    handler();
}

u32 at_every_point(const Rounds& rounds) { return all_rounds(rounds, false); }
u32 interrupt_at_every_point(const Rounds& rounds) { return all_rounds(rounds, true); }

} // namespace loft::sim
