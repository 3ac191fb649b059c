// Page-table entries of i386: the one place where their bits are named.
//
// One class serves both formats, 64-bit entries with PAE (SDM vol. 3, 4.4) and 32-bit ones without (4.3), and every
// level: a directory entry that maps a large page differs from a PTE by one bit. Pure arithmetic, no hardware: the
// simulated machine uses the same entries.
#pragma once

#include "arch/base/config.hpp"
#include "arch/base/types.hpp"

#include <bit>
#include <type_traits>

namespace loft {

using RawPte = std::conditional_t<config::kPae, u64, u32>;

// An entry in the HAL's units: 32 bits at a time. Without PAE the high half is 0.
struct PteHalves {
    u32 low;
    u32 high;
};

// Attribute bits of an entry, combined by |.
class PteFlags {
  public:
    constexpr PteFlags() = default;
    constexpr PteFlags operator|(PteFlags other) const { return PteFlags{bits_ | other.bits_}; }
    constexpr PteFlags operator&(PteFlags other) const { return PteFlags{bits_ & other.bits_}; }
    constexpr PteFlags without(PteFlags other) const { return PteFlags{bits_ & ~other.bits_}; }
    constexpr bool has(PteFlags other) const { return (bits_ & other.bits_) == other.bits_; }
    constexpr bool empty() const { return bits_ == 0; }
    constexpr bool operator==(const PteFlags&) const = default;
    constexpr PteHalves halves() const { return {static_cast<u32>(bits_), static_cast<u32>(u64{bits_} >> 32)}; }

    // The bit at `position`; for the names below. A position that the format does not have gives the empty set.
    static constexpr PteFlags bit(u32 position) {
        return PteFlags{position < 8 * sizeof(RawPte)
                            ? static_cast<RawPte>(RawPte{1} << (position % (8 * sizeof(RawPte))))
                            : RawPte{0}};
    }

  private:
    friend class Pte;
    explicit constexpr PteFlags(RawPte bits) : bits_{bits} {}
    RawPte bits_ = 0;
};

namespace pte {
inline constexpr PteFlags present = PteFlags::bit(0);
inline constexpr PteFlags write = PteFlags::bit(1);
inline constexpr PteFlags user = PteFlags::bit(2);
inline constexpr PteFlags write_through = PteFlags::bit(3);
inline constexpr PteFlags cache_disable = PteFlags::bit(4);
inline constexpr PteFlags accessed = PteFlags::bit(5);
inline constexpr PteFlags dirty = PteFlags::bit(6);
inline constexpr PteFlags large = PteFlags::bit(7); // in a directory entry: it maps 2 or 4 MiB
inline constexpr PteFlags global = PteFlags::bit(8);
inline constexpr PteFlags software0 = PteFlags::bit(9); // the CPU ignores these three (SDM 4.3, 4.4)
inline constexpr PteFlags software1 = PteFlags::bit(10);
inline constexpr PteFlags software2 = PteFlags::bit(11);
inline constexpr PteFlags no_execute = PteFlags::bit(63); // PAE only (SDM 4.6), empty in the two-level format
} // namespace pte

// The value of an entry: made of a frame and flags, never of a bare integer.
class Pte {
  public:
    constexpr Pte() = default; // not present
    constexpr Pte(Pfn pfn, PteFlags flags) : raw_{(RawPte{pfn.value()} << kPageShift) | flags.bits_} {}

    constexpr bool present() const { return (raw_ & 1) != 0; }
    constexpr bool empty() const { return raw_ == 0; }
    constexpr bool has(PteFlags flags) const { return this->flags().has(flags); }
    constexpr Pfn pfn() const { return Pfn{static_cast<u32>((raw_ & kFrameMask) >> kPageShift)}; }
    constexpr PteFlags flags() const { return PteFlags{raw_ & ~kFrameMask}; }
    constexpr Pte with(PteFlags flags) const { return Pte{raw_ | flags.bits_, Raw{}}; }
    constexpr Pte without(PteFlags flags) const { return Pte{raw_ & ~flags.bits_, Raw{}}; }
    constexpr bool operator==(const Pte&) const = default;

    // The halves, for the HAL's stores and for printing. Without PAE the high half is 0.
    constexpr u32 low() const { return static_cast<u32>(raw_); }
    constexpr u32 high() const { return static_cast<u32>(u64{raw_} >> 32); }

    // The halves of an entry for the same frame with other flags.
    constexpr PteHalves same_frame(PteFlags flags) const {
        const PteHalves flag = flags.halves();
        return {(low() & static_cast<u32>(kFrameMask)) | flag.low,
                (high() & static_cast<u32>(u64{kFrameMask} >> 32)) | flag.high};
    }

    // Makes an entry from halves that the HAL has read without tearing.
    using Halves = PteHalves;
    static constexpr Pte from(Halves halves) {
        return Pte{static_cast<RawPte>((u64{halves.high} << 32) | halves.low), Raw{}};
    }

  private:
    struct Raw {};
    constexpr Pte(RawPte raw, Raw) : raw_{raw} {}

    static constexpr RawPte kFrameMask = static_cast<RawPte>(config::kPae ? 0x000f'ffff'ffff'f000ull : 0xffff'f000ull);
    RawPte raw_ = 0;
};
static_assert(sizeof(Pte) == sizeof(RawPte) && std::is_trivially_copyable_v<Pte>);

// Geometry of the tables.
namespace paging {
inline constexpr u32 kPtesPerTable = kPageSize / sizeof(RawPte);      // 512 with PAE, 1024 without
inline constexpr u32 kLargeShift = config::kPae ? 21 : 22;            // range of one directory entry
inline constexpr u32 kLargeSize = 1u << kLargeShift;                  // 2 MiB or 4 MiB
inline constexpr u32 kRootEntries = config::kPae ? 4 : kPtesPerTable; // PDPTEs, or directory entries
inline constexpr u32 kDirectories = config::kPae ? 4 : 1;             // directory pages of an address space
constexpr u32 pte_index(VirtAddr va) { return (va.value() >> kPageShift) % kPtesPerTable; }
constexpr u32 pde_index(VirtAddr va) { return (va.value() >> kLargeShift) % kPtesPerTable; }
constexpr u32 pdpte_index(VirtAddr va) { return va.value() >> 30; } // PAE only
static_assert(kPtesPerTable << kPageShift == kLargeSize);
} // namespace paging

} // namespace loft
