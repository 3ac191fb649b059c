// The ring-3 state of a thread that runs a program: registers that the kernel does not use itself.
#pragma once

#include "arch/i386/cpu/fpu.hpp"
#include "arch/i386/cpu/tls.hpp"
#include "arch/i386/irq/traps.hpp"
#include "arch/i386/irq/user_mode.hpp"
#include "kernel/threads/thread.hpp"
#include "mm/ground/spinlock.hpp"

namespace loft {

struct Process;

// Guards parents and children, the threads of a process, and signals. Held for a short time, never during an
// allocation. Defined by kernel/programs/process.cpp.
extern SpinLock family;

struct UserThread {
    FpuState fpu{};       // while the thread does not run
    TlsDescriptors tls{}; // set by set_thread_area
    TrapFrame first{};    // frame of its first entry to ring 3
    Process* process = nullptr;
    UserThread* next LOFT_GUARDED_BY(family) = nullptr; // in the list of the process
    hal::Atomic<Thread*> thread;                        // null: it has not begun
    u32 tid = 0;
    UserAddr clear_tid{}; // user word that is set to 0, and woken as a futex, when the thread ends (set_tid_address)
    u64 blocked LOFT_GUARDED_BY(family) = 0; // signals
    u64 pending LOFT_GUARDED_BY(family) = 0; // signals to this thread that it has blocked
};

// For the scheduler: save and load the ring-3 registers. Interrupts are off.
inline void user_registers_save(UserThread& thread) { fpu_save(&thread.fpu); }
inline void user_registers_load(const UserThread& thread) {
    load_tls(thread.tls);
    fpu_load(&thread.fpu);
}

} // namespace loft
