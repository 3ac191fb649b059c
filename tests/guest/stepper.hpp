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

// Runs `body` one instruction at a time and calls `between` after each. Returns how many times that was.
// `between` must not CHECK: it would print thousands of lines; it counts, the test checks the counts.
u32 step_through(void (*body)(void*), void* body_argument, void (*between)(void*), void* between_argument);

template <typename Body, typename Between> u32 step_through(Body&& body, Between&& between) {
    using B = std::remove_reference_t<Body>;
    using H = std::remove_reference_t<Between>;
    return step_through([](void* b) { (*static_cast<B*>(b))(); }, &body,
                        [](void* h) { (*static_cast<H*>(h))(); }, &between);
}

} // namespace loft::guest
