// Single-stepping. Contract: stepper.hpp.
#include "tests/guest/stepper.hpp"

#include "arch/i386/irq/traps.hpp"
#include "arch/i386/isa/control.hpp"
#include "arch/i386/isa/vectors.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/ground/remote.hpp"

#include <hal/hal.hpp>

namespace loft::guest {
namespace {

extern "C" const u32 trap_entries[256]; // trap_entry.asm

struct Step {
    void (*between)(void*); // null: nothing is stepped
    void* argument;
    u32 count;
    ThreadId thread, also;
    const TrapFrame* frame;
};
constinit Step step{};

// Of the SteppedEntry.
struct Entry {
    u32 address, left, entered;
};
constinit Entry entry{};

// True before the IRET to ring 3. If it were stepped, the exception would be the program's.
bool is_return_to_program(const TrapFrame& frame) {
    constexpr u8 kIret = 0xcf;
    const u32* const stack = reinterpret_cast<const u32*>(frame.esp()); // EIP, CS
    return *reinterpret_cast<const u8*>(frame.eip) == kIret && (stack[1] & 3) != 0;
}

void on_debug_exception(TrapFrame& frame) {
    const bool at_entry = frame.eip == entry.address;
    if (at_entry) frame.eflags |= eflags::resume; // or the breakpoint is hit again
    if (step.between == nullptr) {                // before or after step_entries; or code that was stepped goes on
        frame.eflags &= ~eflags::trap;
        return;
    }
    if (at_entry) {
        if (entry.left == 0) return;
        --entry.left;
        ++entry.entered;
        frame.eflags |= eflags::trap;
        step.thread = hal::current_thread();
    }
    // When the stepped thread sleeps by itself, the next thread continues with TF set.
    const ThreadId current = hal::current_thread();
    if (current != step.thread && current != step.also) {
        frame.eflags &= ~eflags::trap;
        return;
    }
    ++step.count;
    step.frame = &frame;
    step.between(step.argument);
    if (is_return_to_program(frame)) frame.eflags &= ~eflags::trap;
}

u32 run_stepped(u32 own_flag, ThreadId thread, void (*body)(void*), void* body_argument, void (*between)(void*),
                void* between_argument) {
    step = {between, between_argument, 0, thread, ThreadId{}, nullptr};
    const TrapHandler before = trap_set_handler(vector::debug, on_debug_exception);
    write_eflags(read_eflags() | own_flag);
    body(body_argument);
    write_eflags(read_eflags() & ~eflags::trap);
    step.between = nullptr;
    trap_set_handler(vector::debug, before);
    return step.count;
}

template <typename F> void on_cpus(CpuSet cpus, F function) {
    const MigrateGuard here;
    if (cpus.has(hal::this_cpu())) function(nullptr);
    run_on(cpus, function, nullptr);
}

} // namespace

bool step_may_wake() { return (step_frame().eflags & eflags::interrupt) != 0; }
const TrapFrame& step_frame() { return *step.frame; }
void step_on() { write_eflags(read_eflags() | eflags::trap); }
void step_also(ThreadId thread) { step.also = thread; }

SteppedEntry::SteppedEntry(u8 vector, CpuSet cpus, u32 times) : cpus_{cpus} {
    entry = {trap_entries[vector], times, 0};
    before_ = trap_set_handler(vector::debug, on_debug_exception);
    on_cpus(cpus_, [](void*) { set_breakpoint(entry.address); });
}
SteppedEntry::~SteppedEntry() {
    entry.left = 0;
    on_cpus(cpus_, [](void*) { reset_breakpoints(); });
    trap_set_handler(vector::debug, before_);
    entry = {};
}
u32 SteppedEntry::entered() const { return entry.entered; }

[[gnu::noinline]] u32 step_through(void (*body)(void*), void* body_argument, void (*between)(void*),
                                   void* between_argument) {
    return run_stepped(eflags::trap, hal::current_thread(), body, body_argument, between, between_argument);
}

[[gnu::noinline]] u32 step_entries(void (*body)(void*), void* body_argument, void (*between)(void*),
                                   void* between_argument) {
    return run_stepped(0, ThreadId{}, body, body_argument, between, between_argument);
}

} // namespace loft::guest
