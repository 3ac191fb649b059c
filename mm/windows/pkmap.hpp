// kmap: maps a high page at an address that is the same for every CPU and every thread.
//
// The pool is one page table; each entry is a slot. Slot 0 is unused. The word of a slot holds its page and its state,
// so that one compare-and-swap (CAS) checks both:
//
//      31                                          8 7         0
//     | tag: address of the page's descriptor (24)  | count (8) |
//
//     state       count        meaning (p: the page of the tag)
//     free        0 (tag 0)    no entry, and no TLB holds a translation
//     making(p)   0xfe         one thread, its maker, has taken the slot for p; it writes the entry and p's slot field
//     used(p, n)  n + 1        n users, 1 to 252
//     idle(p)     1            no user; the entry still maps p, so the next kmap of p is a hit
//     owed        0xff (tag 0) no page; the entry is cleared or about to be; a TLB may hold the translation
//
// Transitions. "lock" is pool.lock; where a CAS is named as well, a path without the lock may change the word first.
//
//     from -> to            actor                                       by         then
//     free -> making(p)     thread in kmap(p); p has no slot, and s is  CAS        writes the entry; then CAS of p's
//                           the number that the hand gave                          slot field, none -> s
//     free -> making(p)     thread in kmap(p); the fast path failed     lock, CAS  the same
//                           (map_locked)
//     making(p) -> used 1   the maker, after its CAS of the slot field  CAS        -
//     making(p) -> used 1   another thread in kmap(p) that finds s in   lock, CAS  adds itself: used 2. It cannot wait:
//                           p's slot field                                         the maker may be preempted
//     making(p) -> owed     the maker, if p got another slot meanwhile  lock       takes the entry (*); maps p again
//     making(p) -> free     CPU at boot (pkmap_accessed_bit_works)      lock       - (after its own flush)
//     idle(p) -> used 1     thread in kmap(p)                           CAS        -
//     used n -> used n + 1  thread in kmap(p); panics if n is 252       CAS        -
//     used n -> used n - 1  thread in kunmap(p), n > 1                  CAS        credit (**)
//     used 1 -> idle(p)     thread in kunmap(p)                         CAS        credit (**); no flush. DEBUG: takes
//                                                                                  the idle slot, flushes at once
//     idle(p) -> owed       thread in kmap that moves the hand: all     lock, CAS  clears p's slot field; takes the
//                           idle slots of the half that the hand leaves            entry (*)
//     idle(p) -> owed       CPU that frees p (pkmap_forget)             lock, CAS  the same
//     owed -> free          the CPU that made it owed, at once (*)      lock       - (no flush is owed)
//     owed -> free          thread in kmap that moves the hand into     lock       - (after its flush)
//                           the half of the slot
//
//     (*)  Exchanges the low half of the entry with 0. Accessed bit clear: no TLB can hold the translation (SDM vol. 3,
//          4.8 and 4.10.2.3), and the slot is free now. Accessed bit set, or not trusted on this machine: a flush is
//          owed, and the time of this debt is noted for the half of the slot (tlb_new_debt).
//     (**) If this was the thread's last mapping, it returns its credit, which wakes the first waiting thread, if any.
//
// Between a page and its slot s this holds:
//
//     the word of s is used or idle  =>  the page's slot field is s
//     the page's slot field is s     =>  the word of s is of this page, making included; or it is owed, and the lock is
//                                        held by the CPU that is about to clear the field
//
// The hand is a counter of slots to try. A number from it is only a hint: the slot may not be free.
//
// The pool has two halves. The thread that moves the hand into one first takes the idle slots of the other; then one
// flush pays the debt of this half. CPUs that have flushed since the time of the debt owe nothing, idle CPUs check the
// clock before they run anything, all others are interrupted. The flush also pays for the slots just taken. So a CPU
// that never flushes by itself is interrupted at most once in each round of the hand.
//
// Credits. The first mapping of a thread takes one credit, which stands for two slots. There are half as many credits
// as slots, and at most 126, so that a count cannot overflow. So each thread that holds a credit can get a second
// mapping: copies from page to page cannot deadlock. A thread without a credit sleeps, in order of arrival. A thread's
// third mapping is logged once: nothing reserves a slot for it.
//
// The entries are not global: a CR3 load on a CPU pays that CPU's debt.
#pragma once

