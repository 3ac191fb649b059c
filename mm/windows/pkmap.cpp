// The pool of global mappings. The header has the contract, the states and the transitions.
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

// The words of slots without a page. A word with a page has a count of 1 to 0xfe.
constexpr u32 kFree = 0, kOwed = slot_count::owed;

// The most threads that may hold mappings: even if each maps the same page twice, the count does not overflow.
constexpr u32 kMostHolders = (slot_count::most - slot_count::idle) / 2;

struct Pool {
    hal::Atomic<u32> hand;         // the slot to try next
    hal::Atomic<u32> stop;         // the end of the hand's half; 0 during search(). Numbers from here on are invalid
    hal::PteCell* cells = nullptr; // the entry of slot 0
    u32 first_tag = 0;             // the tag of mem_map[0]

    // In another cache line than the hand: CPUs that spin for the lock write to it.
    alignas(64) SpinLock lock{LockRank::pkmap}; // guards the fields below, and the transition idle -> owed
    u32 end = kPkmapSlots;                      // slots 1 to end-1 are usable
    u32 inside LOFT_GUARDED_BY(lock) = 0;       // the half that the hand is in
    bool owes[2] LOFT_GUARDED_BY(lock){};       // the half has owed slots
    FlushTime debt[2] LOFT_GUARDED_BY(lock){};  // the time of its youngest debt
    PkmapStats stats LOFT_GUARDED_BY(lock);

    hal::Atomic<u32> waits;
    hal::Atomic<u32> thirds;
    hal::Atomic<u32> third_made; // 1: a thread has made a third mapping. Not a count, which may wrap
};
Pool pool;
// If this bit of an entry is set, a TLB may hold its translation: A, or P on a machine where A is not trusted.
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

// Adds a user if the slot is used or idle for `page`. `word` is the value last read from it.
inline bool claim(u32 slot, const Page* page, u32 word) {
    do {
        if (!is_of(word, page) || !(is_idle(word) || is_used(word))) return false;
        if (count_in(word) == slot_count::most)
            panic("kmap: frame {} is mapped {} times already", page_to_pfn(page), slot_count::most - slot_count::idle);
    } while (!pkmap_hot.slot[slot].compare_exchange(word, word + 1));
    return true;
}

// Caller holds pool.lock; the slot is kOwed. Clears its PTE. If the accessed bit was clear, no TLB can hold it and the
// slot is free now; otherwise a flush is owed.
enum class Taken : u8 { no, unused, owed };
inline Taken take_entry(hal::Atomic<u32>& word, hal::PteCell* cell) LOFT_REQUIRES(pool.lock) {
    if ((hal::pte_take_low(cell) & used_mark) != 0) return Taken::owed;
    word.store(kFree);
    return Taken::unused;
}
// Caller holds pool.lock. Takes an idle slot from its page; it is free or owed afterwards. `no`: it was not idle.
inline Taken take_idle(hal::Atomic<u32>& word, hal::PteCell* cell) LOFT_REQUIRES(pool.lock) {
    u32 found = word.load();
    // After this CAS no claim() for this slot succeeds.
    if (!is_idle(found) || !word.compare_exchange(found, kOwed)) return Taken::no;
    page_in(found)->clear_slot();
    return take_entry(word, cell);
}

// Caller holds pool.lock. Takes one slot, outside a turn of the hand.
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

// Caller holds pool.lock; at least one slot of the half has become kOwed.
void note_debt(u32 number) LOFT_REQUIRES(pool.lock) {
    pool.owes[number] = true;
    pool.debt[number] = tlb_new_debt();
}

