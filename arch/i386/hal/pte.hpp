// hal/pte: page-table entries in memory; no CPU and no page walker ever sees half of a change. Contract:
// arch/base/hal_contract.hpp.
//
// PAE entries have 64 bits and this machine stores 32 at a time. The order of the halves is the protocol (semantics.md,
// "Page tables"): make present high half first, clear low half first, change in place by cmpxchg8b (SDM vol. 3, 8.1.1:
// an aligned 8-byte locked operation is atomic).
#pragma once

#include "arch/i386/isa/pte.hpp"

namespace loft::hal {

// An entry in a page table. Only the functions below access it.
class alignas(sizeof(RawPte)) PteCell {
  public:
    PteCell() = delete;
    volatile u32 half[sizeof(RawPte) / 4];
};
static_assert(sizeof(PteCell) == sizeof(RawPte));

namespace detail {
inline void compiler_barrier() { asm volatile("" ::: "memory"); }
} // namespace detail

// The low half has the present bit and most flags.
inline u32 pte_low(const PteCell* cell) { return cell->half[0]; }
inline u32 pte_high(const PteCell* cell) {
    if constexpr (config::kPae)
        return cell->half[1];
    else
        return 0;
}

// True if the entry has exactly this value. The halves are compared one after the other, low first: for entries that
// only this CPU changes.
inline bool pte_is(const PteCell* cell, Pte::Halves want) {
    bool same;
    asm volatile("cmpl %2, %1" : "=@cce"(same) : "m"(cell->half[0]), "r"(want.low));
    if constexpr (config::kPae) {
        if (!same) return false;
        asm volatile("cmpl %2, %1" : "=@cce"(same) : "m"(cell->half[1]), "r"(want.high));
    }
    return same;
}

// Reads an entry that may change concurrently: both halves are of the same value.
inline Pte pte_read(const PteCell* cell) {
    if constexpr (!config::kPae) {
        return Pte::from({cell->half[0], 0});
    } else {
        // cmpxchg8b with equal old and new value: an atomic 64-bit load (it writes the old value back).
        u32 low = 0, high = 0;
        asm volatile("lock cmpxchg8b %2"
                     : "+a"(low), "+d"(high), "+m"(*const_cast<PteCell*>(cell))
                     : "b"(0), "c"(0)
                     : "memory", "cc");
        return Pte::from({low, high});
    }
}

// Fills an entry with a low half of 0: high half first. What was stored before is in memory before the low half.
inline void pte_set(PteCell* cell, Pte value) {
    if constexpr (config::kPae) cell->half[1] = value.high();
    detail::compiler_barrier();
    cell->half[0] = value.low();
}

inline void pte_set(PteCell* cell, Pte::Halves value) {
    if constexpr (config::kPae) cell->half[1] = value.high;
    detail::compiler_barrier();
    cell->half[0] = value.low;
}

// Clears a present entry: low half first, and then what follows. The caller owes a flush.
inline void pte_clear(PteCell* cell) {
    cell->half[0] = 0;
    detail::compiler_barrier();
    if constexpr (config::kPae) cell->half[1] = 0;
}

// Clears the low half: the entry is no longer present; the high half keeps its value.
inline void pte_clear_low(PteCell* cell) { cell->half[0] = 0; }

// Replaces an entry and returns the old one, with accessed and dirty bits: one atomic step.
inline Pte pte_exchange(PteCell* cell, Pte value) {
    if constexpr (!config::kPae) {
        u32 low = value.low();
        asm volatile("xchg %0, %1" : "+r"(low), "+m"(cell->half[0])::"memory");
        return Pte::from({low, 0});
    } else {
        u32 low = cell->half[0], high = cell->half[1];
        for (;;) {
            bool done;
            asm volatile("lock cmpxchg8b %3"
                         : "+a"(low), "+d"(high), "=@ccz"(done), "+m"(*cell)
                         : "b"(value.low()), "c"(value.high())
                         : "memory");
            if (done) return Pte::from({low, high});
        }
    }
}

// Clears an entry and returns the old one. The MMU does not change the high half of a PAE entry, so an xchg of the low
// half is enough: it has P, A and D.
inline Pte pte_take(PteCell* cell) {
    u32 low = 0;
    asm volatile("xchg %0, %1" : "+r"(low), "+m"(cell->half[0])::"memory");
    u32 high = 0;
    if constexpr (config::kPae) {
        high = cell->half[1];
        cell->half[1] = 0;
    }
    return Pte::from({low, high});
}

// Clears and returns the low half: one atomic step. The high half keeps its value.
inline u32 pte_take_low(PteCell* cell) {
    u32 low = 0;
    asm volatile("xchg %0, %1" : "+r"(low), "+m"(cell->half[0])::"memory");
    return low;
}

} // namespace loft::hal
