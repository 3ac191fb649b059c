// Time and the tick. Contract: timer.hpp.
#include "arch/i386/irq/timer.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/cpu/image.hpp"
#include "arch/i386/io/pit.hpp"
#include "arch/i386/io/rtc.hpp"
#include "arch/i386/irq/clocks.hpp"
#include "arch/i386/irq/irq.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "arch/i386/irq/traps.hpp"
#include "arch/i386/isa/control.hpp"

#include <hal/clock.hpp>
#include <hal/cpu.hpp>
#include <hal/ipi.hpp>

#include <atomic>
#include <utility>

namespace loft {
namespace {

constexpr u32 kMeasuredMs = 5;
constexpr u32 kAssumedKhz = 1'000'000;
constexpr u32 kFastestKhz = 6'000'000; // before it is measured: a wait is not shorter than asked for
constexpr u32 kMostReads =
    300'000; // of a clock; the PIT takes three port accesses each: a second or so on a real machine
constexpr u32 kFirstReads = 1000; // by then it has moved, or it stands still
constexpr u32 kMostRtcMs = 2500;  // two of its seconds and some more
constexpr u32 kLooksPerMs = 500;  // of a wait with a deadline: less than a processor at its usual speed makes

constinit u32 khz = 0;
constinit u32 us_per_cycle = 0;          // in units of 2^-32
constinit u32 lapic_clocks_per_tick = 0; // 0: the tick is the PIT's
constinit const char* source = "none";
constinit std::atomic<TickHandler> tick_handler{nullptr};

struct TickCount {
    u32 ticks = 0;
    u32 late = 0; // the handler took longer than a tick: the one that waits is dropped
};
LOFT_PERCPU hal::PerCpu<TickCount> tick_count;

// In kHz; 0 is "does not run".
struct Rates {
    u32 tsc = 0;
    u32 lapic = 0;
};

// Under -icount an instruction is a nanosecond and a port access costs the emulator a thousand times more:
// look at the clock now and then only.
void wait_a_little() {
    for (u32 i = 0; i < 500; ++i)
        asm volatile("");
}

// Where the two counters stand.
struct Counters {
    u64 tsc;
    u32 lapic;
};
Counters counters() { return {read_tsc(), lapic_ready() ? lapic_timer_left() : 0}; }

// From `begin` to now, in which `passed` of a clock of `khz` have gone by.
Rates rates_since(const Counters& begin, u32 passed, u32 khz) {
    const Counters now = counters();
    // More than 32 bits are no frequency: the machine stood still for seconds, and only this counter went on.
    const auto rate = [&](u64 count) {
        const u64 ticks = count * khz;
        return ticks >> 32 < passed ? divide(ticks, passed) : ~u32{0};
    };
    return {rate(now.tsc - begin.tsc), rate(begin.lapic - now.lapic)};
}

Rates measure(const Clock& clock) {
    if (lapic_ready()) lapic_timer_count_down();
    const u32 first = clock.read();
    const Counters begin = counters();
    for (u32 reads = 0; reads < kMostReads; ++reads) {
        wait_a_little();
        const u32 passed = (clock.read() - first) & clock.mask;
        if (passed >= clock.khz * kMeasuredMs) return rates_since(begin, passed, clock.khz);
        if (passed == 0 && reads == kFirstReads) break;
    }
    return {};
}

// The middle one of three: an emulator that is not scheduled for a while, or a visit of the firmware, between
// two of the reads above makes a single measurement too high or too low.
Rates measure_well(const Clock& clock) {
    Rates a = measure(clock);
    if (a.tsc == 0) return a;
    Rates b = measure(clock), c = measure(clock);
    if (a.tsc > b.tsc) std::swap(a, b);
    if (b.tsc > c.tsc) std::swap(b, c);
    return a.tsc > b.tsc ? a : b;
}

// One second of the real-time clock, from one move of its hand to the next.
Rates measure_by_rtc() {
    const u32 first = rtc_second();
    if (first > 59) return {};
    const hal::Deadline patience = hal::deadline(kMostRtcMs);
    const auto wait_for_move = [&](u32 second) {
        u32 now = second;
        while (now == second && !patience.expired())
            now = rtc_second();
        return now;
    };
    const u32 second = wait_for_move(first);
    if (lapic_ready()) lapic_timer_count_down();
    const Counters begin = counters();
    return wait_for_move(second) != second ? rates_since(begin, 1000, 1) : Rates{};
}

bool is_a_processor(u32 tsc_khz) { return tsc_khz > 1000; } // less is none

// The local APIC's timer against the TSC, where that one's frequency is known otherwise.
Rates with_lapic_measured(u32 tsc_khz) {
    const Clock tsc{"the TSC", tsc_khz, ~0u, [] { return static_cast<u32>(read_tsc()); }};
    return {tsc_khz, measure(tsc).lapic};
}

// By the best clock that there is; says in `source` which.
Rates find_rates(const char*& by) {
    const Clock pit = pit_clock();
    by = pit.name;
    if (const Rates rates = measure_well(pit); is_a_processor(rates.tsc)) return rates;
    by = "CPUID";
    if (const u32 khz = tsc_khz_by_cpuid(); is_a_processor(khz)) return with_lapic_measured(khz);
    by = "the real-time clock";
    if (const Rates rates = measure_by_rtc(); is_a_processor(rates.tsc)) return rates;
    by = "the processor's name plate";
    if (const u32 khz = base_khz_by_cpuid(); is_a_processor(khz)) return with_lapic_measured(khz);
    by = "assumption";
    log(LogLevel::warn, "timer",
        "no clock counts (PIT, real-time clock) and CPUID knows no frequency: assuming a TSC of {} kHz", kAssumedKhz);
    return with_lapic_measured(kAssumedKhz);
}

void count_tick(TrapFrame& frame) {
    tick_count.add<&TickCount::ticks>(1);
    if (const TickHandler handler = tick_handler.load(std::memory_order_relaxed)) handler(frame);
}

// A handler that takes longer than a tick finds the next one waiting when it ends. If that ran, too, whoever was
// interrupted would not get on by an instruction: it is acknowledged and dropped, and a whole tick comes before the
// next.
bool drop_late_tick() {
    if (tick_count.load<&TickCount::late>() == 0) return false;
    tick_count.store<&TickCount::late>(0);
    return true;
}

void on_lapic_tick(TrapFrame& frame) {
    lapic_eoi();
    if (drop_late_tick()) return;
    count_tick(frame);
    if (!lapic_has_pending(vector::lapic_timer)) return;
    tick_count.store<&TickCount::late>(1);
    if (lapic_clocks_per_tick != 0) lapic_timer_start_periodic(lapic_clocks_per_tick);
}
void on_pit_tick(TrapFrame& frame) {
    irq_eoi(kTimerIrq);
    if (drop_late_tick()) return;
    // To the others it is as if their own timer had ticked.
    hal::online_cpus().without(hal::this_cpu()).for_each([](CpuId cpu) {
        lapic_send(cpu_lapic_id(cpu), IpiKind::fixed, vector::lapic_timer);
    });
    count_tick(frame);
    if (!irq_has_pending(kTimerIrq)) return;
    tick_count.store<&TickCount::late>(1);
    pit_start_tick(kPitHz / kTicksPerSecond);
}

void start_tick() {
    trap_set_handler(vector::lapic_timer, on_lapic_tick);
    if (lapic_clocks_per_tick != 0) {
        source = "lapic";
        lapic_timer_start_periodic(lapic_clocks_per_tick);
    } else {
        if (measure(pit_clock()).tsc == 0)
            refuse("nothing can tick here: the local APIC's timer does not count, and neither does the PIT (8254). "
                   "Switch one of "
                   "them on");
        source = "pit";
        trap_set_handler(irq_vector(kTimerIrq), on_pit_tick);
        pit_start_tick(kPitHz / kTicksPerSecond);
        irq_unmask(kTimerIrq);
    }
}

} // namespace

void timer_init() {
    const char* by = nullptr;
    const Rates rates = find_rates(by);
    khz = rates.tsc;
    us_per_cycle = divide(u64{1000} << 32, khz);
    lapic_clocks_per_tick = rates.lapic * (1000 / kTicksPerSecond);
    start_tick();
    log(LogLevel::info, "timer", "TSC {}.{:03} MHz by {}, {} ticks a second from the {}", khz / 1000, khz % 1000, by,
        kTicksPerSecond, source);
}

void timer_start_cpu() {
    if (lapic_clocks_per_tick != 0) lapic_timer_start_periodic(lapic_clocks_per_tick);
}

TickPause::TickPause() {
    if (lapic_clocks_per_tick != 0)
        lapic_timer_stop();
    else
        irq_mask(kTimerIrq);
}
TickPause::~TickPause() {
    if (lapic_clocks_per_tick != 0)
        lapic_timer_start_periodic(lapic_clocks_per_tick);
    else
        irq_unmask(kTimerIrq);
}

u32 tsc_khz() { return khz; }

hal::Deadline hal::deadline(u32 milliseconds) {
    return Deadline{read_tsc() + u64{milliseconds} * (khz != 0 ? khz : kFastestKhz), milliseconds * kLooksPerMs};
}

u64 now_us() {
    const u64 cycles = read_tsc() - boot_tsc;
    const u64 low = u64{static_cast<u32>(cycles)} * us_per_cycle;
    return u64{static_cast<u32>(cycles >> 32)} * us_per_cycle + (low >> 32);
}

u32 ticks() { return ticks_of(CpuId{0}); }
u32 ticks_of(CpuId cpu) { return *const_cast<const volatile u32*>(&tick_count.of(cpu).ticks); }

const char* tick_source() { return source; }

TickHandler timer_set_tick_handler(TickHandler handler) { return tick_handler.exchange(handler); }

} // namespace loft