#include "arch/base/near_wrap.hpp"
#include "mm/frames/page.hpp"
#include "mm/ground/context.hpp"
#include "mm/ground/credits.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/mapped_addr.hpp"

namespace loft {

// Maps a page. All callers get the same address until each has called kunmap. The caller holds a reference to the page.
// Context: preemptible only, checked in every build. Sleeps while no credit is free. For a lowmem page it returns the
// address in the direct map. Inline if the page has a slot. Cost: none for a page that has one, else at most one flush
// on each CPU for each round of the hand. Source: Linux kmap(); FreeBSD sf_buf for the accessed bit; Xen for the clock.
[[nodiscard]] GlobalAddr kmap(Page* page);
// Called by the thread that called kmap. Panics if the page is not mapped, or if this thread holds no mapping.
// Context: preemptible. Cost: none.
void kunmap(Page* page);
template <typename Addr>
requires(!std::is_convertible_v<Addr, Page*>) void kunmap(Addr) = delete; // kunmap takes the page

struct PkmapStats {
    u32 maps = near_wrap<u32>();      // slots given to a page; approximate while other CPUs map
    u32 wraps = near_wrap<u32>();     // rounds of the hand through the pool
    u32 reclaimed = near_wrap<u32>(); // slots that went from idle to owed
    u32 unused = near_wrap<u32>();    // of these, slots with a clear accessed bit
    u32 flushes = near_wrap<u32>();   // flushes for the debt of a half
    u32 waits = near_wrap<u32>();     // callers that waited for a credit
    u32 thirds = near_wrap<u32>();    // mappings of a thread beyond its second
};
PkmapStats pkmap_stats(); // any context but NMI: it takes the lock of the pool; O(slots)

struct PkmapUse {
    u32 free = 0, idle = 0, used = 0; // idle includes owed; used includes making
};
PkmapUse pkmap_use();

inline constexpr u32 kPkmapOwed = ~0u;
u32 pkmap_count(u32 slot);                // the count of a slot's word, or kPkmapOwed; for tests and gdb
bool pkmap_to_pfn(VirtAddr va, Pfn& out); // the frame of an address of the pool; false if its slot has no user
// The address of a page; false if its slot has no user.
bool pkmap_address(const Page* page, VirtAddr& out);

// True if an access sets the accessed bit on this machine. Tested at boot with one entry of the pool. If it is false,
// the accessed bit is not trusted: every slot that is taken owes a flush.
bool pkmap_accessed_bit_works();
void pkmap_trust_accessed_bit(bool trust);

// Limits the pool to `slots` usable slots, 2 to kPkmapSlots-1. For tests: no mapping is held, no thread is inside kmap.
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
    Credits credits; // one for each thread that holds a mapping; each stands for two slots
};
extern PkmapHot pkmap_hot;

// Descriptors are 8 bytes long and lie within 128 MiB, so bits 3 to 26 of their address are unique.
inline u32 slot_tag(const Page* page) { return static_cast<u32>(reinterpret_cast<std::uintptr_t>(page)) << 5; }

// A lowmem page, or a high page that gets a slot here.
LOFT_REGPARM GlobalAddr kmap_without_slot(Page* page);
// The first CAS failed: it expected no other user. `word` is the value that it found.
LOFT_REGPARM GlobalAddr kmap_shared(Page* page, u32 slot, u32 word);
LOFT_REGPARM void kunmap_shared(const Page* page, u32 slot, u32 word);
void kmap_again();             // this thread holds a mapping already
void kunmap_again(Page* page); // this thread still holds other mappings, or held none
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
    // opaque(): else g++ computes the address between the CAS and the jump, and so overwrites the flags of the CAS.
    if (detail::pkmap_hot.slot[slot].compare_exchange(word, word + 1)) [[likely]]
        return GlobalAddr{layout::pkmap_addr(hal::opaque(slot))};
    return detail::kmap_shared(page, slot, word);
}

[[gnu::always_inline]] inline void kunmap(Page* page) {
    const u32 slot = page->slot();
    if (slot == Page::kNoSlot) return detail::kunmap_without_slot(page);
    // The thread's count goes first: the call of a thread without mappings must change nothing. The credit goes last:
    // it stands for slots, and the slot must be released before.
    if (!context.increment_to_zero<&Context::minus_kmaps>()) [[unlikely]]
        return detail::kunmap_again(page);
    detail::give_back(page, slot);
    detail::pkmap_hot.credits.release();
}

} // namespace loft
