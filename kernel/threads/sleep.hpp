// Waking at a time: the alarm on which sleep_ms (scheduler.hpp) and every wait with a time limit are built.
#pragma once

#include "arch/base/chain.hpp"
#include "arch/base/cpu_set.hpp"
#include "arch/base/not_copyable.hpp"

#include <hal/hal.hpp>

namespace loft {

void ring_alarms_of(CpuId cpu); // the due ones. Interrupts off

// Gives its thread a permit (hal/thread.hpp) when the time has come; the resolution is the tick. It lies on the stack
// of that thread, which checks its condition again after each wake-up:
//
//     const Alarm alarm{now_us() + limit};
//     while (!holds() && !alarm.rang()) hal::park();
//
// Context: a thread. The time is that of now_us().
class Alarm : NotCopyable<Alarm> {
    Alarm* next_ = nullptr;

  public:
    using List = Chain<Alarm, &Alarm::next_>;

    explicit Alarm(u64 when_us);
    ~Alarm(); // it does not ring afterwards

    bool rang() const { return rang_.load() != 0; }

  private:
    friend void ring_alarms_of(CpuId cpu);
    u64 when_;
    ThreadId thread_;
    CpuId cpu_{}; // the CPU of its list
    hal::Atomic<u32> rang_;
};

} // namespace loft
