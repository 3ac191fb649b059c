// kmap_local_page and kmap_atomic: a stack of slots for each CPU.
//
// A CPU's window is a stack of 32 slots, one page of addresses each. `top` is the address of the first free slot. A map
// takes that slot with one instruction (xadd on this CPU's `top`). An unmap checks that its address is the slot below
// `top`, and subtracts. The slot's entry is not cleared: if the next map of the slot wants the same frame, it is a hit,
// which writes and flushes nothing. On a miss the map does
//
//     low half = 0   ->   invlpg   ->   high half   ->   low half
//
// always, in this order. An interrupt or another thread that maps the slot in between finds a not-present entry and
// does the whole sequence itself. So the evidence that a flush is owed is in the entry, never in a register only
// (semantics.md, "Flush debt"). Entries are global. A and D are preset: each map is followed by an access.
//
// DEBUG=1 is a different algorithm. Unmap clears the entry and flushes at once, so a use after the unmap faults. Map
// panics if the slot is not empty. Lowmem pages use slots, too. Above every slot is an unmapped guard page.
#pragma once

#include "arch/base/near_wrap.hpp"
#include "arch/base/not_copyable.hpp"
#include "mm/frames/page.hpp"
#include "mm/ground/context.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/mapped_addr.hpp"

#include <atomic>

