// Pages of objects without a source out to swap areas and in again. Contract: memory_object.hpp.
#include "mm/cache/memory_object.hpp"

#include "mm/cache/swap_area.hpp"
#include "mm/ground/context.hpp"

namespace loft {

bool MemoryObject::swap_is_full() { return swap_stats().free == 0; }

// Nobody can store to these pages: who gets a reference needs mutex_.
u32 MemoryObject::swap_out(u32 begin, u32 end, HandLimit& limit) {
    u32 gone = 0;
    for (; limit.swaps != 0; ++begin, ++gone, --limit.swaps) {
        begin = next_unused(begin, end, limit.zones);
        const SwapSlot slot = begin != PageIndex::kMaxPages ? SwapArea::take_slot() : SwapSlot{};
        if (slot.empty()) break;
        SwapArea& to = SwapArea::of(slot);
        Page* const page = index_.find(begin).page;
        if (!to.keep(slot.slot, page)) { // no memory for the cache
            to.put_user(slot.slot);
            break;
        }
        index_.replace(begin, {.slot = slot.packed()});
        put_page(page);
    }
    return gone;
}

u32 MemoryObject::slot_of(u32 number) {
    if (kind_ != ObjectKind::swapped) return 0;
    MutexGuard guard{mutex_};
    return index_.find(number).slot;
}

// The slot stays until the end: only who has io_ takes it away.
Result<Page*> MemoryObject::swap_in(u32 number, u32 packed) {
    const SwapSlot slot = SwapSlot::unpacked(packed);
    SwapArea& from = SwapArea::of(slot);
    const Result<Page*> found = from.page(slot.slot);
    if (!found) return found;
    from.put_user(slot.slot); // the page leaves the cache
    MutexGuard guard{mutex_};
    index_.replace(number, {*found, kFound}); // with the reference of page()
    get_page(*found);
    return found;
}

void MemoryObject::give_slots_back(u32 begin) {
    if (kind_ != ObjectKind::swapped) return;
    for (;; ++begin) {
        SwapSlot slot;
        index_.each(begin, PageIndex::kMaxPages, [&](u32 number, const PageIndex::Entry& entry) {
            slot = SwapSlot::unpacked(entry.slot);
            begin = number;
            return slot.empty();
        });
        if (slot.empty()) return;
        static_cast<void>(index_.remove(begin));
        SwapArea::of(slot).put_user(slot.slot);
    }
}

Status MemoryObject::bring_in(const SwapArea& from) {
    might_sleep("bringing pages in");
    if (kind_ != ObjectKind::swapped) return {};
    for (u32 number = 0;; ++number) {
        bool found = false;
        {
            MutexGuard guard{mutex_};
            index_.each(number, PageIndex::kMaxPages, [&](u32 at, const PageIndex::Entry& entry) {
                number = at;
                found = entry.slot != 0 && &SwapArea::of(SwapSlot::unpacked(entry.slot)) == &from;
                return !found;
            });
        }
        if (!found) return {};
        const Result<Page*> in = page(number);
        if (in)
            put_page(*in);
        else if (in.error() != Error::not_found) // else the object is shorter now
            return in.error() == Error::no_memory ? Error::no_memory : Error::io;
    }
}

} // namespace loft
