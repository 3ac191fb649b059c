// Addresses of mappings: one type for each kind, so that a mapping is only undone by the call that belongs to it.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Converts to a VirtAddr for access; neither a VirtAddr, a Page* nor the address of another kind converts to it.
template <typename Kind> class MappedAddr {
  public:
    constexpr MappedAddr() = default;
    explicit constexpr MappedAddr(VirtAddr va) : va_{va} {}
    constexpr operator VirtAddr() const { return va_; }
    constexpr u32 value() const { return va_.value(); }
    constexpr MappedAddr operator+(u32 bytes) const { return MappedAddr{va_ + bytes}; }
    constexpr MappedAddr operator-(u32 bytes) const { return MappedAddr{va_ - bytes}; }
    constexpr bool operator==(const MappedAddr&) const = default;

  private:
    VirtAddr va_{};
};

using LocalAddr = MappedAddr<struct ByKmapLocal>;
using AtomicAddr = MappedAddr<struct ByKmapAtomic>;
using GlobalAddr = MappedAddr<struct ByKmap>; // kunmap takes the page, not the address

} // namespace loft
