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

namespace loft::hal {
static_assert(PteAccess<PteCell, Pte>);
static_assert(TlbControl<Site>);
static_assert(AtomicWord<Atomic<u32>>);
static_assert(PlainWord<Plain<u32>>);
static_assert(BoundedWait<Deadline>);
} // namespace loft::hal
