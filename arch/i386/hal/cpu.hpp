// hal/cpu: which CPU this is, its private variables, its interrupt flag. Contract:
// arch/base/hal_contract.hpp.
//
// A per-CPU variable lives in section .percpu. The boot CPU uses the section as linked; every other CPU has a
// copy, and the base of its %fs segment is the distance from the original to its copy. So `%fs:variable` is
// this CPU's variable in one instruction, which no interrupt, preemption or migration can split. That
// indivisibility is the contract of load, store, add, exchange_add, equals, at_most, decrement_from_zero and
// increment_to_zero. A kernel for one CPU (SMP=0) needs no segment.
#pragma once

#include "arch/base/config.hpp"
#include "arch/base/types.hpp"
#include "arch/i386/isa/control.hpp"

#define LOFT_PERCPU [[gnu::section(".percpu")]] constinit
#define LOFT_REGPARM [[gnu::regparm(3)]]

#if LOFT_SMP
#define LOFT_FS "%%fs:"
#else
#define LOFT_FS ""
#endif

namespace loft {
// Up-call, defined by mm (mm/ground/remote): does what other CPUs have asked of this one since it last looked.
void remote_answer();
} // namespace loft

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

// Stays true only while the caller cannot migrate.
inline CpuId this_cpu() { return CpuId{config::kSmp ? detail::load_mine(loft_my_cpu) : 0}; }

// Interrupts of this CPU. irq_save turns them off and returns what irq_restore takes.
inline u32 irq_save() {
    u32 flags;
    asm volatile("pushf; pop %0; cli" : "=r"(flags)::"memory");
    return flags;
}
// The same where they are known to be on.
inline constexpr u32 kIrqsOn = eflags::interrupt;
inline void irq_off() { asm volatile("cli" ::: "memory"); }
inline void irq_restore(u32 flags) {
    if (flags & eflags::interrupt) asm volatile("sti" ::: "memory");
}
inline bool irqs_enabled() { return (read_eflags() & eflags::interrupt) != 0; }

// Where the function that is inlined into its caller returns to: for "mapped at" messages.
[[gnu::always_inline]] inline u32 return_address() { return reinterpret_cast<u32>(__builtin_return_address(0)); }

// The value, of which the compiler forgets what it knows.
template <typename T> [[gnu::always_inline]] inline T opaque(T value) {
    asm("" : "+r"(value));
    return value;
}

// In every loop that waits for another CPU. With SMP=0 there is nobody to answer.
inline void cpu_relax() {
    pause();
    if constexpr (config::kSmp) remote_answer();
}

// What mm asks of the processor.
struct CpuFeatures {
    bool large_pages; // PSE, or PAE, and not switched off by `nopse`
    bool global;      // PGE
    bool no_execute;  // NX, and EFER.NXE is set
    u32 phys_bits;    // an entry may have addresses of so many bits: 36 (PAE) or 32 at most
};
CpuFeatures cpu_features(); // arch/i386/cpu/features.cpp; right from the first line of kernel_main on

template <typename T> class PerCpu {
  public:
    constexpr PerCpu() = default;

    // One instruction each, on the CPU that executes it; the field is 4 bytes.
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

    // Comparisons: the field is not read into a register first.
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
    // One less, where there was 0; one more, and now there is 0.
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
    // Of another CPU. What may be read there while that CPU runs is up to the caller.
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
