// kmap: a mapping of a high page that every CPU and every thread sees at the same address.
//
// The pool is one page table. A slot's count says what it is (semantics.md):
//
//     0      free: no entry, and no CPU has a stale translation
//     1      idle: nobody uses it, but a translation may exist; its entry may still show its page, and then the next
//            kmap of that page is a hit
//     n      n-1 users
//     kBusy  being taken away; only the holder of the pool's lock sees and makes this state
//
//   kmap, page has a slot   count c >= 1 -> c+1 by compare-and-swap, then the page's slot is checked again: a slot
//                           that was given to another page in between is put back and the slow path taken. No lock,
//                           no flush.
//   kunmap                  c -> c-1, never below 1. No flush: the next user of the page may come soon.
//   kmap, no slot           under the lock: the hand moves over the pool to a slot with count 0. Each time it passes
//                           the end, all idle slots are taken away together: count 1 -> kBusy (which stops the first
//                           path), the page's slot field cleared, the entry taken by an atomic exchange; then ONE
//                           flush for all of them; then count kBusy -> 0. A slot whose entry had A clear was never
//                           used: no TLB can hold it (SDM vol. 3, 4.8 and 4.10.2.3), and it needs no flush.
//   page freed while idle   the page forgets its slot and the entry goes, the count stays 1: the flush stays owed to
//                           the next wrap.
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

// Context: preemptible only, checked in every build. The same address for every caller of the page until all
// have called kunmap. Sleeps while the pool is full. A page of lowmem is arithmetic. Cost: none for a page
// that is mapped; a flush on every CPU once for each time round the pool, less what A shows to be unneeded.
// Source: Linux kmap(); FreeBSD sf_buf for the accessed bit.
[[nodiscard]] GlobalAddr kmap(Page* page);
// Panics if the page is not mapped. Context: any. Cost: none.
void kunmap(Page* page);
template <typename Addr>
requires(!std::is_convertible_v<Addr, Page*>) void kunmap(Addr) = delete; // kunmap takes the page

struct PkmapStats {
    u32 maps = 0;      // slow path: a slot was given to a page
    u32 wraps = 0;     // times round the pool
    u32 reclaimed = 0; // idle slots taken away
    u32 unused = 0;    // of these, those whose accessed bit was clear
    u32 flushes = 0;   // wraps that flushed
    u32 waits = 0;     // callers that had to wait for a slot
};
PkmapStats pkmap_stats();

struct PkmapUse {
    u32 free = 0, idle = 0, used = 0;
};
PkmapUse pkmap_use();

u32 pkmap_count(u32 slot);                // state of a slot; for tests and gdb
bool pkmap_to_pfn(VirtAddr va, Pfn& out); // the frame behind an address of the pool, if one is mapped there
// The address of a page that is in use by kmap.
bool pkmap_address(const Page* page, VirtAddr& out);

// The allocator takes a frame back that has an idle slot. Panics if the frame is still mapped. Context: any.
void pkmap_forget(Page* page);

// Whether the accessed bit of this machine does what it should: A set by a touch, clear without one. Measured
// at boot on a pool entry; where it fails, idle slots are always flushed.
bool pkmap_accessed_bit_works();
void pkmap_trust_accessed_bit(bool trust);

void pkmap_init(); // boot

} // namespace loft
