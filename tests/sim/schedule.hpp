// The seam between any two operations of the HAL.
//
// Every operation calls schedule_point() before it takes effect. A test can put something in there: an
// interrupt, a preemption, a step of another CPU. What runs in the hook does not call the hook again.
#pragma once

#include "arch/base/types.hpp"

#include <functional>

namespace loft::sim {

enum class Point : u8 { memory, pte_load, pte_store, pte_atomic, tlb, atomic, percpu, irq, ipi, relax };

using Hook = std::function<void(Point)>;

namespace detail {
inline bool hook_armed = false; // false also while the hook runs
void run_hook(Point point);
} // namespace detail

inline void schedule_point(Point point) {
    if (detail::hook_armed) [[unlikely]]
        detail::run_hook(point);
}

void set_schedule_hook(Hook hook); // an empty one takes it away

class [[nodiscard]] ScopedHook {
  public:
    explicit ScopedHook(Hook hook) { set_schedule_hook(std::move(hook)); }
    ~ScopedHook() { set_schedule_hook({}); }
    ScopedHook(const ScopedHook&) = delete;
    ScopedHook& operator=(const ScopedHook&) = delete;
};

// Runs `handler` as an interrupt of this CPU: interrupts are off in it, and as they were after it.
void interrupt(const std::function<void()>& handler);

// Runs `operation` again and again, each time with one `intruder` before another one of its HAL operations,
// until every one had its turn. Returns how many there were. `prepare` runs before each round, `check` after
// it.
struct Rounds {
    std::function<void()> operation;
    std::function<void()> intruder;
    std::function<void()> prepare = [] {};
    std::function<void()> check = [] {};
};
u32 at_every_point(const Rounds& rounds);
// The same; the intruder is an interrupt, and comes only where interrupts are on.
u32 interrupt_at_every_point(const Rounds& rounds);

} // namespace loft::sim
