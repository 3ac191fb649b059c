// The pool of global mappings. The protocol is written down in the header; the names of the states are there.
#include "mm/pkmap.hpp"

#include "mm/context.hpp"
#include "mm/page_alloc.hpp"
#include "mm/pagetable.hpp"
#include "mm/spinlock.hpp"

namespace loft {
namespace {

using layout::kPkmapSlots;

constexpr u32 kFree = 0, kIdle = 1, kOneUser = 2, kBusy = ~0u;

struct Pool {
    SpinLock lock;
    hal::Atomic<u32> count[kPkmapSlots];
    Pfn owner[kPkmapSlots]; // the page of an idle or used slot; 0 if it was freed
    u32 hand = 0;
    bool trust_accessed = false;
    PkmapStats stats;
};
Pool pool;

hal::PteCell* cell_of(u32 slot) { return kernel_pte(layout::pkmap_addr(slot)); }

bool needs_slot(const Page* page) { return config::kHighMem && (config::kDebug || is_highmem(page)); }

// One user more of a slot that shows a page.
bool claim(u32 slot) {
    u32 count = pool.count[slot].load();
    do {
        if (count == kFree || count == kBusy) return false;
    } while (!pool.count[slot].compare_exchange(count, count + 1));
    return true;
}

// Takes the entry of a busy slot away. True if no TLB can hold what it said.
bool take_entry(u32 slot) {
    const Pte old = hal::pte_take(cell_of(slot));
    const Pfn owner = pool.owner[slot];
    if (owner.value() != 0) pfn_to_page(owner)->set_slot(Page::kNoSlot);
    pool.owner[slot] = Pfn{};
    return old.present() && pool.trust_accessed && !old.has(pte::accessed);
}

// Under the lock: every idle slot becomes free, after one flush for all of them.
void reclaim_idle() {
    ++pool.stats.wraps;
    TlbBatch batch{TlbBatch::Kind::non_global};
    u32 taken[(kPkmapSlots + 31) / 32]{};
    for (u32 slot = 1; slot < kPkmapSlots; ++slot) {
        u32 expected = kIdle;
        if (!pool.count[slot].compare_exchange(expected, kBusy)) continue;
        ++pool.stats.reclaimed;
        taken[slot / 32] |= 1u << slot % 32;
        if (take_entry(slot))
            ++pool.stats.unused;
        else
            batch.add(layout::pkmap_addr(slot));
    }
    if (!batch.empty()) ++pool.stats.flushes;
    batch.flush();
    for (u32 slot = 1; slot < kPkmapSlots; ++slot)
        if (taken[slot / 32] >> slot % 32 & 1) pool.count[slot].store(kFree);
}

// Under the lock: a free slot, or 0 if there is none even after the idle ones have been taken away. The hand has to
// go over the whole pool after that: a slot that it passed before may have been idle then.
u32 find_free() {
    for (bool reclaimed = false;;) {
        if (++pool.hand != kPkmapSlots) {
            if (pool.count[pool.hand].load() == kFree) return pool.hand;
            continue;
        }
        pool.hand = 0; // slot 0 is never used
        if (reclaimed) return 0;
        reclaim_idle();
        reclaimed = true;
    }
}

GlobalAddr map_slow(Page* page) {
    SpinGuard guard{pool.lock};
    // Somebody may have mapped it since; with the lock held a page keeps its slot.
    if (const u32 slot = page->slot(); slot != Page::kNoSlot && claim(slot))
        return GlobalAddr{layout::pkmap_addr(slot)};

    const u32 slot = find_free();
    if (slot == 0) {
        ++pool.stats.waits;
        panic("kmap: all {} slots of the pool are in use, and there is no other thread that could give one "
              "back",
              kPkmapSlots - 1);
    }
    ++pool.stats.maps;
    pool.owner[slot] = page_to_pfn(page);
    hal::pte_set(cell_of(slot), Pte{page_to_pfn(page), kernel_prot.pool});
    pool.count[slot].store(kOneUser);
    page->set_slot(slot);
    return GlobalAddr{layout::pkmap_addr(slot)};
}

// DEBUG: an idle slot is emptied and flushed at once, so that a use after kunmap faults.
[[maybe_unused]] void release_now(u32 slot) {
    SpinGuard guard{pool.lock};
    u32 expected = kIdle;
    if (!pool.count[slot].compare_exchange(expected, kBusy)) return;
    take_entry(slot);
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add(layout::pkmap_addr(slot));
    batch.flush();
    pool.count[slot].store(kFree);
}

} // namespace

GlobalAddr kmap(Page* page) {
    might_sleep("kmap");
    if (!needs_slot(page)) return GlobalAddr{direct_addr(page_to_pfn(page))};
    const u32 slot = page->slot();
    if (slot != Page::kNoSlot && claim(slot)) {
        if (page->slot() == slot) return GlobalAddr{layout::pkmap_addr(slot)};
        pool.count[slot].fetch_sub(1); // it went to another page in between
    }
    return map_slow(page);
}

void kunmap(Page* page) {
    if (!needs_slot(page)) return;
    const u32 slot = page->slot();
    if (slot == Page::kNoSlot) panic("kunmap: frame {} is not mapped", page_to_pfn(page));
    u32 count = pool.count[slot].load();
    do {
        if (count < kOneUser || count == kBusy)
            panic("kunmap: frame {} is not mapped: nobody uses its slot {} any more", page_to_pfn(page),
                  slot);
    } while (!pool.count[slot].compare_exchange(count, count - 1));
    if constexpr (config::kDebug)
        if (count == kOneUser) release_now(slot);
}

PkmapStats pkmap_stats() { return pool.stats; }
u32 pkmap_count(u32 slot) { return pool.count[slot].load(); }

PkmapUse pkmap_use() {
    PkmapUse use;
    if constexpr (!config::kHighMem) return use;
    for (u32 slot = 1; slot < kPkmapSlots; ++slot) {
        const u32 count = pool.count[slot].load();
        ++(count == kFree ? use.free : count == kIdle || count == kBusy ? use.idle : use.used);
    }
    return use;
}

bool pkmap_to_pfn(VirtAddr va, Pfn& out) {
    if (!config::kHighMem || va.value() - layout::kPkmapBase >= layout::kPkmapSize) return false;
    const u32 slot = (va.value() - layout::kPkmapBase) >> kPageShift;
    const u32 count = pool.count[slot].load();
    if (count < kOneUser || count == kBusy) return false;
    out = pool.owner[slot];
    return true;
}

bool pkmap_address(const Page* page, VirtAddr& out) {
    const u32 slot = page->slot();
    if (slot == Page::kNoSlot) return false;
    const u32 count = pool.count[slot].load();
    if (count < kOneUser || count == kBusy) return false;
    out = layout::pkmap_addr(slot);
    return true;
}

void pkmap_forget(Page* page) {
    SpinGuard guard{pool.lock};
    const u32 slot = page->slot();
    if (slot == Page::kNoSlot) return;
    u32 expected = kIdle;
    if (!pool.count[slot].compare_exchange(expected, kBusy))
        panic("free of frame {}: kmap still shows it at {} to {} users", page_to_pfn(page),
              layout::pkmap_addr(slot), expected - kIdle);
    pool.count[slot].store(take_entry(slot) ? kFree : kIdle);
}

bool pkmap_accessed_bit_works() {
    if constexpr (!config::kHighMem) return false;
    Page* page = alloc_page(Gfp::high);
    if (page == nullptr) return false;
    bool works = false;
    {
        SpinGuard guard{pool.lock};
        const u32 slot = find_free();
        if (slot != 0) {
            const VirtAddr va = layout::pkmap_addr(slot);
            hal::PteCell* cell = cell_of(slot);
            hal::pte_set(cell, Pte{page_to_pfn(page), kernel_prot.pool});
            (void)hal::load<u32>(va);
            works = hal::pte_take(cell).has(pte::accessed);
            TlbBatch batch{TlbBatch::Kind::non_global};
            batch.add(va);
            batch.flush();
        }
    }
    free_page(page);
    return works;
}

void pkmap_trust_accessed_bit(bool trust) { pool.trust_accessed = trust; }

void pkmap_init() {
    for (u32 slot = 0; slot < kPkmapSlots; ++slot) {
        pool.count[slot].store(kFree);
        pool.owner[slot] = Pfn{};
    }
    pool.lock.reset();
    pool.hand = 0;
    pool.trust_accessed = false;
    pool.stats = PkmapStats{};
}

} // namespace loft
