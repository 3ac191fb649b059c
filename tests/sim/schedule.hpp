// Schedule points: between any two operations of the HAL.
//
// Every operation calls schedule_point() before it takes effect. A test can install a hook there: an interrupt, a
// preemption, a step of another CPU. Operations inside the hook do not call the hook again. An exploration
// (explorer.hpp) lets other CPUs take steps there; touch() records the memory that the operation accesses.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "arch/base/types.hpp"

#include <functional>

namespace loft::sim {

enum class Point : u8 {
    memory,
    pte_load,
    pte_store,
    pte_locked, // a locked load: cmpxchg8b
    pte_atomic,
    tlb,
    load, // of an Atomic or a Plain
    store,
    atomic, // locked
    percpu,
    irq,
    ipi,
    relax,
    thread, // park, unpark, a switch
    assist, // a page walk that sets A or D of an entry that this CPU has just stored
    plain,  // an access to plain memory, if these are steps (races.hpp)
    stack,  // the kernel under test switches stacks
    io,     // a driver accesses its device
    copied, // the end of a copy from a program, if that is a step (Case::copy_points)
};
// True for operations that wait until this CPU's store buffer is empty: locked and serialising instructions (SDM vol.
// 3, 11.10).
constexpr bool drains(Point point) {
    return point == Point::pte_locked || point == Point::pte_atomic || point == Point::tlb || point == Point::atomic ||
           point == Point::ipi || point == Point::thread || point == Point::assist || point == Point::io;
}
const char* point_name(Point point);

using Hook = std::function<void(Point)>;

namespace detail {
inline bool hook_armed = false; // false also while the hook runs
void run_hook(Point point);
inline bool exploring = false; // explorer.cpp
void explore_point(Point point);
void explore_touch(u64 place, bool write);
void explore_copied(const void* frame);  // the end of a copy from this frame of a program
bool explore_deadline(u32 milliseconds); // of a wait of that length: has it passed
} // namespace detail

inline void schedule_point(Point point) {
    if (detail::hook_armed) [[unlikely]]
        detail::run_hook(point);
    if (detail::exploring) [[unlikely]]
        detail::explore_point(point);
}

// Records that the current operation has read or written `place`, so that an exploration knows which operations are
// independent. The place of a variable or an entry is its host address, that of a frame's data its first byte.
inline void touch(u64 place, bool write) {
    if (detail::exploring) [[unlikely]]
        detail::explore_touch(place, write);
}
inline void touch(const void* object, bool write) { touch(reinterpret_cast<std::uintptr_t>(object), write); }
// Places that are not memory. The TLB of a CPU has two: an access uses the TLB, a flush empties it, and a change of an
// entry adds to it. Only flushes do not commute with the others, so a flush writes both places, an access reads the
// first, a change reads the second.
namespace place {
inline constexpr u64 kHardware = u64{1} << 60;
constexpr u64 tlb_used(u32 cpu) { return kHardware | 0x100 | cpu; }
constexpr u64 tlb_fed(u32 cpu) { return kHardware | 0x200 | cpu; }
constexpr u64 interrupt_line(u32 cpu) { return kHardware | 0x300 | cpu; }
constexpr u64 run_queue(u32 cpu) { return kHardware | 0x400 | cpu; }
constexpr u64 permit(u32 thread) { return kHardware | 0x500 | thread; }
// The memory of a program as it sees it: an access of the program reads the place; the begin and the end of a call that
// changes the memory write it, so that every order of an access and such a moment is tried.
constexpr u64 program(u32 number) { return kHardware | 0x600 | (number & 0xff); }
// A word of it: also when two CPUs reach it by different frames, each order of a store and a load is tried.
constexpr u64 word_of_program(u32 memory, u32 offset) {
    return kHardware | u64{memory + 1} << 32 | 0x900 | offset << 12;
}
// Only for what orders agents (races.hpp): the interrupt flag of a CPU, and a thread that is not running.
constexpr u64 interrupt_flag(u32 cpu) { return kHardware | 0x700 | cpu; }
constexpr u64 thread(u32 thread) { return kHardware | 0x800 | thread; }
constexpr u64 stack(u32 number) { return kHardware | 0xa00 | (number & 0xff); }
constexpr u64 reschedule_line(u32 cpu) { return kHardware | 0xb00 | cpu; }
constexpr u64 tick_line(u32 cpu) { return kHardware | 0xc00 | cpu; }
inline constexpr u64 time = kHardware | 0xd00;
constexpr u64 nmi_line(u32 cpu) { return kHardware | 0xe00 | cpu; }
constexpr u64 device_line(u32 cpu) { return kHardware | 0xf00 | cpu; }
constexpr u64 device(u32 number) { return kHardware | number; } // its registers and its queue
constexpr u64 power(u32 cpu) { return kHardware | 0x10 | cpu; } // whether it is off, reset, or runs, and its APIC
} // namespace place

void set_schedule_hook(Hook hook); // an empty one removes it

class [[nodiscard]] ScopedHook : NotCopyable<ScopedHook> {
  public:
    explicit ScopedHook(Hook hook) { set_schedule_hook(std::move(hook)); }
    ~ScopedHook() { set_schedule_hook({}); }
};

// Runs `handler` as an interrupt of this CPU: interrupts are off inside, and restored after it.
void interrupt(const std::function<void()>& handler);

// Runs `operation` repeatedly: in round n the `intruder` runs before its n-th HAL operation, until all operations had
// their round. Returns the number of operations. `prepare` runs before each round, `check` after it.
struct Rounds {
    std::function<void()> operation;
    std::function<void()> intruder;
    std::function<void()> prepare = [] {};
    std::function<void()> check = [] {};
};
u32 at_every_point(const Rounds& rounds);
// The same; the intruder is an interrupt and runs only where interrupts are on.
u32 interrupt_at_every_point(const Rounds& rounds);

} // namespace loft::sim
