// fork: copies page tables at once, and pages only at the first write. Contract: address_space.hpp.
#include "mm/spaces/address_space.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/highmem.hpp"

namespace loft {

Result<AddressSpace*> AddressSpace::fork() {
    for (ReclaimRounds rounds{Reclaimer::program};;) {
        const Result<AddressSpace*> child = try_fork();
        if (child || !rounds.another()) return child;
    }
}

Result<AddressSpace*> AddressSpace::try_fork() {
    might_sleep("fork");
    AddressSpace* child = create();
    if (child == nullptr) return Error::no_memory;
    bool copied = false;
    {
        MutexGuard guard{mutex_};
        MutexGuard childs{child->mutex_}; // no other thread knows the child yet
        TlbBatch batch{root_};
        copied = copy_to(*child, batch);
        // Before a thread runs in the child: after this flush no CPU can write to the shared pages.
        batch.flush();
    }
    if (copied) return child;
    // When the child has put its pages, this space owns them again at its next write to them.
    child->put();
    return Error::no_memory;
}

bool AddressSpace::copy_to(AddressSpace& child, TlbBatch& batch) {
    child.brk_prot_ = brk_prot_;
    child.brk_begin_ = brk_begin_;
    child.brk_end_ = brk_end_;
    return areas_.each({0, layout::kUserEnd}, [&](const UserArea& area) LOFT_REQUIRES(mutex_, child.mutex_) {
        UserArea* copy = AreaTree::make(area);
        if (copy == nullptr) return false;
        if (copy->object != nullptr) copy->object->get();
        copy->locked = false; // mlock(2): a child does not inherit locks
        child.areas_.add(*copy, &area);
        // Pages of shared areas come by faults in the child.
        return !area.is_private() || copy_pages(child, area, batch);
    });
}

bool AddressSpace::copy_pages(AddressSpace& child, const UserArea& area, TlbBatch& batch) {
    const auto copy_entry = [&](hal::PteCell* cell, Pte entry, VirtAddr va) LOFT_REQUIRES(child.mutex_) {
        if (user_pte::is_swapped(entry)) {
            const SwapSlot slot = user_pte::slot_of(entry);
            SwapArea::of(slot).add_user(slot.slot);
            if (child.set_entry(va, user_pte::swapped(slot))) {
                ++child.swapped_;
                return true;
            }
            SwapArea::of(slot).put_user(slot.slot);
            return false;
        }
        Page* page = pfn_to_page(entry.pfn());
        const bool owned = entry.has(user_pte::owned);
        // An owned page with more references than its one mapping is pinned, maybe to write to this space's memory. It
        // stays owned by this space, and the child gets a copy of its current contents.
        const bool pinned = owned && page->refs() > 1;
        if (pinned) {
            Page* copy = alloc_anonymous();
            if (copy == nullptr) return false;
            copy_highpage(copy, page);
            page = copy;
        } else {
            if (owned) hal::pte_exchange(cell, user_entry(entry.pfn(), area, false));
            if (entry.has(pte::write)) batch.add(va);
            get_page(page);
        }
        if (child.show(va, user_entry(page_to_pfn(page), area, pinned))) return true;
        put_page(page);
        return false;
    };
    return tables_.each_table({area.begin, area.end}, [&](hal::PteCell* pde, PageRange part) {
        return each_entry(hal::pte_read(pde), part, copy_entry);
    });
}

} // namespace loft
