// hal/atomic of the simulated machine. Contract: arch/base/hal_contract.hpp.
//
// CPUs take turns at schedule points, so a plain value is atomic; the point is before the operation.
#pragma once

#include "tests/sim/schedule.hpp"

namespace loft::hal {

template <typename T>
requires(sizeof(T) <= 4) class Atomic {
  public:
    constexpr Atomic() = default;
    explicit constexpr Atomic(T value) : value_{value} {}
    Atomic(const Atomic&) = delete;
    Atomic& operator=(const Atomic&) = delete;

    T load() const {
        sim::schedule_point(sim::Point::atomic);
        return value_;
    }
    void store(T value) {
        sim::schedule_point(sim::Point::atomic);
        value_ = value;
    }
    T exchange(T value) {
        sim::schedule_point(sim::Point::atomic);
        const T old = value_;
        value_ = value;
        return old;
    }
    bool compare_exchange(T& expected, T next) {
        sim::schedule_point(sim::Point::atomic);
        if (value_ == expected) {
            value_ = next;
            return true;
        }
        expected = value_;
        return false;
    }
    T fetch_add(T n) {
        return change([n](T v) { return static_cast<T>(v + n); });
    }
    T fetch_sub(T n) {
        return change([n](T v) { return static_cast<T>(v - n); });
    }
    T fetch_or(T n) {
        return change([n](T v) { return static_cast<T>(v | n); });
    }
    T fetch_and(T n) {
        return change([n](T v) { return static_cast<T>(v & n); });
    }

  private:
    template <typename F> T change(F&& next) {
        sim::schedule_point(sim::Point::atomic);
        const T old = value_;
        value_ = next(old);
        return old;
    }
    T value_{};
};

} // namespace loft::hal
