// Creation and destruction of an address space, removal of pages, and switching. Contract: address_space.hpp.
#include "mm/spaces/address_space.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/tables/tlb_batch.hpp"

#include <algorithm>

namespace loft {
namespace {

Cache<AddressSpace> space_cache{"address_space", Gfp::user_low};

struct Active {
    AddressSpace* space = nullptr; // of the current thread
};
LOFT_PERCPU hal::PerCpu<Active> active;

AddressSpace::SpaceRing spaces;
constinit hal::Atomic<u32> cleared{near_wrap<u32>()};

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
    spaces.add(*space);
    return space;
}

void AddressSpace::get() { refs_.fetch_add(1); }

bool AddressSpace::get_if_used() {
    u32 refs = refs_.load();
    while (refs != 0)
        if (refs_.compare_exchange(refs, refs + 1)) return true;
    return false;
}

void AddressSpace::put() {
    might_sleep("put of an address space");
    const u32 before = refs_.fetch_sub(1);
    LOFT_ASSERT(before != 0);
    if (before != 1) return;
    spaces.remove(*this);
    root_.drop();
    {
        MutexGuard guard{mutex_};
        remove({layout::kUserBegin, layout::kUserEnd}); // no CPU is in the set any more, so its flush costs nothing
        LOFT_ASSERT(resident_ == 0);
        tables_.destroy();
    }
    space_cache.destroy(this);
}

void AddressSpace::clear() {
    root_.drop();
    reap();
}

void AddressSpace::reap() {
    might_sleep("the end of an address space");
    MutexGuard guard{mutex_};
    remove({layout::kUserBegin, layout::kUserEnd});
    cleared.fetch_add(1); // who finds the space empty finds it counted
}

void AddressSpace::remove(PageRange range) {
    TlbBatch batch{root_};
    zap(range, batch);
    batch.flush();
    areas_.erase(range);
}

template <typename F> void AddressSpace::zap_if(PageRange range, TlbBatch& batch, F&& goes) {
    tables_.each_table(range, [&](hal::PteCell* pde, PageRange part) LOFT_REQUIRES(mutex_) {
        u32 gone = 0;
        each_entry(hal::pte_read(pde), part, [&](hal::PteCell* cell, Pte entry, VirtAddr va) LOFT_REQUIRES(mutex_) {
            if (!goes(cell, entry, va)) return true;
            ++gone;
            if (user_pte::is_swapped(entry)) { // no CPU has a translation
                (void)hal::pte_take(cell);
                const SwapSlot slot = user_pte::slot_of(entry);
                SwapArea::of(slot).put_user(slot.slot);
                --swapped_;
                return true;
            }
            const Pte old = hal::pte_take(cell);
            batch.add(va);
            batch.put_after(pfn_to_page(old.pfn()));
            --resident_;
            return true;
        });
        if (gone != 0) tables_.removed(pde, VirtAddr{part.begin}, gone, batch);
        return true;
    });
}

void AddressSpace::zap(PageRange range, TlbBatch& batch) {
    zap_if(range, batch, [](hal::PteCell*, Pte, VirtAddr) { return true; });
}

// Whether the page of the object may be unmapped: nobody has accessed it here since the last time.
bool AddressSpace::is_cold(const UserArea& area, hal::PteCell* cell, Pte entry, VirtAddr va) {
    if (user_pte::is_swapped(entry) || area.locked) return false;
    // A private area may have pages that are not the object's.
    if (area.is_private() &&
        (entry.has(user_pte::owned) || !area.object->holds(area.page_of(va), pfn_to_page(entry.pfn()))))
        return false;
    if (!entry.has(pte::accessed)) return true;
    hal::pte_exchange(cell, Pte{entry.pfn(), entry.flags().without(pte::accessed)}); // no flush: mm/reclaim/reclaim.hpp
    return false;
}

bool space_get_if_used(AddressSpace& space) { return space.get_if_used(); }
void space_put(AddressSpace& space) { space.put(); }

void space_walk(AddressSpace& space, MemoryObject& object, u32 begin, u32 end, AreaWalk what) {
    MutexGuard guard{space.mutex_};
    TlbBatch batch{space.root_};
    space.areas_.each({0, layout::kUserEnd}, [&](UserArea& area) LOFT_REQUIRES(space.mutex_) {
        const u32 pages = PageRange{area.begin, area.end}.pages();
        const u32 from = std::max(begin, area.first), to = std::min(end, area.first + pages);
        if (area.object != &object || from >= to) return true;
        const PageRange part{area.begin + ((from - area.first) << kPageShift),
                             area.begin + ((to - area.first) << kPageShift)};
        if (what == AreaWalk::remove) space.zap(part, batch);
        if (what == AreaWalk::age)
            space.zap_if(part, batch, [&](hal::PteCell* cell, Pte entry, VirtAddr va) {
                return AddressSpace::is_cold(area, cell, entry, va);
            });
        if (what != AreaWalk::protect) return true;
        const auto protect = [&](hal::PteCell* cell, Pte entry, VirtAddr va) LOFT_REQUIRES(space.mutex_) {
            if (!entry.has(user_pte::tracked) || !entry.has(pte::write)) return true;
            hal::pte_exchange(cell, user_entry(entry.pfn(), area, false));
            batch.add(va);
            return true;
        };
        return space.tables_.each_table(
            part, [&](hal::PteCell* pde, PageRange here) { return each_entry(hal::pte_read(pde), here, protect); });
    });
    batch.flush();
    space.areas_.each({0, layout::kUserEnd}, [&](UserArea& area) {
        if (area.object == &object && area.is_linked()) object.visited(area);
        return true;
    });
}

SpaceStats AddressSpace::stats() {
    MutexGuard guard{mutex_};
    return {resident_, swapped_, tables_.tables(), areas_.count()};
}

void space_switch(AddressSpace* next) {
    active.mine().space = next;
    SpaceRoot::use(next != nullptr ? &next->root_ : nullptr);
}

AddressSpace::SpaceRing& all_spaces() { return spaces; }
u32 spaces_cleared() { return cleared.load(); }

SpaceTotals space_totals() { return {space_cache.stats().objects, areas_in_use(), zero_objects_in_use()}; }

AddressSpace* active_space() { return active.load<&Active::space>(); }

void address_space_init() {
    space_cache.reset();
    spaces.reset();
    swap_area_init();
    area_init();
    memory_object_init();
    user_tables_init();
}

void address_space_init_cpu(CpuId cpu) {
    active.of(cpu) = Active{};
    space_root_init_cpu(cpu);
}

} // namespace loft
