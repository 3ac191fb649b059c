// The pool of global mappings. The protocol is written down in the header; the names of the states are there.
#include "mm/pkmap.hpp"

#include "mm/context.hpp"
#include "mm/page_alloc.hpp"
#include "mm/pagetable.hpp"
#include "mm/spinlock.hpp"
#include "mm/wait.hpp"

#include <algorithm>

namespace loft {

namespace detail {
PkmapHot pkmap_hot;
}

namespace {

using detail::pkmap_hot;
namespace slot_count = detail::slot_count;
using layout::kPkmapSlots;

// The words of slots that show nothing. No page has a tag of 0 and a count of 255.
constexpr u32 kFree = 0, kOwed = slot_count::owed;

// As many threads as can each have two mappings of the same page.
constexpr u32 kMostHolders = (slot_count::most - slot_count::idle) / 2;

struct Pool {
    SpinLock lock{LockRank::pkmap}; // everything but the words of the slots and the credits
    u32 end = kPkmapSlots;          // slots 1 to end-1 are used
    u32 hand = 0;                   // the slot that was given last
    u32 stop = 0;                   // where the hand enters a half next: middle() or end
    hal::PteCell* cells = nullptr;  // of slot 0
    bool owes[2]{};        // the half has slots in kOwed
    FlushTime debt[2]{};   // since when
    PkmapStats stats;
    hal::Atomic<u32> waits;
    hal::Atomic<u32> thirds;
};
Pool pool;
// The bit by which an entry says that a TLB may hold it: A, or P where A cannot be trusted.
u32 used_mark;

hal::PteCell* cell_of(u32 slot) { return pool.cells + slot; }

u32 count_in(u32 word) { return word & slot_count::mask; }
bool is_idle(u32 word) { return count_in(word) == slot_count::idle; }
bool is_used(u32 word) { return count_in(word) > slot_count::idle && count_in(word) != slot_count::owed; }
bool is_of(u32 word, const Page* page) { return (word & ~slot_count::mask) == detail::slot_tag(page); }
Page* page_in(u32 word) {
    constexpr u32 kTags = 0xff'ffff;
    return mem_map + (((word - detail::slot_tag(mem_map)) >> 8) & kTags);
}

u32 middle() { return (pool.end + 1) / 2; }
u32 half_of(u32 slot) { return slot >= middle() ? 1 : 0; }

// One user more of the slot, if it shows the page.
bool claim(u32 slot, const Page* page) {
    u32 word = pkmap_hot.slot[slot].load();
    do {
        if (!is_of(word, page) || (!is_idle(word) && !is_used(word))) return false;
        if (count_in(word) == slot_count::most)
            panic("kmap: frame {} is mapped {} times already", page_to_pfn(page), slot_count::most - slot_count::idle);
    } while (!pkmap_hot.slot[slot].compare_exchange(word, word + 1));
    return true;
}

// Under the lock: an idle slot loses its page and its entry, and is free or owed then.
enum class Taken : u8 { no, unused, owed };
inline Taken take_idle(u32 slot) {
    hal::Atomic<u32>& word = pkmap_hot.slot[slot];
    u32 found = word.load();
    // From here on no claim succeeds. Nobody but the holder of the lock takes a slot for free.
    if (!is_idle(found) || !word.compare_exchange(found, kFree)) return Taken::no;
    page_in(found)->clear_slot();
    if ((hal::pte_take_low(cell_of(slot)) & used_mark) == 0) return Taken::unused;
    word.store(kOwed);
    return Taken::owed;
}

// Under the lock: one slot is taken now, and not with its half.
Taken take_alone(u32 slot) {
    const Taken taken = take_idle(slot);
    if (taken == Taken::no) return taken;
    ++pool.stats.reclaimed;
    if (taken == Taken::unused) ++pool.stats.unused;
    return taken;
}

struct Half {
    u32 begin, end;
};
Half half(u32 number) { return number == 0 ? Half{1, middle()} : Half{middle(), pool.end}; }

// Under the lock: the hand enters a half.
void enter_half(u32 number) {
    const u32 other = 1 - number;
    u32 reclaimed = 0, owed = 0;
    const Half leaving = half(other);
    for (u32 slot = leaving.begin; slot != leaving.end; ++slot) {
        const Taken taken = take_idle(slot);
        reclaimed += taken != Taken::no;
        owed += taken == Taken::owed;
    }
    pool.stats.reclaimed += reclaimed;
    pool.stats.unused += reclaimed - owed;
    if (owed != 0) pool.owes[other] = true;
    if (pool.owes[other]) pool.debt[other] = tlb_new_debt();

    if (!pool.owes[number]) return;
    ++pool.stats.flushes;
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add_debt(pool.debt[number]);
    batch.flush();
    const Half entering = half(number);
    for (u32 slot = entering.begin; slot != entering.end; ++slot)
        if (pkmap_hot.slot[slot].load() == kOwed) pkmap_hot.slot[slot].store(kFree);
    pool.owes[number] = false;
}

// Under the lock: the hand has come to the end of a half.
void turn() {
    if (pool.hand < pool.end) {
        pool.stop = pool.end;
        enter_half(1);
    } else {
        ++pool.stats.wraps;
        pool.hand = 1;
        pool.stop = middle();
        enter_half(0);
    }
}

// Under the lock: a free slot. 0 if even a whole round, after which every idle slot has been taken away and paid for, has
// none.
u32 search() {
    for (u32 tries = 2 * pool.end; tries != 0; --tries) {
        if (++pool.hand >= pool.stop) turn();
        if (pkmap_hot.slot[pool.hand].load() == kFree) return pool.hand;
    }
    return 0;
}
inline u32 find_free() {
    const u32 next = pool.hand + 1;
    if (next >= pool.stop || pkmap_hot.slot[next].load() != kFree) [[unlikely]]
        return search();
    return pool.hand = next;
}

[[noreturn, gnu::cold, gnu::noinline]] void all_in_use() {
    panic("kmap: all {} slots of the pool are in use; {} mappings were a thread's third or later, which nothing "
          "reserves a slot for",
          pool.end - 1, pool.thirds.load());
}

[[gnu::always_inline]] inline GlobalAddr map_locked(Page* page) {
    // Somebody may have mapped it since; with the lock held a page keeps its slot.
    if (page->has_slot()) [[unlikely]] {
        const bool claimed = claim(page->slot(), page);
        LOFT_ASSERT(claimed);
        return GlobalAddr{layout::pkmap_addr(page->slot())};
    }

    const u32 slot = find_free();
    if (slot == 0) [[unlikely]]
        all_in_use();
    ++pool.stats.maps;
    hal::pte_set(cell_of(slot), page_halves(page, kernel_prot.pool));
    pkmap_hot.slot[slot].store(detail::slot_tag(page) | slot_count::one_user);
    page->set_slot(slot);
    return GlobalAddr{layout::pkmap_addr(slot)};
}

[[gnu::always_inline]] inline GlobalAddr map_slow(Page* page) {
    return with_lock(pool.lock, [page]() __attribute__((always_inline)) { return map_locked(page); });
}
[[gnu::noinline]] GlobalAddr map_rare(Page* page) { return map_slow(page); }

// DEBUG: an idle slot is emptied and flushed at once, so that a use after kunmap faults.
[[maybe_unused]] void release_now(u32 slot) {
    SpinGuard guard{pool.lock};
    if (take_alone(slot) != Taken::owed) return;
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add(layout::pkmap_addr(slot));
    batch.flush();
    pkmap_hot.slot[slot].store(kFree);
}

[[gnu::cold, gnu::noinline]] void report_third(u32 held) {
    if (pool.thirds.fetch_add(1) == 0)
        log(LogLevel::warn, "kmap", "a thread that holds {} mappings makes another one: only two are sure to be there",
            held);
}

[[noreturn, gnu::cold, gnu::noinline]] void not_mapped(const Page* page) {
    if (page->slot() == Page::kNoSlot) panic("kunmap: frame {} is not mapped", page_to_pfn(page));
    panic("kunmap: frame {} is not mapped: nobody uses its slot {} any more", page_to_pfn(page), page->slot());
}

bool is_mapped(const Page* page) {
    const u32 word = pkmap_hot.slot[page->slot()].load();
    return is_of(word, page) && is_used(word);
}

} // namespace

namespace detail {

GlobalAddr kmap_without_slot(Page* page) {
    if (!needs_slot(page)) return GlobalAddr{direct_addr(page_to_pfn(page))};
    account_map();
    return map_slow(page);
}

GlobalAddr kmap_shared(Page* page) {
    if (const u32 slot = page->slot(); slot != Page::kNoSlot && claim(slot, page))
        return GlobalAddr{layout::pkmap_addr(slot)};
    return map_rare(page);
}

void kmap_waited() { pool.waits.fetch_add(1); }

void kmap_again() {
    if (const u32 held = context.load<&Context::kmaps>() - 1; held >= 2) report_third(held);
}

void kunmap_without_slot(const Page* page) {
    if (needs_slot(page)) not_mapped(page);
}

void kunmap_again(Page* page) {
    if (static_cast<int>(context.load<&Context::kmaps>()) < 0) {
        context.add<&Context::kmaps>(1);
        if (!is_mapped(page)) not_mapped(page);
        panic("kunmap: frame {} was not mapped by this thread, which has nothing mapped", page_to_pfn(page));
    }
    give_back(page);
}

void kunmap_shared(Page* page) {
    const u32 slot = page->slot();
    u32 word = pkmap_hot.slot[slot].load();
    do {
        if (!is_of(word, page) || !is_used(word)) {
            context.add<&Context::kmaps>(1); // as it was
            not_mapped(page);
        }
    } while (!pkmap_hot.slot[slot].compare_exchange(word, word - 1));
    if constexpr (config::kDebug)
        if (count_in(word) == slot_count::one_user) release_now(slot);
}

void kunmap_debug(u32 slot) { release_now(slot); }

} // namespace detail

PkmapStats pkmap_stats() {
    PkmapStats stats = pool.stats;
    stats.waits = pool.waits.load();
    stats.thirds = pool.thirds.load();
    return stats;
}
u32 pkmap_count(u32 slot) {
    const u32 word = pkmap_hot.slot[slot].load();
    return word == kOwed ? kPkmapOwed : count_in(word);
}

PkmapUse pkmap_use() {
    PkmapUse use;
    if constexpr (!config::kHighMem) return use;
    for (u32 slot = 1; slot < pool.end; ++slot) {
        const u32 word = pkmap_hot.slot[slot].load();
        ++(word == kFree ? use.free : is_used(word) ? use.used : use.idle);
    }
    return use;
}

bool pkmap_to_pfn(VirtAddr va, Pfn& out) {
    if (!config::kHighMem || va.value() - layout::kPkmapBase >= layout::kPkmapSize) return false;
    const u32 slot = (va.value() - layout::kPkmapBase) >> kPageShift;
    const u32 word = pkmap_hot.slot[slot].load();
    if (!is_used(word)) return false;
    out = page_to_pfn(page_in(word));
    return true;
}

bool pkmap_address(const Page* page, VirtAddr& out) {
    const u32 slot = page->slot();
    if (slot == Page::kNoSlot) return false;
    if (!is_used(pkmap_hot.slot[slot].load())) return false;
    out = layout::pkmap_addr(slot);
    return true;
}

void pkmap_forget(Page* page) {
    SpinGuard guard{pool.lock};
    const u32 slot = page->slot();
    if (slot == Page::kNoSlot) return;
    const Taken taken = take_alone(slot);
    if (taken == Taken::no)
        panic("free of frame {}: kmap still shows it at {} to {} users", page_to_pfn(page), layout::pkmap_addr(slot),
              count_in(pkmap_hot.slot[slot].load()) - slot_count::idle);
    if (taken == Taken::owed) {
        pool.owes[half_of(slot)] = true;
        pool.debt[half_of(slot)] = tlb_new_debt();
    }
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

void pkmap_trust_accessed_bit(bool trust) { used_mark = (trust ? pte::accessed : pte::present).halves().low; }

u32 pkmap_slots() { return pool.end - 1; }

void pkmap_set_slots(u32 slots) {
    LOFT_ASSERT(slots >= 2 && slots < kPkmapSlots);
    SpinGuard guard{pool.lock};
    // Everything that is idle goes, as if the hand had been round twice.
    for (u32 round = 0; round < 2; ++round)
        for (u32 half = 0; half < 2; ++half) enter_half(half);
    for (u32 slot = 1; slot < pool.end; ++slot) LOFT_ASSERT(pkmap_hot.slot[slot].load() == kFree);
    pool.end = slots + 1;
    pool.hand = 0;
    pool.stop = middle();
    pkmap_hot.credits.reset(std::min(slots / 2, kMostHolders));
}

void pkmap_init() {
    for (hal::Atomic<u32>& word : pkmap_hot.slot)
        word.store(kFree);
    pool.lock.reset();
    pool.cells = kernel_pte(layout::pkmap_addr(0));
    pool.end = kPkmapSlots;
    pool.hand = 0;
    pool.stop = middle();
    pool.owes[0] = pool.owes[1] = false;
    pkmap_hot.credits.reset(std::min((kPkmapSlots - 1) / 2, kMostHolders));
    pkmap_trust_accessed_bit(false);
    pool.stats = PkmapStats{};
    pool.waits.store(0);
    pool.thirds.store(0);
}

} // namespace loft
