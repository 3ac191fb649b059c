// Creation and destruction of an address space, removal of pages, and switching. Contract: address_space.hpp.
#include "mm/spaces/address_space.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/tables/tlb_batch.hpp"

namespace loft {
namespace {

Cache<AddressSpace> space_cache{"address_space", Gfp::user_low};

struct Active {
    AddressSpace* space = nullptr; // of the current thread
};
LOFT_PERCPU hal::PerCpu<Active> active;

} // namespace

// LOFT_UNCHECKED: no other thread knows the space yet.
AddressSpace* AddressSpace::create() LOFT_UNCHECKED {
    might_sleep("a new address space");
    AddressSpace* space = space_cache.make();
    if (space == nullptr) return nullptr;
    if (!space->tables_.create()) {
        space_cache.destroy(space);
        return nullptr;
    }
    space->root_.set_address(space->tables_.root());
    return space;
}

void AddressSpace::get() { refs_.fetch_add(1); }

void AddressSpace::put() {
    might_sleep("put of an address space");
    const u32 before = refs_.fetch_sub(1);
    LOFT_ASSERT(before != 0);
    if (before != 1) return;
    // After drop() no CPU is in the set, so the flush of remove() costs nothing.
    root_.drop();
    {
        MutexGuard guard{mutex_};
        remove({layout::kUserBegin, layout::kUserEnd});
        LOFT_ASSERT(resident_ == 0);
        tables_.destroy();
    }
    space_cache.destroy(this);
}

void AddressSpace::remove(PageRange range) {
    TlbBatch batch{root_};
    const bool told = zap(range, batch);
    batch.flush();
    if (told) end_stores(range);
    areas_.erase(range);
}

bool AddressSpace::zap(PageRange range, TlbBatch& batch) {
    bool told = false;
    tables_.each_table(range, [&](hal::PteCell* pde, PageRange part) LOFT_REQUIRES(mutex_) {
        u32 gone = 0;
        each_entry(hal::pte_read(pde), part, [&](hal::PteCell* cell, Pte, VirtAddr va) LOFT_REQUIRES(mutex_) {
            const Pte old = hal::pte_take(cell);
            told |= note_stores(va, old);
            batch.add(va);
            batch.put_after(pfn_to_page(old.pfn()));
            ++gone;
            return true;
        });
        resident_ -= gone;
        if (gone != 0) tables_.removed(pde, VirtAddr{part.begin}, gone, batch);
        return true;
    });
    return told;
}

bool AddressSpace::note_stores(VirtAddr va, Pte gone) {
    if (!gone.has(user_pte::tracked) || !gone.has(pte::dirty)) return false;
    const UserArea& area = *areas_.reach(va);
    area.object->stored_to(area.page_of(va));
    return true;
}

void AddressSpace::end_stores(PageRange range) {
    areas_.each(range, [](const UserArea& area) {
        if (area.object != nullptr && area.object->is_written_back()) area.object->stores_ended();
        return true;
    });
}

SpaceStats AddressSpace::stats() {
    MutexGuard guard{mutex_};
    return {resident_, tables_.tables(), areas_.count()};
}

void space_switch(AddressSpace* next) {
    active.mine().space = next;
    SpaceRoot::use(next != nullptr ? &next->root_ : nullptr);
}

SpaceTotals space_totals() { return {space_cache.stats().objects, areas_in_use(), zero_objects_in_use()}; }

AddressSpace* active_space() { return active.load<&Active::space>(); }

void address_space_init() {
    space_cache.reset();
    area_init();
    memory_object_init();
    user_tables_init();
}

void address_space_init_cpu(CpuId cpu) {
    active.of(cpu) = Active{};
    space_root_init_cpu(cpu);
}

} // namespace loft
