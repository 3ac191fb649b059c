// The pool of global mappings. The protocol is written down in the header; the names of the states are there.
#include "mm/windows/pkmap.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/ground/credits.hpp"
#include "mm/ground/spinlock.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/tables/pagetable.hpp"

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
    hal::Atomic<u32> hand;         // the slot to be tried next
    hal::Atomic<u32> stop;         // numbers from here on are no slots: the end of the hand's half, or 0 for a while
    hal::PteCell* cells = nullptr; // of slot 0
    u32 first_tag = 0;             // that of the first descriptor

    // Not beside the hand: who waits for it writes to it.
    alignas(64) SpinLock lock{LockRank::pkmap}; // what follows, and who takes idle slots away
    u32 end = kPkmapSlots;                      // slots 1 to end-1 are used
    u32 inside LOFT_GUARDED_BY(lock) = 0;       // the half that the hand is in
    bool owes[2] LOFT_GUARDED_BY(lock){};       // the half has slots in kOwed
    FlushTime debt[2] LOFT_GUARDED_BY(lock){};  // since when
    PkmapStats stats LOFT_GUARDED_BY(lock);

    hal::Atomic<u32> waits;
    hal::Atomic<u32> thirds;
};
Pool pool;
// The bit by which an entry says that a TLB may hold it: A, or P where A cannot be trusted.
u32 used_mark;

hal::PteCell* cell_of(u32 slot) { return pool.cells + slot; }

u32 count_in(u32 word) { return word & slot_count::mask; }
bool is_idle(u32 word) { return count_in(word) == slot_count::idle; }
bool is_used(u32 word) { return count_in(word) > slot_count::idle && count_in(word) <= slot_count::most; }
u32 users_in(u32 word) { return is_used(word) ? count_in(word) - slot_count::idle : 1; }
bool is_of(u32 word, const Page* page) { return (word & ~slot_count::mask) == detail::slot_tag(page); }
Page* page_in(u32 word) { return mem_map + ((word - pool.first_tag) >> 8); }

u32 middle() { return (pool.end + 1) / 2; }
u32 half_of(u32 slot) { return slot >= middle() ? 1 : 0; }

// One user more of the slot, if it shows the page; `word` was found there.
inline bool claim(u32 slot, const Page* page, u32 word) {
    do {
        if (!is_of(word, page) || !(is_idle(word) || is_used(word))) return false;
        if (count_in(word) == slot_count::most)
            panic("kmap: frame {} is mapped {} times already", page_to_pfn(page), slot_count::most - slot_count::idle);
    } while (!pkmap_hot.slot[slot].compare_exchange(word, word + 1));
    return true;
}

// Under the lock: the entry goes of a slot that says kOwed. It owes nothing if no TLB can hold the entry.
enum class Taken : u8 { no, unused, owed };
inline Taken take_entry(hal::Atomic<u32>& word, hal::PteCell* cell) LOFT_REQUIRES(pool.lock) {
    if ((hal::pte_take_low(cell) & used_mark) != 0) return Taken::owed;
    word.store(kFree);
    return Taken::unused;
}
// Under the lock: an idle slot loses its page and its entry, and is free or owed then.
inline Taken take_idle(hal::Atomic<u32>& word, hal::PteCell* cell) LOFT_REQUIRES(pool.lock) {
    u32 found = word.load();
    // From here on no claim succeeds.
    if (!is_idle(found) || !word.compare_exchange(found, kOwed)) return Taken::no;
    page_in(found)->clear_slot();
    return take_entry(word, cell);
}

// Under the lock: one slot is taken now, and not with its half.
Taken take_alone(u32 slot) LOFT_REQUIRES(pool.lock) {
    const Taken taken = take_idle(pkmap_hot.slot[slot], cell_of(slot));
    if (taken == Taken::no) return taken;
    ++pool.stats.reclaimed;
    if (taken == Taken::unused) ++pool.stats.unused;
    return taken;
}

struct Half {
    u32 begin, end;
};
Half half(u32 number) { return number == 0 ? Half{1, middle()} : Half{middle(), pool.end}; }

// Under the lock: a slot of the half has become kOwed.
void note_debt(u32 number) LOFT_REQUIRES(pool.lock) {
    pool.owes[number] = true;
    pool.debt[number] = tlb_new_debt();
}

// Under the lock: every idle slot of the half is taken away. True if one of them owes a flush.
bool take_all_idle(Half from) LOFT_REQUIRES(pool.lock) {
    u32 left = 0, owed = 0; // so that a slot that was not used is not counted
    hal::PteCell* cell = cell_of(from.begin);
    hal::Atomic<u32>* const end = &pkmap_hot.slot[from.end];
    for (hal::Atomic<u32>* word = &pkmap_hot.slot[from.begin]; word != end; ++word, cell = cell + 1) {
        const Taken taken = take_idle(*word, cell);
        if (taken != Taken::unused) [[unlikely]]
            ++(taken == Taken::no ? left : owed);
    }
    const u32 reclaimed = from.end - from.begin - left;
    pool.stats.reclaimed += reclaimed;
    pool.stats.unused += reclaimed - owed;
    return owed != 0;
}

