// hal/cpu: CPU id, per-CPU variables, interrupt flag. Contract: arch/base/hal_contract.hpp.
//
// A per-CPU variable lives in section .percpu. The boot CPU uses the section as linked; every other CPU has a copy, and
// the base of its %fs segment is the distance from the section to the copy. So one instruction with `%fs:variable`
// accesses this CPU's variable, and no interrupt, preemption or migration can split it. load, store, add, exchange_add,
// equals, at_most, decrement_from_zero and increment_to_zero guarantee this. A kernel for one CPU (SMP=0) needs no
// segment.
#pragma once

#include "arch/base/config.hpp"
#include "arch/base/hal_contract.hpp"
#include "arch/base/types.hpp"
#include "arch/i386/isa/control.hpp"

#define LOFT_PERCPU [[gnu::section(".percpu")]] constinit
#define LOFT_REGPARM [[gnu::regparm(3)]]

#if LOFT_SMP
#define LOFT_FS "%%fs:"
#else
#define LOFT_FS ""
#endif

namespace loft::hal {

namespace detail {
template <typename M> struct Member;
template <typename C, typename F> struct Member<F C::*> { using Field = F; };
} // namespace detail

// arch/i386/cpu/percpu.cpp
extern "C" {
extern u32 loft_percpu_offset[config::kMaxCpus]; // distance from the section to each CPU's copy of it
extern u32 loft_my_offset;                       // per CPU: its own entry of that table
extern u32 loft_my_cpu;                          // per CPU: its CpuId
}

namespace detail {
inline u32 load_mine(const u32& variable) {
    u32 value;
    asm volatile("movl " LOFT_FS "%1, %0" : "=r"(value) : "m"(variable));
    return value;
}
} // namespace detail

// Stays valid only while the caller cannot migrate.
inline CpuId this_cpu() { return CpuId{config::kSmp ? detail::load_mine(loft_my_cpu) : 0}; }

// Interrupts of this CPU. irq_save turns them off and returns the flags for irq_restore.
inline u32 irq_save() {
    u32 flags;
    asm volatile("pushf; pop %0; cli" : "=r"(flags)::"memory");
    return flags;
}
// The same if interrupts are known to be on.
inline constexpr u32 kIrqsOn = eflags::interrupt;
inline void irq_off() { asm volatile("cli" ::: "memory"); }
inline void irq_restore(u32 flags) {
    if (flags & eflags::interrupt) asm volatile("sti" ::: "memory");
}
inline bool irqs_enabled() { return (read_eflags() & eflags::interrupt) != 0; }

// Return address of the function into which it is inlined, for "mapped at" messages.
[[gnu::always_inline]] inline u32 return_address() { return reinterpret_cast<u32>(__builtin_return_address(0)); }

// Hides the value from the compiler's optimiser.
template <typename T> [[gnu::always_inline]] inline T opaque(T value) {
    asm("" : "+r"(value));
    return value;
}

// In every loop that waits for another CPU. With SMP=0 there are no requests to answer.
inline void cpu_relax() {
    pause();
    if constexpr (config::kSmp) remote_answer();
}

// The processor features that mm uses.
struct CpuFeatures {
    bool large_pages; // PSE or PAE, and no `nopse`
    bool global;      // PGE
    bool no_execute;  // NX, with EFER.NXE set
    u32 phys_bits;    // width of physical addresses in entries: at most 36 (PAE) or 32
};
CpuFeatures cpu_features(); // valid from the first line of kernel_main on

template <typename T> class PerCpu {
  public:
    constexpr PerCpu() = default;

    // One instruction each, on the executing CPU; the field has 4 bytes.
    template <auto M> auto load() const {
        using F = typename detail::Member<decltype(M)>::Field;
        static_assert(sizeof(F) == 4);
        F value;
        asm volatile("movl " LOFT_FS "%1, %0" : "=r"(value) : "m"(value_.*M));
        return value;
    }
    template <auto M, typename V> void store(V value) {
        using F = typename detail::Member<decltype(M)>::Field;
        static_assert(sizeof(F) == 4);
        asm volatile("movl %1, " LOFT_FS "%0" : "=m"(value_.*M) : "ri"(static_cast<F>(value)));
    }
    template <auto M> void add(u32 n) {
        static_assert(sizeof(value_.*M) == 4);
        asm volatile("addl %1, " LOFT_FS "%0" : "+m"(value_.*M) : "ri"(n) : "cc");
    }
    template <auto M> u32 exchange_add(u32 n) {
        static_assert(sizeof(value_.*M) == 4);
        asm volatile("xaddl %0, " LOFT_FS "%1" : "+r"(n), "+m"(value_.*M)::"cc");
        return n;
    }

    // Comparisons, without a load into a register.
    template <auto M> bool equals(u32 value) const {
        static_assert(sizeof(value_.*M) == 4);
        bool yes;
        asm volatile("cmpl %2, " LOFT_FS "%1" : "=@cce"(yes) : "m"(value_.*M), "ri"(value));
        return yes;
    }
    template <auto M> bool at_most(u32 value) const {
        static_assert(sizeof(value_.*M) == 4);
        bool yes;
        asm volatile("cmpl %2, " LOFT_FS "%1" : "=@ccbe"(yes) : "m"(value_.*M), "ri"(value));
        return yes;
    }
    // Subtract 1, true if the old value was 0; add 1, true if the new value is 0.
    template <auto M> bool decrement_from_zero() {
        static_assert(sizeof(value_.*M) == 4);
        bool borrows;
        asm volatile("subl $1, " LOFT_FS "%0" : "+m"(value_.*M), "=@ccc"(borrows));
        return borrows;
    }
    template <auto M> bool increment_to_zero() {
        static_assert(sizeof(value_.*M) == 4);
        bool zero;
        asm volatile("addl $1, " LOFT_FS "%0" : "+m"(value_.*M), "=@ccz"(zero));
        return zero;
    }

    // The whole object of this CPU. The caller cannot migrate: interrupts or preemption are off.
    T& mine() {
        if constexpr (!config::kSmp) {
            return value_;
        } else {
            return *reinterpret_cast<T*>(reinterpret_cast<u32>(&value_) + detail::load_mine(loft_my_offset));
        }
    }
    // The object of another CPU. The caller decides which fields it may access while that CPU runs.
    T& of(CpuId cpu) {
        if constexpr (!config::kSmp)
            return value_;
        else
            return *reinterpret_cast<T*>(reinterpret_cast<u32>(&value_) + loft_percpu_offset[cpu.value()]);
    }

  private:
    T value_{};
};

} // namespace loft::hal
