// Flushes of one CPU, and the clocks that say when each CPU has flushed: evidence that it has no stale translation
// (semantics.md, "Flush debt").
//
// Time grows by one with each debt: with each group of non-global entries that were taken away. A CPU's own clock says
// up to which time it is known to be clean: it reads the time, flushes all that is not global, and then sets its clock
// to the time that it read. An entry that was taken away before the time grew to t is therefore in no TLB of a CPU
// whose clock is t or more. Nothing else is evidence: not who called kmap, because addresses travel.
//
// A CPU that runs one busy thread answers requests by invlpg, and an idle one may sleep: nothing bounds how far a clock
// falls behind. So times have 64 bits and do not wrap.
#pragma once

#include "arch/base/types.hpp"
#include <hal/hal.hpp>

namespace loft {

struct TlbStats {
    u32 invlpg = 0;
    u32 non_global = 0;    // CR3 loads that flushed
    u32 full = 0;          // CR4.PGE toggles
    u32 requests = 0;      // batches flushed
    u32 rounds = 0;        // batches that had to interrupt somebody
    u32 remote = 0;        // CPUs interrupted for them
    u32 skipped_idle = 0;  // CPUs not interrupted: idle, and they look at the clock before they run anything
    u32 skipped_clean = 0; // CPUs not interrupted: they have flushed since
};
// As counted here. The invlpg of kmap_local are not in it: they are its misses, which it counts itself; tlb_stats_of
// (mm/windows/kmap_local.hpp) adds them.
extern hal::PerCpu<TlbStats> tlb_stats;

using FlushTime = u64;

// The entries that the caller took away until now belong to the time returned. Any context.
FlushTime tlb_new_debt();
// Everything non-global on this CPU; sets its clock. The caller cannot migrate. Any context.
void tlb_flush_local_non_global(hal::Site site = hal::Site::current());
// Has this CPU flushed since? Any context.
bool tlb_is_clean(CpuId cpu, FlushTime debt);
// Loads another address space's root: CR3 loads flush, so the clock goes on. The caller cannot migrate.
void tlb_load_root(PhysAddr root);

// An idle CPU is not interrupted. It says so before it halts, and the first thing that it does when anything wakes it,
// an interrupt included, is to look at the clock: between the two it touches no address whose translation can be stale.
// Context: interrupts off, this CPU's idle thread / the first thing in every interrupt.
void tlb_enter_idle();
void tlb_leave_idle(hal::Site site = hal::Site::current());
bool tlb_is_idle(CpuId cpu);

void tlb_init();
void tlb_init_cpu(CpuId cpu);

// This CPU. Context: any; the caller cannot migrate.
inline void tlb_flush_local_page(VirtAddr va, hal::Site site = hal::Site::current()) {
    tlb_stats.add<&TlbStats::invlpg>(1);
    hal::invlpg(va, site);
}

} // namespace loft