// Caller holds pool.lock. Takes every idle slot of the half. True if at least one of them owes a flush.
bool take_all_idle(Half from) LOFT_REQUIRES(pool.lock) {
    u32 left = 0, owed = 0; // counts the rarer results: `unused`, the common one, costs no instruction
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

// Caller holds pool.lock; the hand enters the half. Afterwards no slot of it is kOwed.
void enter_half(u32 number) LOFT_REQUIRES(pool.lock) {
    const u32 other = 1 - number;
    if (take_all_idle(half(other))) note_debt(other); // the new time covers older debts of that half, too

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

// free -> making(page). True: the caller is the maker, and no other thread changes the slot until it has set page's
// slot field.
inline bool take_free(u32 slot, const Page* page) {
    u32 word = kFree;
    return pkmap_hot.slot[slot].compare_exchange(word, detail::slot_tag(page) | slot_count::making);
}

// making(page) -> used(page, 1). Called by the maker, or by a thread that wants to map the page and holds the lock.
// That thread needs the lock: without it the slot could be reclaimed and taken again for the same page by a new maker
// that has not written the entry yet. The CAS fails if the other one has done it. The maker's CAS never hits a later
// making: the user that is counted here is the maker, and it cannot call kunmap before.
inline void let_use(u32 slot, const Page* page) {
    u32 making = detail::slot_tag(page) | slot_count::making;
    const u32 used = making - (slot_count::making - slot_count::one_user);
    (void)pkmap_hot.slot[slot].compare_exchange(making, used);
}

// Gives the page the slot of which the caller is the maker. The caller becomes the first user. False if the page has
// another slot meanwhile.
inline bool give(u32 slot, Page* page) {
    hal::pte_set(cell_of(slot), page_halves(page, kernel_prot.pool));
    if (!page->try_set_slot(slot)) [[unlikely]]
        return false;
    // opaque(): else g++ keeps the address of the word in a register and has none left for the entry.
    let_use(hal::opaque(slot), page);
    return true;
}

// Caller holds pool.lock and is the maker of the slot; its entry is written, but no page's slot field names it.
void take_back(u32 slot) LOFT_REQUIRES(pool.lock) {
    pkmap_hot.slot[slot].store(kOwed);
    if (take_entry(pkmap_hot.slot[slot], cell_of(slot)) == Taken::owed) note_debt(half_of(slot));
}

// Caller holds pool.lock. Moves the hand into the other half; returns its first slot.
u32 turn() LOFT_REQUIRES(pool.lock) {
    pool.inside = 1 - pool.inside;
    if (pool.inside == 0) ++pool.stats.wraps;
    enter_half(pool.inside);
    return half(pool.inside).begin;
}

// Caller holds pool.lock. free -> making(page) for some slot, which is returned. Two rounds take and pay for every slot
// that stays idle. 0: no slot was free in two rounds, and some thread has made a third mapping (200 rounds if none
// has).
u32 search(const Page* page) LOFT_REQUIRES(pool.lock) {
    // With stop = 0 a thread that takes a number from here on must take the lock, so slots that become free here are
    // for this thread. Threads that already have a number cannot take all of them: their credits stand for slots. But
    // other threads still map pages that have slots. In a pool of four the only idle slot may repeatedly be in the half
    // that the hand does not leave at that moment. While no thread has made a third mapping, a free or idle slot
    // exists, so the search may take longer.
    pool.stop.store(0);
    u32 slot = pool.hand.load();
    // A number beyond the half makes its thread search, or wait for one that gives its page a slot by a number of the
    // half: so the hand does not come round to 0, which is no slot.
    LOFT_DEBUG_ASSERT(slot != 0 && slot < 2 * kPkmapSlots + kMostHolders);
    u32 found = 0;
    for (u32 tries = (pool.third_made.load() == 0 ? 200 : 2) * pool.end; tries != 0 && found == 0; --tries) {
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
          pool.end - 1, since_start(pool.thirds.load()));
}

// The slow path: another thread gives this page a slot at the same time, or the number from the hand was not a free
// slot. `lost`: a slot of which the caller is the maker, and which the page does not need (0: none).
[[gnu::noinline]] GlobalAddr map_locked(Page* page, u32 lost) {
    return with_lock(pool.lock, [=]() LOFT_REQUIRES(pool.lock) {
        if (lost != 0) take_back(lost);
        if (!page->has_slot()) {
            const u32 slot = search(page);
            if (slot == 0) all_in_use();
            if (give(slot, page)) return GlobalAddr{layout::pkmap_addr(slot)};
            take_back(slot);
        }
        // The slot field is stable: it is cleared only under the lock.
        const u32 slot = page->slot();
        let_use(slot, page);
        const bool claimed = claim(slot, page, pkmap_hot.slot[slot].load());
        LOFT_ASSERT(claimed);
        return GlobalAddr{layout::pkmap_addr(slot)};
    });
}

// DEBUG: clears an idle slot and flushes at once, so that a use after kunmap faults.
[[maybe_unused]] void release_now(u32 slot) {
    SpinGuard guard{pool.lock};
    if (take_alone(slot) != Taken::owed) return;
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add(layout::pkmap_addr(slot));
    batch.flush();
    pkmap_hot.slot[slot].store(kFree);
}

[[gnu::cold, gnu::noinline]] void report_third(u32 held) {
    pool.thirds.fetch_add(1);
    if (pool.third_made.exchange(1) == 0)
        log(LogLevel::warn, "kmap",
            "a thread that holds {} mappings makes another one: slots are reserved for two only", held);
}

[[noreturn, gnu::cold, gnu::noinline]] void not_mapped(const Page* page) {
    if (page->slot() == Page::kNoSlot) panic("kunmap: frame {} is not mapped", page_to_pfn(page));
    panic("kunmap: frame {} is not mapped: its slot {} has no user", page_to_pfn(page), page->slot());
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
    // One instruction reads this CPU's count, so a migration cannot come in between: it is the thread's own count.
    if (const u32 held = Context::kmaps_of(context.load<&Context::minus_kmaps>()) - 1; held >= 2) report_third(held);
}

void kunmap_without_slot(const Page* page) {
    if (needs_slot(page)) not_mapped(page);
}

void kunmap_again(Page* page) {
    if (context.load<&Context::minus_kmaps>() == 1) {
        context.store<&Context::minus_kmaps>(0u); // undoes the increment
        if (!is_mapped(page, page->slot())) not_mapped(page);
        panic("kunmap: frame {} was not mapped by this thread, which has nothing mapped", page_to_pfn(page));
    }
    give_back(page, page->slot());
}

void kunmap_shared(const Page* page, u32 slot, u32 word) {
    do {
        if (!is_of(word, page) || !is_used(word)) {
            context.add<&Context::minus_kmaps>(~0u); // undoes the increment
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
    // Computed, as the short path counts nothing: each slot given to a page still has it, or was reclaimed.
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
// All slots are free. The hand starts at slot 1.
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
    // Two rounds of the hand take all idle slots and flush for them.
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
    pool.waits.store(near_wrap<u32>());
    pool.thirds.store(near_wrap<u32>());
    pool.third_made.store(0);
}

} // namespace loft