namespace loft {

// The stack of this CPU.
struct LocalMaps {
    u32 top = 0;                   // the first free slot
    u32 limit = 0;                 // the end of the thread's 16 slots; in an interrupt, the end of the window
    u32 base = 0;                  // the first slot
    u32 misses = near_wrap<u32>(); // maps that wrote the entry; hits are not counted
};
extern hal::PerCpu<LocalMaps> local_maps;

// Maps a page for the calling context until its kunmap_local. Unmaps are in the reverse order of the maps.
// Context: any but NMI. Never sleeps, never fails; the 17th mapping of a thread, and the 33rd with the interrupts on
// top of it, panic. For a lowmem page it returns the address in the direct map. A thread that holds a mapping is not
// migrated. Cost: none if the slot's entry maps the page already, else one invlpg. Inline. Source: Linux
// kmap_local_page(); SDM vol. 3, 4.10.4.
[[nodiscard]] LocalAddr kmap_local_page(Page* page);
// Takes any address inside the page. Panics, with both addresses, if it is not the youngest mapping.
// Context: the one that mapped. Cost: none (DEBUG: one invlpg).
void kunmap_local(LocalAddr addr);
void kunmap_local(const Page*) = delete; // the classic mistake: LWN, "On not getting burned by kmap_atomic()"

// The same; in addition preemption and page-fault handling are off until the unmap.
[[nodiscard]] AtomicAddr kmap_atomic(Page* page);
void kunmap_atomic(AtomicAddr addr);
void kunmap_atomic(const Page*) = delete;

// The number of mappings held by the current context of this CPU and the contexts that it has interrupted. Any context.
u32 local_depth();
// The i-th slot from the bottom, 0 <= i < local_depth(): for panic messages and tests. Any context.
struct HeldSlot {
    VirtAddr address;
    Pte entry;
    u32 caller; // DEBUG: the return address of the map
};
HeldSlot local_slot(u32 index);

// The place of a faulting address in the local windows: outside them, in a slot of this CPU's stack that is not mapped,
// in a guard page, or in a private slot or another CPU's window.
struct LocalFault {
    enum class Kind : u8 { none, released, guard, foreign } kind = Kind::none;
    CpuId cpu{};
    u32 slot = 0;
    Pfn last{}; // the last frame that was mapped there (DEBUG)
};
LocalFault local_fault(VirtAddr va);

// The frame of a local address that is held on this CPU. False if the address is not held.
bool local_to_pfn(VirtAddr va, Pfn& out);

// Calls visit(va) while `pfn` is mapped at `va`: in the private slot of this CPU (high frame) or in the direct map.
// Context: any with interrupts off, also when all slots are held; does not nest. Cost: one invlpg for a high frame.
template <typename F> void with_private_slot(Pfn pfn, F&& visit);

// True if a CPU holds a local mapping of the frame. For DEBUG checks: it reads other CPUs' stacks without a lock.
bool local_maps_frame(Pfn pfn);

// For a context that ends (thread exit, return to user mode, idle) and must hold no local mapping. If it holds any:
// logs depth and slots, returns false.
bool local_check_leaks(const char* where);
// Releases all slots above `depth`: for the test harness, after it has reported the leak.
void local_unwind(u32 depth);

// --- The scheduler. switch_out saves the slots that a thread holds, switch_in restores them at the same addresses; a
// thread that holds a slot is not migrated. Both halves of an entry are saved as they are: a thread that was preempted
// in the middle of a map or unmap finds its slot unchanged, or empty with the flush done.
struct LocalSaved {
    u32 depth = 0;
    Pte::Halves entry[layout::kLocalThreadSlots]{};
    u32 caller[layout::kLocalThreadSlots]{}; // DEBUG
    Pfn frame[layout::kLocalThreadSlots]{};  // DEBUG
};
// Context: the scheduler, interrupts off, no slot of an interrupt is held. Cost of switch_in: one map for each slot; a
// slot that was not used in between is a hit (DEBUG: switch_out clears and flushes each slot).
void local_switch_out(LocalSaved& saved);
void local_switch_in(const LocalSaved& saved);
// True if the current context holds a slot; then its thread stays on this CPU. Any context.
inline bool local_held() { return local_maps.load<&LocalMaps::top>() != local_maps.load<&LocalMaps::base>(); }

void kmap_local_init_cpu(CpuId cpu); // an empty stack

namespace detail {
VirtAddr private_slot_map(Pfn pfn);
void private_slot_unmap();
} // namespace detail

template <typename F> void with_private_slot(Pfn pfn, F&& visit) {
    if (!is_highmem(pfn)) {
        visit(direct_addr(pfn));
        return;
    }
    visit(detail::private_slot_map(pfn));
    detail::private_slot_unmap();
}

// --- The paths. Every access to high memory runs them, so they are inline; the panics are out of line.
namespace detail {

[[noreturn, gnu::cold, gnu::noinline]] void local_overflow(VirtAddr va);
[[noreturn, gnu::cold, gnu::noinline]] void local_overflow_two(VirtAddr first); // of two slots taken at once
// For an address that is not the youngest mapping: returns if it is in the direct map, else panics.
[[gnu::cold, gnu::noinline]] void local_unmap_other(VirtAddr va);
// The DEBUG algorithm. The map records its caller.
[[gnu::noinline]] VirtAddr local_map_debug(Pfn pfn);
void local_unmap_debug(VirtAddr va);

// Changes the entry of a slot, in the order that is safe at every instruction (see the head of this file).
inline void install(VirtAddr va, Pte::Halves want) {
    hal::PteCell* cell = kernel_pte(va);
    local_maps.add<&LocalMaps::misses>(1); // also the count of invlpg in TlbStats
    // DEBUG needs no flush here: unmap and switch_out cleared and flushed the slot while it was held.
    if constexpr (!config::kDebug) {
        hal::pte_clear_low(cell);
        hal::invlpg(va);
    }
    hal::pte_set(cell, want);
}

inline void show(VirtAddr va, Pte::Halves want) {
    if (!hal::pte_is(kernel_pte(va), want)) install(va, want);
}
// Repeats the body of the function above: a call of it makes g++ 12 spill the halves, 16 instructions in copy_highpage.
inline void show(VirtAddr va, const Page* page) {
    const Pte::Halves want = page_halves(page, kernel_prot.data);
    if (!hal::pte_is(kernel_pte(va), want)) install(va, want);
}

// Takes the next slot of the stack.
[[gnu::always_inline]] inline VirtAddr claim_slot() {
    const VirtAddr va{local_maps.exchange_add<&LocalMaps::top>(layout::kLocalStride)};
    if (local_maps.at_most<&LocalMaps::limit>(va.value())) [[unlikely]]
        local_overflow(va);
    return va;
}
[[gnu::always_inline]] inline VirtAddr map_slot(const Page* page) {
    if constexpr (config::kDebug) return local_map_debug(page_to_pfn(page));
    const VirtAddr va = claim_slot();
    show(va, page);
    return va;
}

// For objects such as LocalMap: `va` is exactly the address that the map returned, the first of its page.
[[gnu::always_inline]] inline void unmap_made(VirtAddr va) {
    if constexpr (!config::kHighMem) return;
    if constexpr (config::kDebug) return local_unmap_debug(va);
    if (!local_maps.equals<&LocalMaps::top>(va.value() + layout::kLocalStride)) [[unlikely]]
        return local_unmap_other(va);
    local_maps.add<&LocalMaps::top>(0u - layout::kLocalStride);
}

// For any address. The order check alone would accept the page below an empty stack: that is checked here.
[[gnu::always_inline]] inline void unmap_slot(VirtAddr va) {
    if constexpr (!config::kHighMem) return;
    if constexpr (!config::kDebug)
        if (!local_maps.at_most<&LocalMaps::base>(va.value())) [[unlikely]]
            return local_unmap_other(va);
    unmap_made(va.page());
}

} // namespace detail

[[gnu::always_inline]] inline LocalAddr kmap_local_page(Page* page) {
    if (needs_slot(page)) [[likely]]
        return LocalAddr{detail::map_slot(page)};
    return LocalAddr{direct_addr(page_to_pfn(page))};
}

[[gnu::always_inline]] inline void kunmap_local(LocalAddr addr) { detail::unmap_slot(addr); }

[[gnu::always_inline]] inline AtomicAddr kmap_atomic(Page* page) {
    preempt_disable();
    pagefault_disable();
    if (needs_slot(page)) [[likely]]
        return AtomicAddr{detail::map_slot(page)};
    return AtomicAddr{direct_addr(page_to_pfn(page))};
}

[[gnu::always_inline]] inline void kunmap_atomic(AtomicAddr addr) {
    detail::unmap_slot(addr);
    pagefault_enable();
    preempt_enable();
}

// Maps two high pages for a copy: one xadd takes both slots, one subtraction releases them. Not with DEBUG, which
// checks each slot.
class [[nodiscard]] LocalPair : NotCopyable<LocalPair> {
  public:
    static bool suits(const Page* a, const Page* b) { return !config::kDebug && needs_slot(a) && needs_slot(b); }
    [[gnu::always_inline]] LocalPair(Page* first, Page* second)
        : first_{local_maps.exchange_add<&LocalMaps::top>(kTwo)} {
        if (local_maps.at_most<&LocalMaps::limit>(this->second().value())) [[unlikely]]
            detail::local_overflow_two(first_);
        detail::show(first_, first);
        // A compiler barrier: values that both calls use are loaded again, as i386 has too few registers to keep them.
        std::atomic_signal_fence(std::memory_order_seq_cst);
        detail::show(this->second(), second);
    }
    [[gnu::always_inline]] ~LocalPair() {
        if (!local_maps.equals<&LocalMaps::top>(first_.value() + kTwo)) [[unlikely]]
            detail::local_unmap_other(first_);
        local_maps.add<&LocalMaps::top>(0u - kTwo);
    }
    VirtAddr first() const { return first_; }
    VirtAddr second() const { return first_ + layout::kLocalStride; }

  private:
    static constexpr u32 kTwo = 2 * layout::kLocalStride;
    VirtAddr first_;
};

// TLB counters of one CPU, or the sum over all CPUs, including the invlpg of this header. Any context; a snapshot.
TlbStats tlb_stats_of(CpuId cpu);
TlbStats tlb_stats_sum();

} // namespace loft
