// Addresses, frames and sizes as types without implicit conversions.
//
// A physical address has 64 bits and a virtual one 32: the classic bug of high memory is a physical address that was
// truncated to 32 bits (anchors.md, bug 12). So PhysAddr takes exactly a std::uint64_t: a shifted 32-bit value, which
// has already lost its upper bits, does not compile. To convert a frame number, use Pfn::phys().
#pragma once

#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace loft {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i64 = std::int64_t;

inline constexpr u32 kPageShift = 12;
inline constexpr u32 kPageSize = 1u << kPageShift;
inline constexpr u32 kPageMask = ~(kPageSize - 1);

inline constexpr u32 KiB = 1u << 10;
inline constexpr u32 MiB = 1u << 20;
inline constexpr u64 GiB = 1ull << 30;

class Pfn;

// A physical address, in bytes. 36 bits are used with PAE.
class PhysAddr {
  public:
    constexpr PhysAddr() = default;
    template <std::same_as<u64> T> explicit constexpr PhysAddr(T value) : value_{value} {}

    constexpr u64 value() const { return value_; }
    constexpr u32 page_offset() const { return static_cast<u32>(value_) & ~kPageMask; }
    constexpr Pfn pfn() const; // the frame this address lies in
    constexpr PhysAddr operator+(u64 bytes) const { return PhysAddr{value_ + bytes}; }
    constexpr u64 operator-(PhysAddr other) const { return value_ - other.value_; }
    constexpr auto operator<=>(const PhysAddr&) const = default;

  private:
    u64 value_ = 0;
};

// The number of a 4 KiB frame. 24 bits are used with PAE.
class Pfn {
  public:
    constexpr Pfn() = default;
    template <std::same_as<u32> T> explicit constexpr Pfn(T value) : value_{value} {}

    constexpr u32 value() const { return value_; }
    constexpr PhysAddr phys() const { return PhysAddr{u64{value_} << kPageShift}; }
    constexpr Pfn operator+(u32 frames) const { return Pfn{value_ + frames}; }
    constexpr u32 operator-(Pfn other) const { return value_ - other.value_; }
    constexpr auto operator<=>(const Pfn&) const = default;

  private:
    u32 value_ = 0;
};

constexpr Pfn PhysAddr::pfn() const { return Pfn{static_cast<u32>(value_ >> kPageShift)}; }

// A virtual address. Not a pointer: mm accesses memory through hal:: only, so that the same code runs on the simulated
// machine (house.md, rule 2).
class VirtAddr {
  public:
    constexpr VirtAddr() = default;
    template <std::same_as<u32> T> explicit constexpr VirtAddr(T value) : value_{value} {}

    constexpr u32 value() const { return value_; }
    constexpr u32 page_offset() const { return value_ & ~kPageMask; }
    constexpr VirtAddr page() const { return VirtAddr{value_ & kPageMask}; }
    constexpr VirtAddr operator+(u32 bytes) const { return VirtAddr{value_ + bytes}; }
    constexpr VirtAddr operator-(u32 bytes) const { return VirtAddr{value_ - bytes}; }
    constexpr u32 operator-(VirtAddr other) const { return value_ - other.value_; }
    constexpr auto operator<=>(const VirtAddr&) const = default;

  private:
    u32 value_ = 0;
};

// An address that a program passed. It is only a number until the user copies (mm/spaces/user_copy.hpp) have checked
// it, so it has no conversion to VirtAddr: a caller must go through value().
class UserAddr {
  public:
    constexpr UserAddr() = default;
    template <std::same_as<u32> T> explicit constexpr UserAddr(T value) : value_{value} {}

    constexpr u32 value() const { return value_; }
    constexpr u32 page_offset() const { return value_ & ~kPageMask; }
    constexpr UserAddr operator+(u32 bytes) const { return UserAddr{value_ + bytes}; }
    constexpr auto operator<=>(const UserAddr&) const = default;

  private:
    u32 value_ = 0;
};

// A logical CPU, 0 to config::kMaxCpus-1; not the APIC id.
class CpuId {
  public:
    constexpr CpuId() = default;
    explicit constexpr CpuId(u32 value) : value_{value} {}
    constexpr u32 value() const { return value_; }
    constexpr auto operator<=>(const CpuId&) const = default;

  private:
    u32 value_ = 0;
};

// A thread, for mm's wait queues; 0: none.
class ThreadId {
  public:
    constexpr ThreadId() = default;
    explicit constexpr ThreadId(u32 value) : value_{value} {}
    constexpr u32 value() const { return value_; }
    constexpr auto operator<=>(const ThreadId&) const = default;

  private:
    u32 value_ = 0;
};

constexpr u32 pages_for(u32 bytes) { return (bytes >> kPageShift) + ((bytes & ~kPageMask) != 0); }
template <std::unsigned_integral T> constexpr T round_up(T value, T to) { return (value + (to - 1)) & ~(to - 1); }
template <std::unsigned_integral T> constexpr T round_down(T value, T to) { return value & ~(to - 1); }

} // namespace loft
