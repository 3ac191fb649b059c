// Single-stepping. Contract: stepper.hpp.
#include "tests/guest/stepper.hpp"

#include "arch/i386/irq/traps.hpp"
#include "arch/i386/isa/control.hpp"

#include <hal/hal.hpp>

namespace loft::guest {
namespace {

constexpr u8 kDebugVector = 1;

struct Step {
    void (*between)(void*);
    void* argument;
    u32 count;
    ThreadId thread;
    u32 eflags;
};
constinit Step step{};

void on_debug_exception(TrapFrame& frame) {
    // When the stepped thread sleeps by itself, the next thread continues with TF set.
    if (hal::current_thread() != step.thread) {
        frame.eflags &= ~eflags::trap;
        return;
    }
    ++step.count;
    step.eflags = frame.eflags;
    step.between(step.argument);
}

} // namespace

bool step_may_wake() { return (step.eflags & eflags::interrupt) != 0; }
u32 step_eflags() { return step.eflags; }
void step_on() { write_eflags(read_eflags() | eflags::trap); }

[[gnu::noinline]] u32 step_through(void (*body)(void*), void* body_argument, void (*between)(void*),
                                   void* between_argument) {
    step = {between, between_argument, 0, hal::current_thread(), 0};
    const TrapHandler before = trap_set_handler(kDebugVector, on_debug_exception);
    write_eflags(read_eflags() | eflags::trap);
    body(body_argument);
    write_eflags(read_eflags() & ~eflags::trap);
    trap_set_handler(kDebugVector, before);
    return step.count;
}

} // namespace loft::guest
