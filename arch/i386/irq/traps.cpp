// The dispatcher of exceptions and interrupts. Contract: traps.hpp.
#include "arch/i386/irq/traps.hpp"

#include "arch/base/near_wrap.hpp"
#include "arch/i386/cpu/image.hpp"
#include "arch/i386/cpu/probe.hpp"
#include "arch/i386/isa/control.hpp"
#include "arch/i386/isa/extable.hpp"

#include <hal/atomic.hpp>

namespace loft {
namespace {

void no_enter(TrapFrame&, TrapCookie&) {}
void no_leave(TrapFrame&, const TrapCookie&) {}

constinit TrapHooks hooks{no_enter, no_leave};
constinit TrapHandler handlers[256]{};
constinit hal::Atomic<u32> spurious{near_wrap<u32>()};

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
    else if (frame.vector < vector::first_interrupt || !lapic_end_stray(frame.vector))
        unhandled_trap(frame);
    else
        note_spurious_interrupt();
}

void handle_interrupt(TrapFrame& frame) {
    TrapCookie cookie;
    hooks.enter(frame, cookie);
    call_handler(frame);
    hooks.leave(frame, cookie);
}

void handle_nmi(TrapFrame& frame) {
    if constexpr (config::kSmp) smp_stop_if_asked(frame);
    const u32 touched = read_cr2(); // of a page fault: its handler may not have read CR2 yet
    call_handler(frame);
    write_cr2(touched);
}

// Exceptions of loading a segment register or accessing memory.
bool is_expected_fault(TrapFrame& frame) {
    switch (frame.vector) {
    case vector::segment_not_present:
    case vector::stack_fault:
    case vector::general_protection:
    case vector::page_fault:
        return apply_fixup(frame);
    default:
        return false;
    }
}

// True for a fault of a user copy on the user address. The other side of the copy is the kernel's own memory: a fault
// there is a bug.
bool is_copy_fault(TrapFrame& frame) {
    if (frame.vector != vector::page_fault) return false;
    const VirtAddr address{read_cr2()};
    if (address.value() >= kDirectMapBase) return false;
    const Fixup* fixup = find_user_copy_fixup(frame.eip);
    if (fixup == nullptr) return false;
    // A copy that has not opened user memory: its fault would be resolved, and come again, for ever.
    if ((read_cr4() & cr4_bit::smap) != 0 && (frame.eflags & eflags::alignment_check) == 0) return false;
    if (frame.eflags & eflags::interrupt) enable_interrupts();
    if (resolve_user_fault(address, fault_access(frame.error)) != FaultResult::resolved) frame.eip = fixup->to;
    disable_interrupts();
    return true;
}

// Caused by the program itself; a machine check is not.
bool is_of_the_program(u32 vector) {
    return vector == vector::system_call || (vector <= vector::last_exception && vector != vector::machine_check);
}

void dispatch_from_user(TrapFrame& frame) {
    if (frame.vector == vector::nmi) {
        handle_nmi(frame);
        return; // no return_to_user: the NMI may have interrupted any instruction
    }
    if (is_of_the_program(frame.vector))
        program_trap(frame);
    else
        handle_interrupt(frame);
    disable_interrupts();
    return_to_user(frame);
}

} // namespace

TrapHandler trap_set_handler(u8 vector, TrapHandler handler) {
    const TrapHandler before = handlers[vector];
    handlers[vector] = handler;
    return before;
}

void trap_set_hooks(const TrapHooks& wanted) { hooks = wanted; }

FaultAccess fault_access(u32 error) {
    return error & page_fault_error::fetch   ? FaultAccess::exec
           : error & page_fault_error::write ? FaultAccess::write
                                             : FaultAccess::read;
}

const char* trap_name(u32 vector) {
    if (vector < std::size(kExceptionNames)) return kExceptionNames[vector];
    return vector <= vector::last_exception ? "reserved exception" : "interrupt";
}

u32 spurious_interrupts() { return spurious.load(); }
void note_spurious_interrupt() { spurious.fetch_add(1); }

// Called by trap_entry.asm, interrupts off.
extern "C" void trap_dispatch(TrapFrame* frame) {
    if (frame->from_user())
        dispatch_from_user(*frame);
    else if (frame->vector == vector::nmi)
        handle_nmi(*frame);
    else if (!is_expected_fault(*frame) && !is_copy_fault(*frame))
        handle_interrupt(*frame);
}

} // namespace loft
