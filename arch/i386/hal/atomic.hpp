// hal/atomic: words that several CPUs change. Contract: arch/base/hal_contract.hpp.
//
// Atomic has at most 32 bits: std::atomic<u64> would become an x87 load or a library call (house.md, "Traps seen"). The
// only 64-bit use is a counter that only grows, which plain loads can read.
#pragma once

#include "arch/base/types.hpp"

#include <atomic>

namespace loft::hal {

template <typename T>
requires(sizeof(T) <= 4) class Atomic {
  public:
    constexpr Atomic() = default;
    explicit constexpr Atomic(T value) : value_{value} {}

    T load() const { return value_.load(std::memory_order_acquire); }
    void store(T value) { value_.store(value, std::memory_order_release); }
    T exchange(T value) { return value_.exchange(value); }
    // If the value is `expected`: stores `next` and returns true. Otherwise sets `expected` to the value found.
    bool compare_exchange(T& expected, T next) { return value_.compare_exchange_strong(expected, next); }
    T fetch_add(T n) { return value_.fetch_add(n); }
    bool increment_is_positive() {
        bool positive;
        asm volatile("lock incl %0" : "+m"(value_), "=@ccg"(positive)::"memory");
        return positive;
    }
    T fetch_sub(T n) { return value_.fetch_sub(n); }
    T fetch_or(T n) { return value_.fetch_or(n); }
    T fetch_and(T n) { return value_.fetch_and(n); }

  private:
    std::atomic<T> value_{};
};

// 64 bits: at a billion increments a second it lasts 584 years.
class alignas(8) Counter {
  public:
    constexpr Counter() = default;

    u64 load() const {
        // The value only grows: if the high half is the same before and after, it belongs to the low half read in
        // between.
        for (;;) {
            const u32 high = high_, low = low_;
            if (high_ != high) continue;
            asm volatile("" ::: "memory"); // acquire, as in Atomic
            return u64{high} << 32 | low;
        }
    }
    u64 increment() {
        u64 old = load();
        while (!replace(old, old + 1)) {
        }
        return old + 1;
    }
    void raise_to(u64 value) {
        u64 old = load();
        while (old < value && !replace(old, value)) {
        }
    }

  private:
    // An aligned 8-byte locked operation is atomic (SDM vol. 3, 8.1.1). `old` becomes the value found.
    bool replace(u64& old, u64 value) {
        bool done;
        asm volatile("lock cmpxchg8b %1"
                     : "+A"(old), "+m"(low_), "+m"(high_), "=@ccz"(done)
                     : "b"(static_cast<u32>(value)), "c"(static_cast<u32>(value >> 32))
                     : "memory");
        return done;
    }
    volatile u32 low_ = 0, high_ = 0;
};

} // namespace loft::hal
