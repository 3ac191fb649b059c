// Swapping private pages out and in. Contract: address_space.hpp.
#include "mm/spaces/address_space.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/tables/tlb_batch.hpp"

#include <algorithm>
#include <span>
#include <utility>

namespace loft {
namespace {

// While no slot is free, only pages that have one can go, those that other spaces had, too: they are in the cache, and
// mapped. If there is none, the hand does not pass all pages of all spaces, again and again, for nothing.
bool pages_can_go() { return swap_stats().free != 0 || swap_cache_is_mapped(); }

} // namespace

// For an entry that holds a swap slot.
AddressSpace::Pinned AddressSpace::swap_in(const UserArea& area, VirtAddr va, FaultAccess access, hal::PteCell* cell,
                                           Pte entry, Missing& missing) {
    const SwapSlot slot = user_pte::slot_of(entry);
    SwapArea& from = SwapArea::of(slot);
    const Result<Page*> found = from.find(slot.slot);
    if (!found || *found == nullptr) {
        // The slot stays in use while the thread fills its page, whatever becomes of the entry.
        from.get();
        from.add_user(slot.slot);
        missing.object = &from;
        missing.page = slot.slot;
        missing.slot = slot;
        return {FaultResult::no_page};
    }
    // The reference of find() becomes that of the mapping. Another one may be that of the thread that filled the page.
    Page* page = *found;
    const bool owned = from.claim(slot.slot, page, missing.filled == page ? 2 : 1);
    hal::pte_set(cell, user_entry(page_to_pfn(page), area, owned)); // it was not present: no flush
    ++resident_;
    --swapped_;
    if (access == FaultAccess::write && !owned) page = own(area, va, cell, hal::pte_read(cell));
    if (page == nullptr) return {FaultResult::no_memory};
    return {FaultResult::resolved, page};
}

u32 AddressSpace::swap_out(u32 wanted, bool& passed, HandLimit& limit) {
    might_sleep("swapping out");
    u32 done = 0;
    passed = false;
    while (done < wanted && !passed && limit.looks != 0) {
        u32 some = 0;
        {
            MutexGuard guard{mutex_};
            some = swap_out_batch(std::min(wanted - done, kBatch), passed, limit);
        }
        done += some;
        if (some == 0 && !pages_can_go()) break;
    }
    return done;
}

// Swaps out at most `most` pages, from the hand on.
u32 AddressSpace::swap_out_batch(u32 most, bool& passed, HandLimit& limit) {
    struct Taken {
        VirtAddr va;
        Page* page;
        UserArea* area;
        SwapSlot slot;
        bool owned;
        bool is_new; // the page is not in the swap cache yet
    } taken[kBatch];
    u32 count = 0, visited = 0, seen = 0; // entries; and those of them that have pages
    TlbBatch batch{root_};
    const auto look = [&](UserArea& area, hal::PteCell* cell, Pte entry, VirtAddr va) LOFT_REQUIRES(mutex_) {
        hand_ = va.value() + kPageSize;
        const bool is_page = !user_pte::is_swapped(entry);
        seen += is_page;
        const bool more = ++visited < kSweep && seen < limit.looks;
        if (!is_page) return more;
        Page* const page = pfn_to_page(entry.pfn());
        if (!limit.zones.has(page)) return more;
        const bool owned = entry.has(user_pte::owned);
        if (owned && page->refs() != 1) return more; // it is pinned
        if (!owned && area.object != nullptr && area.object->holds(area.page_of(va), page)) return more;
        if (entry.has(pte::accessed)) { // no flush: mm/reclaim/reclaim.hpp
            hal::pte_exchange(cell, Pte{entry.pfn(), entry.flags().without(pte::accessed)});
            return more;
        }
        SwapSlot slot = owned ? SwapSlot{} : SwapArea::join(page);
        const bool is_new = slot.empty();
        if (is_new) slot = SwapArea::take_slot();
        if (slot.empty()) return more;
        hal::pte_exchange(cell, user_pte::swapped(slot));
        batch.add(va);
        taken[count++] = {va, page, &area, slot, owned, is_new};
        return more && count < most;
    };
    passed = areas_.each({hand_, layout::kUserEnd}, [&](UserArea& area) LOFT_REQUIRES(mutex_) {
        if (!area.is_private() || area.locked) return true;
        const PageRange part{std::max(area.begin, hand_), area.end};
        return part.begin >= part.end || tables_.each_table(part, [&](hal::PteCell* pde, PageRange here) {
            const auto visit = [&](hal::PteCell* cell, Pte entry, VirtAddr va)
                                   LOFT_REQUIRES(mutex_) { return look(area, cell, entry, va); };
            return each_entry(hal::pte_read(pde), here, visit);
        });
    });
    if (passed) hand_ = layout::kUserBegin;
    limit.looks -= seen;
    // Only after the flush no CPU can store to the pages: then they may be written, and found by their slots.
    batch.flush();
    u32 done = 0;
    for (const Taken& one : std::span{taken, count}) {
        SwapArea& to = SwapArea::of(one.slot);
        if (!one.is_new || to.keep(one.slot.slot, one.page)) {
            done += one.page->refs() == 2; // this entry's, and that of the cache
            put_page(one.page);
            --resident_;
            ++swapped_;
            continue;
        }
        // It cannot enter the cache: the page stays.
        const PteMap map{hal::pte_read(tables_.directory_entry(one.va)), one.va};
        hal::pte_set(map.cell(), user_entry(page_to_pfn(one.page), *one.area, one.owned));
        to.put_user(one.slot.slot);
    }
    return done;
}

VirtAddr AddressSpace::find_swapped(VirtAddr from, const SwapArea& area) {
    VirtAddr found{};
    tables_.each_table({from.value(), layout::kUserEnd}, [&](hal::PteCell* pde, PageRange here) {
        return each_entry(hal::pte_read(pde), here, [&](hal::PteCell*, Pte entry, VirtAddr va) {
            if (!user_pte::is_swapped(entry) || &SwapArea::of(user_pte::slot_of(entry)) != &area) return true;
            found = va;
            return false;
        });
    });
    return found;
}

Status AddressSpace::bring_in(SwapArea& from) {
    might_sleep("bringing pages in");
    Missing missing;
    VirtAddr va{layout::kUserBegin};
    for (;;) {
        Pinned found;
        {
            MutexGuard guard{mutex_};
            va = find_swapped(va, from);
            if (va.value() != 0) {
                UserArea* const area = areas_.reach(va);
                const PteMap map{hal::pte_read(tables_.directory_entry(va)), va};
                found = swap_in(*area, va, FaultAccess::read, map.cell(), hal::pte_read(map.cell()), missing);
            }
        }
        if (missing.filled != nullptr) put_page(std::exchange(missing.filled, nullptr));
        if (va.value() == 0) return {};
        if (missing.object == nullptr) continue;
        const FaultResult filled = fill_missing(missing);
        if (filled == FaultResult::no_memory) return Error::no_memory;
        if (filled != FaultResult::resolved) return Error::io;
    }
}

u32 swap_out_pages(u32 wanted, HandLimit& limit) {
    if (swap_stats().slots == 0) return 0;
    u32 done = 0;
    // The hand may begin in the middle of a space, takes A of all pages in the next pass, and finds them in the one
    // after.
    for (u32 left = 3 * all_spaces().size(); left != 0 && done < wanted && limit.looks != 0;) {
        AddressSpace* const space = all_spaces().first();
        if (space == nullptr) break;
        bool passed = false;
        const u32 some = space->swap_out(wanted - done, passed, limit);
        done += some;
        if (passed) {
            all_spaces().passed(*space);
            --left;
        }
        space->put();
        if (some == 0 && !pages_can_go()) break;
    }
    return done;
}

Status empty_swap_area(SwapArea& area) {
    area.set_closed(true);
    for (u32 left = all_spaces().size(); left != 0; --left) {
        AddressSpace* const space = all_spaces().first();
        if (space == nullptr) break;
        const Status status = space->bring_in(area);
        all_spaces().passed(*space);
        space->put();
        if (!status) return status;
    }
    return bring_in_objects(area);
}

} // namespace loft
