// The pool of global mappings. The protocol is written down in the header; the names of the states are there.
#include "mm/pkmap.hpp"

#include "mm/context.hpp"
#include "mm/page_alloc.hpp"
#include "mm/pagetable.hpp"
#include "mm/spinlock.hpp"
#include "mm/wait.hpp"

namespace loft {
namespace {

using layout::kPkmapSlots;

constexpr u32 kForgetPatienceMs = 100;
constexpr u32 kFree = 0, kIdle = 1, kOneUser = 2, kOwed = kPkmapOwed;

struct Pool {
    SpinLock lock{LockRank::pkmap}; // everything but the counts and the credits
    hal::Atomic<u32> count[kPkmapSlots];
    hal::Plain<Pfn> owner[kPkmapSlots]; // the page of an idle or used slot; else 0
    Credits credits;                    // two slots each
    u32 end = kPkmapSlots;              // slots 1 to end-1 are used
    u32 hand = 0;
    bool owes[2]{};        // the half has slots in kOwed
    FlushTime debt[2]{};   // since when
    bool trust_accessed = false;
    PkmapStats stats;
    hal::Atomic<u32> waits;
    hal::Atomic<u32> thirds;
};
Pool pool;

hal::PteCell* cell_of(u32 slot) { return kernel_pte(layout::pkmap_addr(slot)); }

bool needs_slot(const Page* page) { return config::kHighMem && (config::kDebug || is_highmem(page)); }

u32 middle() { return (pool.end + 1) / 2; }
u32 half_of(u32 slot) { return slot >= middle() ? 1 : 0; }

// One user more of a slot that shows a page.
bool claim(u32 slot) {
    u32 count = pool.count[slot].load();
    do {
        if (count == kFree || count == kOwed) return false;
    } while (!pool.count[slot].compare_exchange(count, count + 1));
    return true;
}

// Under the lock: an idle slot loses its page and its entry, and is free or owed then. False if it is not idle.
bool take_idle(u32 slot) {
    u32 expected = kIdle;
    if (!pool.count[slot].compare_exchange(expected, kOwed)) return false;
    ++pool.stats.reclaimed;
    pfn_to_page(pool.owner[slot].load())->set_slot(Page::kNoSlot);
    pool.owner[slot].store(Pfn{});
    const Pte old = hal::pte_take(cell_of(slot));
    if (pool.trust_accessed && !old.has(pte::accessed)) {
        ++pool.stats.unused;
        pool.count[slot].store(kFree);
    } else {
        pool.owes[half_of(slot)] = true;
    }
    return true;
}

// Under the lock: the hand enters a half.
void enter_half(u32 half) {
    const u32 first[2] = {1, middle()}, last[2] = {middle(), pool.end};

    const u32 other = 1 - half;
    for (u32 slot = first[other]; slot < last[other]; ++slot)
        if (pool.count[slot].load() == kIdle) take_idle(slot);
    if (pool.owes[other]) pool.debt[other] = tlb_new_debt();

    if (!pool.owes[half]) return;
    ++pool.stats.flushes;
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add_debt(pool.debt[half]);
    batch.flush();
    for (u32 slot = first[half]; slot < last[half]; ++slot)
        if (pool.count[slot].load() == kOwed) pool.count[slot].store(kFree);
    pool.owes[half] = false;
}

// Under the lock: a free slot. 0 if even a whole round, after which every idle slot has been taken away and paid for, has
// none.
u32 find_free() {
    for (u32 tries = 0; tries < 2 * pool.end; ++tries) {
        if (++pool.hand >= pool.end) {
            ++pool.stats.wraps;
            pool.hand = 1;
            enter_half(0);
        } else if (pool.hand == middle()) {
            enter_half(1);
        }
        if (pool.count[pool.hand].load() == kFree) return pool.hand;
    }
    return 0;
}

GlobalAddr map_slow(Page* page) {
    SpinGuard guard{pool.lock};
    // Somebody may have mapped it since; with the lock held a page keeps its slot.
    if (const u32 slot = page->slot(); slot != Page::kNoSlot && claim(slot))
        return GlobalAddr{layout::pkmap_addr(slot)};

    const u32 slot = find_free();
    if (slot == 0)
        panic("kmap: all {} slots of the pool are in use; {} mappings were a thread's third or later, which nothing "
              "reserves a slot for",
              pool.end - 1, pool.thirds.load());
    ++pool.stats.maps;
    pool.owner[slot].store(page_to_pfn(page));
    hal::pte_set(cell_of(slot), Pte{page_to_pfn(page), kernel_prot.pool});
    pool.count[slot].store(kOneUser);
    page->set_slot(slot);
    return GlobalAddr{layout::pkmap_addr(slot)};
}

// DEBUG: an idle slot is emptied and flushed at once, so that a use after kunmap faults.
[[maybe_unused]] void release_now(u32 slot) {
    SpinGuard guard{pool.lock};
    bool& owes = pool.owes[half_of(slot)];
    const bool owed_before = owes;
    if (!take_idle(slot) || pool.count[slot].load() != kOwed) return;
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add(layout::pkmap_addr(slot));
    batch.flush();
    pool.count[slot].store(kFree);
    owes = owed_before;
}

[[gnu::cold, gnu::noinline]] void report_third(u32 held) {
    if (pool.thirds.fetch_add(1) == 0)
        log(LogLevel::warn, "kmap", "a thread that holds {} mappings makes another one: only two are sure to be there",
            held);
}

// The thread's account: its first mapping takes the credit for two.
void account_map() {
    const u32 held = context.load<&Context::kmaps>();
    if (held == 0) {
        if (pool.credits.acquire()) pool.waits.fetch_add(1);
    } else if (held >= 2) {
        report_third(held);
    }
    context.add<&Context::kmaps>(1);
}

void account_unmap() {
    const u32 held = context.load<&Context::kmaps>();
    context.add<&Context::kmaps>(static_cast<u32>(-1));
    if (held == 1) pool.credits.release();
}

} // namespace

GlobalAddr kmap(Page* page) {
    might_sleep("kmap");
    if (!needs_slot(page)) return GlobalAddr{direct_addr(page_to_pfn(page))};
    account_map();
    if (const u32 slot = page->slot(); slot != Page::kNoSlot) {
        // Interrupts are off so that a claim that must be taken back is short: pkmap_forget waits for it.
        IrqGuard guard;
        if (claim(slot)) {
            if (page->slot() == slot) return GlobalAddr{layout::pkmap_addr(slot)};
            pool.count[slot].fetch_sub(1); // it went to another page in between
        }
    }
    return map_slow(page);
}

void kunmap(Page* page) {
    if (!needs_slot(page)) return;
    const u32 slot = page->slot();
    if (slot == Page::kNoSlot) panic("kunmap: frame {} is not mapped", page_to_pfn(page));
    u32 count = pool.count[slot].load();
    do {
        if (count < kOneUser || count == kOwed)
            panic("kunmap: frame {} is not mapped: nobody uses its slot {} any more", page_to_pfn(page), slot);
        if (context.load<&Context::kmaps>() == 0)
            panic("kunmap: frame {} was not mapped by this thread, which has nothing mapped", page_to_pfn(page));
    } while (!pool.count[slot].compare_exchange(count, count - 1));
    if constexpr (config::kDebug)
        if (count == kOneUser) release_now(slot);
    account_unmap();
}

PkmapStats pkmap_stats() {
    PkmapStats stats = pool.stats;
    stats.waits = pool.waits.load();
    stats.thirds = pool.thirds.load();
    return stats;
}
u32 pkmap_count(u32 slot) { return pool.count[slot].load(); }

PkmapUse pkmap_use() {
    PkmapUse use;
    if constexpr (!config::kHighMem) return use;
    for (u32 slot = 1; slot < pool.end; ++slot) {
        const u32 count = pool.count[slot].load();
        ++(count == kFree ? use.free : count == kIdle || count == kOwed ? use.idle : use.used);
    }
    return use;
}

bool pkmap_to_pfn(VirtAddr va, Pfn& out) {
    if (!config::kHighMem || va.value() - layout::kPkmapBase >= layout::kPkmapSize) return false;
    const u32 slot = (va.value() - layout::kPkmapBase) >> kPageShift;
    const u32 count = pool.count[slot].load();
    if (count < kOneUser || count == kOwed) return false;
    out = pool.owner[slot].load();
    return true;
}

bool pkmap_address(const Page* page, VirtAddr& out) {
    const u32 slot = page->slot();
    if (slot == Page::kNoSlot) return false;
    const u32 count = pool.count[slot].load();
    if (count < kOneUser || count == kOwed) return false;
    out = layout::pkmap_addr(slot);
    return true;
}

void pkmap_forget(Page* page) {
    SpinGuard guard{pool.lock};
    const u32 slot = page->slot();
    if (slot == Page::kNoSlot) return;
    // A count above 1 is a user, which is a bug, or for a moment somebody who found the slot in a page it belonged to before.
    const hal::Deadline deadline = hal::deadline(kForgetPatienceMs);
    while (!take_idle(slot) && !deadline.expired()) hal::cpu_relax();
    if (page->slot() != Page::kNoSlot)
        panic("free of frame {}: kmap still shows it at {} to {} users", page_to_pfn(page), layout::pkmap_addr(slot),
              pool.count[slot].load() - kIdle);
    if (pool.count[slot].load() == kOwed) pool.debt[half_of(slot)] = tlb_new_debt();
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

u32 pkmap_slots() { return pool.end - 1; }

void pkmap_set_slots(u32 slots) {
    LOFT_ASSERT(slots >= 2 && slots < kPkmapSlots);
    SpinGuard guard{pool.lock};
    // Everything that is idle goes, as if the hand had been round twice.
    for (u32 round = 0; round < 2; ++round)
        for (u32 half = 0; half < 2; ++half) enter_half(half);
    for (u32 slot = 1; slot < pool.end; ++slot) LOFT_ASSERT(pool.count[slot].load() == kFree);
    pool.end = slots + 1;
    pool.hand = 0;
    pool.credits.reset(slots / 2);
}

void pkmap_init() {
    for (u32 slot = 0; slot < kPkmapSlots; ++slot) {
        pool.count[slot].store(kFree);
        pool.owner[slot].store(Pfn{});
    }
    pool.lock.reset();
    pool.end = kPkmapSlots;
    pool.hand = 0;
    pool.owes[0] = pool.owes[1] = false;
    pool.credits.reset((kPkmapSlots - 1) / 2);
    pool.trust_accessed = false;
    pool.stats = PkmapStats{};
    pool.waits.store(0);
    pool.thirds.store(0);
}

} // namespace loft
