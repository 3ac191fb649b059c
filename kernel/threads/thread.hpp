// Kernel threads: the descriptor, and the table of all threads.
//
// The stack of a thread lies in the vmap area, so an unmapped page is below it: the guard page of the area before, or a
// free address. A descriptor is never freed, only reused: a late wake-up of a thread that has ended finds a valid
// descriptor and is harmless.
//
// Scheduling is in scheduler.hpp; creation, end and join are in lifecycle.hpp.
#pragma once

#include "arch/base/cpu_set.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/windows/kmap_local.hpp"

#include <hal/hal.hpp>

#include <string_view>

namespace loft {

class AddressSpace;
struct UserThread;

enum class ThreadState : u8 {
    unused,  // the descriptor is free
    ready,   // in a run queue
    running, //
    moving,  // in no queue: on the way to another CPU
    parked,  // waiting for a permit
    ended,   // it has left its stack, or is leaving it
};
const char* thread_state_name(ThreadState state);

using ThreadFunction = void (*)(void* argument);

struct Thread {
    static constexpr u32 kNameBytes = 24;

    // --- Identity. Constant while the thread lives.
    hal::Atomic<u32> id; // ThreadId; 0: unused
    char name[kNameBytes]{};
    ThreadFunction run = nullptr;
    void* argument = nullptr;
    VirtAddr stack_begin{}; // the page below is not mapped
    VirtAddr stack_end{};

    // --- Scheduling. Guarded by the lock of `cpu`'s run queue; the thread's own while it runs.
    Thread* next = nullptr; // in the run queue
    ThreadState state = ThreadState::unused;
    CpuId cpu{};              // where it runs, waits to run, or ran last
    CpuSet affinity{};        // where it may run
    u32 migrate_disabled = 0; // changed by the thread only
    u32 move_to = 0;          // CPU + 1: where to move at the next switch

    // --- The permit of park and unpark.
    enum : u32 { kNoPermit, kPermit, kAsleep };
    hal::Atomic<u32> permit;

    // --- State that is saved while another thread has the CPU.
    u32 stack_pointer = 0;
    Context context{};
    LocalSaved local{};

    // --- Address space and program. Changed by the thread itself, interrupts off.
    AddressSpace* space = nullptr; // null: any may be loaded
    UserThread* user = nullptr;    // null: it never enters ring 3

    // --- The end.
    hal::Atomic<u32> ended;
    hal::Atomic<u32> joiner; // ThreadId of the joining thread

    // --- Counters, from near_wrap<u32>() on.
    u32 switches = 0;
    u32 migrations = 0;

    std::string_view name_view() const { return name; }
};

// The running thread; null before scheduler_init. Any context. One instruction, so that no migration splits it.
Thread* thread_self();

inline constexpr u32 kThreadStackBytes = 16 * KiB;
inline constexpr u32 kMaxThreads = 1023;

inline constexpr CpuSet kEveryCpu = CpuSet::from_bits(~u32{0});

// How often a thread that ended, returned to ring 3 or went idle still held a mapping or had preemption or page faults
// off.
u32 thread_leaks();

// Visits the descriptors in use. The data of a running thread may be out of date. Any context.
void for_each_thread(void (*visit)(const Thread& thread, void* argument), void* argument);
Thread* thread_of(ThreadId id); // null: no such thread

// True if `va` lies in the unmapped page below a stack of this CPU: of the running thread, of boot, or of the
// double-fault task. Any context.
bool in_stack_guard(VirtAddr va);

// --- For the scheduler, smp and lifecycle.

// Returns an unused descriptor with a new id: parked, allowed on every CPU, with no saved state. Null: no memory, or
// all kMaxThreads are in use. Any context.
Thread* take_descriptor(std::string_view name);
void give_back_descriptor(Thread& thread);

// A stack of `bytes` with an unmapped page below it; nothing if there is no memory. Preemptible context.
struct KernelStack {
    VirtAddr begin{};
    VirtAddr end{};
    bool exists() const { return end != VirtAddr{}; }
};
KernelStack make_stack(u32 bytes, Gfp gfp = Gfp::high);
void give_back_stack(KernelStack stack);
void set_double_fault_stack(CpuId cpu, KernelStack stack); // for in_stack_guard

// A descriptor for a context that already exists: the boot context, or an idle loop.
Thread* thread_adopt(std::string_view name, KernelStack stack);
// Wakes the joiner: the thread has left its stack for good. Any context.
void thread_has_ended(Thread& thread);
void report_leaks(std::string_view what, const Thread& thread);
// A thread that returns to ring 3 must hold no mapping and must have preemption and page faults enabled. Reports a
// violation and repairs what it can. Interrupts are off.
void check_return_to_user();

} // namespace loft
