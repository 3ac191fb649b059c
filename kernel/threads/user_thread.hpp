// What a thread has besides when it runs a program: registers of ring 3 that the kernel does not use itself.
#pragma once

#include "arch/i386/cpu/fpu.hpp"
#include "arch/i386/cpu/tls.hpp"
#include "arch/i386/irq/traps.hpp"
#include "arch/i386/irq/user_mode.hpp"
#include "kernel/threads/thread.hpp"

namespace loft {

struct Process;

struct UserThread {
    FpuState fpu{};       // while it does not run
    TlsDescriptors tls{}; // as set_thread_area has made them
    TrapFrame first{};    // with which it goes to ring 3 for the first time
    Process* process = nullptr;
    UserThread* next = nullptr;  // of the process
    hal::Atomic<Thread*> thread; // null: it has not begun
    u32 tid = 0;                 // 0: not counted yet
    UserAddr clear_tid{};        // set to 0, and woken, when it ends (set_tid_address)
    u64 blocked = 0;             // signals; under the lock in process.cpp
    u64 pending = 0;             //
};

// The scheduler: what belongs to the program goes into its place, and comes back. Interrupts are off.
inline void user_registers_save(UserThread& thread) { fpu_save(&thread.fpu); }
inline void user_registers_load(const UserThread& thread) {
    load_tls(thread.tls);
    fpu_load(&thread.fpu);
}

} // namespace loft
