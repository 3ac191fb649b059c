// An interrupt between any two instructions: with EFLAGS.TF set the CPU raises a debug exception after each one
// (SDM vol. 3, 17.3.1.4), and its handler does what an interrupt at that very place could do.
//
// The exception comes through the same gate, entry stub and hooks as an interrupt, and also where interrupts
// are off: what is not broken by it is not broken by any interrupt. The handler itself is not stepped (the
// gate clears TF), and neither are the handlers of the interrupts that arrive meanwhile.
#pragma once

#include "arch/base/types.hpp"

#include <type_traits>

namespace loft::guest {

// For `between`: true where a real interrupt could come, too. Where interrupts are off the stepped code may hold a lock
// of the scheduler or of mm, and nothing that takes one may be called.
bool step_may_wake();

// For `body`, after something that may have put it to sleep: who is switched to without an exception is not stepped any
// more.
void step_on();

// One thread at a time can be stepped. If the handler asks for it (request_move), the end of the exception gives the
// CPU to another thread, and the one that is stepped goes on later, perhaps on another CPU.

// Runs `body` one instruction at a time and calls `between` after each. Returns how many times that was.
// `between` must not CHECK: it would print thousands of lines; it counts, the test checks the counts.
u32 step_through(void (*body)(void*), void* body_argument, void (*between)(void*), void* between_argument);

template <typename Body, typename Between> u32 step_through(Body&& body, Between&& between) {
    using B = std::remove_reference_t<Body>;
    using H = std::remove_reference_t<Between>;
    const auto untyped = [](const auto& f) { return const_cast<void*>(static_cast<const void*>(&f)); };
    return step_through([](void* b) { (*static_cast<B*>(b))(); }, untyped(body),
                        [](void* h) { (*static_cast<H*>(h))(); }, untyped(between));
}

} // namespace loft::guest
