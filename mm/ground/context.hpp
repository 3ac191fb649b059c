// Which context this is: may it sleep, may it be preempted, is it an interrupt.
//
// The counts belong to the CPU while a context runs on it. An interrupt finds them, adds itself, and leaves
// them as it found them.
#pragma once

#include "arch/base/panic.hpp"
#include <hal/hal.hpp>

namespace loft {

struct Context {
    // No preemption while it is not 0: how often that was turned off, and above it how many interrupts and
    // exceptions are nested on the thread. One word, so that one comparison asks for both.
    u32 preempt_count = 0;
    u32 pagefaults_off = 0; // a fault on user memory returns short instead of sleeping
    u32 reschedule = 0;     // somebody wants this CPU's scheduler to run: of the CPU, not of the thread
    // Pages that the thread has mapped by kmap, counted downwards: subtracting one borrows with the first, adding one
    // gives 0 with the last, so one instruction counts and asks.
    u32 minus_kmaps = 0;

    static constexpr u32 kIrqShift = 16;
    u32 preempt_depth() const { return preempt_count & ((1u << kIrqShift) - 1); }
    u32 irq_depth() const { return preempt_count >> kIrqShift; }
    static u32 kmaps_of(u32 minus_kmaps) { return 0u - minus_kmaps; }
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
inline bool preemptible() { return context.equals<&Context::preempt_count>(0) && hal::irqs_enabled(); }
inline u32 irq_depth() { return context.load<&Context::preempt_count>() >> Context::kIrqShift; }
inline bool in_interrupt() { return irq_depth() != 0; }

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

} // namespace loft
