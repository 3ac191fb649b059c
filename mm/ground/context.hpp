// The current context of a CPU: may it sleep, may it be preempted, is it an interrupt.
//
// The counts are per-CPU. The scheduler saves and restores those of a thread. An interrupt increments the interrupt
// depth on entry and restores the counts on exit.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "arch/base/panic.hpp"
#include <hal/hal.hpp>

namespace loft {

struct Context {
    // Preemption is off while this is not 0. Low half: nesting of preempt_disable. High half: nested interrupts and
    // exceptions. One word, so that one comparison checks both.
    u32 preempt_count = 0;
    u32 pagefaults_off = 0; // not 0: a fault on user memory makes the copy return short instead of sleeping
    u32 reschedule = 0;     // not 0: the scheduler of this CPU has to run. Belongs to the CPU, not to the thread
    // The number of kmaps that the thread holds, negated: decrementing sets carry only at the first kmap, incrementing
    // sets zero only at the last. So one instruction counts and checks.
    u32 minus_kmaps = 0;

    static constexpr u32 kIrqShift = 16;
    static constexpr u32 kMostNested = (1u << kIrqShift) - 1; // of either half. Checked with DEBUG=1
    u32 preempt_depth() const { return preempt_count & kMostNested; }
    u32 irq_depth() const { return preempt_count >> kIrqShift; }
    static u32 kmaps_of(u32 minus_kmaps) { return 0u - minus_kmaps; }
};
extern hal::PerCpu<Context> context;

// Any context; no TLB operation. Pairs nest.
inline void preempt_disable() {
    LOFT_DEBUG_ASSERT((context.load<&Context::preempt_count>() & Context::kMostNested) != Context::kMostNested);
    context.add<&Context::preempt_count>(1);
}
inline void preempt_enable() {
    context.add<&Context::preempt_count>(static_cast<u32>(-1));
    if constexpr (config::kPreempt) {
        // Runs the scheduler if it was requested while preemption was off.
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

// Called first by every function that may sleep: panics in atomic context, in every build. The panic names `what`.
[[noreturn, gnu::cold]] void sleep_in_atomic(const char* what);
inline void might_sleep(const char* what) {
    if (!preemptible()) [[unlikely]]
        sleep_in_atomic(what);
}

class [[nodiscard]] PreemptGuard : NotCopyable<PreemptGuard> {
  public:
    PreemptGuard() { preempt_disable(); }
    ~PreemptGuard() { preempt_enable(); }
};

class [[nodiscard]] IrqGuard : NotCopyable<IrqGuard> {
  public:
    IrqGuard() : flags_{hal::irq_save()} {}
    ~IrqGuard() { hal::irq_restore(flags_); }

  private:
    u32 flags_;
};

} // namespace loft
