// kmap: a mapping of a high page that every CPU and every thread sees at the same address.
//
// The pool is one page table. A slot's count says what it is (docs/semantics.md):
//
//     0      free: no entry, and no CPU has a stale translation
//     1      idle: nobody uses it, its entry still shows its page, and the next kmap of that page is a hit
//     n      n-1 users
//     kOwed  nobody uses it and its entry is gone, but a CPU may still have the translation: a flush is owed
//
// kmap, page has a slot    count c >= 1 -> c+1 by compare-and-swap, then the page's slot field is read again: if the
//                          slot went to another page in between, it is put back and the slow path taken. No lock and
//                          no flush.
// kunmap                   c -> c-1, never below 1. No flush: the next user of the page may come soon.
// kmap, page has no slot   under the lock, the hand moves to the next slot with count 0.
//
// The pool has two halves, and the debts of one age while the hand is in the other. When the hand enters a half, the idle
// slots of the OTHER half are taken away (count 1 -> kOwed, which stops the lock-free path; the page's slot field cleared;
// the entry taken by an atomic exchange) and the time of that debt is noted. Then the debt of THIS half is paid: CPUs that
// have flushed since its time owe nothing, idle CPUs look at the clock themselves, the others are interrupted, once for all
// slots. After that kOwed -> 0. As a flush pays for the half that was just taken away too, a CPU that never flushes by
// itself is interrupted at most once each time round the pool.
//
// A slot whose entry had the accessed bit clear was never used: no TLB can hold it (SDM vol. 3, 4.8 and 4.10.2.3), so it
// is free at once.
//
// page freed while idle    the page forgets its slot, the entry goes, the count becomes kOwed.
//
// A thread that holds no mapping reserves two credits with its first one, so that at most half as many threads as there are
// slots hold any, and each of them can get its second: copying from page to page cannot deadlock. The others sleep, in
// order of arrival. A third mapping by one thread is reported: nothing guarantees that one.
//
// The entries are not global: a CR3 load on a CPU ends its debt.
#pragma once

#include "mm/page.hpp"
#include "mm/tlb.hpp"

namespace loft {

// The address of a global mapping. kunmap takes the page, not the address.
class GlobalAddr {
  public:
    constexpr GlobalAddr() = default;
    explicit constexpr GlobalAddr(VirtAddr va) : va_{va} {}
    constexpr operator VirtAddr() const { return va_; }
    constexpr u32 value() const { return va_.value(); }
    constexpr bool operator==(const GlobalAddr&) const = default;

  private:
    VirtAddr va_{};
};

// Context: preemptible only, checked in every build. The same address for every caller of the page until all have called
// kunmap. Sleeps while too many threads hold mappings. A page of lowmem is arithmetic.
// Cost: none for a page that is mapped; at most one flush on each CPU once round the pool. Source: Linux kmap(); FreeBSD
// sf_buf for the accessed bit; Xen for the clock.
[[nodiscard]] GlobalAddr kmap(Page* page);
// By the thread that called kmap. Panics if the page is not mapped, or if this thread has nothing mapped.
// Context: preemptible. Cost: none.
void kunmap(Page* page);
template <typename Addr>
    requires(!std::is_convertible_v<Addr, Page*>)
void kunmap(Addr) = delete; // kunmap takes the page

struct PkmapStats {
    u32 maps = 0;      // slow path: a slot was given to a page
    u32 wraps = 0;     // times round the pool
    u32 reclaimed = 0; // idle slots taken away
    u32 unused = 0;    // of these, those whose accessed bit was clear
    u32 flushes = 0;   // debts of a half that had to be paid
    u32 waits = 0;     // callers that slept
    u32 thirds = 0;    // mappings beyond a thread's second
};
PkmapStats pkmap_stats();

struct PkmapUse {
    u32 free = 0, idle = 0, used = 0; // idle: kOwed too
};
PkmapUse pkmap_use();

inline constexpr u32 kPkmapOwed = ~0u;
u32 pkmap_count(u32 slot);                // state of a slot; for tests and gdb
bool pkmap_to_pfn(VirtAddr va, Pfn& out); // the frame behind an address of the pool, if one is mapped there
// The address of a page that is in use by kmap.
bool pkmap_address(const Page* page, VirtAddr& out);

// The allocator takes a frame back that has an idle slot. Panics if the frame is still mapped. Context: any.
void pkmap_forget(Page* page);

// Whether the accessed bit of this machine does what it should: a touch sets it. Measured at boot on a pool entry; where it
// fails, idle slots are always flushed.
bool pkmap_accessed_bit_works();
void pkmap_trust_accessed_bit(bool trust);

// Makes the pool smaller: `slots` usable ones, 2 to kPkmapSlots-1. For tests and for `pkmap=`; nothing may be mapped.
void pkmap_set_slots(u32 slots);
u32 pkmap_slots();

void pkmap_init(); // boot

} // namespace loft
