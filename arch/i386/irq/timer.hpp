// Time: the TSC is the clock; the local APIC's timer (or the PIT) ticks 100 times a second.
#pragma once

#include "arch/base/near_wrap.hpp"
#include "arch/base/not_copyable.hpp"
#include "arch/base/types.hpp"

namespace loft {

struct TrapFrame;

inline constexpr u32 kTicksPerSecond = 100;

// Measures the TSC against the PIT (channel 2, three times five milliseconds) and starts the tick: by the local APIC if
// lapic_init has been called and its timer counts, otherwise by the PIT (irq.hpp); the boot CPU then forwards each tick
// to the others. If the PIT does not count, which is detected after a bounded number of reads, the frequency comes from
// CPUID, or from one second of the real-time clock (takes up to two), or is the processor's base frequency; without any
// of these a TSC of 1 GHz is assumed and a warning logged. If no timer can tick, loft refuses to start. Needs
// descriptors_init; interrupts are off and stay off. Boot CPU, once.
void timer_init();

// Frequency of the TSC in kHz; 0 before timer_init. Any context.
u32 tsc_khz();

// kFirstUs, and the microseconds since the first instructions of boot/; kFirstUs before timer_init. Any context. Two
// multiplications. In a DEBUG kernel it carries into its high half after five seconds.
inline constexpr u64 kFirstUs = near_wrap<u64>(5'000'000, u64{1} << 32);
u64 now_us();

// Starts the tick of another CPU, on that CPU: needs lapic_init_cpu.
void timer_start_cpu();

// Timer interrupts so far: of the boot CPU (usable as a clock), or of any CPU. Any context. They wrap after 497
// days, in DEBUG kernels after two seconds: compare distances.
u32 ticks();
u32 ticks_of(CpuId cpu);

// While an object of this class exists, the CPU that made it has no ticks, so that a measurement is not interrupted.
// now_us() continues; ticks() stops if this is the boot CPU. Does not nest. Context: the caller does not migrate.
class [[nodiscard]] TickPause : NotCopyable<TickPause> {
  public:
    TickPause();
    ~TickPause();
};

// "lapic" or "pit"; "none" before timer_init.
const char* tick_source();

// Sets the function that each CPU calls at each of its ticks, after the tick was counted and acknowledged, with
// interrupts off, between the trap hooks; nullptr: none. Returns the previous one. Any context. If it takes longer than
// a tick, the next tick is dropped, so that the interrupted code makes progress.
using TickHandler = void (*)(TrapFrame&);
TickHandler timer_set_tick_handler(TickHandler handler);

} // namespace loft
