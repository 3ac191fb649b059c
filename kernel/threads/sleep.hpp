// Waking at a time: the alarm that sleep_ms (scheduler.hpp) and every wait with a limit stand on.
#pragma once

#include "arch/base/cpu_set.hpp"

#include <hal/hal.hpp>

namespace loft {

// Gives the thread that made it a permit (hal/thread.hpp) when its time has come; as precise as the tick. It lies on
// that thread's stack, which waits for whatever it waits for, and goes on waiting if it is woken for nothing:
//
//     const Alarm alarm{now_us() + limit};
//     while (!holds() && !alarm.rang()) hal::park();
//
// Context: a thread. The time is that of now_us().
class Alarm {
  public:
    explicit Alarm(u64 when_us);
    ~Alarm(); // it does not ring any more
    Alarm(const Alarm&) = delete;
    Alarm& operator=(const Alarm&) = delete;

    bool rang() const { return rang_.load() != 0; }

  private:
    friend void ring_alarms();
    Alarm* next_ = nullptr;
    u64 when_;
    ThreadId thread_;
    CpuId cpu_{}; // whose list it is in
    hal::Atomic<u32> rang_;
};

} // namespace loft
