// The dispatcher of exceptions and interrupts. Contract: traps.hpp.
#include "arch/i386/traps.hpp"

#include "arch/i386/control.hpp"
#include "arch/i386/probe.hpp"
#include "arch/i386/smp.hpp"

#include <hal/atomic.hpp>

namespace loft {
namespace {

void no_enter(TrapFrame&, TrapCookie&) {}
void no_leave(TrapFrame&, const TrapCookie&) {}

constinit TrapHooks hooks{no_enter, no_leave};
constinit TrapHandler handlers[256]{};
constinit hal::Atomic<u32> spurious{};

constexpr const char* kExceptionNames[]{
    "divide error",
    "debug",
    "NMI",
    "breakpoint",
    "overflow",
    "bound range",
    "invalid opcode",
    "no FPU",
    "double fault",
    "coprocessor overrun",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection fault",
    "page fault",
    "reserved exception",
    "x87 error",
    "alignment check",
    "machine check",
    "SIMD error",
    "virtualization exception",
    "control protection",
};

void call_handler(TrapFrame& frame) {
    if (const TrapHandler handler = handlers[frame.vector & 0xff])
        handler(frame);
    else
        unhandled_trap(frame);
}

bool is_expected_fault(TrapFrame& frame) {
    return (frame.vector == vector::page_fault || frame.vector == vector::general_protection) &&
           !frame.from_user() && apply_fixup(frame);
}

} // namespace

TrapHandler trap_set_handler(u8 vector, TrapHandler handler) {
    const TrapHandler before = handlers[vector];
    handlers[vector] = handler;
    return before;
}

void trap_set_hooks(const TrapHooks& wanted) { hooks = wanted; }

const char* trap_name(u32 vector) {
    if (vector < std::size(kExceptionNames)) return kExceptionNames[vector];
    return vector <= vector::last_exception ? "reserved exception" : "interrupt";
}

u32 spurious_interrupts() { return spurious.load(); }
void note_spurious_interrupt() { spurious.fetch_add(1); }

// Called by trap_entry.asm, interrupts off.
extern "C" void trap_dispatch(TrapFrame* frame) {
    if (is_expected_fault(*frame)) return;
    if (frame->vector == vector::nmi) {
        if constexpr (config::kSmp) smp_stop_if_asked(*frame);
        call_handler(*frame);
        return;
    }
    TrapCookie cookie;
    hooks.enter(*frame, cookie);
    call_handler(*frame);
    hooks.leave(*frame, cookie);
}

} // namespace loft
