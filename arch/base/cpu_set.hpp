// A set of CPUs: at most 32, one word.
#pragma once

#include "arch/base/config.hpp"
#include "arch/base/types.hpp"

#include <bit>

namespace loft {

class CpuSet {
  public:
    constexpr CpuSet() = default;
    static constexpr CpuSet only(CpuId cpu) { return CpuSet{1u << cpu.value()}; }
    // For sets in an atomic word.
    static constexpr CpuSet from_bits(u32 bits) { return CpuSet{bits}; }
    constexpr u32 bits() const { return bits_; }

    constexpr bool empty() const { return bits_ == 0; }
    constexpr bool has(CpuId cpu) const { return (bits_ >> cpu.value() & 1) != 0; }
    constexpr u32 count() const { return static_cast<u32>(std::popcount(bits_)); }
    constexpr CpuSet with(CpuId cpu) const { return CpuSet{bits_ | 1u << cpu.value()}; }
    constexpr CpuSet without(CpuId cpu) const { return CpuSet{bits_ & ~(1u << cpu.value())}; }
    constexpr bool operator==(const CpuSet&) const = default;

    template <typename F> constexpr void for_each(F&& visit) const {
        for (u32 rest = bits_; rest != 0; rest &= rest - 1)
            visit(CpuId{static_cast<u32>(std::countr_zero(rest))});
    }

  private:
    explicit constexpr CpuSet(u32 bits) : bits_{bits} {}
    u32 bits_ = 0;
};
static_assert(config::kMaxCpus <= 32);

} // namespace loft
