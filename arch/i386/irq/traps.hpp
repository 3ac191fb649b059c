// Exceptions and interrupts: one frame, one dispatcher, a handler for each vector.
//
// 256 entry stubs (trap_entry.asm) build a TrapFrame and call the dispatcher with interrupts off. It wraps
// the handler in the hooks that the kernel installs: this is where mm's account of interrupt contexts is
// kept. Two vectors are outside: an NMI calls its handler without hooks (it touches no slot, semantics.md),
// unless it is the one by which another CPU stops this one (smp.hpp); a double fault is a task of its own
// (descriptors.hpp). Handlers and hooks are the same for all CPUs.
//
// Traps of a program are another matter. An exception or a system call of ring 3 is not an interrupt of anything:
// what handles it may sleep, so it runs outside the hooks, and so does the fault of a kernel instruction that copies
// from or to the memory of a program. Device interrupts that come while a program runs are interrupts as always.
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/cpu/trap_frame.hpp"
#include "arch/i386/isa/vectors.hpp"

namespace loft {

using TrapHandler = void (*)(TrapFrame&);

// Installs a handler and returns the one that was there. It is called with interrupts off, on the interrupted
// stack, between the hooks, and returns to go back; an interrupt's handler acknowledges its controller
// itself. Any context. A vector without a handler ends in unhandled_trap.
TrapHandler trap_set_handler(u8 vector, TrapHandler handler);

// What `enter` keeps for its `leave`; the dispatcher holds it on the stack and does not look inside.
struct TrapCookie {
    u32 word[4];
};

// Called around every handler but those of NMI and double fault. Neither may fault. A probe's expected fault
// (probe.hpp) is settled before the hooks and is not seen by them.
struct TrapHooks {
    void (*enter)(TrapFrame&, TrapCookie&);
    void (*leave)(TrapFrame&, const TrapCookie&);
};
void trap_set_hooks(const TrapHooks& hooks);

// "page fault", "general protection", ...; "interrupt" for the vectors above 31.
const char* trap_name(u32 vector);

// Interrupts that had no cause (the 8259's IRQ 7 and 15, the local APIC's spurious vector), and those of a device that
// loft did not ask. Counted and dropped.
u32 spurious_interrupts();
void note_spurious_interrupt();

// --- What the dispatcher asks of the controllers, which stand above it.

// Defined by lapic.cpp, of a vector without a handler: true if the local APIC has delivered it, and then it is ended
// and counted; false if it came by an instruction.
bool lapic_end_stray(u32 vector);
// Defined by smp.cpp: if this NMI is a request to stop, does not return.
void smp_stop_if_asked(TrapFrame& frame);

// --- Up-calls, defined by the kernel. Interrupts are off when they are called; they may let them in.

// An exception or a system call of a program. Registers may be changed; when it returns, return_to_user is called.
void program_trap(TrapFrame& frame);

// An instruction of the kernel in the exception table (extable.hpp) faulted on an address below the kernel's, in any
// context. True: the address can be touched now, try again; false: the copy ends here.
bool resolve_copy_fault(const TrapFrame& frame, VirtAddr address);

// At the end of every trap from ring 3 but NMI: what has to be done before the program goes on. Interrupts are off
// when it returns.
void return_to_user(TrapFrame& frame);

// A trap that nobody handles.
[[noreturn]] void unhandled_trap(TrapFrame& frame);

} // namespace loft
