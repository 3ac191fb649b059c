// Kernel threads: what one is made of, and the table of all.
//
// A thread has a stack of its own in the vmap area, so that an unmapped page lies below it: the guard page behind the
// area before, or addresses that nobody has. Its descriptor is never given back to the allocator, only used again:
// whoever wakes a thread that has just ended finds a descriptor, and does no harm.
//
// Everything that makes it run or stop is in scheduler.hpp; how it begins, ends, and is waited for, in lifecycle.hpp.
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
    unused,  // the descriptor waits for its next thread
    ready,   // in a run queue
    running, //
    moving,  // in no queue: on its way to another CPU
    parked,  // until somebody gives it a permit
    ended,   // its stack has been left, or is just being left
};
const char* thread_state_name(ThreadState state);

using ThreadFunction = void (*)(void* argument);

struct Thread {
    static constexpr u32 kNameBytes = 24;

    // --- Who it is. Constant while it lives.
    hal::Atomic<u32> id; // ThreadId; 0: unused
    char name[kNameBytes]{};
    ThreadFunction run = nullptr;
    void* argument = nullptr;
    VirtAddr stack_begin{}; // the page below is not mapped
    VirtAddr stack_end{};

    // --- Where it is. Under the lock of the run queue of `cpu`, or its own while it runs.
    Thread* next = nullptr; // in the run queue
    ThreadState state = ThreadState::unused;
    CpuId cpu{};              // where it runs or waits to run, or ran last
    CpuSet affinity{};        // where it may run
    u32 migrate_disabled = 0; // its own count
    u32 move_to = 0;          // CPU + 1: where it wants to go when it is switched out next

    // --- The permit of park and unpark.
    enum : u32 { kNoPermit, kPermit, kAsleep };
    hal::Atomic<u32> permit;

    // --- What is kept while another thread has the CPU.
    u32 stack_pointer = 0;
    Context context{};
    LocalSaved local{};

    // --- Below the kernel's addresses. Changed by the thread itself, interrupts off.
    AddressSpace* space = nullptr; // null: it does not care which is loaded
    UserThread* user = nullptr;    // null: it never goes to ring 3

    // --- Its end.
    hal::Atomic<u32> ended;
    hal::Atomic<u32> joiner; // ThreadId of the one who waits for it

    // --- Counters.
    u32 switches = 0;
    u32 migrations = 0;

    std::string_view name_view() const { return name; }
};

// The thread that runs; null before scheduler_init. Any context. One instruction, so that no migration splits it.
Thread* thread_self();

inline constexpr u32 kThreadStackBytes = 16 * KiB;
inline constexpr u32 kMaxThreads = 1023;

inline constexpr CpuSet kEveryCpu = CpuSet::from_bits(~u32{0});

// How many threads (and idle loops) have ended or slept with something still mapped.
u32 thread_leaks();

// Visits the descriptors in use. What is seen of a thread that runs may be out of date. Any context.
void for_each_thread(void (*visit)(const Thread& thread, void* argument), void* argument);
Thread* thread_of(ThreadId id); // null: there is none

// True if `va` lies in the unmapped page below a stack of this CPU: of the running thread, of boot, or of the
// double-fault task. Any context.
bool in_stack_guard(VirtAddr va);

// --- For the scheduler, smp and lifecycle.

// A descriptor that nobody uses, with an id: parked, on every CPU, with nothing kept. Null: no memory, or kMaxThreads
// are there. Any context.
Thread* take_descriptor(std::string_view name);
void give_back_descriptor(Thread& thread);

// A stack with an unmapped page below it, `bytes` long; nothing if there is no memory. Preemptible context.
struct KernelStack {
    VirtAddr begin{};
    VirtAddr end{};
    bool exists() const { return end != VirtAddr{}; }
};
KernelStack make_stack(u32 bytes, Gfp gfp = Gfp::high);
void give_back_stack(KernelStack stack);
void set_double_fault_stack(CpuId cpu, KernelStack stack); // for in_stack_guard

// A descriptor for a context that exists already, such as the one that booted, or an idle loop.
Thread* thread_adopt(std::string_view name, KernelStack stack);
// Lets the joiner go on: the stack has been left for good. Any context.
void thread_has_ended(Thread& thread);
void report_leaks(std::string_view what, const Thread& thread);
// A thread that goes to ring 3 holds nothing, and has switched nothing off: reports it otherwise, and puts it right
// as far as that goes. Interrupts are off.
void check_return_to_user();

} // namespace loft
