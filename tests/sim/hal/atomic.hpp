// hal/atomic of the simulated machine. Contract: arch/base/hal_contract.hpp.
//
// The simulation changes CPUs at schedule points only, so a plain value is atomic; the point is before the operation.
// load and store are plain instructions on i386: in an exploration a store goes through the store buffer.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "tests/sim/store_buffer.hpp"

namespace loft::hal {

template <typename T>
requires(sizeof(T) <= 4) class Atomic : NotCopyable<Atomic<T>> {
  public:
    constexpr Atomic() = default;
    explicit constexpr Atomic(T value) : value_{value} {}

    T load() const {
        sim::schedule_point(sim::Point::load);
        return sim::read_variable(value_);
    }
    void store(T value) {
        sim::schedule_point(sim::Point::store);
        sim::write_variable(value_, value);
    }
    T exchange(T value) {
        return change([value](T) { return value; });
    }
    bool compare_exchange(T& expected, T next) {
        sim::schedule_point(sim::Point::atomic);
        const bool same = value_ == expected;
        sim::touch(&value_, same);
        if (same)
            value_ = next;
        else
            expected = value_;
        return same;
    }
    T fetch_add(T n) {
        return change([n](T v) { return static_cast<T>(v + n); });
    }
    bool increment_is_positive() { return static_cast<int>(fetch_add(1) + 1) > 0; }
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
        sim::touch(&value_, true);
        const T old = value_;
        value_ = next(old);
        return old;
    }
    T value_{};
};

// The real one reads its halves one after the other; it returns a value that the counter had at one of these moments.
class Counter : NotCopyable<Counter> {
  public:
    constexpr Counter() = default;

    u64 load() const {
        sim::schedule_point(sim::Point::load);
        return sim::read_variable(value_);
    }
    u64 increment() {
        sim::schedule_point(sim::Point::atomic);
        sim::touch(&value_, true);
        return ++value_;
    }
    void raise_to(u64 value) {
        sim::schedule_point(sim::Point::atomic);
        sim::touch(&value_, true);
        value_ = value_ < value ? value : value_;
    }

  private:
    u64 value_ = 0;
};

} // namespace loft::hal
