// kmap: a mapping of a high page that every CPU and every thread sees at the same address.
//
// The pool is one page table. The word of a slot says whose it is and what state it is in (docs/semantics.md), so that
// one compare-and-swap asks for both:
//
//      31                                      8 7         0
//     | the place of the page's descriptor (24) | count (8) |
//
//     0      free: no entry, and no CPU has a stale translation. The whole word is 0
//     1      idle: nobody uses it, its entry still shows its page, and the next kmap of that page is a hit
//     n      n-1 users
//     making it was free and somebody has taken it for this page; nobody else may use it yet
//     kOwed  nobody uses it, its entry is gone or just going, and a CPU may still have the translation: a flush is owed
//
// A page whose slot is s has the word of s, and the other way round, unless somebody is just at work there:
//
//     word counts users or is idle   =>   the page's slot field says s
//     the page's slot field says s   =>   the word is of this page (making, too), or just taken away under the lock
//
// kmap, page has a slot    its word with count c >= 1 -> c+1 by compare-and-swap; the first guess is that nobody else
//                          has it. It fails if the slot went to another page in between. No lock and no flush.
// kunmap                   c -> c-1, never below 1. No flush: the next user of the page may come soon.
// kmap, page has no slot   The hand gives numbers. Number s: word of s from free to making by compare-and-swap; its
//                          entry; the page's slot field from none to s by compare-and-swap; word from making to one
//                          user, by compare-and-swap again. No lock. Under the lock: the half has no number left, or
//                          the slot with that number is not free: the hand moves on to the next one that is. It says
//                          where to look and proves nothing: a number may be old. Or the field has been set meanwhile:
//                          s is given back, and the other slot used. Or the field is set, and the word still making:
//                          its maker may sleep, so the last step is done for it.
//
// The pool has two halves, and the debts of one age while the hand is in the other. When the hand enters a half, the
// idle slots of the OTHER half are taken away (the word becomes kOwed, which stops the lock-free paths; the page's slot
// field is cleared; the entry is taken by an atomic exchange) and the time of that debt is noted. Then the debt of THIS
// half is paid: CPUs that have flushed since its time owe nothing, idle CPUs look at the clock themselves, the others
// are interrupted, once for all slots. After that kOwed -> 0. As a flush pays for the half that was just taken away
// too, a CPU that never flushes by itself is interrupted at most once each time round the pool.
//
// A slot whose entry had the accessed bit clear was never used: no TLB can hold it (SDM vol. 3, 4.8 and 4.10.2.3), so
// it is free at once.
//
// page freed while idle    the page forgets its slot, the entry goes, the count becomes kOwed.
//
// A thread that holds no mapping reserves two credits with its first one, so that at most half as many threads as there
// are slots hold any (and no more than a count can count), and each of them can get its second: copying from page to
// page cannot deadlock. The others sleep, in order of arrival. A third mapping by one thread is reported: nothing
// guarantees that one.
//
// The entries are not global: a CR3 load on a CPU ends its debt.
#pragma once

#include "mm/frames/page.hpp"
#include "mm/ground/context.hpp"
#include "mm/ground/credits.hpp"
#include "mm/tables/tlb_batch.hpp"

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

// The same address for every caller of the page until all have called kunmap; the caller has a reference to the page.
// Context: preemptible only, checked in every build. Sleeps while too many threads hold mappings. A page of lowmem is
// arithmetic. Inline while the page has a slot. Cost: none for a page that has one; at most one flush on each CPU once
// round the pool. Source: Linux kmap(); FreeBSD sf_buf for the accessed bit; Xen for the clock.
[[nodiscard]] GlobalAddr kmap(Page* page);
// By the thread that called kmap. Panics if the page is not mapped, or if this thread has nothing mapped.
// Context: preemptible. Cost: none.
void kunmap(Page* page);
template <typename Addr>
requires(!std::is_convertible_v<Addr, Page*>) void kunmap(Addr) = delete; // kunmap takes the page

struct PkmapStats {
    u32 maps = 0;      // a slot was given to a page; while others are at work, about so many
    u32 wraps = 0;     // times round the pool
    u32 reclaimed = 0; // idle slots taken away
    u32 unused = 0;    // of these, those whose accessed bit was clear
    u32 flushes = 0;   // debts of a half that had to be paid
    u32 waits = 0;     // callers that slept
    u32 thirds = 0;    // mappings beyond a thread's second
};
PkmapStats pkmap_stats(); // any context but NMI: it takes the lock of the pool; O(slots)

