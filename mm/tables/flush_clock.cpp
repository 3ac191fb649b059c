// The flush clocks, and the flushes that set them. Contract: flush_clock.hpp.
#include "mm/tables/flush_clock.hpp"

namespace loft {

LOFT_PERCPU hal::PerCpu<TlbStats> tlb_stats;

namespace {

hal::Counter time;                          // the time of the youngest debt
hal::Counter clock_of[config::kMaxCpus];    // the CPU owes no flush for debts up to this time; only this CPU sets it
hal::Atomic<u32> idle_of[config::kMaxCpus]; // 1: idle; the CPU checks the time before it runs anything

// Shortly before the carry into the high half: to find code that cuts a time to 32 bits.
constexpr FlushTime kCarry = FlushTime{1} << 32;
constexpr FlushTime kFirstTime = near_wrap<FlushTime>(5, kCarry);

} // namespace

FlushTime tlb_new_debt() { return time.increment(); }

void tlb_flush_local_non_global(hal::Site site) {
    // Read before the flush: an entry that another CPU clears in between has a younger time than this clock gets.
    const FlushTime now = time.load();
    tlb_stats.add<&TlbStats::non_global>(1);
    hal::flush_non_global(site);
    clock_of[hal::this_cpu().value()].raise_to(now);
}

void tlb_load_root(PhysAddr root) {
    const FlushTime now = time.load();
    hal::load_root(root);
    clock_of[hal::this_cpu().value()].raise_to(now);
}

bool tlb_is_clean(CpuId cpu, FlushTime debt) { return clock_of[cpu.value()].load() >= debt; }
bool tlb_is_idle(CpuId cpu) { return idle_of[cpu.value()].load() != 0; }

void tlb_enter_idle() { idle_of[hal::this_cpu().value()].exchange(1); }

void tlb_leave_idle(hal::Site site) {
    hal::Atomic<u32>& idle = idle_of[hal::this_cpu().value()];
    if (idle.load() == 0) return;
    // Both CPUs use a locked instruction and then a read. This CPU: idle = 0, then reads the time. The flushing CPU:
    // time + 1, then reads idle. So either this CPU sees the new time, or the other CPU sees it awake and interrupts
    // it.
    idle.exchange(0);
    if (!tlb_is_clean(hal::this_cpu(), time.load())) tlb_flush_local_non_global(site);
}

// A host test boots many times, and the time never goes back: it goes on to before the next carry.
void tlb_init() { time.raise_to((time.load() & ~(kCarry - 1)) + kFirstTime); }

void tlb_init_cpu(CpuId cpu) {
    tlb_stats.of(cpu) = TlbStats{};
    idle_of[cpu.value()].store(0);
    tlb_start_cpu(cpu);
}

void tlb_start_cpu(CpuId cpu) { clock_of[cpu.value()].raise_to(time.load()); }

} // namespace loft
