// kmap_local_page and kmap_atomic: a stack of windows for each CPU.
//
// The window of a CPU is 32 pages of addresses; `top` is the address of the first one that is not held. A map
// claims it by one instruction (xadd on this CPU's `top`), an unmap checks that the address it is given is
// the one below `top` and subtracts. A slot's entry stays as it is when the slot is released: if the next map
// of the slot wants the same frame, it is a hit and nothing is written and nothing flushed. Otherwise
//
//     low half = 0   ->   invlpg   ->   high half   ->   low half
//
// in this order, unconditionally: an interrupt, or a thread that runs in between, finds an entry that says
// "not present" and does the whole sequence itself, so a flush that is owed is never known to a register only
// (semantics.md, "Flush debt"). Entries are global and have A and D preset: they exist to be touched.
//
// With DEBUG=1 this is another algorithm: unmap empties the slot and flushes at once, so that a use after the
// unmap faults; map finds each slot empty; lowmem pages go through real slots; and every slot has an unmapped
// page above it.
#pragma once

#include "mm/frames/page.hpp"
#include "mm/ground/context.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/tables/pagetable.hpp"

#include <atomic>

namespace loft {

// The address of a local mapping. Usable as a VirtAddr for access; a VirtAddr or a Page* is not usable as
// one.
class LocalAddr {
  public:
    constexpr LocalAddr() = default;
    explicit constexpr LocalAddr(VirtAddr va) : va_{va} {}
    constexpr operator VirtAddr() const { return va_; }
    constexpr u32 value() const { return va_.value(); }
    constexpr LocalAddr operator+(u32 bytes) const { return LocalAddr{va_ + bytes}; }
    constexpr LocalAddr operator-(u32 bytes) const { return LocalAddr{va_ - bytes}; }
    constexpr bool operator==(const LocalAddr&) const = default;

  private:
    VirtAddr va_{};
};
// Likewise for kmap_atomic; the two do not mix.
class AtomicAddr {
  public:
    constexpr AtomicAddr() = default;
    explicit constexpr AtomicAddr(VirtAddr va) : va_{va} {}
    constexpr operator VirtAddr() const { return va_; }
    constexpr u32 value() const { return va_.value(); }
    constexpr AtomicAddr operator+(u32 bytes) const { return AtomicAddr{va_ + bytes}; }
    constexpr AtomicAddr operator-(u32 bytes) const { return AtomicAddr{va_ - bytes}; }
    constexpr bool operator==(const AtomicAddr&) const = default;

