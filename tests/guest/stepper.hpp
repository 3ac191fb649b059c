// An interrupt between any two instructions: with EFLAGS.TF set the CPU raises a debug exception after each one (SDM
// vol. 3, 17.3.1.4), and its handler does what an interrupt handler could do at this instruction.
//
// The exception uses the same gate, entry stub and hooks as an interrupt, and also comes where interrupts are off: code
// that survives it survives any interrupt. The handler itself is not stepped (the gate clears TF), and neither are the
// handlers of interrupts that arrive meanwhile.
#pragma once

#include "arch/base/cpu_set.hpp"
#include "arch/base/not_copyable.hpp"
#include "arch/base/types.hpp"
#include "arch/i386/irq/traps.hpp"

namespace loft::guest {

// For `between`: true if interrupts are on at this instruction. If they are off, the stepped code may hold a lock of
// the scheduler or of mm, and `between` must call no function that takes one.
bool step_may_wake();

// For `between`: the registers of the stepped code.
const TrapFrame& step_frame();

// For `body`, after a call that may have slept: a thread that was switched to without an exception is no longer
// stepped.
void step_on();

// For `body`: another thread that is to be stepped, too, if the stepped one switches to it.
void step_also(ThreadId thread);

// While it exists, step_through and step_entries also step the code that `vector` starts on `cpus`, at most `times`
// times: from the first instruction of the entry point up to the return to code that is not stepped, in whatever thread
// it comes. A breakpoint finds the entry point: the gate clears TF. One at a time.
class SteppedEntry : NotCopyable<SteppedEntry> {
  public:
    SteppedEntry(u8 vector, CpuSet cpus, u32 times);
    ~SteppedEntry();
    u32 entered() const; // how often so far

  private:
    CpuSet cpus_;
    TrapHandler before_;
};

// One thread at a time can be stepped. If the handler calls request_move, another thread gets the CPU at the end of the
// exception, and the stepped thread continues later, maybe on another CPU.

// Runs `body` one instruction at a time and calls `between` after each. Returns the number of these calls. `between`
// must not use CHECK, which would print thousands of lines: it counts errors, and the test checks the counts.
u32 step_through(void (*body)(void*), void* body_argument, void (*between)(void*), void* between_argument);

// The same for the code of a SteppedEntry only: `body` itself runs at full speed.
u32 step_entries(void (*body)(void*), void* body_argument, void (*between)(void*), void* between_argument);

namespace detail {
template <typename Body, typename Between>
u32 step(u32 (*step)(void (*)(void*), void*, void (*)(void*), void*), Body& body, Between& between) {
    const auto untyped = [](const auto& f) { return const_cast<void*>(static_cast<const void*>(&f)); };
    return step([](void* b) { (*static_cast<Body*>(b))(); }, untyped(body),
                [](void* h) { (*static_cast<Between*>(h))(); }, untyped(between));
}
} // namespace detail

template <typename Body, typename Between> u32 step_through(Body&& body, Between&& between) {
    return detail::step(step_through, body, between);
}
template <typename Body, typename Between> u32 step_entries(Body&& body, Between&& between) {
    return detail::step(step_entries, body, between);
}

} // namespace loft::guest
