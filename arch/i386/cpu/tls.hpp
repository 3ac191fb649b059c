// Segments for thread-local storage: the descriptors that a program may choose for itself (set_thread_area, clone).
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/isa/selectors.hpp"

namespace loft {

// Linux's struct user_desc (set_thread_area, clone): the form in which a program names a segment.
struct UserDescriptor {
    u32 entry;
    u32 base;
    u32 limit;
    u32 flags;

    static constexpr u32 k32Bit = 1u << 0, kContents = 3u << 1, kReadExecOnly = 1u << 3, kLimitInPages = 1u << 4,
                         kNotPresent = 1u << 5, kUseable = 1u << 6;
    static constexpr u32 kAll = 0x7f; // other bits mean nothing, nor do those of `limit` above 20
    static constexpr u32 kAny = ~0u;  // of `entry`: one that is free
};
static_assert(sizeof(UserDescriptor) == 16);

// The descriptors of a thread, as they stand in the GDT while it runs.
struct TlsDescriptors {
    static constexpr u32 kCount = selector::tls_count;
    static constexpr u32 kFirstEntry = selector::tls_first >> 3;
    u32 low[kCount]{};
    u32 high[kCount]{};

    // An entry that is not used, or kCount.
    u32 free_place() const;
    // Fills entry `place` (less than kCount), or empties it if `wanted` says so as Linux programs do: all zeros but
    // "read only" and "not present". False if it is nothing that ring 3 may have: only data segments of 32 bits.
    [[nodiscard]] bool set(u32 place, const UserDescriptor& wanted);
};

// Into the GDT of this CPU. Interrupts are off. A segment register that has one of them loaded shows the new one when
// it is loaded next: at the latest, on the way to ring 3.
void load_tls(const TlsDescriptors& descriptors);

} // namespace loft
