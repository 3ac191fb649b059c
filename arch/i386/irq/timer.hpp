// Time: the TSC tells it, the local APIC's timer (or the PIT) ticks 100 times a second.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

struct TrapFrame;

inline constexpr u32 kTicksPerSecond = 100;

// Measures the TSC against the PIT (channel 2, three times five milliseconds) and starts the tick: on the
// local APIC if lapic_init has been called and its timer counts, else on the PIT (irq.hpp), and the boot
// CPU passes each tick on to the others. Where the PIT does not count, which is noticed after a bounded number of
// reads, the frequency is CPUID's, or comes of one second of the real-time clock (which takes up to two), or is what
// the processor is sold as; with none of these a TSC of 1 GHz is assumed and a warning logged. Where nothing can tick
// loft refuses to start. Needs descriptors_init; interrupts are off and stay off. Boot CPU, once.
void timer_init();

// Frequency of the TSC in kHz; 0 before timer_init. Any context.
u32 tsc_khz();

// Microseconds since the first instructions of boot/, 0 before timer_init. Any context. Two multiplications.
u64 now_us();

// The tick of another CPU, on that CPU: needs lapic_init_cpu.
void timer_start_cpu();

// Timer interrupts so far: of the boot CPU, which are a clock, and of any. Any context. They wrap after 497
// days.
u32 ticks();
u32 ticks_of(CpuId cpu);

// While one of these exists the CPU that made it has no ticks, so that a measurement is not interrupted. now_us()
// goes on; ticks() stands still if this is the boot CPU. Does not nest. Context: the caller does not migrate.
class [[nodiscard]] TickPause {
  public:
    TickPause();
    ~TickPause();
    TickPause(const TickPause&) = delete;
    TickPause& operator=(const TickPause&) = delete;
};

// "lapic" or "pit"; "none" before timer_init.
const char* tick_source();

// Called at each tick of each CPU, on that CPU, after it was counted and acknowledged, with interrupts off,
// between the trap hooks. nullptr for none. Returns the one before. Any context. If it takes longer than a tick, the
// one after it is left out, so that what was interrupted gets on.
using TickHandler = void (*)(TrapFrame&);
TickHandler timer_set_tick_handler(TickHandler handler);

} // namespace loft