// Under the lock: the hand enters a half.
void enter_half(u32 number) LOFT_REQUIRES(pool.lock) {
    const u32 other = 1 - number;
    if (take_all_idle(half(other))) note_debt(other); // also for what it owed before

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

// The slot is ours if it was free: nobody but us does anything with it.
inline bool take_free(u32 slot, const Page* page) {
    u32 word = kFree;
    return pkmap_hot.slot[slot].compare_exchange(word, detail::slot_tag(page) | slot_count::making);
}

// The last step, of who has taken the slot, or of somebody who waits for it and has the lock: without that the slot
// could have been taken away, and taken again by a thread that has not got as far. It fails if it was done already. It
// cannot come too late: the use that it counts is that of the thread which makes the slot, and lasts longer.
inline void let_use(u32 slot, const Page* page) {
    u32 making = detail::slot_tag(page) | slot_count::making;
    const u32 used = making - (slot_count::making - slot_count::one_user);
    (void)pkmap_hot.slot[slot].compare_exchange(making, used);
}

// The page gets a slot that is ours, and its first user is the caller. False if it has got another one in between.
inline bool give(u32 slot, Page* page) {
    hal::pte_set(cell_of(slot), page_halves(page, kernel_prot.pool));
    if (!page->try_set_slot(slot)) [[unlikely]]
        return false;
    // Opaque, or g++ keeps the address of the word, and has no register left for the entry.
    let_use(hal::opaque(slot), page);
    return true;
}

// Under the lock: a slot that is ours, shows something, and that no page has got.
void take_back(u32 slot) LOFT_REQUIRES(pool.lock) {
    pkmap_hot.slot[slot].store(kOwed);
    if (take_entry(pkmap_hot.slot[slot], cell_of(slot)) == Taken::owed) note_debt(half_of(slot));
}

// Under the lock: the hand leaves its half for the other, whose first slot is returned.
u32 turn() LOFT_REQUIRES(pool.lock) {
    pool.inside = 1 - pool.inside;
    if (pool.inside == 0) ++pool.stats.wraps;
    enter_half(pool.inside);
    return half(pool.inside).begin;
}

// Under the lock: a slot is taken for the page. 0 if none was free in two rounds, in which every idle one has been
// taken away and paid for, and a thread has more than its two.
u32 search(const Page* page) LOFT_REQUIRES(pool.lock) {
    // Who takes a number from here on comes to the lock: what is freed here is for us. Threads that have their number
    // already cannot take all of it: the credits of each stand for a slot. But pages that have slots go on being
    // mapped, and in a pool of four the only idle slot may again and again be in the half that is not just left: where
    // nobody has more than two mappings, there is one, and it is looked for longer.
    pool.stop.store(0);
    u32 slot = pool.hand.load();
    u32 found = 0;
    for (u32 tries = (pool.thirds.load() == 0 ? 200 : 2) * pool.end; tries != 0 && found == 0; --tries) {
        if (slot >= half(pool.inside).end) slot = turn();
        if (take_free(slot, page)) found = slot;
        ++slot;
    }
    pool.hand.store(slot);
    pool.stop.store(half(pool.inside).end);
    return found;
}

[[noreturn, gnu::cold, gnu::noinline]] void all_in_use() {
    panic("kmap: all {} slots of the pool are in use; {} mappings were a thread's third or later, "
          "which nothing reserves a slot for",
          pool.end - 1, pool.thirds.load());
}

// The long way: another thread is ahead of us with this page, or the hand has come to a slot that is not free. `lost`
// is a slot of ours that the page does not need (0: none).
[[gnu::noinline]] GlobalAddr map_locked(Page* page, u32 lost) {
    return with_lock(pool.lock, [=]() LOFT_REQUIRES(pool.lock) {
        if (lost != 0) take_back(lost);
        if (!page->has_slot()) {
            const u32 slot = search(page);
            if (slot == 0) all_in_use();
            if (give(slot, page)) return GlobalAddr{layout::pkmap_addr(slot)};
            take_back(slot);
        }
        // Nobody takes it away while we have the lock.
        const u32 slot = page->slot();
        let_use(slot, page);
        const bool claimed = claim(slot, page, pkmap_hot.slot[slot].load());
        LOFT_ASSERT(claimed);
        return GlobalAddr{layout::pkmap_addr(slot)};
    });
}

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

bool is_mapped(const Page* page, u32 slot) {
    const u32 word = pkmap_hot.slot[slot].load();
    return is_of(word, page) && is_used(word);
}

} // namespace

