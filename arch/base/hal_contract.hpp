// The interface between mm and the machine, as one contract for two machines.
//
// mm includes <hal/...>; -I selects arch/i386/hal (instructions), tests/sim/hal (the simulated machine) or
// tests/embed/hal (a kernel that is not loft: docs/porting.md). mm accesses memory, executes instructions and reads a
// CPU id only through it. Each HAL includes this file through <hal/hal.hpp> and is checked against it at compile time.
//
// hal/mem.hpp     load<T>(va) store<T>(va, x)     one access of 1, 2 or 4 bytes, naturally aligned
//                 zero_words copy_words           whole words; not atomic; may be interrupted anywhere
//                 copy_in copy_out fill           any length, between a mapping and the caller's own object
//                 copy_bytes                      any length, between two mappings that do not overlap
//                 lowmem_ptr<T>(va) lowmem_addr   an object in the direct map <-> its address. A PteCell may lie in
//                                                 any mapping: a page table in high memory is seen through one
//                 note_frame_free/used            hints for the simulated machine; nothing on the real one
//                 note_object_free/used           the same for an object of a cache
//                 out_of_memory                   true: this allocation fails on purpose; never on the real machine
// hal/user.hpp    user_copy_in user_copy_out      as copy_in and copy_out; one side is memory of the current program.
//                 user_copy_to_map, _from_map     A fault there calls resolve_user_fault; if it is not resolved, the
//                 user_clear                      copy ends. Return the bytes NOT copied: 0, or at most 3 more than
//                                                 that. The address is not checked: mm does that
//                                                 (mm/spaces/user_copy)
//                 resolve_user_fault              up-call (arch/base/fault.hpp), defined by mm
// hal/pte.hpp     PteCell                         an entry in memory, opaque
//                 pte_low pte_high                one half; sufficient if the other one cannot change
//                 pte_read                        both halves, of the same entry value
//                 pte_is                          compares both halves, one after the other
//                 pte_set                         fill an entry that is not present: high half, then low half;
//                                                 stores before it are in memory before the low half
//                 pte_clear pte_clear_low         clear: low half, then high half / low half only; what follows
//                                                 pte_clear comes after the low half
//                 pte_take_low                    clear the low half and return it with A and D: one atomic step
//                 pte_exchange pte_take           the same for the whole entry: replace / clear
//                                                 None of these flushes anything.
// hal/tlb.hpp     Site                            identifies the caller of a flush (a test can suppress one site)
//                 invlpg(va)                      this CPU, this page, also global, and all paging-structure caches
//                 flush_non_global                this CPU, all but global pages; PDPTEs are reloaded
//                 flush_all                       this CPU, everything
//                 load_root current_root          CR3; a load has the effect of flush_non_global
// hal/cpu.hpp     PerCpu<T>, LOFT_PERCPU          a variable per CPU; one-instruction access to its fields.
//                                                 of(cpu) needs that CPU's area; it need not be online
//                 LOFT_REGPARM                    arguments in registers, for functions called from short paths
//                 this_cpu                        stays valid only while the caller cannot migrate
//                 irq_save irq_restore irqs_enabled
//                 irq_off kIrqsOn                 irq_save and its result if interrupts are known to be on
//                 cpu_relax                       in every loop that waits for another CPU: a pause, and the
//                                                 up-call remote_answer, so that a CPU that waits with
//                                                 interrupts off still answers requests of other CPUs
//                 cpu_features
//                 opaque(value)                   the value, hidden from the compiler's optimiser
//                 return_address                  of the function into which it is inlined, for messages
// hal/atomic.hpp  Atomic<T>                       at most 32 bits; sequentially consistent, except for load
//                                                 (acquire) and store (release)
//                 increment_is_positive           adds 1 in one instruction; true if the signed sum is above 0
//                 Counter                         64 bits that only grow and never wrap. increment (returns the
//                                                 new value) and raise_to (no effect if the value is not larger)
//                                                 are one atomic step each
// hal/plain.hpp   Plain<T>                        at most 32 bits; several CPUs read and write it, each time by
//                                                 one plain instruction: no tearing, no ordering but the
//                                                 machine's (TSO). add is a load and a store: no other CPU may
//                                                 store meanwhile
// hal/ipi.hpp     online_cpus                     the CPUs that run and answer, as a CpuSet
//                 interrupt_cpu(cpu)              makes that CPU call remote_answer soon: in an interrupt if its
//                                                 interrupts are on, in cpu_relax if it waits with interrupts
//                                                 off. Any context but NMI
//                 remote_answer                   up-call, defined by mm; interrupts are off or the caller
//                                                 is in cpu_relax; nests
// hal/thread.hpp  current_thread                  the running thread, never ~0; 0 before there are threads
//                 park                            sleep until the thread has a permit, and take it; returns at
//                                                 once if it has one; may return without one
//                 unpark(thread)                  give the permit; a thread keeps at most one. Any context
//                                                 but NMI, any CPU
//                 reschedule                      called when preemption is enabled again and a reschedule is
//                                                 requested
// hal/clock.hpp   deadline(ms), expired()         the time limit of a wait
#pragma once

#include "arch/base/types.hpp"

#include <concepts>

namespace loft {
// Up-call, defined by mm (mm/ground/remote): does what other CPUs have asked of this one since it last looked.
void remote_answer();
} // namespace loft

namespace loft::hal {

template <typename Cell, typename Entry>
concept PteAccess = requires(Cell* cell, const Cell* shared, Entry entry) {
    { pte_low(shared) } -> std::same_as<u32>;
    { pte_high(shared) } -> std::same_as<u32>;
    { pte_read(shared) } -> std::same_as<Entry>;
    { pte_is(shared, typename Entry::Halves{}) } -> std::same_as<bool>;
    { pte_exchange(cell, entry) } -> std::same_as<Entry>;
    { pte_take(cell) } -> std::same_as<Entry>;
    { pte_take_low(cell) } -> std::same_as<u32>;
    pte_set(cell, entry);
    pte_clear(cell);
    pte_clear_low(cell);
};

template <typename Site>
concept TlbControl = requires(VirtAddr va) {
    invlpg(va, Site::current());
    flush_non_global(Site::current());
    flush_all(Site::current());
};

template <typename A>
concept AtomicWord = requires(A word, u32 value) {
    { word.load() } -> std::same_as<u32>;
    { word.exchange(value) } -> std::same_as<u32>;
    { word.compare_exchange(value, value) } -> std::same_as<bool>;
    { word.fetch_add(value) } -> std::same_as<u32>;
    word.store(value);
};

template <typename C>
concept GrowingCount = requires(C count, const C& shared, u64 value) {
    { shared.load() } -> std::same_as<u64>;
    { count.increment() } -> std::same_as<u64>;
    count.raise_to(value);
};

template <typename P>
concept PlainWord = requires(P word, const P& shared, u32 value) {
    { shared.load() } -> std::same_as<u32>;
    word.store(value);
    word.add(value);
};

template <typename D>
concept BoundedWait = requires(const D wait) {
    { wait.expired() } -> std::same_as<bool>;
};

// The functions of hal/user.hpp have these types.
using UserCopyIn = u32(void* to, VirtAddr from, u32 bytes);
using UserCopyOut = u32(VirtAddr to, const void* from, u32 bytes);
using UserCopyMap = u32(VirtAddr to, VirtAddr from, u32 bytes);
using UserClear = u32(VirtAddr to, u32 bytes);

} // namespace loft::hal
