// Exceptions and interrupts: one frame, one dispatcher, one handler per vector.
//
// 256 entry stubs (trap_entry.asm) build a TrapFrame and call the dispatcher with interrupts off. It calls the handler
// between the hooks that the kernel installs, which count interrupt contexts for mm. Two vectors are different: an NMI
// calls its handler without hooks (it touches no slot, semantics.md), unless it is the NMI by which another CPU stops
// this one (stop.hpp); a double fault is a task of its own (descriptors.hpp). All CPUs share handlers and hooks.
//
// Traps of a program are not interrupts: a handler of an exception or a system call of ring 3 may sleep, so it runs
// outside the hooks; so does the handler of a fault in a user copy. A device interrupt that arrives in ring 3 is
// handled as any interrupt.
#pragma once

#include "arch/base/fault.hpp"
#include "arch/base/types.hpp"
#include "arch/i386/cpu/trap_frame.hpp"
#include "arch/i386/isa/vectors.hpp"

namespace loft {

using TrapHandler = void (*)(TrapFrame&);

// Installs a handler and returns the previous one. The handler is called with interrupts off, on the interrupted stack,
// between the hooks, and returns to the interrupted code; for an interrupt it must acknowledge its controller. Any
// context. A vector without a handler ends in unhandled_trap, or is dropped if the local APIC delivered it
// (lapic_end_stray).
TrapHandler trap_set_handler(u8 vector, TrapHandler handler);

// Data that `enter` passes to its `leave`; the dispatcher keeps it on the stack, opaque.
struct TrapCookie {
    u32 word[4];
};

// Called before and after every handler, except for NMI and double fault. Neither may fault. A fault that a probe
// expects (probe.hpp) is handled before the hooks.
struct TrapHooks {
    void (*enter)(TrapFrame&, TrapCookie&);
    void (*leave)(TrapFrame&, const TrapCookie&);
};
void trap_set_hooks(const TrapHooks& hooks);

// "page fault", "general protection", ...; "interrupt" for the vectors above 31.
const char* trap_name(u32 vector);

// The kind of access that raised a page fault, from its error code (SDM vol. 3, 4.7).
FaultAccess fault_access(u32 error);

// Interrupts without a cause (the 8259's IRQ 7 and 15, the local APIC's spurious vector), and those of devices that
// loft does not use. They are counted and dropped.
u32 spurious_interrupts();
void note_spurious_interrupt();

// --- Functions of the controllers' drivers, which stand above the dispatcher.

// Defined by lapic.cpp, for a vector without a handler: true if the local APIC has delivered it; it is then ended and
// counted. False if an instruction raised it.
bool lapic_end_stray(u32 vector);
// Defined by stop.cpp: does not return if this NMI is a request to stop.
void smp_stop_if_asked(TrapFrame& frame);

// --- Up-calls, defined by the kernel. Called with interrupts off; they may enable them.

// An exception or a system call of a program. May change the registers; after its return, return_to_user is called.
void program_trap(TrapFrame& frame);

// Called at the end of every trap from ring 3 except NMI: the work to do before the program continues. Interrupts are
// off when it returns.
void return_to_user(TrapFrame& frame);

// A trap without a handler.
[[noreturn]] void unhandled_trap(TrapFrame& frame);

} // namespace loft