namespace detail {

GlobalAddr kmap_without_slot(Page* page) {
    if (!needs_slot(page)) return GlobalAddr{direct_addr(page_to_pfn(page))};
    account_map();
    const u32 slot = pool.hand.fetch_add(1);
    if (slot >= pool.stop.load() || !take_free(slot, page)) [[unlikely]]
        return map_locked(page, 0);
    if (!give(slot, page)) [[unlikely]]
        return map_locked(page, slot);
    return GlobalAddr{layout::pkmap_addr(slot)};
}

GlobalAddr kmap_shared(Page* page, u32 slot, u32 word) {
    if (!claim(slot, page, word)) [[unlikely]]
        return map_locked(page, 0);
    return GlobalAddr{layout::pkmap_addr(slot)};
}

void kmap_waits() {
    pkmap_hot.credits.wait();
    pool.waits.fetch_add(1);
}

void kmap_again() {
    // Of this thread, wherever it runs: one instruction reads it.
    if (const u32 held = Context::kmaps_of(context.load<&Context::minus_kmaps>()) - 1; held >= 2) report_third(held);
}

void kunmap_without_slot(const Page* page) {
    if (needs_slot(page)) not_mapped(page);
}

void kunmap_again(Page* page) {
    if (context.load<&Context::minus_kmaps>() == 1) {
        context.store<&Context::minus_kmaps>(0u); // as it was
        if (!is_mapped(page, page->slot())) not_mapped(page);
        panic("kunmap: frame {} was not mapped by this thread, which has nothing mapped", page_to_pfn(page));
    }
    give_back(page, page->slot());
}

void kunmap_shared(const Page* page, u32 slot, u32 word) {
    do {
        if (!is_of(word, page) || !is_used(word)) {
            context.add<&Context::minus_kmaps>(~0u); // as it was
            not_mapped(page);
        }
    } while (!pkmap_hot.slot[slot].compare_exchange(word, word - 1));
    if constexpr (config::kDebug)
        if (count_in(word) == slot_count::one_user) release_now(slot);
}

void kunmap_debug(u32 slot) { release_now(slot); }

} // namespace detail

namespace {
u32 slots_with_page() {
    if constexpr (!config::kHighMem) return 0;
    u32 count = 0;
    for (u32 slot = 1; slot < pool.end; ++slot) {
        const u32 word = pkmap_hot.slot[slot].load();
        count += word != kFree && word != kOwed;
    }
    return count;
}
} // namespace

PkmapStats pkmap_stats() {
    PkmapStats stats;
    {
        const SpinGuard guard{pool.lock};
        stats = pool.stats;
    }
    // Each one is still there, or was taken away: the short path counts nothing.
    stats.maps = stats.reclaimed + slots_with_page();
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
        ++(word == kFree ? use.free : is_idle(word) || word == kOwed ? use.idle : use.used);
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
    if (slot == Page::kNoSlot || !is_mapped(page, slot)) return false;
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
              users_in(pkmap_hot.slot[slot].load()));
    if (taken == Taken::owed) note_debt(half_of(slot));
}

bool pkmap_accessed_bit_works() {
    if constexpr (!config::kHighMem) return false;
    Page* page = alloc_page(Gfp::high);
    if (page == nullptr) return false;
    bool works = false;
    {
        SpinGuard guard{pool.lock};
        const u32 slot = search(page);
        if (slot != 0) {
            const VirtAddr va = layout::pkmap_addr(slot);
            hal::PteCell* cell = cell_of(slot);
            hal::pte_set(cell, Pte{page_to_pfn(page), kernel_prot.pool});
            (void)hal::load<u32>(va);
            works = hal::pte_take(cell).has(pte::accessed);
            TlbBatch batch{TlbBatch::Kind::non_global};
            batch.add(va);
            batch.flush();
            pkmap_hot.slot[slot].store(kFree);
        }
    }
    free_page(page);
    return works;
}

void pkmap_trust_accessed_bit(bool trust) { used_mark = (trust ? pte::accessed : pte::present).halves().low; }

u32 pkmap_slots() { return pool.end - 1; }

namespace {
// All slots are free.
void begin_with(u32 slots) LOFT_REQUIRES(pool.lock) {
    pool.end = slots + 1;
    pool.inside = 0;
    pool.hand.store(1);
    pool.stop.store(middle());
    pkmap_hot.credits.reset(std::min(slots / 2, kMostHolders));
}
} // namespace

void pkmap_set_slots(u32 slots) {
    LOFT_ASSERT(slots >= 2 && slots < kPkmapSlots);
    SpinGuard guard{pool.lock};
    // Everything that is idle goes, as if the hand had been round twice.
    for (u32 round = 0; round < 2; ++round)
        for (u32 half = 0; half < 2; ++half)
            enter_half(half);
    for (u32 slot = 1; slot < pool.end; ++slot)
        LOFT_ASSERT(pkmap_hot.slot[slot].load() == kFree);
    begin_with(slots);
}

void pkmap_init() LOFT_UNCHECKED { // boot
    for (hal::Atomic<u32>& word : pkmap_hot.slot)
        word.store(kFree);
    pool.lock.reset();
    pool.cells = kernel_pte(layout::pkmap_addr(0));
    pool.first_tag = detail::slot_tag(mem_map);
    begin_with(kPkmapSlots - 1);
    pool.owes[0] = pool.owes[1] = false;
    pkmap_trust_accessed_bit(false);
    pool.stats = PkmapStats{};
    pool.waits.store(0);
    pool.thirds.store(0);
}

} // namespace loft
