// Segments for thread-local storage: descriptors that a program chooses (set_thread_area, clone).
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/isa/selectors.hpp"

namespace loft {

// Linux's struct user_desc (set_thread_area, clone).
struct UserDescriptor {
    u32 entry;
    u32 base;
    u32 limit;
    u32 flags;

    static constexpr u32 k32Bit = 1u << 0, kContents = 3u << 1, kReadExecOnly = 1u << 3, kLimitInPages = 1u << 4,
                         kNotPresent = 1u << 5, kUseable = 1u << 6;
    static constexpr u32 kAll = 0x7f; // other bits are ignored, as are those of `limit` above 20
    static constexpr u32 kAny = ~0u;  // of `entry`: any free one
};
static_assert(sizeof(UserDescriptor) == 16);

// The descriptors of a thread, as in the GDT while it runs.
struct TlsDescriptors {
    static constexpr u32 kCount = selector::tls_count;
    static constexpr u32 kFirstEntry = selector::tls_first >> 3;
    u32 low[kCount]{};
    u32 high[kCount]{};

    // The index of an unused entry, or kCount.
    u32 free_place() const;
    // Fills entry `place` (less than kCount). Clears it if `wanted` is one of the forms that Linux programs use for
    // that: all zeros, or zeros with "read only" and "not present". False if ring 3 may not have such a segment: only
    // 32-bit data segments.
    [[nodiscard]] bool set(u32 place, const UserDescriptor& wanted);
};

// Writes the GDT of this CPU. Interrupts are off. A segment register that has one of these descriptors loaded takes the
// new one when it is next loaded, at the latest on the return to ring 3.
void load_tls(const TlsDescriptors& descriptors);

} // namespace loft
