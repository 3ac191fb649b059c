// hal/atomic of the simulated machine. Contract: arch/base/hal_contract.hpp.
//
// The simulation changes CPUs at schedule points only, so a plain value is atomic; the point is before the operation.
// load and store are plain instructions on i386: in an exploration a store goes through the store buffer.
// A host pointer stands for a 32-bit pointer.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "tests/sim/store_buffer.hpp"

namespace loft::hal {

template <typename T>
requires(sizeof(T) <= 4 || std::is_pointer_v<T>) class Atomic : NotCopyable<Atomic<T>> {
  public:
    constexpr Atomic() = default;
    explicit constexpr Atomic(T value) : value_{value} {}

    LOFT_UNSEEN T load() const {
        sim::schedule_point(sim::Point::load);
        return sim::read_variable(value_);
    }
    LOFT_UNSEEN void store(T value) {
        sim::schedule_point(sim::Point::store);
        sim::write_variable(value_, value);
    }
    LOFT_UNSEEN T exchange(T value) {
        return change([value](T) { return value; });
    }
    LOFT_UNSEEN bool compare_exchange(T& expected, T next) {
        sim::schedule_point(sim::Point::atomic);
        const bool same = value_ == expected;
        sim::touch_word(&value_, sizeof value_, same);
        if (same)
            value_ = next;
        else
            expected = value_;
        return same;
    }
    LOFT_UNSEEN T fetch_add(T n) {
        return change([n](T v) { return static_cast<T>(v + n); });
    }
    LOFT_UNSEEN bool increment_is_positive() { return static_cast<int>(fetch_add(1) + 1) > 0; }
    LOFT_UNSEEN T fetch_sub(T n) {
        return change([n](T v) { return static_cast<T>(v - n); });
    }
    LOFT_UNSEEN T fetch_or(T n) {
        return change([n](T v) { return static_cast<T>(v | n); });
    }
    LOFT_UNSEEN T fetch_and(T n) {
        return change([n](T v) { return static_cast<T>(v & n); });
    }

  private:
    template <typename F> [[gnu::always_inline]] T change(F&& next) {
        sim::schedule_point(sim::Point::atomic);
        sim::touch_word(&value_, sizeof value_, true);
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

    LOFT_UNSEEN u64 load() const {
        sim::schedule_point(sim::Point::load);
        return sim::read_variable(value_);
    }
    LOFT_UNSEEN u64 increment() {
        sim::schedule_point(sim::Point::atomic);
        sim::touch_word(&value_, sizeof value_, true);
        return ++value_;
    }
    LOFT_UNSEEN void raise_to(u64 value) {
        sim::schedule_point(sim::Point::atomic);
        sim::touch_word(&value_, sizeof value_, true);
        value_ = value_ < value ? value : value_;
    }

  private:
    u64 value_ = 0;
};

} // namespace loft::hal