  private:
    VirtAddr va_{};
};

// The stack of this CPU.
struct LocalMaps {
    u32 top = 0;    // the first slot that is not held
    u32 limit = 0;  // the thread's end, or the end of the window in an interrupt
    u32 base = 0;   // the first slot
    u32 misses = 0; // maps that wrote the entry; a hit costs nothing, not even a counter
};
extern hal::PerCpu<LocalMaps> local_maps;

// Maps a page for the context that calls, until kunmap_local in the opposite order.
// Context: any but NMI. Never sleeps, never fails: the 17th mapping of a thread and the 33rd with interrupts
// panic. A page of lowmem is arithmetic. The thread stays on its CPU while it holds one. Cost: nothing if the
// slot shows the page already, else one invlpg. Inline. Source: Linux kmap_local_page(); SDM vol. 3, 4.10.4.
[[nodiscard]] LocalAddr kmap_local_page(Page* page);
// Takes any address inside the page. Panics, naming both addresses, if it is not the youngest mapping.
// Context: the one that mapped. Cost: nothing (DEBUG: one invlpg).
void kunmap_local(LocalAddr addr);
void kunmap_local(const Page*) = delete; // the classic mistake: seeds, "On not getting burned by kmap_atomic()"

// The same, and preemption and page-fault handling are off until the unmap.
[[nodiscard]] AtomicAddr kmap_atomic(Page* page);
void kunmap_atomic(AtomicAddr addr);
void kunmap_atomic(const Page*) = delete;

// How many mappings the context that runs on this CPU, and all it interrupted, hold.
u32 local_depth();
// The i-th slot from the bottom, 0 <= i < local_depth(): for panic messages and tests. Any context.
struct HeldSlot {
    VirtAddr address;
    Pte entry;
    u32 caller; // DEBUG: where it was mapped
};
HeldSlot local_slot(u32 index);

// What a faulting address is to the local windows.
struct LocalFault {
    enum class Kind : u8 { none, released, guard, foreign } kind = Kind::none;
    CpuId cpu{};
    u32 slot = 0;
    Pfn last{}; // the frame the slot showed last (DEBUG)
};
LocalFault local_fault(VirtAddr va);

// The frame behind a local address that is held on this CPU.
bool local_to_pfn(VirtAddr va, Pfn& out);

// Runs visit(va) with `pfn` visible at `va`, through the slot of the panic path (highmem) or the direct map.
// Context: any with interrupts off, also when all slots are held; not nested. Cost: one invlpg for a high
// frame.
template <typename F> void with_private_slot(Pfn pfn, F&& visit);

// True if some CPU holds a local mapping of the frame. DEBUG checks only: it looks at other CPUs' stacks.
bool local_maps_frame(Pfn pfn);

// The context that ends (thread exit, return to user mode, idle) holds nothing: reports it, with depth, and
// returns false if it does.
bool local_check_leaks(const char* where);
// Releases whatever is held above `depth`: for the test harness, after it has reported the leak.
void local_unwind(u32 depth);

// --- The scheduler. A thread's mappings go with it when it is switched out and are there again, at the same addresses,
// when it comes back; a thread that holds any is not moved to another CPU. The raw halves are kept, whatever they say:
// a thread that was stopped in the middle of a map or unmap finds its slot as it left it, or empty with the flush done.
struct LocalSaved {
    u32 depth = 0;
    Pte::Halves entry[layout::kLocalThreadSlots]{};
    u32 caller[layout::kLocalThreadSlots]{}; // DEBUG
    Pfn frame[layout::kLocalThreadSlots]{};  // DEBUG
};
// Context: the scheduler, interrupts off, not in an interrupt's share of the stack. Cost of switch_in: as that many
// maps; nothing if nobody used the slots in between (DEBUG: switch_out empties and flushes each slot).
void local_switch_out(LocalSaved& saved);
void local_switch_in(const LocalSaved& saved);
// Does the context that runs hold any: then it stays on this CPU. Any context.
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

// --- The paths themselves: every access to high memory takes them, so they are inline, and what cannot happen is not.
namespace detail {

[[noreturn, gnu::cold, gnu::noinline]] void local_overflow(VirtAddr va);
[[noreturn, gnu::cold, gnu::noinline]] void local_overflow_two(VirtAddr first); // of two claimed at once
// An address that is not the youngest mapping: of the direct map, or a mistake.
[[gnu::cold, gnu::noinline]] void local_unmap_other(VirtAddr va);
// DEBUG's algorithm. Remembers where it was called from.
[[gnu::noinline]] VirtAddr local_map_debug(Pfn pfn);
void local_unmap_debug(VirtAddr va);

// The change of a slot, in the one order that is right at every point (see above).
inline void install(VirtAddr va, Pte::Halves want) {
    hal::PteCell* cell = kernel_pte(va);
    local_maps.add<&LocalMaps::misses>(1); // counts the invlpg, too: TlbStats
    // With DEBUG there is nothing to forget: unmap and switch_out emptied and flushed the slot while it was held.
    if constexpr (!config::kDebug) {
        hal::pte_clear_low(cell);
        hal::invlpg(va);
    }
    hal::pte_set(cell, want);
}

inline void show(VirtAddr va, Pte::Halves want) {
    if (!hal::pte_is(kernel_pte(va), want)) install(va, want);
}
// Written out: through the one above g++ 12 spills the halves, which costs copy_highpage 16 instructions.
inline void show(VirtAddr va, const Page* page) {
    const Pte::Halves want = page_halves(page, kernel_prot.data);
    if (!hal::pte_is(kernel_pte(va), want)) install(va, want);
}

// The next slot of the stack.
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

// `va` is the first address of a page that map_slot has given, as an object that undoes it knows.
[[gnu::always_inline]] inline void unmap_made(VirtAddr va) {
    if constexpr (!config::kHighMem) return;
    if constexpr (config::kDebug) return local_unmap_debug(va);
    if (!local_maps.equals<&LocalMaps::top>(va.value() + layout::kLocalStride)) [[unlikely]]
        return local_unmap_other(va);
    local_maps.add<&LocalMaps::top>(0u - layout::kLocalStride);
}

// Any address: the one below an empty stack, which the order alone would let pass, is no mapping either.
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

// Two high pages for the length of a copy: their slots are taken by one claim, and given back by one. Not with DEBUG,
// which looks at each.
class [[nodiscard]] LocalPair {
  public:
    static bool suits(const Page* a, const Page* b) { return !config::kDebug && needs_slot(a) && needs_slot(b); }
    [[gnu::always_inline]] LocalPair(Page* first, Page* second)
        : first_{local_maps.exchange_add<&LocalMaps::top>(kTwo)} {
        if (local_maps.at_most<&LocalMaps::limit>(this->second().value())) [[unlikely]]
            detail::local_overflow_two(first_);
        detail::show(first_, first);
        // What both need is read again: keeping it would cost more registers than there are.
        std::atomic_signal_fence(std::memory_order_seq_cst);
        detail::show(this->second(), second);
    }
    [[gnu::always_inline]] ~LocalPair() {
        if (!local_maps.equals<&LocalMaps::top>(first_.value() + kTwo)) [[unlikely]]
            detail::local_unmap_other(first_);
        local_maps.add<&LocalMaps::top>(0u - kTwo);
    }
    LocalPair(const LocalPair&) = delete;
    LocalPair& operator=(const LocalPair&) = delete;
    VirtAddr first() const { return first_; }
    VirtAddr second() const { return first_ + layout::kLocalStride; }

  private:
    static constexpr u32 kTwo = 2 * layout::kLocalStride;
    VirtAddr first_;
};

// Counters of the TLB with the invlpg of this header in them: of one CPU, of all that are online. Any context; a
// snapshot.
TlbStats tlb_stats_of(CpuId cpu);
TlbStats tlb_stats_sum();

} // namespace loft
