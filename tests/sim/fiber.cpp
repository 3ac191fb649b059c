// Switching stacks on x86-64, with the calls that AddressSanitizer needs.
#include "tests/sim/fiber.hpp"

#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define LOFT_ASAN(...) __VA_ARGS__
#else
#define LOFT_ASAN(...)
#endif

// Saves the callee-saved registers, changes the stack, and restores the registers from there.
extern "C" void loft_fiber_switch(void** save, void* load);
asm(R"(
    .text
    .globl loft_fiber_switch
    .type loft_fiber_switch, @function
loft_fiber_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size loft_fiber_switch, . - loft_fiber_switch
)");

namespace loft::sim {
namespace {
Fiber* entering; // the fiber that runs its first line next
}

Fiber::Fiber() : stack_{new u8[kStack]} {}
Fiber::~Fiber() { LOFT_ASAN(__asan_unpoison_memory_region(stack_.get(), kStack);) }

void Fiber::start(const std::function<void()>* body) {
    body_ = body;
    LOFT_ASAN(__asan_unpoison_memory_region(stack_.get(), kStack);)
    constexpr std::size_t kRegisters = 6;
    const std::uintptr_t top = (reinterpret_cast<std::uintptr_t>(stack_.get()) + kStack) & ~std::uintptr_t{15};
    // As if enter() had been called: its frame begins 8 below a multiple of 16, without a return address.
    void** frame = reinterpret_cast<void**>(top) - 1;
    *frame = nullptr;
    *--frame = reinterpret_cast<void*>(&Fiber::enter);
    frame -= kRegisters;
    std::memset(frame, 0, kRegisters * sizeof(void*));
    stack_pointer_ = frame;
    sanitizer_fiber_ = nullptr;
}

void Fiber::enter() {
    Fiber* const me = entering;
    LOFT_ASAN(__sanitizer_finish_switch_fiber(nullptr, &me->main_bottom_, &me->main_size_);)
    (*me->body_)();
    std::abort(); // never reached: the body does not return
}

void Fiber::resume() {
    entering = this;
    LOFT_ASAN(__sanitizer_start_switch_fiber(&sanitizer_main_, stack_.get(), kStack);)
    loft_fiber_switch(&back_, stack_pointer_);
    LOFT_ASAN(__sanitizer_finish_switch_fiber(sanitizer_main_, nullptr, nullptr);)
}

void Fiber::leave() {
    LOFT_ASAN(__sanitizer_start_switch_fiber(&sanitizer_fiber_, main_bottom_, main_size_);)
    loft_fiber_switch(&stack_pointer_, back_);
    LOFT_ASAN(__sanitizer_finish_switch_fiber(sanitizer_fiber_, &main_bottom_, &main_size_);)
}

} // namespace loft::sim
