// The i386 machine, checked against the contract.
#pragma once

#include "arch/base/hal_contract.hpp"
#include <hal/atomic.hpp>
#include <hal/clock.hpp>
#include <hal/cpu.hpp>
#include <hal/ipi.hpp>
#include <hal/mem.hpp>
#include <hal/plain.hpp>
#include <hal/pte.hpp>
#include <hal/thread.hpp>
#include <hal/tlb.hpp>
#include <hal/user.hpp>

namespace loft::hal {
static_assert(PteAccess<PteCell, Pte>);
static_assert(TlbControl<Site>);
static_assert(AtomicWord<Atomic<u32>>);
static_assert(GrowingCount<Counter>);
static_assert(PlainWord<Plain<u32>>);
static_assert(BoundedWait<Deadline>);
static_assert(std::same_as<decltype(user_copy_in), UserCopyIn> && std::same_as<decltype(user_copy_out), UserCopyOut>);
static_assert(std::same_as<decltype(user_copy_to_map), UserCopyMap> &&
              std::same_as<decltype(user_copy_from_map), UserCopyMap>);
static_assert(std::same_as<decltype(user_clear), UserClear>);
} // namespace loft::hal
