// Faults: new pages, copy on write, errors. Contract: address_space.hpp.
#include "mm/spaces/address_space.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>
#include <utility>

namespace loft {
namespace {

bool permits(const UserArea& area, FaultAccess access) {
    switch (access) {
    case FaultAccess::read:
        // On i386 a page that can be written or executed can be read.
        return area.prot != Prot::none;
    case FaultAccess::write:
        return has(area.prot, Prot::write);
    case FaultAccess::exec:
        return has(area.prot, Prot::exec);
    }
    return false;
}

// A resolved fault. A write to a page of an object that is written back names the page.
AddressSpace::Pinned found_in(const UserArea& area, VirtAddr va, FaultAccess access, Page* page) {
    if (access != FaultAccess::write || area.kind != MapKind::shared || area.object == nullptr ||
        !area.object->is_written_back())
        return {FaultResult::resolved, page};
    return {FaultResult::resolved, page, area.object, area.page_of(va)};
}

} // namespace

FaultResult AddressSpace::handle_fault(VirtAddr va, FaultAccess access) {
    might_sleep("fault of a program");
    return fault(va, access, false).result;
}

AddressSpace::Pinned AddressSpace::pin(VirtAddr va, FaultAccess access) {
    might_sleep("pinning a page");
    return fault(va, access, true);
}

AddressSpace::Pinned AddressSpace::fault(VirtAddr va, FaultAccess access, bool pins) {
    Missing missing;
    Pinned found;
    for (ReclaimRounds rounds{Reclaimer::program};;) {
        const u32 cleared = spaces_cleared();
        {
            MutexGuard guard{mutex_};
            found = resolve(va, access, missing);
            if (pins && found.page != nullptr) {
                get_page(found.page);
                if (found.object != nullptr) found.object->get();
            }
        }
        if (missing.object != nullptr) {
            found = {fill_missing(missing)};
            if (found.result == FaultResult::resolved) continue;
        }
        if (found.result != FaultResult::no_memory) break;
        if (rounds.another()) continue;
        if (!end_largest_program(cleared)) break;
        rounds.begin_again();
    }
    if (missing.filled != nullptr) put_page(missing.filled);
    return found;
}

// Filling may wait for a disk, so it happens without the mutex. Another thread may change the area meanwhile. The page
// stays in memory until the fault is resolved: reclaim must not take it away again.
FaultResult AddressSpace::fill_missing(Missing& missing) {
    if (missing.filled != nullptr) put_page(std::exchange(missing.filled, nullptr));
    MemoryObject* const object = std::exchange(missing.object, nullptr);
    const SwapSlot slot = std::exchange(missing.slot, SwapSlot{});
    const Result<Page*> page = object->page(missing.page);
    if (!slot.empty()) SwapArea::of(slot).put_user(slot.slot);
    object->put();
    if (page) {
        missing.filled = *page;
        return FaultResult::resolved;
    }
    if (page.error() == Error::no_memory) return FaultResult::no_memory;
    return slot.empty() ? FaultResult::no_page : FaultResult::lost;
}

AddressSpace::Pinned AddressSpace::resolve(VirtAddr va, FaultAccess access, Missing& missing) {
    UserArea* area = va.value() < layout::kUserEnd ? areas_.reach(va) : nullptr;
    if (area == nullptr || area->kind == MapKind::guard) return {FaultResult::bad_address};
    if (!permits(*area, access)) return {FaultResult::no_access};
    if (const Pte table = hal::pte_read(tables_.directory_entry(va)); table.present()) {
        const PteMap map{table, va};
        const Pte entry = hal::pte_read(map.cell());
        if (!entry.empty()) {
            if (user_pte::is_swapped(entry)) return swap_in(*area, va, access, map.cell(), entry, missing);
            // Another thread's fault has resolved this already, or only the right to write is missing.
            Page* page = pfn_to_page(entry.pfn());
            if (access == FaultAccess::write && !entry.has(pte::write)) {
                if (!entry.has(user_pte::tracked))
                    page = own(*area, va, map.cell(), entry);
                else if (!permit_stores(*area, va, map.cell(), entry))
                    return {FaultResult::no_page};
            }
            if (page == nullptr) return {FaultResult::no_memory};
            return found_in(*area, va, access, page);
        }
    }
    return fill(*area, va, access, missing);
}

AddressSpace::Pinned AddressSpace::fill(const UserArea& area, VirtAddr va, FaultAccess access, Missing& missing) {
    Page* page = nullptr;
    bool owned = true;
    if (area.object != nullptr) {
        const Result<Page*> found = area.object->find(area.page_of(va));
        if (!found) return {FaultResult::no_page};
        if (*found == nullptr) {
            area.object->get();
            missing.object = area.object;
            missing.page = area.page_of(va);
            return {FaultResult::no_page};
        }
        page = *found;
        owned = !area.is_private();
        if (area.is_private() && access == FaultAccess::write) {
            Page* const copy = alloc_anonymous();
            if (copy != nullptr) copy_highpage(copy, page);
            put_page(page);
            page = copy;
            owned = true;
        }
    } else {
        page = alloc_anonymous();
        if (page != nullptr) clear_highpage(page);
    }
    if (page == nullptr) return {FaultResult::no_memory};
    // The entry was empty, so no TLB has a translation to flush (SDM vol. 3, 4.10.2.3).
    Pte entry = user_entry(page_to_pfn(page), area, owned);
    if (access == FaultAccess::write && entry.has(user_pte::tracked)) {
        if (!area.object->stored_to(area.page_of(va))) {
            put_page(page);
            return {FaultResult::no_page};
        }
        entry = Pte{entry.pfn(), entry.flags() | pte::write | pte::dirty};
    }
    if (!show(va, entry)) {
        put_page(page);
        return {FaultResult::no_memory};
    }
    if (area.object != nullptr && access != FaultAccess::write) map_around(area, va);
    return found_in(area, va, access, page);
}

// A program that reads one page of a file mostly reads its neighbours next, and each fault costs more than these
// entries. They have the rights of the entry of `va`, which was made for a read; but A is clear: nobody has accessed
// these pages, so the clock may take them first (AreaWalk::age). No allocation, and no flush: the entries were empty.
void AddressSpace::map_around(const UserArea& area, VirtAddr va) {
    static_assert(paging::kPtesPerTable % kAround == 0); // one table
    const u32 window = round_down(va.value(), kAround * kPageSize);
    const VirtAddr begin{std::max(window, area.begin)}, end{std::min(window + kAround * kPageSize, area.end)};
    const Pte table = hal::pte_read(tables_.directory_entry(va));
    const PteMap map{table, begin};
    const u32 first = area.page_of(begin);
    const PteFlags flags =
        hal::pte_read(map.cell((va.value() - begin.value()) >> kPageShift)).flags().without(pte::accessed);
    u32 added = 0;
    area.object->each_page(first, area.page_of(end), [&](u32 number, Page* page) {
        hal::PteCell* const cell = map.cell(number - first);
        if (!hal::pte_read(cell).empty()) return;
        get_page(page);
        hal::pte_set(cell, Pte{page_to_pfn(page), flags});
        ++added;
    });
    tables_.added(table, added);
    resident_ += added;
}

bool AddressSpace::show(VirtAddr va, Pte entry) {
    if (!set_entry(va, entry)) return false;
    ++resident_;
    return true;
}

bool AddressSpace::set_entry(VirtAddr va, Pte entry) {
    hal::PteCell* pde = tables_.directory_entry(va);
    const Pte table = hal::pte_read(pde);
    if (table.present()) {
        hal::pte_set(PteMap{table, va}.cell(), entry);
        tables_.added(table, 1);
    } else if (!tables_.begin_table(pde, va, entry)) {
        return false;
    }
    return true;
}

// The first write to a page of an object that is written back, or the first one since it was written. False: the object
// is frozen.
bool AddressSpace::permit_stores(const UserArea& area, VirtAddr va, hal::PteCell* cell, Pte entry) {
    if (!area.object->stored_to(area.page_of(va))) return false;                        // before a CPU can store
    hal::pte_exchange(cell, Pte{entry.pfn(), entry.flags() | pte::write | pte::dirty}); // more rights: no flush
    return true;
}

// For a write to a private area whose entry is read-only: fork has shared the page, or it belongs to an object.
Page* AddressSpace::own(const UserArea& area, VirtAddr va, hal::PteCell* cell, Pte entry) {
    Page* page = pfn_to_page(entry.pfn());
    if (entry.has(user_pte::owned) || page->refs() == 1) {
        // No other space and no object has the page. No flush: a CPU with a translation that has fewer rights faults
        // once more (SDM vol. 3, 4.10.4.3).
        hal::pte_exchange(cell, user_entry(entry.pfn(), area, true));
        return page;
    }
    Page* copy = alloc_anonymous();
    if (copy == nullptr) return nullptr;
    copy_highpage(copy, page);
    // The copy is mapped only after all CPUs have flushed the old page. Otherwise one CPU could store to the copy and
    // then set a flag, and another CPU could see the flag and still read the old page: stores out of order (SDM vol. 3,
    // 8.2.2). A thread that accesses the page meanwhile faults and waits for the mutex.
    (void)hal::pte_take(cell);
    TlbBatch batch{root_};
    batch.add(va);
    batch.put_after(page);
    batch.flush();
    hal::pte_set(cell, user_entry(page_to_pfn(copy), area, true));
    return copy;
}

} // namespace loft
