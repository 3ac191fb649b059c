// FixedList<T, N>: a list with room for N items, for use before there is an allocator.
#pragma once

#include "arch/base/types.hpp"

#include <array>
#include <span>

namespace loft {

template <typename T, u32 N> class FixedList {
  public:
    // False if the list is full; nothing is added then.
    constexpr bool add(const T& item) {
        if (count_ == N) return false;
        items_[count_++] = item;
        return true;
    }
    constexpr void shorten() { --count_; } // removes the last item; the list is not empty
    constexpr u32 size() const { return count_; }
    constexpr bool empty() const { return count_ == 0; }
    constexpr void clear() { count_ = 0; }
    constexpr T& operator[](u32 index) { return items_[index]; }
    constexpr const T& operator[](u32 index) const { return items_[index]; }
    constexpr std::span<const T> view() const { return {items_.data(), count_}; }
    constexpr const T* begin() const { return items_.data(); }
    constexpr const T* end() const { return items_.data() + count_; }

  private:
    std::array<T, N> items_{};
    u32 count_ = 0;
};

} // namespace loft