struct PkmapUse {
    u32 free = 0, idle = 0, used = 0; // idle: kOwed too; used: making too
};
PkmapUse pkmap_use();

inline constexpr u32 kPkmapOwed = ~0u;
u32 pkmap_count(u32 slot);                // state of a slot; for tests and gdb
bool pkmap_to_pfn(VirtAddr va, Pfn& out); // the frame behind an address of the pool, if one is mapped there
// The address of a page that is in use by kmap.
bool pkmap_address(const Page* page, VirtAddr& out);

// Whether the accessed bit of this machine does what it should: a touch sets it. Measured at boot on a pool entry;
// where it fails, idle slots are always flushed.
bool pkmap_accessed_bit_works();
void pkmap_trust_accessed_bit(bool trust);

// Makes the pool smaller: `slots` usable ones, 2 to kPkmapSlots-1. For tests; nothing may be mapped, and nobody be
// inside kmap.
void pkmap_set_slots(u32 slots);
u32 pkmap_slots();

void pkmap_init(); // boot

// --- The paths of a page that has a slot.
namespace detail {

namespace slot_count {
inline constexpr u32 mask = 0xff, idle = 1, one_user = 2, most = 0xfd, making = 0xfe, owed = 0xff;
} // namespace slot_count

struct PkmapHot {
    hal::Atomic<u32> slot[layout::kPkmapSlots];
    Credits credits; // two slots each
};
extern PkmapHot pkmap_hot;

// Descriptors are 8 bytes long and lie within 128 MiB: 24 bits of their address tell them apart.
inline u32 slot_tag(const Page* page) { return static_cast<u32>(reinterpret_cast<std::uintptr_t>(page)) << 5; }

// Lowmem, or it gets one.
LOFT_REGPARM GlobalAddr kmap_without_slot(Page* page);
// The guess was wrong: this was the word.
LOFT_REGPARM GlobalAddr kmap_shared(Page* page, u32 slot, u32 word);
LOFT_REGPARM void kunmap_shared(const Page* page, u32 slot, u32 word);
void kmap_again();             // this thread holds one already
void kunmap_again(Page* page); // this thread holds others
void kmap_waits();
void kunmap_without_slot(const Page* page);
void kunmap_debug(u32 slot);

inline void account_map() {
    if (!context.decrement_from_zero<&Context::minus_kmaps>()) [[unlikely]]
        kmap_again();
    else if (!pkmap_hot.credits.take()) [[unlikely]]
        kmap_waits();
}
inline void give_back(Page* page, u32 slot) {
    u32 word = slot_tag(page) | slot_count::one_user;
    if (!pkmap_hot.slot[slot].compare_exchange(word, word - 1)) [[unlikely]]
        kunmap_shared(page, slot, word);
    else if constexpr (config::kDebug)
        kunmap_debug(slot);
}

} // namespace detail

[[gnu::always_inline]] inline GlobalAddr kmap(Page* page) {
    might_sleep("kmap");
    const u32 slot = page->slot();
    if (slot == Page::kNoSlot) return detail::kmap_without_slot(page);
    detail::account_map();
    u32 word = detail::slot_tag(page) | detail::slot_count::idle;
    // The address is opaque, or g++ computes it between the exchange and the jump, whose flags are then gone.
    if (detail::pkmap_hot.slot[slot].compare_exchange(word, word + 1)) [[likely]]
        return GlobalAddr{layout::pkmap_addr(hal::opaque(slot))};
    return detail::kmap_shared(page, slot, word);
}

[[gnu::always_inline]] inline void kunmap(Page* page) {
    const u32 slot = page->slot();
    if (slot == Page::kNoSlot) return detail::kunmap_without_slot(page);
    // First the account: a thread that has nothing mapped changes nothing. Last the credit: it stands for slots.
    if (!context.increment_to_zero<&Context::minus_kmaps>()) [[unlikely]]
        return detail::kunmap_again(page);
    detail::give_back(page, slot);
    detail::pkmap_hot.credits.release();
}

} // namespace loft
