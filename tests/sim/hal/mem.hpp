// hal/mem of the simulated machine: every access goes through the CPU's TLB. Contract:
// arch/base/hal_contract.hpp.
#pragma once

#include "tests/sim/machine.hpp"

#include <algorithm>

namespace loft::hal {

template <typename T> LOFT_UNSEEN inline T load(VirtAddr va) {
    static_assert(sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4);
    sim::schedule_point(sim::Point::memory);
    T value;
    const u8* const from = sim::machine().access(va, sizeof(T), sim::Access::read);
    std::memcpy(&value, from, sizeof(T));
    if (sim::detail::exploring) [[unlikely]]
        sim::forward_own(from, &value, sizeof(T));
    return value;
}
template <typename T> LOFT_UNSEEN inline void store(VirtAddr va, T value) {
    static_assert(sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4);
    sim::schedule_point(sim::Point::memory);
    u8* const to = sim::machine().access(va, sizeof(T), sim::Access::write);
    sim::machine().store(to, &value, sizeof(T));
}

namespace detail {
// Splits a long access into pieces inside a page, of at most half a page, so that there are schedule points in between.
// In an exploration a short one is split into the aligned words of `a`, because other CPUs see each of them by itself.
template <typename F> void in_pieces(u32 bytes, VirtAddr a, VirtAddr b, F&& one) {
    constexpr u32 kPiece = kPageSize / 2, kShort = 32;
    const u32 of_a = sim::detail::exploring && bytes <= kShort ? 4 : kPiece;
    for (u32 done = 0; done < bytes;) {
        const u32 room = std::min(of_a - ((a + done).value() % of_a), kPiece - ((b + done).value() % kPiece));
        const u32 piece = std::min(room, bytes - done);
        sim::schedule_point(sim::Point::memory);
        // Long accesses bypass the store buffer: they wait until it is empty.
        if (sim::detail::exploring && !sim::machine().here().buffer.empty()) sim::schedule_point(sim::Point::assist);
        one(done, piece);
        done += piece;
    }
}
void check_words(VirtAddr va, u32 bytes);
void fill_bytes(VirtAddr to, u8 value, u32 bytes);
} // namespace detail

inline void zero_words(VirtAddr to, u32 bytes) {
    detail::check_words(to, bytes);
    detail::fill_bytes(to, 0, bytes);
}
inline void copy_words(VirtAddr to, VirtAddr from, u32 bytes) {
    detail::check_words(to, bytes);
    detail::check_words(from, bytes);
    detail::in_pieces(bytes, to, from, [&](u32 at, u32 n) {
        sim::Machine& m = sim::machine();
        const u8* source = m.access(from + at, 1, sim::Access::read);
        m.write(m.access(to + at, 1, sim::Access::write), source, n);
    });
}
LOFT_UNSEEN inline void copy_in(void* object, VirtAddr from, u32 bytes) {
    sim::touch_plain(object, bytes, sim::races::Kind::write);
    detail::in_pieces(bytes, from, from, [&](u32 at, u32 n) {
        std::memcpy(static_cast<u8*>(object) + at, sim::machine().access(from + at, 1, sim::Access::read), n);
    });
}
LOFT_UNSEEN inline void copy_out(VirtAddr to, const void* object, u32 bytes) {
    sim::touch_plain(object, bytes, sim::races::Kind::read);
    detail::in_pieces(bytes, to, to, [&](u32 at, u32 n) {
        sim::machine().write(sim::machine().access(to + at, 1, sim::Access::write), static_cast<const u8*>(object) + at,
                             n);
    });
}
inline void copy_bytes(VirtAddr to, VirtAddr from, u32 bytes) {
    detail::in_pieces(bytes, to, from, [&](u32 at, u32 n) {
        sim::Machine& m = sim::machine();
        const u8* source = m.access(from + at, 1, sim::Access::read);
        m.write(m.access(to + at, 1, sim::Access::write), source, n);
    });
}
inline void fill(VirtAddr to, u8 value, u32 bytes) { detail::fill_bytes(to, value, bytes); }

// Objects in the direct map. Their fields are accessed without the TLB, by host pointers.
namespace detail {
inline constexpr u32 kDirectMap = 0xc000'0000, kDirectMapSize = 896 * MiB;
[[noreturn]] void not_lowmem(std::uintptr_t what);
} // namespace detail

class PteCell;

template <typename T> inline T* lowmem_ptr(VirtAddr va) {
    if (va.value() - detail::kDirectMap < detail::kDirectMapSize) [[likely]]
        return reinterpret_cast<T*>(sim::ram_at(va.value() - detail::kDirectMap));
    // An entry of a page table that is mapped elsewhere: each access to it goes through that mapping.
    if constexpr (std::is_same_v<std::remove_const_t<T>, PteCell>)
        return reinterpret_cast<T*>(sim::kWindowBase + va.value());
    else
        detail::not_lowmem(va.value());
}
inline VirtAddr lowmem_addr(const void* object) {
    const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(object) - sim::kRamBase;
    if (offset < detail::kDirectMapSize) [[likely]]
        return VirtAddr{detail::kDirectMap + static_cast<u32>(offset)};
    const std::uintptr_t seen = reinterpret_cast<std::uintptr_t>(object) - sim::kWindowBase;
    if (seen < 4 * GiB) return VirtAddr{static_cast<u32>(seen)};
    detail::not_lowmem(reinterpret_cast<std::uintptr_t>(object));
}

// These frames are free: each access to them from now on is an error.
LOFT_UNSEEN inline void note_frame_free(Pfn first, u32 order) {
    sim::touch_frames(first.value(), order, sim::races::Kind::frees);
    sim::machine().frame_free(first.value(), order);
}
LOFT_UNSEEN inline void note_frame_used(Pfn first, u32 order) {
    sim::machine().frame_used(first.value(), order);
    sim::touch_frames(first.value(), order, sim::races::Kind::allocates);
}
// The same for an object of a cache. Only a configuration that finds races looks at the accesses.
LOFT_UNSEEN inline void note_object_free(const void* object, u32 bytes) {
    sim::touch_object(object, bytes, sim::races::Kind::frees);
}
LOFT_UNSEEN inline void note_object_used(const void* object, u32 bytes) {
    sim::touch_object(object, bytes, sim::races::Kind::allocates);
}

// A test may want an allocation to fail: sim::Machine::fail_allocation.
inline bool out_of_memory() { return sim::machine().allocation_fails(); }

} // namespace loft::hal
