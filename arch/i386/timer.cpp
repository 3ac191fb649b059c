// Time and the tick. Contract: timer.hpp.
#include "arch/i386/timer.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/control.hpp"
#include "arch/i386/image.hpp"
#include "arch/i386/irq.hpp"
#include "arch/i386/lapic.hpp"
#include "arch/i386/pit.hpp"
#include "arch/i386/smp.hpp"
#include "arch/i386/traps.hpp"

#include <hal/clock.hpp>
#include <hal/cpu.hpp>
#include <hal/ipi.hpp>

#include <atomic>
#include <utility>

namespace loft {
namespace {

constexpr u32 kMeasuredPitClocks = kPitHz / 200; // 5 ms
constexpr u32 kAssumedKhz = 1'000'000;
constexpr u32 kFastestKhz = 6'000'000; // before it is measured: a wait is not shorter than asked for
constexpr u32 kMostReads = 300'000; // of the PIT, three port accesses each: a second or so on a real machine
constexpr u32 kTickIrq = 0;

constinit u32 khz = 0;
constinit u32 us_per_cycle = 0;          // in units of 2^-32
constinit u32 lapic_clocks_per_tick = 0; // 0: the tick is the PIT's
constinit const char* source = "none";
constinit std::atomic<TickHandler> tick_handler{nullptr};

struct TickCount {
    u32 ticks = 0;
};
LOFT_PERCPU hal::PerCpu<TickCount> tick_count;

// high:low / divisor, for a quotient that fits (SDM vol. 2, "DIV"): one instruction where C++ calls a
// library.
u32 divide(u64 dividend, u32 divisor) {
    u32 quotient, remainder;
    asm("divl %4"
        : "=a"(quotient), "=d"(remainder)
        : "a"(static_cast<u32>(dividend)), "d"(static_cast<u32>(dividend >> 32)), "rm"(divisor)
        : "cc");
    return quotient;
}

// In kHz; 0 is "does not run".
struct Rates {
    u32 tsc = 0;
    u32 lapic = 0;
};

// Under -icount an instruction is a nanosecond and a port access costs the emulator a thousand times more:
// look at the PIT now and then only.
void wait_a_little() {
    for (u32 i = 0; i < 500; ++i)
        asm volatile("");
}

u32 rate(u32 clocks, u32 pit_clocks) { return divide(u64{clocks} * (kPitHz / 1000), pit_clocks); }

Rates measure() {
    pit_start_counter();
    if (lapic_ready()) lapic_timer_count_down();
    const u16 pit_begin = pit_read_counter();
    const u64 tsc_begin = read_tsc();
    const u32 lapic_begin = lapic_ready() ? lapic_timer_left() : 0;
    for (u32 reads = 0; reads < kMostReads; ++reads) {
        wait_a_little();
        const u32 pit = static_cast<u16>(pit_begin - pit_read_counter()); // it counts down, modulo 65536
        const u32 tsc = static_cast<u32>(read_tsc() - tsc_begin);
        const u32 lapic = lapic_ready() ? lapic_begin - lapic_timer_left() : 0;
        if (pit >= kMeasuredPitClocks) return {rate(tsc, pit), rate(lapic, pit)};
    }
    return {};
}

// The middle one of three: an emulator that is not scheduled for a while, or a visit of the firmware, between
// two of the reads above makes a single measurement too high or too low.
Rates measure_well() {
    Rates a = measure();
    if (a.tsc == 0) return a;
    Rates b = measure(), c = measure();
    if (a.tsc > b.tsc) std::swap(a, b);
    if (b.tsc > c.tsc) std::swap(b, c);
    return a.tsc > b.tsc ? a : b;
}

void count_tick(TrapFrame& frame) {
    tick_count.add<&TickCount::ticks>(1);
    if (const TickHandler handler = tick_handler.load(std::memory_order_relaxed)) handler(frame);
}
void on_lapic_tick(TrapFrame& frame) {
    lapic_eoi();
    count_tick(frame);
}
void on_pit_tick(TrapFrame& frame) {
    irq_eoi(kTickIrq);
    // To the others it is as if their own timer had ticked.
    hal::online_cpus().without(hal::this_cpu()).for_each([](CpuId cpu) {
        lapic_send(cpu_lapic_id(cpu), IpiKind::fixed, vector::lapic_timer);
    });
    count_tick(frame);
}

void start_tick() {
    trap_set_handler(vector::lapic_timer, on_lapic_tick);
    if (lapic_clocks_per_tick != 0) {
        source = "lapic";
        lapic_timer_start_periodic(lapic_clocks_per_tick);
    } else {
        source = "pit";
        trap_set_handler(irq_vector(kTickIrq), on_pit_tick);
        pit_start_tick(kPitHz / kTicksPerSecond);
        irq_unmask(kTickIrq);
    }
}

} // namespace

void timer_init() {
    Rates rates = measure_well();
    if (rates.tsc <= 1000) { // less is not a processor
        log(LogLevel::warn, "timer", "the PIT does not count: assuming a TSC of {} kHz", kAssumedKhz);
        rates = {kAssumedKhz, 0};
    }
    khz = rates.tsc;
    us_per_cycle = divide(u64{1000} << 32, khz);
    lapic_clocks_per_tick = rates.lapic * (1000 / kTicksPerSecond);
    start_tick();
    log(LogLevel::info, "timer", "TSC {}.{:03} MHz, {} ticks a second from the {}", khz / 1000, khz % 1000,
        kTicksPerSecond, source);
}

void timer_start_cpu() {
    if (lapic_clocks_per_tick != 0) lapic_timer_start_periodic(lapic_clocks_per_tick);
}

TickPause::TickPause() {
    if (lapic_clocks_per_tick != 0)
        lapic_timer_stop();
    else
        irq_mask(kTickIrq);
}
TickPause::~TickPause() {
    if (lapic_clocks_per_tick != 0)
        lapic_timer_start_periodic(lapic_clocks_per_tick);
    else
        irq_unmask(kTickIrq);
}

u32 tsc_khz() { return khz; }

hal::Deadline hal::deadline(u32 milliseconds) {
    return Deadline{read_tsc() + u64{milliseconds} * (khz != 0 ? khz : kFastestKhz)};
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
