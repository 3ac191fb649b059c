// hal/plain: a variable that several CPUs read and write by plain instructions. Contract: arch/base/hal_contract.hpp.
//
// The compiler does not tear, repeat or omit an access. The processor may delay a store in its buffer while later loads
// execute (SDM vol. 3, 8.2.3.4).
#pragma once

#include "arch/base/types.hpp"

#include <atomic>

namespace loft::hal {

template <typename T>
requires(sizeof(T) <= 4) class Plain {
  public:
    constexpr Plain() = default;
    explicit constexpr Plain(T value) : value_{value} {}

    T load() const { return value_.load(std::memory_order_relaxed); }
    void store(T value) { value_.store(value, std::memory_order_relaxed); }
    void add(T n) {
        static_assert(sizeof(T) == 4);
        asm volatile("addl %1, %0" : "+m"(value_) : "ri"(n) : "cc");
    }

  private:
    std::atomic<T> value_{};
};

} // namespace loft::hal
