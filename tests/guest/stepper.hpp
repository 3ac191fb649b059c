// An interrupt between any two instructions: with EFLAGS.TF set the CPU raises a debug exception after each one (SDM
// vol. 3, 17.3.1.4), and its handler does what an interrupt handler could do at this instruction.
//
// The exception uses the same gate, entry stub and hooks as an interrupt, and also comes where interrupts are off: code
// that survives it survives any interrupt. The handler itself is not stepped (the gate clears TF), and neither are the
// handlers of interrupts that arrive meanwhile.
#pragma once

#include "arch/base/types.hpp"

#include <type_traits>

namespace loft::guest {

// For `between`: true if interrupts are on at this instruction. If they are off, the stepped code may hold a lock of
// the scheduler or of mm, and `between` must call no function that takes one.
bool step_may_wake();

// For `between`: EFLAGS of the stepped code.
u32 step_eflags();

// For `body`, after a call that may have slept: a thread that was switched to without an exception is no longer
// stepped.
void step_on();

// One thread at a time can be stepped. If the handler calls request_move, another thread gets the CPU at the end of the
// exception, and the stepped thread continues later, maybe on another CPU.

// Runs `body` one instruction at a time and calls `between` after each. Returns the number of these calls. `between`
// must not use CHECK, which would print thousands of lines: it counts errors, and the test checks the counts.
u32 step_through(void (*body)(void*), void* body_argument, void (*between)(void*), void* between_argument);

template <typename Body, typename Between> u32 step_through(Body&& body, Between&& between) {
    using B = std::remove_reference_t<Body>;
    using H = std::remove_reference_t<Between>;
    const auto untyped = [](const auto& f) { return const_cast<void*>(static_cast<const void*>(&f)); };
    return step_through([](void* b) { (*static_cast<B*>(b))(); }, untyped(body),
                        [](void* h) { (*static_cast<H*>(h))(); }, untyped(between));
}

} // namespace loft::guest
