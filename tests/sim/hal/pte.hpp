// hal/pte of the simulated machine: entries lie in its RAM. A change of a present entry leaves its old translation in
// every TLB that could hold it. Contract: arch/base/hal_contract.hpp.
//
// Each half is a step of its own, as on i386. The source location of the caller is for the message of a stale access.
#pragma once

#include "arch/i386/isa/pte.hpp"
#include "tests/sim/machine.hpp"

namespace loft::hal {

class alignas(sizeof(RawPte)) PteCell {
  public:
    PteCell() = delete;
    volatile u32 half[sizeof(RawPte) / 4];
};
static_assert(sizeof(PteCell) == sizeof(RawPte));

namespace detail {
using Here = SourceLocation;
inline Pte pte_from(RawPte raw) { return Pte::from({static_cast<u32>(raw), static_cast<u32>(u64{raw} >> 32)}); }
inline RawPte raw_of(Pte value) { return static_cast<RawPte>(u64{value.high()} << 32 | value.low()); }
} // namespace detail

inline u32 pte_low(const PteCell* cell) {
    sim::schedule_point(sim::Point::pte_load);
    return sim::machine().cell_half(cell, 0);
}
inline u32 pte_high(const PteCell* cell) {
    if constexpr (!config::kPae) return 0;
    sim::schedule_point(sim::Point::pte_load);
    return sim::machine().cell_half(cell, 1);
}

inline bool pte_is(const PteCell* cell, Pte::Halves want) {
    return pte_low(cell) == want.low && pte_high(cell) == want.high;
}

inline Pte pte_read(const PteCell* cell) {
    sim::schedule_point(config::kPae ? sim::Point::pte_locked : sim::Point::pte_load);
    return detail::pte_from(sim::machine().cell_read(cell));
}

namespace detail {
inline void store_half(PteCell* cell, u32 half, u32 value, Here here) {
    sim::schedule_point(sim::Point::pte_store);
    sim::machine().cell_store_half(cell, half, value, here);
}
} // namespace detail

inline void pte_set(PteCell* cell, Pte value, detail::Here here = detail::Here::current()) {
    if constexpr (config::kPae) detail::store_half(cell, 1, value.high(), here);
    detail::store_half(cell, 0, value.low(), here);
}
inline void pte_set(PteCell* cell, Pte::Halves value, detail::Here here = detail::Here::current()) {
    pte_set(cell, Pte::from(value), here);
}
inline void pte_clear(PteCell* cell, detail::Here here = detail::Here::current()) {
    detail::store_half(cell, 0, 0, here);
    if constexpr (config::kPae) detail::store_half(cell, 1, 0, here);
}
inline void pte_clear_low(PteCell* cell, detail::Here here = detail::Here::current()) {
    detail::store_half(cell, 0, 0, here);
}

inline Pte pte_exchange(PteCell* cell, Pte value, detail::Here here = detail::Here::current()) {
    sim::schedule_point(sim::Point::pte_atomic);
    return detail::pte_from(sim::machine().cell_exchange(cell, detail::raw_of(value), here));
}
inline Pte pte_take(PteCell* cell, detail::Here here = detail::Here::current()) {
    sim::schedule_point(sim::Point::pte_atomic);
    const u32 low = sim::machine().cell_exchange_low(cell, 0, here);
    u32 high = 0;
    if constexpr (config::kPae) {
        high = pte_high(cell);
        detail::store_half(cell, 1, 0, here);
    }
    return Pte::from({low, high});
}

inline u32 pte_take_low(PteCell* cell, detail::Here here = detail::Here::current()) {
    sim::schedule_point(sim::Point::pte_atomic);
    return sim::machine().cell_exchange_low(cell, 0, here);
}

} // namespace loft::hal
