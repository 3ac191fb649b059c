// Which context this is: may it sleep, may it be preempted, is it an interrupt.
//
// The counts belong to the CPU while a context runs on it. An interrupt finds them, raises irq_depth, and
// leaves them as it found them.
#pragma once

#include "arch/base/panic.hpp"
#include <hal/hal.hpp>

namespace loft {

struct Context {
    u32 preempt_count = 0;  // preemption is off while not 0
    u32 irq_depth = 0;      // interrupts and exceptions nested on the thread
    u32 pagefaults_off = 0; // a fault on user memory returns short instead of sleeping
    u32 reschedule = 0;      // somebody wants this CPU's scheduler to run: of the CPU, not of the thread
    u32 kmaps = 0;          // pages that the thread has mapped by kmap
};
extern hal::PerCpu<Context> context;

// Any context; no TLB operation. Pairs nest.
inline void preempt_disable() { context.add<&Context::preempt_count>(1); }
inline void preempt_enable() {
    context.add<&Context::preempt_count>(static_cast<u32>(-1));
    if constexpr (config::kPreempt) {
        // A reschedule that was asked for in between happens now.
        if (!context.equals<&Context::reschedule>(0) && context.equals<&Context::preempt_count>(0)) [[unlikely]]
            hal::reschedule();
    }
}
inline bool preemptible() {
    return context.equals<&Context::preempt_count>(0) && context.equals<&Context::irq_depth>(0) && hal::irqs_enabled();
}
inline bool in_interrupt() { return context.load<&Context::irq_depth>() != 0; }

inline void pagefault_disable() { context.add<&Context::pagefaults_off>(1); }
inline void pagefault_enable() { context.add<&Context::pagefaults_off>(static_cast<u32>(-1)); }
inline bool pagefaults_disabled() { return context.load<&Context::pagefaults_off>() != 0; }

// At the head of everything that may sleep; checked in every build. `what` is named in the panic.
[[noreturn, gnu::cold]] void sleep_in_atomic(const char* what);
inline void might_sleep(const char* what) {
    if (!preemptible()) [[unlikely]]
        sleep_in_atomic(what);
}

class [[nodiscard]] PreemptGuard {
  public:
    PreemptGuard() { preempt_disable(); }
    ~PreemptGuard() { preempt_enable(); }
    PreemptGuard(const PreemptGuard&) = delete;
    PreemptGuard& operator=(const PreemptGuard&) = delete;
};

class [[nodiscard]] IrqGuard {
  public:
    IrqGuard() : flags_{hal::irq_save()} {}
    ~IrqGuard() { hal::irq_restore(flags_); }
    IrqGuard(const IrqGuard&) = delete;
    IrqGuard& operator=(const IrqGuard&) = delete;

  private:
    u32 flags_;
};

// The kernel wraps every interrupt and exception (not NMI, not double fault) in these two. Leaving panics if
// the interrupt did not leave the local maps and the counts as it found them.
struct InterruptCookie {
    u32 local_top;
    u32 local_limit;
    u32 preempt_count;
};
InterruptCookie interrupt_enter();
void interrupt_leave(const InterruptCookie& cookie);

} // namespace loft
