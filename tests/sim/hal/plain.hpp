// hal/plain of the simulated machine. Contract: arch/base/hal_contract.hpp.
//
// A host pointer is wider than a store of i386; it stands for a 32-bit pointer.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "tests/sim/store_buffer.hpp"

namespace loft::hal {

template <typename T>
requires(sizeof(T) <= 4 || std::is_pointer_v<T>) class Plain : NotCopyable<Plain<T>> {
  public:
    constexpr Plain() = default;
    explicit constexpr Plain(T value) : value_{value} {}

    LOFT_UNSEEN T load() const {
        sim::schedule_point(sim::Point::load);
        return sim::read_variable(value_);
    }
    LOFT_UNSEEN void store(T value) {
        sim::schedule_point(sim::Point::store);
        sim::write_variable(value_, value);
    }
    LOFT_UNSEEN void add(T n) { store(load() + n); }

  private:
    T value_{};
};

} // namespace loft::hal
