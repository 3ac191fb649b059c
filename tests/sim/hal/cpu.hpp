// hal/cpu of the simulated machine. Contract: arch/base/hal_contract.hpp.
//
// A per-CPU variable is an array. One operation on it is one step of the schedule, because it is one instruction on
// i386.
#pragma once

#include "arch/base/config.hpp"
#include "arch/base/hal_contract.hpp"
#include "tests/sim/machine.hpp"

#define LOFT_PERCPU constinit
#define LOFT_REGPARM

namespace loft::hal {

inline CpuId this_cpu() {
    sim::schedule_point(sim::Point::percpu);
    return sim::machine().current();
}

namespace detail {
inline constexpr u32 kInterruptFlag = 1u << 9; // where EFLAGS has it
} // namespace detail

inline u32 irq_save() {
    sim::schedule_point(sim::Point::irq);
    const bool before = sim::machine().here().interrupts;
    sim::machine().set_interrupts(false);
    return before ? detail::kInterruptFlag : 0;
}
inline constexpr u32 kIrqsOn = detail::kInterruptFlag;
inline void irq_off() {
    sim::schedule_point(sim::Point::irq);
    if (!sim::machine().here().interrupts) throw sim::BadAccess{"irq_off: interrupts are off already"};
    sim::machine().set_interrupts(false);
}
inline void irq_restore(u32 flags) {
    if ((flags & detail::kInterruptFlag) == 0) return;
    sim::machine().set_interrupts(true);
    sim::schedule_point(sim::Point::irq); // pending interrupts are delivered now
}
inline bool irqs_enabled() { return sim::machine().here().interrupts; }

// The host's code address, cut to 32 bits: messages print it, nothing else uses it.
[[gnu::always_inline]] inline u32 return_address() {
    return static_cast<u32>(reinterpret_cast<std::uintptr_t>(__builtin_return_address(0)));
}

template <typename T> T opaque(T value) { return value; }

inline void cpu_relax() {
    if constexpr (config::kSmp) remote_answer();
    // An exploration continues here when another agent has written memory that this CPU has read since its last call.
    // remote_answer() reads `asked` before, so a request counts, too.
    sim::schedule_point(sim::Point::relax);
    sim::machine().relax();
}

struct CpuFeatures {
    bool large_pages;
    bool global;
    bool no_execute;
    u32 phys_bits;
};
inline CpuFeatures cpu_features() {
    const sim::Features& f = sim::machine().features();
    return {f.large_pages, f.global, f.no_execute, f.phys_bits};
}

template <typename T> class PerCpu {
  public:
    constexpr PerCpu() = default;

    template <auto M> LOFT_UNSEEN auto load() const {
        // A pointer of the host stands for one of i386, which has 4 bytes.
        static_assert(sizeof(value_[0].*M) == 4 || std::is_pointer_v<std::remove_reference_t<decltype(value_[0].*M)>>);
        sim::schedule_point(sim::Point::percpu);
        const T& mine = value_[cpu()];
        touch_field<M>(mine, sim::races::Kind::cpu_read);
        return mine.*M;
    }
    template <auto M, typename V> LOFT_UNSEEN void store(V value) {
        using F = std::remove_reference_t<decltype(value_[0].*M)>;
        static_assert(sizeof(F) == 4 || std::is_pointer_v<F>);
        sim::schedule_point(sim::Point::percpu);
        T& mine = value_[cpu()];
        touch_field<M>(mine, sim::races::Kind::cpu_write);
        mine.*M = static_cast<F>(value);
    }
    template <auto M> LOFT_UNSEEN void add(u32 n) {
        static_assert(sizeof(value_[0].*M) == 4);
        sim::schedule_point(sim::Point::percpu);
        T& mine = value_[cpu()];
        touch_field<M>(mine, sim::races::Kind::cpu_write);
        mine.*M += n;
    }
    template <auto M> LOFT_UNSEEN u32 exchange_add(u32 n) {
        static_assert(sizeof(value_[0].*M) == 4);
        sim::schedule_point(sim::Point::percpu);
        T& mine = value_[cpu()];
        touch_field<M>(mine, sim::races::Kind::cpu_write);
        const u32 old = mine.*M;
        mine.*M = old + n;
        return old;
    }

    template <auto M> bool equals(u32 value) const { return load<M>() == value; }
    template <auto M> bool at_most(u32 value) const { return load<M>() <= value; }
    template <auto M> bool decrement_from_zero() { return exchange_add<M>(~0u) == 0; }
    template <auto M> bool increment_to_zero() { return exchange_add<M>(1) == ~0u; }

    T& mine() {
        sim::schedule_point(sim::Point::percpu);
        return value_[cpu()];
    }
    T& of(CpuId id) { return value_[id.value()]; }

  private:
    // Called after the schedule point: the CPU on which the instruction executes.
    static u32 cpu() { return sim::machine().current().value(); }
    template <auto M> [[gnu::always_inline]] static void touch_field(const T& mine, sim::races::Kind kind) {
        sim::touch_plain(&(mine.*M), sizeof(mine.*M), kind);
    }

    T value_[config::kMaxCpus]{};
};

} // namespace loft::hal
