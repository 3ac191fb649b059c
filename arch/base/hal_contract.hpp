// The seam between mm and the machine, as one contract that two machines keep.
//
// mm includes <hal/...>; -I decides whether that is arch/i386/hal (instructions) or tests/sim/hal (the
// simulated machine). mm never dereferences a VirtAddr, executes an instruction or reads a CPU id in another
// way. Both HALs include this file through <hal/hal.hpp> and are checked against it at compile time.
//
// hal/mem.hpp     load<T>(va) store<T>(va, x)     one access of 1, 2 or 4 bytes, naturally aligned
//                 zero_words copy_words           whole words; not atomic; may be interrupted anywhere
//                 copy_in copy_out fill           any length, between a mapping and the caller's own object
//                 lowmem_ptr<T>(va) lowmem_addr   an object in the direct map <-> its address
//                 note_frame_free/used            hints for the simulated machine; nothing on the real one
// hal/pte.hpp     PteCell                         an entry in memory, opaque
//                 pte_low pte_high                one half; enough where the other cannot change
//                 pte_read                        both halves, belonging together
//                 pte_set                         fill an entry that is not present: high half, then low half
//                 pte_clear pte_clear_low         take it away: low half, then high half / low half only
//                 pte_exchange pte_take           one atomic step that returns the old entry, A and D included
//                                                 None of these flushes anything.
// hal/tlb.hpp     Site                            where a flush was asked for (a test can leave that one out)
//                 invlpg(va)                      this CPU, this page, global too, and all paging-structure caches
//                 flush_non_global                this CPU, all but global pages; PDPTEs are read anew
//                 flush_all                       this CPU, everything
//                 load_root current_root          CR3; a load has the effect of flush_non_global
// hal/cpu.hpp     PerCpu<T>, LOFT_PERCPU          a variable per CPU; single-instruction access to its fields
//                 this_cpu                        stays true only while the caller cannot migrate
//                 irq_save irq_restore irqs_enabled
//                 cpu_relax                       in every loop that waits for another CPU
//                 cpu_features
//                 return_address                  of the function it is inlined into, for messages
// hal/atomic.hpp  Atomic<T>                       at most 32 bits; sequentially consistent but for load and store
//                                                 (acquire, release)
// hal/ipi.hpp     online_cpus                     the CPUs that run, as a CpuSet
//                 run_on(cpus, call, argument)    every CPU of the set but this one calls call(argument) with
//                                                 interrupts off; returns when all have. Callable with
//                                                 interrupts off: the caller answers others while it waits.
#pragma once

#include "arch/base/types.hpp"

#include <concepts>

namespace loft::hal {

template <typename Cell, typename Entry>
concept PteAccess = requires(Cell* cell, const Cell* shared, Entry entry) {
    { pte_low(shared) } -> std::same_as<u32>;
    { pte_high(shared) } -> std::same_as<u32>;
    { pte_read(shared) } -> std::same_as<Entry>;
    { pte_exchange(cell, entry) } -> std::same_as<Entry>;
    { pte_take(cell) } -> std::same_as<Entry>;
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

} // namespace loft::hal
