// hal/atomic: words that several CPUs change. Contract: arch/base/hal_contract.hpp.
//
// 32 bits at most: std::atomic<u64> would become an x87 load or a library call (house.md, "Traps seen").
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
    // Returns true and stores `next` if the value was `expected`; else `expected` becomes what was found.
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

} // namespace loft::hal
