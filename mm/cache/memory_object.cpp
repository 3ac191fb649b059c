// Memory objects. Contract: memory_object.hpp.
#include "mm/cache/memory_object.hpp"

#include "mm/ground/context.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>

namespace loft {
namespace {

Cache<ZeroObject> zero_cache{"zero_object", Gfp::user_low};

struct Totals {
    hal::Atomic<u32> pages, dirty, objects, filled{near_wrap<u32>()}, stored{near_wrap<u32>()},
        dropped{near_wrap<u32>()};
};
Totals totals;

// The objects with dirty pages, in the order in which they became dirty. Each is counted by the list.
struct {
    SpinLock lock{LockRank::last};
    MemoryObject::DirtyList list LOFT_GUARDED_BY(lock);
} dirty_objects;

MemoryObject::ObjectRing ring;

} // namespace

MemoryObject::MemoryObject(u64 bytes, ObjectKind kind, bool reads_ahead)
    : kind_{kind}, reads_ahead_{reads_ahead}, bytes_{bytes} {
    LOFT_ASSERT(bytes <= kMaxBytes);
    if (knows_areas()) ring.add(*this);
}

void MemoryObject::get() { refs_.fetch_add(1); }

bool MemoryObject::get_if_used() {
    u32 refs = refs_.load();
    while (refs != 0)
        if (refs_.compare_exchange(refs, refs + 1)) return true;
    return false;
}

void MemoryObject::put() {
    might_sleep("put of a memory object");
    const u32 before = refs_.fetch_sub(1);
    LOFT_ASSERT(before != 0);
    if (before != 1) return;
    if (knows_areas()) ring.remove(*this);
    {
        MutexGuard guard{mutex_}; // only for the thread-safety analysis: no other thread uses the object any more
        LOFT_ASSERT(dirty_ == 0 && mappings_.empty());
        give_slots_back(0);
        totals.pages.fetch_sub(index_.pages());
        index_.clear([](Page* page) { put_page(page); });
    }
    destroy();
}

u64 MemoryObject::bytes() {
    MutexGuard guard{mutex_};
    return bytes_;
}

u32 MemoryObject::pages() {
    MutexGuard guard{mutex_};
    return index_.pages();
}

Page* MemoryObject::find_locked(u32 number) {
    const PageIndex::Entry entry = index_.find(number);
    if (entry.page == nullptr) return nullptr;
    if (knows_areas() && (entry.state & kFound) == 0) index_.set_state(number, entry.state | kFound);
    get_page(entry.page);
    return entry.page;
}

Result<Page*> MemoryObject::find(u32 number, u64* bytes) {
    MutexGuard guard{mutex_};
    if (bytes != nullptr) *bytes = bytes_;
    if (number >= pages_of(bytes_)) return Error::not_found;
    return find_locked(number);
}

Reclaimer MemoryObject::reclaimer() const { return serves_others() ? Reclaimer::server : Reclaimer::transfer; }

Result<Page*> MemoryObject::page(u32 number) {
    const Result<Page*> found = find(number);
    if (!found || *found != nullptr) [[likely]]
        return found;
    for (ReclaimRounds rounds{reclaimer()};;) {
        const Result<Page*> filled = fill_missing(number, false);
        if (filled || filled.error() != Error::no_memory) return filled;
        if (!rounds.another()) return has_reserve() ? fill_missing(number, true) : filled;
    }
}

Result<Page*> MemoryObject::fill_missing(u32 number, bool from_reserve) {
    // The cache gives frames back before it takes the last ones.
    static_cast<void>(reclaim_frames(reclaimer()));
    MutexGuard guard{io_};
    // Another thread may have filled it, or changed the size, before this one had io_.
    const Result<Page*> again = find(number);
    if (!again || *again != nullptr) return again;
    return fill_at(number, from_reserve);
}

// The number of pages to fill for a miss at this one: more if the misses come in order.
u32 MemoryObject::window_at(u32 number) {
    window_ = number == expected_ ? std::min(window_ * 2, kRun) : 1;
    return window_;
}

Result<Page*> MemoryObject::fill_at(u32 number, bool from_reserve) {
    if (const u32 slot = slot_of(number); slot != 0) {
        const Result<Page*> found = swap_in(number, slot);
        totals.pages.fetch_add(found ? 1 : 0);
        return found;
    }
    Page* frames[kRun];
    u32 count = 0;
    {
        MutexGuard guard{mutex_};
        const u32 end =
            static_cast<u32>(std::min<u64>(pages_of(bytes_), u64{number} + (reads_ahead_ ? window_at(number) : 1)));
        u32 wanted = 1;
        while (number + wanted < end && index_.find(number + wanted).page == nullptr)
            ++wanted;
        for (; count < wanted; ++count) {
            frames[count] = alloc_anonymous(); // it may go to a swap area
            if (frames[count] == nullptr) break;
        }
        if (count == 0 && from_reserve && (frames[0] = alloc_page(Gfp::kernel)) != nullptr) count = 1;
    }
    if (count == 0) return Error::no_memory;
    expected_ = number + count;
    if (!charge(count)) {
        std::for_each(frames, frames + count, [](Page* frame) { free_page(frame); });
        return Error::full;
    }
    const u32 charged = count;
    Status status = fill(number, {frames, count});
    if (!status && count > 1) { // maybe only a page further on cannot be read
        while (count > 1)
            free_page(frames[--count]);
        status = fill(number, {frames, 1});
    }
    u32 kept = 0;
    if (status) {
        MutexGuard guard{mutex_};
        while (kept < count &&
               index_.insert(number + kept, frames[kept], kept == 0 ? u8{kFound} : u8{0}, from_reserve && kept == 0))
            ++kept;
        if (kept == 0) status = Error::no_memory;
        totals.pages.fetch_add(kept);
        totals.filled.fetch_add(kept);
        if (kept != 0) get_page(frames[0]);
    }
    if (charged != kept) uncharge(charged - kept);
    for (u32 i = kept; i < count; ++i)
        free_page(frames[i]);
    if (!status) return status.error();
    return frames[0];
}

bool MemoryObject::insert(u32 number, Page* frame) {
    might_sleep("a new page of an object");
    MutexGuard transfers{io_};
    MutexGuard guard{mutex_};
    const PageIndex::Entry there = index_.find(number);
    if (frozen_ || number >= pages_of(bytes_) || there.page != nullptr || there.slot != 0 || !charge(1)) return false;
    if (!index_.insert(number, frame, kFound)) {
        uncharge(1);
        return false;
    }
    frame->set_payload(0); // it is in no swap area, and may go to one
    totals.pages.fetch_add(1);
    if (is_written_back()) make_dirty(number);
    return true;
}

Status MemoryObject::read(u64 offset, void* to, u32 bytes) {
    const u64 size = this->bytes();
    if (offset > size || bytes > size - offset) return Error::invalid;
    auto* out = static_cast<u8*>(to);
    for (u32 done = 0; done < bytes;) {
        const u64 at = offset + done;
        const Result<Page*> found = page(static_cast<u32>(at >> kPageShift));
        if (!found) return found.error();
        const u32 begin = static_cast<u32>(at) & ~kPageMask, step = std::min(bytes - done, kPageSize - begin);
        memcpy_from_page(out + done, *found, begin, step);
        put_page(*found);
        done += step;
    }
    return {};
}

Status MemoryObject::store(u32, std::span<Page* const>) { return Error::invalid; }

// --- Dirty pages.

void MemoryObject::make_dirty(u32 number) {
    const PageIndex::Entry entry = index_.find(number);
    if (entry.page == nullptr || (entry.state & kDirty) != 0) return;
    index_.set_state(number, entry.state | kDirty);
    ++dirty_;
    totals.dirty.fetch_add(1);
    enter_dirty_list();
}

void MemoryObject::enter_dirty_list() {
    SpinGuard guard{dirty_objects.lock};
    if (listed_) return;
    listed_ = true;
    get();
    dirty_objects.list.push_back(*this);
    totals.objects.fetch_add(1);
}

bool MemoryObject::leave_dirty_list() {
    if (refs() == 1) return true;
    {
        SpinGuard guard{dirty_objects.lock};
        if (!listed_ || refs() != 2) return false;
        dirty_objects.list.remove(*this);
        listed_ = false;
        totals.objects.fetch_sub(1);
    }
    put();
    return true;
}

bool MemoryObject::stored_to(u32 number) {
    LOFT_ASSERT(is_written_back());
    MutexGuard guard{mutex_};
    if (frozen_) return false;
    make_dirty(number);
    return true;
}

void MemoryObject::set_frozen(bool frozen) {
    MutexGuard guard{mutex_};
    frozen_ = frozen;
}

bool MemoryObject::is_frozen() {
    MutexGuard guard{mutex_};
    return frozen_;
}

// The dirty pages of the range are being written from here on: who stores to one makes it dirty again. The range
// becomes that of these pages. False: there is none.
bool MemoryObject::begin_writing(u32& begin, u32& end) {
    MutexGuard guard{mutex_};
    if (dirty_ == 0) return false;
    u32 count = 0, first = 0, last = 0;
    index_.each(begin, end, [&](u32 number, PageIndex::Entry& entry) {
        if ((entry.state & kDirty) == 0) return true;
        entry.state = static_cast<u8>((entry.state & ~kDirty) | kWriting);
        if (count++ == 0) first = number;
        last = number;
        return true;
    });
    begin = first;
    end = last + 1;
    dirty_ -= count;
    totals.dirty.fetch_sub(count);
    return count != 0;
}

// The next pages of [begin, end) that are being written and follow one another, kRun at most, with a reference each.
// `begin` becomes the number of the first one.
u32 MemoryObject::next_run(u32& begin, u32 end, Page** out) {
    MutexGuard guard{mutex_};
    u32 count = 0, first = begin;
    index_.each(begin, end, [&](u32 number, PageIndex::Entry& entry) {
        if ((entry.state & kWriting) == 0) return count == 0;
        if (count == 0) first = number;
        if (number != first + count) return false;
        entry.state = static_cast<u8>(entry.state & ~kWriting);
        get_page(entry.page);
        out[count++] = entry.page;
        return count < kRun;
    });
    begin = first;
    return count;
}

// Stores the pages, and puts them. Of a run that fails each page is tried alone, so that a bad sector harms no other.
Status MemoryObject::store_run(u32 first, std::span<Page* const> frames) {
    Status status = store(first, frames);
    const bool answers = status || (status.error() != Error::gone && status.error() != Error::timed_out);
    if (!status && frames.size() > 1 && answers) {
        status = {};
        for (u32 i = 0; i < frames.size(); ++i)
            if (const Status one = store_run(first + i, frames.subspan(i, 1)); !one) status = one;
        return status;
    }
    if (status) totals.stored.fetch_add(static_cast<u32>(frames.size()));
    MutexGuard guard{mutex_};
    for (u32 i = 0; i < frames.size(); ++i) {
        // A source that is gone takes nothing any more: its pages would stay for ever.
        if (!status && status.error() != Error::gone) make_dirty(first + i);
        put_page(frames[i]);
    }
    return status;
}

// Walks over the areas of the object, in every space. An area that is made meanwhile is visited if it has pages from
// one that was not.
void MemoryObject::each_space(u32 begin, u32 end, AreaWalk what) {
    {
        MutexGuard guard{mutex_};
        ++walk_;
    }
    for (;;) {
        AddressSpace* space = nullptr;
        {
            MutexGuard guard{mutex_};
            if (mappings_.empty() || mappings_.front().walked == walk_) return;
            Mapping& next = mappings_.front();
            if (space_get_if_used(*next.space)) {
                space = next.space;
            } else { // no thread runs in it any more, and its pages go
                next.walked = walk_;
                mappings_.splice(mappings_.end(), mappings_, mappings_.iterator_to(next));
            }
        }
        if (space == nullptr) continue;
        space_walk(*space, *this, begin, end, what);
        space_put(*space);
    }
}

Status MemoryObject::write_back(u32 begin, u32 end) {
    might_sleep("write-back");
    if (!is_written_back()) return {};
    MutexGuard guard{writing_};
    return write_locked(begin, end);
}

Status MemoryObject::write_locked(u32 begin, u32 end) {
    if (!begin_writing(begin, end)) return {};
    each_space(begin, end, AreaWalk::protect);
    Status result;
    Page* frames[kRun];
    while (const u32 count = next_run(begin, end, frames)) {
        const Status status = store_run(begin, {frames, count});
        if (!status && result) result = status;
        begin += count;
        if (!status && status.error() == Error::timed_out) { // the rest would wait as long, each run by itself
            end_writing(begin, end);
            break;
        }
    }
    return result;
}

// The pages of the range that are still to be stored are dirty again.
void MemoryObject::end_writing(u32 begin, u32 end) {
    MutexGuard guard{mutex_};
    u32 count = 0;
    index_.each(begin, end, [&](u32, PageIndex::Entry& entry) {
        if ((entry.state & kWriting) == 0) return true;
        count += (entry.state & kDirty) == 0;
        entry.state = static_cast<u8>((entry.state & ~kWriting) | kDirty);
        return true;
    });
    dirty_ += count;
    totals.dirty.fetch_add(count);
    if (count != 0) enter_dirty_list(); // those that could not be stored may have gone, and so have not
}

// One thread at a time works at the list, so that who finds it empty knows that nothing is under way.
namespace {

constinit Mutex list_work{"of the list of dirty objects"};

} // namespace

Result<bool> write_back_first(bool waits, bool only_servers) {
    MemoryObject* object = nullptr;
    {
        SpinGuard guard{dirty_objects.lock};
        object = dirty_objects.list.take([&](const MemoryObject& one) { return !only_servers || one.serves_others(); });
        if (object == nullptr) return false;
        object->listed_ = false; // from here on a page that becomes dirty enters it again
        totals.objects.fetch_sub(1);
    }
    Status status;
    bool written = true;
    if (waits) {
        status = object->write_back(); // a page that cannot be stored has entered it again
    } else if (object->writing_.try_lock()) {
        status = object->write_locked(0, PageIndex::kMaxPages);
        object->writing_.unlock();
    } else {
        written = false;
        MutexGuard guard{object->mutex_};
        object->enter_dirty_list();
    }
    object->put();
    if (!status) return status.error();
    return written;
}

Result<bool> write_back_one() {
    MutexGuard guard{list_work};
    return write_back_first(true, false);
}

Result<bool> try_write_back_one(bool only_servers) {
    if (!list_work.try_lock()) return false;
    const Result<bool> result = write_back_first(false, only_servers);
    list_work.unlock();
    return result;
}

Status write_back_all() {
    MutexGuard guard{list_work};
    Status first;
    for (u32 left = totals.objects.load(); left != 0; --left)
        if (const Result<bool> one = write_back_first(true, false); !one && first) first = one.error();
    return first;
}

// --- Size.

Status MemoryObject::resize(u64 bytes) {
    might_sleep("a new size");
    LOFT_ASSERT(knows_areas());
    if (bytes > kMaxBytes) return Error::invalid;
    MutexGuard writing{writing_};
    MutexGuard transfers{io_};
    const u64 old = settled_bytes(), edge = std::min(old, bytes);
    const u32 edge_page = static_cast<u32>(edge >> kPageShift), in_page = static_cast<u32>(edge) & ~kPageMask;
    const u32 old_end = pages_of(old), first_gone = pages_of(bytes);
    // The page with the smaller end in it, if there is one, is in memory until its bytes behind that end are zero.
    Page* tail = nullptr;
    if (in_page != 0 && old != bytes) {
        Result<Page*> found = find(edge_page);
        if (found && *found == nullptr) found = fill_at(edge_page);
        if (!found) return found.error();
        tail = *found;
    }
    if (bytes > old && tail != nullptr) zero_user(tail, in_page, kPageSize);
    {
        MutexGuard guard{mutex_};
        bytes_ = bytes;
    }
    if (first_gone < old_end) {
        // From here on nobody finds a page behind the end; so what the walk has unmapped stays unmapped.
        each_space(first_gone, old_end, AreaWalk::remove);
        MutexGuard guard{mutex_};
        u32 dirty = 0;
        index_.each(first_gone, old_end, [&](u32, PageIndex::Entry& entry) {
            dirty += entry.state & kDirty;
            return true;
        });
        dirty_ -= dirty;
        totals.dirty.fetch_sub(dirty);
        const u32 before = index_.pages();
        give_slots_back(first_gone);
        const u32 in_memory = index_.pages();
        index_.clear([](Page* page) { put_page(page); }, first_gone);
        totals.pages.fetch_sub(in_memory - index_.pages());
        uncharge(before - index_.pages());
    }
    if (tail != nullptr) {
        if (bytes < old) zero_user(tail, in_page, kPageSize);
        if (is_written_back()) {
            MutexGuard guard{mutex_}; // frozen or not: these bytes were not in the file before
            make_dirty(edge_page);
        }
        put_page(tail);
    }
    return {};
}

u32 MemoryObject::drop(u32 begin, u32 end, ZoneSet zones) {
    might_sleep("dropping pages");
    if (!is_written_back()) return 0;
    MutexGuard guard{mutex_};
    return drop_locked(begin, end, zones);
}

// The first page of the range that is clean and that only the object has; kMaxPages: none. Those before it count as not
// found from here on.
u32 MemoryObject::next_unused(u32 begin, u32 end, ZoneSet zones) {
    u32 first = PageIndex::kMaxPages;
    index_.each(begin, end, [&](u32 number, PageIndex::Entry& entry) {
        if (entry.page == nullptr || !zones.has(entry.page)) return true;
        const bool unused = entry.state == 0 && entry.page->refs() == 1;
        entry.state = static_cast<u8>(entry.state & ~kFound);
        if (unused) first = number;
        return !unused;
    });
    return first;
}

u32 MemoryObject::drop_locked(u32 begin, u32 end, ZoneSet zones) {
    u32 dropped = 0;
    while ((begin = next_unused(begin, end, zones)) != PageIndex::kMaxPages) {
        put_page(index_.remove(begin++));
        ++dropped;
    }
    totals.pages.fetch_sub(dropped);
    totals.dropped.fetch_add(dropped);
    return dropped;
}

bool MemoryObject::is_mapped() {
    MutexGuard guard{mutex_};
    return !index_.each(0, PageIndex::kMaxPages, [](u32, const PageIndex::Entry& entry) {
        return entry.page == nullptr || entry.page->refs() == 1;
    });
}

u32 MemoryObject::sweep(bool& passed, HandLimit& limit) {
    might_sleep("dropping pages");
    const u32 most = std::min(kSweep, limit.looks);
    if (kind_ == ObjectKind::swapped && (limit.swaps == 0 || swap_is_full())) {
        passed = true;
        return 0;
    }
    u32 begin = 0, end = PageIndex::kMaxPages, seen = 0;
    bool used = false; // mapped, maybe
    {
        MutexGuard guard{mutex_};
        begin = hand_;
        u32 next = begin;
        passed = index_.each(begin, end, [&](u32 number, PageIndex::Entry& entry) {
            next = number + 1;
            used |= entry.page != nullptr && entry.page->refs() > 1 && limit.zones.has(entry.page);
            return ++seen < most;
        });
        if (!passed) end = next;
        hand_ = passed ? 0 : next;
        limit.looks -= seen;
    }
    if (used && writing_.try_lock()) {
        each_space(begin, end, AreaWalk::age);
        writing_.unlock();
    }
    MutexGuard guard{mutex_};
    if (kind_ != ObjectKind::swapped) return drop_locked(begin, end, limit.zones);
    totals.pages.fetch_sub(swap_out(begin, end, limit));
    return 0;
}

bool MemoryObject::holds(u32 number, const Page* page) {
    MutexGuard guard{mutex_};
    return index_.find(number).page == page;
}

u32 drop_pages(u32 wanted, HandLimit& limit) {
    u32 dropped = 0;
    for (u32 left = 2 * ring.size(); left != 0 && dropped < wanted && limit.looks != 0;) {
        MemoryObject* const object = ring.first();
        if (object == nullptr) break;
        bool passed = false;
        dropped += object->sweep(passed, limit);
        if (passed) {
            ring.passed(*object);
            --left;
        }
        object->put();
    }
    return dropped;
}

Status bring_in_objects(const SwapArea& from) {
    for (u32 left = ring.size(); left != 0; --left) {
        MemoryObject* const object = ring.first();
        if (object == nullptr) break;
        const Status status = object->bring_in(from);
        ring.passed(*object);
        object->put();
        if (!status) return status;
    }
    return {};
}

// --- Pages that come from elsewhere.

bool MemoryObject::add(u32 number, Page* page) {
    MutexGuard guard{mutex_};
    if (!index_.insert(number, page, 0, true)) return false;
    get_page(page);
    totals.pages.fetch_add(1);
    make_dirty(number);
    return true;
}

Page* MemoryObject::take_out(u32 number) {
    MutexGuard guard{mutex_};
    const PageIndex::Entry entry = index_.find(number);
    if (entry.page == nullptr) return nullptr;
    if ((entry.state & kDirty) != 0) {
        --dirty_;
        totals.dirty.fetch_sub(1);
    }
    totals.pages.fetch_sub(1);
    return index_.remove(number);
}

// --- Areas.

void MemoryObject::link(Mapping& mapping, const Mapping* from) {
    MutexGuard guard{mutex_};
    mapping.walked = from != nullptr ? from->walked : walk_;
    mappings_.insert(mapping.walked == walk_ ? mappings_.end() : mappings_.begin(), mapping);
}

void MemoryObject::unlink(Mapping& mapping) {
    MutexGuard guard{mutex_};
    mappings_.erase(mappings_.iterator_to(mapping));
}

void MemoryObject::join(Mapping& left, const Mapping& right) {
    MutexGuard guard{mutex_};
    if (right.walked == walk_ || left.walked != walk_) return;
    left.walked = right.walked;
    mappings_.splice(mappings_.begin(), mappings_, mappings_.iterator_to(left));
}

void MemoryObject::visited(Mapping& mapping) {
    MutexGuard guard{mutex_};
    mapping.walked = walk_;
    mappings_.splice(mappings_.end(), mappings_, mappings_.iterator_to(mapping));
}

// --- Memory without a source.

ZeroObject* ZeroObject::create(u32 pages) {
    LOFT_ASSERT(pages != 0);
    return zero_cache.make(pages);
}

Status ZeroObject::fill(u32, std::span<Page* const> frames) {
    for (Page* frame : frames)
        clear_highpage(frame);
    return {};
}

void ZeroObject::destroy() { zero_cache.destroy(this); }

u32 zero_objects_in_use() { return zero_cache.stats().objects; }

PageCacheStats page_cache_stats() {
    return {totals.pages.load(),  totals.dirty.load(),  ring.size(),          totals.objects.load(),
            totals.filled.load(), totals.stored.load(), totals.dropped.load()};
}

void memory_object_init() {
    zero_cache.reset();
    totals.pages.store(0);
    totals.dirty.store(0);
    totals.objects.store(0);
    ring.reset();
    SpinGuard guard{dirty_objects.lock};
    dirty_objects.list = {};
}

} // namespace loft
