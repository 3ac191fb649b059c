// Changes of areas: map, unmap, protect, brk. Contract: address_space.hpp.
#include "mm/spaces/address_space.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/tables/tlb_batch.hpp"

namespace loft {
namespace {

// The range in whole pages. Error: invalid, if `begin` is not page-aligned, `bytes` is 0, or it is no user range.
Result<PageRange> pages_of(VirtAddr begin, u32 bytes) {
    if (begin.page_offset() != 0 || bytes == 0 || !layout::is_user_range(UserAddr{begin.value()}, bytes))
        return Error::invalid;
    return PageRange{begin.value(), round_up(begin.value() + bytes, kPageSize)};
}

// An area that is in no tree yet; null: no memory.
UserArea* new_area(PageRange range, Prot prot, MapKind kind, Backing backing = {}) {
    UserArea what;
    what.begin = range.begin;
    what.end = range.end;
    what.prot = kind == MapKind::guard ? Prot::none : prot;
    what.kind = kind;
    what.locked = backing.locked;
    if (kind == MapKind::stack) {
        what.limit = range.begin;
        what.begin = range.end - kPageSize;
    }
    if (kind == MapKind::grows) {
        what.kind = MapKind::stack;
        what.limit = std::min(range.begin, std::max(range.end, layout::kUserBegin + kGrowth) - kGrowth);
    }
    if (backing.object != nullptr) {
        LOFT_ASSERT(kind == MapKind::anonymous || kind == MapKind::shared);
        backing.object->get();
        what.object = backing.object;
        what.first = backing.first;
        what.may_write = kind != MapKind::shared || backing.may_write;
    } else if (kind == MapKind::shared) {
        what.object = ZeroObject::create(range.pages());
        if (what.object == nullptr) return nullptr;
    }
    UserArea* area = AreaTree::make(what);
    if (area == nullptr && what.object != nullptr) what.object->put();
    return area;
}

} // namespace

Result<VirtAddr> AddressSpace::map(VirtAddr where, u32 bytes, Prot prot, MapKind kind, bool fixed, bool replace,
                                   Backing backing) {
    might_sleep("map");
    if (bytes == 0 || bytes > layout::kUserEnd) return Error::invalid;
    bytes = round_up(bytes, kPageSize);
    if (backing.object != nullptr && backing.first > PageIndex::kMaxPages - pages_for(bytes)) return Error::invalid;
    MutexGuard guard{mutex_};
    const Result<PageRange> wish = pages_of(where, bytes);
    PageRange range;
    if (fixed) {
        if (!wish) return wish.error();
        if (wish->begin < layout::kUserBegin) return Error::no_access;
        range = *wish;
        if (!replace && !areas_.each(range, [](const UserArea&) { return false; })) return Error::busy;
    } else if (wish && wish->begin >= layout::kUserBegin && areas_.is_free(*wish)) {
        range = *wish;
    } else {
        const Result<u32> hole = areas_.find_hole(bytes);
        if (!hole) return hole.error();
        range = {*hole, *hole + bytes};
    }
    UserArea* area = new_area(range, prot, kind, backing);
    if (area == nullptr) return Error::no_memory;
    if (fixed) {
        if (!areas_.isolate(range)) {
            AreaTree::end(*area);
            return Error::no_memory;
        }
        remove(range);
    }
    areas_.add(*area);
    return VirtAddr{range.begin};
}

Status AddressSpace::unmap(VirtAddr begin, u32 bytes) {
    might_sleep("unmap");
    const Result<PageRange> range = pages_of(begin, bytes);
    if (!range) return range.error();
    MutexGuard guard{mutex_};
    if (!areas_.isolate(*range)) return Error::no_memory;
    remove(*range);
    return {};
}

void AddressSpace::change_rights(const UserArea& area, hal::PteCell* cell, Pte old, VirtAddr va, TlbBatch& batch) {
    if (user_pte::is_swapped(old)) return; // it gets its rights when it is swapped in
    const Pte now = user_entry(old.pfn(), area, old.has(user_pte::owned));
    if (now.flags() == old.flags()) return;
    hal::pte_exchange(cell, now);
    // More rights need no flush: a CPU with the old translation faults once, which removes it from its TLB (SDM vol. 3,
    // 4.10.4.1 and 4.10.4.3). Removed rights do.
    const bool less = old.present() && (!now.present() || (old.has(pte::write) && !now.has(pte::write)) ||
                                        (now.has(pte::no_execute) && !old.has(pte::no_execute)));
    if (less) batch.add(va);
}

Status AddressSpace::protect(VirtAddr begin, u32 bytes, Prot prot, bool down) {
    might_sleep("protect");
    const Result<PageRange> pages = pages_of(begin, bytes);
    if (!pages) return pages.error();
    PageRange range = *pages;
    MutexGuard guard{mutex_};
    if (down) {
        // The current begin of the area: protect does not make it grow.
        const UserArea* lowest = nullptr;
        areas_.each(range, [&](const UserArea& area) { return lowest = &area, false; });
        if (lowest == nullptr) return Error::not_found;
        if (lowest->kind != MapKind::stack) return Error::invalid;
        range.begin = lowest->begin;
    }
    bool has_guard = false;
    if (!areas_.is_mapped(range, has_guard)) return Error::not_found;
    if (has_guard) return Error::no_access;
    const auto permits = [prot](const UserArea& area) { return area.may_write || !has(prot, Prot::write); };
    if (!areas_.each(range, permits)) return Error::no_access;
    if (!areas_.isolate(range)) return Error::no_memory;
    areas_.set_prot(range, prot);
    TlbBatch batch{root_};
    areas_.each(range, [&](UserArea& area) LOFT_REQUIRES(mutex_) {
        const PageRange part{std::max(area.begin, range.begin), std::min(area.end, range.end)};
        return tables_.each_table(part, [&](hal::PteCell* pde, PageRange here) LOFT_REQUIRES(mutex_) {
            const auto visit = [&](hal::PteCell* cell, Pte old, VirtAddr va) LOFT_REQUIRES(mutex_) {
                change_rights(area, cell, old, va, batch);
                return true;
            };
            return each_entry(hal::pte_read(pde), here, visit);
        });
    });
    batch.flush();
    return {};
}

Result<AddressSpace::WordPlace> AddressSpace::place_of(VirtAddr va) {
    might_sleep("place_of");
    MutexGuard guard{mutex_};
    UserArea* const area = va.value() < layout::kUserEnd ? areas_.reach(va) : nullptr;
    if (area == nullptr || area->kind == MapKind::guard) return Error::bad_address;
    if (!has(area->prot, area->is_private() ? Prot::write : Prot::read | Prot::write | Prot::exec))
        return Error::no_access;
    if (area->is_private()) return WordPlace{};
    area->object->get();
    return WordPlace{area->object, area->page_of(va)};
}

Status AddressSpace::sync(PageRange range, bool waits) {
    might_sleep("sync of a mapping");
    Status result;
    for (u32 at = range.begin; at < range.end;) {
        MemoryObject* object = nullptr;
        {
            MutexGuard guard{mutex_};
            bool has_guard = false;
            if (at == range.begin && !areas_.is_mapped(range, has_guard)) result = Error::not_found;
            u32 next = range.end;
            areas_.each({at, range.end}, [&](const UserArea& area) {
                next = area.end;
                if (waits && area.is_linked() && area.kind == MapKind::shared) object = area.object;
                return object == nullptr;
            });
            at = next;
            if (object != nullptr) object->get();
        }
        if (object == nullptr) break;
        const Status synced = object->sync();
        object->put();
        if (!synced) return synced;
    }
    return result;
}

void AddressSpace::set_brk_start(VirtAddr begin, Prot prot) {
    MutexGuard guard{mutex_};
    brk_prot_ = prot;
    brk_begin_ = brk_end_ = round_up(begin.value(), kPageSize);
}

Result<VirtAddr> AddressSpace::brk(VirtAddr wanted) {
    might_sleep("brk");
    MutexGuard guard{mutex_};
    if (wanted.value() < brk_begin_ || brk_begin_ == 0) return VirtAddr{brk_end_};
    if (wanted.value() > layout::kUserEnd) return Error::no_space;
    const u32 old_end = round_up(brk_end_, kPageSize), new_end = round_up(wanted.value(), kPageSize);
    if (new_end > old_end) {
        const PageRange more{old_end, new_end};
        if (!areas_.is_free(more)) return Error::no_space;
        UserArea* area = new_area(more, brk_prot_, MapKind::anonymous);
        if (area == nullptr) return Error::no_memory;
        areas_.add(*area);
    } else if (new_end < old_end) {
        const PageRange less{new_end, old_end};
        if (!areas_.isolate(less)) return Error::no_memory;
        remove(less);
    }
    brk_end_ = wanted.value();
    return wanted;
}

} // namespace loft
