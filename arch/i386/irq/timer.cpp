// Time and the tick. Contract: timer.hpp.
#include "arch/i386/irq/timer.hpp"

#include "arch/base/near_wrap.hpp"
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
// Assumed before the TSC is measured: a wait is then never shorter than asked for.
constexpr u32 kFastestKhz = 6'000'000;
// Reads of a clock; three port accesses each for the PIT: about a second on a real machine.
constexpr u32 kMostReads = 300'000;
constexpr u32 kFirstReads = 1000; // after these it must have moved, otherwise it stands still
constexpr u32 kMostRtcMs = 2500;  // two of its seconds, with a margin
// Minimum checks of a wait with a deadline: fewer than a processor makes at its usual speed.
constexpr u32 kLooksPerMs = 500;

constinit u32 khz = 0;
constinit u32 us_per_cycle = 0;          // in units of 2^-32
constinit u32 lapic_clocks_per_tick = 0; // 0: the PIT ticks
constinit const char* source = "none";
constinit std::atomic<TickHandler> tick_handler{nullptr};

struct TickCount {
    u32 ticks = near_wrap<u32>(2 * kTicksPerSecond);
    u32 late = 0; // the handler took longer than a tick: drop the pending one
};
LOFT_PERCPU hal::PerCpu<TickCount> tick_count;

// In kHz; 0: does not run.
struct Rates {
    u32 tsc = 0;
    u32 lapic = 0;
};

// Under -icount an instruction takes a nanosecond, and a port access costs the emulator a thousand times more: read the
// clock only now and then.
void wait_a_little() {
    for (u32 i = 0; i < 500; ++i)
        asm volatile("");
}

// Values of both counters.
struct Counters {
    u64 tsc;
    u32 lapic;
};
Counters counters() { return {read_tsc(), lapic_ready() ? lapic_timer_left() : 0}; }

// The rates since `begin`; meanwhile a clock of `khz` has counted `passed`.
Rates rates_since(const Counters& begin, u32 passed, u32 khz) {
    const Counters now = counters();
    // A rate above 32 bits is invalid: the machine stood still for seconds while this counter advanced.
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

// The median of three: if an emulator is descheduled or the firmware interrupts (SMI) between two of the reads above, a
// single measurement is too high or too low.
Rates measure_well(const Clock& clock) {
    Rates a = measure(clock);
    if (a.tsc == 0) return a;
    Rates b = measure(clock), c = measure(clock);
    if (a.tsc > b.tsc) std::swap(a, b);
    if (b.tsc > c.tsc) std::swap(b, c);
    return a.tsc > b.tsc ? a : b;
}

// Measures one second of the real-time clock, between two changes of its second.
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

bool is_a_processor(u32 tsc_khz) { return tsc_khz > 1000; } // slower is impossible

// Measures the local APIC's timer against the TSC; its frequency is known from elsewhere.
Rates with_lapic_measured(u32 tsc_khz) {
    const Clock tsc{"the TSC", tsc_khz, ~0u, [] { return static_cast<u32>(read_tsc()); }};
    return {tsc_khz, measure(tsc).lapic};
}

// Uses the best available clock; `by` names it.
Rates find_rates(const char*& by) {
    const Clock pit = pit_clock();
    by = pit.name;
    if (const Rates rates = measure_well(pit); is_a_processor(rates.tsc)) return rates;
    by = "CPUID";
    if (const u32 khz = tsc_khz_by_cpuid(); is_a_processor(khz)) return with_lapic_measured(khz);
    by = "the real-time clock";
    if (const Rates rates = measure_by_rtc(); is_a_processor(rates.tsc)) return rates;
    by = "CPUID's base frequency";
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

// If the handler takes longer than a tick, the next tick is pending when it ends. Handling that at once would keep the
// interrupted code from executing any instruction: so it is acknowledged and dropped, and the next one comes a whole
// tick later.
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
    // Other CPUs handle it like a tick of their own timer.
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
    LOFT_ASSERT(milliseconds <= ~u32{0} / kLooksPerMs);
    return Deadline{read_tsc() + u64{milliseconds} * (khz != 0 ? khz : kFastestKhz), milliseconds * kLooksPerMs};
}

u64 now_us() {
    const u64 cycles = read_tsc() - boot_tsc;
    const u64 low = u64{static_cast<u32>(cycles)} * us_per_cycle;
    return kFirstUs + u64{static_cast<u32>(cycles >> 32)} * us_per_cycle + (low >> 32);
}

u32 ticks() { return ticks_of(CpuId{0}); }
u32 ticks_of(CpuId cpu) { return *const_cast<const volatile u32*>(&tick_count.of(cpu).ticks); }

const char* tick_source() { return source; }

TickHandler timer_set_tick_handler(TickHandler handler) { return tick_handler.exchange(handler); }

} // namespace loft
