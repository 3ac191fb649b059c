// Flushes of one CPU, and a flush clock for each CPU: the evidence that its TLB holds no stale translation
// (semantics.md, "Flush debt").
//
// A debt is a group of non-global entries that a caller has cleared. The global time grows by one with each debt. A CPU
// that flushes reads the time, flushes all non-global translations, and then sets its own clock to the time that it
// read. So if an entry was cleared before the time became t, no CPU whose clock is t or more holds its translation.
// Nothing else is evidence. The set of CPUs that called kmap is none, because threads pass addresses to other CPUs.
//
// A CPU that runs one busy thread answers requests by invlpg, and an idle CPU may sleep: a clock may lag without bound.
// So times have 64 bits and do not wrap.
#pragma once

#include "arch/base/near_wrap.hpp"
#include <hal/hal.hpp>

namespace loft {

struct TlbStats {
    u32 invlpg = near_wrap<u32>();
    u32 non_global = near_wrap<u32>();    // CR3 loads that flushed
    u32 full = near_wrap<u32>();          // CR4.PGE toggles
    u32 requests = near_wrap<u32>();      // batches flushed
    u32 rounds = near_wrap<u32>();        // batches that interrupted at least one CPU
    u32 remote = near_wrap<u32>();        // CPUs interrupted for them
    u32 skipped_idle = near_wrap<u32>();  // CPUs not interrupted: idle, they check the clock before they run anything
    u32 skipped_clean = near_wrap<u32>(); // CPUs not interrupted: they have flushed since the debt
};
// Without the invlpg of kmap_local, which counts them as its misses; tlb_stats_of (mm/windows/kmap_local.hpp) adds
// them.
extern hal::PerCpu<TlbStats> tlb_stats;

using FlushTime = u64;

// A new debt: covers all entries that the caller has cleared before the call. Returns its time. Any context.
FlushTime tlb_new_debt();
// Flushes all non-global translations of this CPU and sets its clock. The caller cannot migrate. Any context.
void tlb_flush_local_non_global(hal::Site site = hal::Site::current());
// True if this CPU has flushed since the debt. Any context.
bool tlb_is_clean(CpuId cpu, FlushTime debt);
// Loads the root of another address space. A CR3 load flushes, so it sets the clock. The caller cannot migrate.
void tlb_load_root(PhysAddr root);

// A batch does not interrupt an idle CPU. The CPU marks itself idle before it halts. When anything wakes it, an
// interrupt included, it first checks its clock and flushes if it owes. In between it uses no translation that can
// be stale. Context: interrupts off; enter: this CPU's idle thread; leave: the first call of every interrupt.
void tlb_enter_idle();
void tlb_leave_idle(hal::Site site = hal::Site::current());
bool tlb_is_idle(CpuId cpu);

void tlb_init();
void tlb_init_cpu(CpuId cpu);
// A CPU that does not run is about to start, or to come back: it owes no flush for older debts, because it flushes
// after it has entered hal::online_cpus(). Any context.
void tlb_start_cpu(CpuId cpu);

// One invlpg on this CPU. Context: any; the caller cannot migrate.
inline void tlb_flush_local_page(VirtAddr va, hal::Site site = hal::Site::current()) {
    tlb_stats.add<&TlbStats::invlpg>(1);
    hal::invlpg(va, site);
}

} // namespace loft
