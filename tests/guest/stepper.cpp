// Single-stepping. Contract: stepper.hpp.
#include "tests/guest/stepper.hpp"

#include "arch/i386/control.hpp"
#include "arch/i386/traps.hpp"

namespace loft::guest {
namespace {

constexpr u8 kDebugVector = 1;

struct Step {
    void (*between)(void*);
    void* argument;
    u32 count;
};
constinit Step step{};

void on_debug_exception(TrapFrame&) {
    ++step.count;
    step.between(step.argument);
}

} // namespace

[[gnu::noinline]] u32 step_through(void (*body)(void*), void* body_argument, void (*between)(void*),
                                   void* between_argument) {
    step = {between, between_argument, 0};
    const TrapHandler before = trap_set_handler(kDebugVector, on_debug_exception);
    write_eflags(read_eflags() | eflags::trap);
    body(body_argument);
    write_eflags(read_eflags() & ~eflags::trap);
    trap_set_handler(kDebugVector, before);
    return step.count;
}

} // namespace loft::guest
