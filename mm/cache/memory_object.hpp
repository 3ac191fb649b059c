// Memory objects: a number of pages that areas of address spaces map, and of which files consist.
//
//     object                  contents of a page at its first use     stores
//     without a source        zeros                                    stay in the page, which may go to a swap area
//     a file of the kernel    its bytes, and zeros behind its end      stay in the page
//     written back            what its source has                      make the page dirty: it is stored to the source
//
// A shared area maps the pages of the object. A private area maps them read-only; the first write to a page gives the
// space a copy of its own (mm/spaces/address_space.hpp).
//
// Reference counts: each area and each user of a file counts the object; so does the list of dirty objects. The object
// counts each of its pages once, and each mapping, each pin and each user at work counts the page once more. So a page
// lives until all of them have put it.
//
// Three mutexes; under the first two a thread may wait for a disk:
//
//     writing_   one thread at a time stores pages, or changes the size
//     io_        one thread at a time fills pages, or changes the size
//     mutex_     index, states and size; held for a moment. Under it nobody sleeps but for memory's locks
//
// Lock order: writing_, io_, then the mutex of a space, then mutex_. So a fault that has to fill a page does it without
// its space's mutex.
//
// Stores through mappings: a page in a shared area of an object that is written back can be written only while it is
// known to be dirty. The first store faults, and makes it dirty. write_back first says of all dirty pages that they are
// being written; then takes the right to write from all mappings, and flushes; then stores the pages. Who stores from
// the first step on makes the page dirty again, so no store is lost, whatever translations CPUs had. docs/disks.md.
//
// Pages in swap areas: an object without a source (shared memory, a file of tmpfs) has in its index, instead of a page
// that went out, the page's slot. A page may go while the object has the only reference to it: then no space maps it,
// every CPU has flushed, and nobody is at work with it. Under mutex_ it enters the swap cache, dirty, and the slot
// takes its place; from there on it is a page of the swap area. Whoever wants it brings it in as if he filled it, under
// io_: the slot is free then. So mutex_ guards each slot, and io_ keeps it from being given back while it is read.
#pragma once

#include "arch/base/chain.hpp"
#include "arch/base/error.hpp"
#include "arch/base/not_copyable.hpp"
#include "mm/cache/page_index.hpp"
#include "mm/frames/slab.hpp"
#include "mm/ground/mutex.hpp"
#include "mm/ground/ring.hpp"

#include <boost/intrusive/list.hpp>

#include <algorithm>
#include <span>

namespace loft {

class AddressSpace;
class MemoryObject;
class SwapArea;

// What a walk over the areas that map an object does with the pages of a range.
enum class AreaWalk : u8 {
    protect, // takes the right to write
    remove,  // unmaps
    age,     // unmaps a page of the object that was not accessed since the last walk of this kind
};

// Who wants frames. What the caller holds says for whom it may wait, and what it may store.
enum class Reclaimer : u8 {
    // It holds no mutex of an object, and no other that storing pages may need. It waits for threads that write back.
    program,
    // It fills or stores pages of an object, or writes to a file. It never waits for another thread's write-back, but
    // for that of a swap area, whose store waits for the disk only.
    transfer,
    // The same for an object that serves others (MemoryObject::serves_others), whose pages are read under mutexes that
    // storing a file may need. Dirty pages are stored only of such objects; clean ones are freed of all.
    server,
};

// What the hand of a clock may do in a call. Pages in other zones stay as they are.
struct HandLimit {
    ZoneSet zones = ZoneSet::every();
    u32 looks = ~0u; // pages that it may pass; the call subtracts those that it has passed
    u32 swaps = ~0u; // pages of objects that may go to swap areas; likewise
};

// What a memory object does with its areas.
enum class ObjectKind : u8 {
    fixed,        // nothing: its size stays, and stores are kept in its pages
    swapped,      // it knows them, so that a page is unmapped that goes to a swap area or lies behind a smaller size
    written_back, // likewise behind a smaller size; and what is stored to its pages is written to its source
};

// What an object knows of an area that maps it. The mutex of the object guards it.
struct Mapping : boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>> {
    AddressSpace* space = nullptr;
    u32 walked = 0; // the last walk over the object's areas that has visited it
};

class MemoryObject : NotCopyable<MemoryObject> {
  public:
    static constexpr u32 kRun = 32; // pages that are filled or stored at once, at most
    static constexpr u64 kMaxBytes = u64{PageIndex::kMaxPages} << kPageShift;

    void get(); // any context; the caller has a reference
    // For a list that has the object without a reference. False: the last reference has been put already. Any context;
    // the caller makes sure that the object is not freed meanwhile.
    [[nodiscard]] bool get_if_used();
    void put(); // preemptible context; the last one puts all pages and destroys the object

    // The references now: for an owner that no other thread can get one from. Any context.
    u32 refs() const { return refs_.load(); }

    u64 bytes(); // preemptible context; takes mutex_
    // The same without mutex_, for whoever keeps the size from being changed: the holder of io_, or of a mutex without
    // which nobody calls resize.
    u64 settled_bytes() const LOFT_UNCHECKED { return bytes_; }
    u32 pages(); // in memory or in a swap area; preemptible context; takes mutex_
    // True: what is stored to its pages is written to the object's source.
    bool is_written_back() const { return kind_ == ObjectKind::written_back; }
    // True: areas tell it that they map it (link). Only such an object may get a smaller size.
    bool knows_areas() const { return kind_ != ObjectKind::fixed; }
    // True: its pages are read while those of another object are filled or stored, under mutexes that this work holds.
    // So reclaim for it stores only objects of this kind, whose store takes no such mutex.
    virtual bool serves_others() const { return false; }
    // True: if nothing can be reclaimed for a page, its frame comes from the kernel's reserve of lowmem, because work
    // that has begun needs it to end well. Such a page can be dropped soon.
    virtual bool has_reserve() const { return false; }

    // Page `number` if it is in memory, with a reference for the caller; null: it has to be filled or brought in, by
    // page(). Error: not_found (behind the end). Preemptible context; takes mutex_. Cost: the local maps of the index.
    // `bytes`: becomes the size at that moment, also with an error.
    [[nodiscard]] Result<Page*> find(u32 number, u64* bytes = nullptr);
    // The same, filled or brought in if it is not in memory. Errors: not_found, no_memory (nothing could be reclaimed),
    // those of fill, and those of a disk that has the page in a swap area. Preemptible context, no mutex of a space is
    // held; takes io_ if it must fill. It fills up to kRun pages if the calls before were for the pages before.
    [[nodiscard]] Result<Page*> page(u32 number);
    // Inserts `frame` as page `number`, which the caller has filled because it replaces all of its contents. False: the
    // page is in memory, lies behind the end, or is one too many (charge), there is no memory, or the object is frozen;
    // the caller keeps the frame. Otherwise the object takes over the caller's reference, and the page is dirty.
    // Preemptible context as page(); takes io_.
    [[nodiscard]] bool insert(u32 number, Page* frame);
    // Calls visit(number, Page*) for each page of [begin, end) that is in memory, in order. It may take references; it
    // does not sleep, and uses one local slot at most. Preemptible context; takes mutex_, under which the visitor runs.
    // Cost: one local map for each frame of the index on the way.
    template <typename F> void each_page(u32 begin, u32 end, F&& visit) {
        MutexGuard guard{mutex_};
        index_.each(begin, std::min(end, pages_of(bytes_)), [&](u32 number, const PageIndex::Entry& entry) {
            if (entry.page != nullptr) visit(number, entry.page);
            return true;
        });
    }
    // Copies [offset, offset + bytes) to the kernel's memory at `to`. Errors: invalid (not inside the object), else as
    // page. Context as page().
    [[nodiscard]] Status read(u64 offset, void* to, u32 bytes);

    // --- Objects that are written back.

    // Page `number` is or was stored to: a mapping gets the right to write, under the mutex of its space; or the kernel
    // has stored to it, with a reference to the page, and calls afterwards. If the page is in memory, it is dirty.
    // False: the object is frozen, so no mapping may get the right, and what was stored is not written. Preemptible
    // context; takes mutex_.
    bool stored_to(u32 number);
    // Its source gets contents that the object does not know, as a swap area does: from here on no page becomes dirty
    // by a store; or again. After a sync() that succeeds nothing old is written to the source any more: no page is
    // dirty, and no mapping has the right to write. A larger size is stored nevertheless. Preemptible context; takes
    // mutex_.
    void set_frozen(bool frozen);
    bool is_frozen(); // preemptible context; takes mutex_

    // Stores the dirty pages of [begin, end) to the source and returns when that is done. A page that cannot be stored
    // stays dirty, unless the source is gone; after a `timed_out` no further page is tried. Errors: those of store, the
    // first one. Preemptible context as page(). Cost: one flush of each space that could write to one of these pages
    // through a mapping.
    [[nodiscard]] Status write_back(u32 begin = 0, u32 end = PageIndex::kMaxPages);
    // write_back of all pages; when it returns success, they are durable at the source. Errors: those of store. Context
    // and cost as write_back.
    [[nodiscard]] virtual Status sync() { return write_back(); }
    // Changes the size. Smaller: no space maps pages behind the new end any more, private copies included, and they are
    // not in memory; larger: zeros. The bytes between the smaller size and the end of its page become zeros; programs
    // may store there again. The source is not told. Errors: invalid (too large), and those of page(), for that page;
    // the size stays. Preemptible context as page(). Cost: one flush of each space that maps pages behind the end.
    [[nodiscard]] Status resize(u64 bytes);
    // Frees pages of [begin, end), frames of `zones`, that are clean, not mapped, pinned or in use, and were not found
    // since the last call. Returns their number; 0 for an object that is not written back. Preemptible context; takes
    // mutex_.
    u32 drop(u32 begin = 0, u32 end = PageIndex::kMaxPages, ZoneSet zones = ZoneSet::every());
    // A page in memory is mapped, pinned or in use. Preemptible context; takes mutex_.
    bool is_mapped();
    // As drop, for the next kSweep pages in memory, or fewer (`limit`), from where the last call has ended. Before,
    // pages are unmapped that no mapping has accessed since the last sweep, unless another thread stores pages of the
    // object, or none of them is a frame of these zones. `passed`: it has come to the end of the object, and the next
    // call begins at its start. Pages of an object without a source go to swap areas, and are free when they are
    // written there: 0, and `limit` counts them; if no slot is free, they stay as they are. Cost: one flush of each
    // space from which pages are unmapped.
    static constexpr u32 kSweep = 1024;
    u32 sweep(bool& passed, HandLimit& limit);

    // Brings in all pages that have slots of this area, which is closed. Errors: no_memory, io (one cannot be read);
    // others may be in then. Context as page(), and no mutex of an object is held.
    [[nodiscard]] Status bring_in(const SwapArea& from);

    // The caller frees the object. False: beside its reference and that of the list of dirty objects there are others.
    // True: the list does not have it any more, and its dirty pages are not written; resize(0) drops them. No other
    // thread can get a reference from an owner; the hand of drop_pages may have one for a moment. Preemptible context.
    [[nodiscard]] bool leave_dirty_list();

    // True: page `number` is this one. Context: any in which a mutex may be locked; that of a space may be held.
    bool holds(u32 number, const Page* page);

    // An area maps the object now, or not any more. `from`: the area that it was copied or cut from; null: it has no
    // pages yet. Context: the mutex of its space is held, and that of the space of `from`; takes mutex_.
    void link(Mapping& mapping, const Mapping* from);
    void unlink(Mapping& mapping);
    // `left` has now the pages of both; `right` is unlinked next.
    void join(Mapping& left, const Mapping& right);
    // The walk has visited it.
    void visited(Mapping& mapping);

  protected:
    // Reference count 1. `reads_ahead`: misses in order fill more pages than the one that is wanted.
    explicit MemoryObject(u64 bytes, ObjectKind kind = ObjectKind::fixed)
        : MemoryObject{bytes, kind, kind == ObjectKind::written_back} {}
    MemoryObject(u64 bytes, ObjectKind kind, bool reads_ahead);
    ~MemoryObject() = default; // after the last put

    // Writes the contents of the pages from `first` on to new frames, which no other thread knows yet. All pages are
    // inside the object, one to kRun of them. Preemptible context; io_ is held, mutex_ is not.
    [[nodiscard]] virtual Status fill(u32 first, std::span<Page* const> frames) = 0;
    // Stores the pages from `first` on to the source, until they are safe there or it fails. The frames may be stored
    // to meanwhile; then they are dirty again. Context as fill. Objects that are not written back are not asked.
    [[nodiscard]] virtual Status store(u32 first, std::span<Page* const> frames);
    // For objects that may have a limited number of pages, and are not written back. So many pages more are about to be
    // in memory; false: that is too many. Preemptible context; io_ is held, and for insert() mutex_.
    [[nodiscard]] virtual bool charge(u32) { return true; }
    // So many pages that were charged are not in memory after all, or not any more. Context as charge.
    virtual void uncharge(u32) {}
    // For objects whose pages come from elsewhere (mm/cache/swap_area.hpp). Preemptible context, the mutex of a space
    // may be held; they take mutex_. Page `number`, which is not in memory and which nobody fills, is this one, and
    // dirty; the object takes a reference of its own. False: no memory for the index.
    [[nodiscard]] bool add(u32 number, Page* page);
    // The page leaves the object, whatever its state; the caller has the object's reference. Null: it is not in memory.
    [[nodiscard]] Page* take_out(u32 number);

    // Frees the object's own memory, after the last reference and all pages were put. Preemptible context, maybe under
    // the mutex of a space and io_ of another object: it takes no mutex and waits for nothing.
    virtual void destroy() = 0;

  private:
    friend Result<bool> write_back_first(bool waits, bool only_servers);
    enum State : u8 { kDirty = 1, kFound = 2, kWriting = 4 };
    using Mappings = boost::intrusive::list<Mapping, boost::intrusive::constant_time_size<false>>;

    Reclaimer reclaimer() const;
    static u32 pages_of(u64 bytes) { return static_cast<u32>((bytes + kPageSize - 1) >> kPageShift); }
    Result<Page*> fill_missing(u32 number, bool from_reserve);
    Status write_locked(u32 begin, u32 end) LOFT_REQUIRES(writing_);
    Page* find_locked(u32 number) LOFT_REQUIRES(mutex_);
    void make_dirty(u32 number) LOFT_REQUIRES(mutex_);
    void enter_dirty_list() LOFT_REQUIRES(mutex_);
    u32 window_at(u32 number) LOFT_REQUIRES(io_);
    Result<Page*> fill_at(u32 number, bool from_reserve = false) LOFT_REQUIRES(io_);
    bool begin_writing(u32& begin, u32& end) LOFT_REQUIRES(writing_);
    void end_writing(u32 begin, u32 end) LOFT_REQUIRES(writing_);
    u32 next_run(u32& begin, u32 end, Page** out) LOFT_REQUIRES(writing_);
    Status store_run(u32 first, std::span<Page* const> frames) LOFT_REQUIRES(writing_);
    void each_space(u32 begin, u32 end, AreaWalk what) LOFT_REQUIRES(writing_);
    u32 next_unused(u32 begin, u32 end, ZoneSet zones) LOFT_REQUIRES(mutex_);
    u32 drop_locked(u32 begin, u32 end, ZoneSet zones) LOFT_REQUIRES(mutex_);
    // Of objects without a source (object_swap.cpp). A slot is a SwapSlot::packed; 0: none.
    static bool swap_is_full();
    u32 swap_out(u32 begin, u32 end, HandLimit& limit) LOFT_REQUIRES(mutex_); // the number of pages that have gone
    u32 slot_of(u32 number) LOFT_REQUIRES(io_);
    Result<Page*> swap_in(u32 number, u32 slot) LOFT_REQUIRES(io_);
    void give_slots_back(u32 begin) LOFT_REQUIRES(mutex_);

    hal::Atomic<u32> refs_{1};
    const ObjectKind kind_;
    const bool reads_ahead_;
    Mutex writing_{"of a memory object's write-back"};
    Mutex io_{"of a memory object's transfers"};
    Mutex mutex_{"of a memory object"};
    u64 bytes_ LOFT_GUARDED_BY(mutex_); // changed with io_ held, too
    PageIndex index_ LOFT_GUARDED_BY(mutex_);
    Mappings mappings_ LOFT_GUARDED_BY(mutex_); // those that the walk has not visited are first
    u32 walk_ LOFT_GUARDED_BY(mutex_) = near_wrap<u32>();
    u32 dirty_ LOFT_GUARDED_BY(mutex_) = 0; // pages
    u32 hand_ LOFT_GUARDED_BY(mutex_) = 0;  // where the next sweep begins
    bool frozen_ LOFT_GUARDED_BY(mutex_) = false;
    u32 expected_ LOFT_GUARDED_BY(io_) = 0; // the number that the next miss has if the pages are read in order
    u32 window_ LOFT_GUARDED_BY(io_) = 1;
    MemoryObject* next_dirty_ = nullptr; // both are guarded by the lock of the list of dirty objects
    bool listed_ = false;

  public:
    using DirtyList = Chain<MemoryObject, &MemoryObject::next_dirty_>;

  private:
    ListLink ring_;

  public:
    using ObjectRing = Ring<MemoryObject, &MemoryObject::ring_>; // of all objects that know their areas
};

// Memory without a source: zeros at first, freed with the last reference. For MAP_SHARED | MAP_ANONYMOUS.
class ZeroObject final : public MemoryObject {
  public:
    // An object of `pages` pages, at least 1. Null: no memory. Context: any but NMI.
    [[nodiscard]] static ZeroObject* create(u32 pages);

  private:
    friend class Cache<ZeroObject>;
    explicit ZeroObject(u32 pages) : MemoryObject{u64{pages} << kPageShift, ObjectKind::swapped} {}
    Status fill(u32 first, std::span<Page* const> frames) override;
    void destroy() override;
};

u32 zero_objects_in_use(); // of the whole machine; any context but NMI
void memory_object_init(); // boot; after the object cache

// Writes the dirty pages of the object that has waited longest in the list of dirty objects. False: the list is empty.
// Error: that of write_back; what could not be written is in the list again. Preemptible context as
// MemoryObject::page().
Result<bool> write_back_one();
// The same, but it never waits for another thread that writes or stores: it returns false then. `only_servers`: of the
// objects that serve others.
Result<bool> try_write_back_one(bool only_servers = false);
// Writes all pages that are dirty at the call. The first error. Context as write_back_one.
[[nodiscard]] Status write_back_all();

// Frees pages of objects that are written back, until `wanted` are free, the hand of the clock has passed as many pages
// as `limit` allows, or all of them twice. The hand goes from object to object, and over the pages of each: a page that
// is dirty or used stays, and so does one that was found since the hand passed it the last time. Pages of objects
// without a source go to swap areas (MemoryObject::sweep). Returns the number of freed pages. Preemptible context; no
// mutex of a space or of an object is held. Cost: a few local maps of the index for each page.
u32 drop_pages(u32 wanted, HandLimit& limit);
inline u32 drop_pages(u32 wanted) {
    HandLimit none;
    return drop_pages(wanted, none);
}

// Brings in all pages of objects that have slots of this area, as MemoryObject::bring_in.
[[nodiscard]] Status bring_in_objects(const SwapArea& from);

struct PageCacheStats {
    u32 pages = 0; // of all objects, in memory
    u32 dirty = 0;
    u32 clocked = 0; // objects that the hand passes: those that know their areas
    u32 objects = 0; // those of them with dirty pages
    u32 filled = near_wrap<u32>(), stored = near_wrap<u32>(), dropped = near_wrap<u32>();
};
PageCacheStats page_cache_stats(); // any context; a snapshot

// --- Up-calls, defined by mm/reclaim.

// Frees about `wanted` frames if memory_is_low(). False: it is not low, so whoever has got no frame wants one of
// lowmem, which pages of files do not give; or nothing can be freed. Context: as reclaim().
bool reclaim_frames(Reclaimer who, u32 wanted = MemoryObject::kRun);

// For a caller that has got no frame, and starts again: each time it reclaims twice as many, in all some thousands.
// Then it is told to give up, since others may take what it frees, or it may want frames that reclaim does not give. It
// gives up after two failures in turn: others may free memory after its attempt, and before reclaim finds nothing.
class ReclaimRounds {
  public:
    explicit ReclaimRounds(Reclaimer who) : who_{who} {}
    [[nodiscard]] bool another() {
        const u32 wanted = wanted_;
        wanted_ *= 2;
        failures_ = wanted <= kMost && reclaim_frames(who_, wanted) ? 0 : failures_ + 1;
        return failures_ < 2;
    }
    void begin_again() {
        wanted_ = MemoryObject::kRun;
        failures_ = 0;
    }

  private:
    static constexpr u32 kMost = 4096;
    const Reclaimer who_;
    u32 wanted_ = MemoryObject::kRun, failures_ = 0;
};

// --- Up-calls, defined by mm/spaces: what the walk over the areas of an object does. Preemptible context.

// A reference to the space; false if it is being destroyed. The mutex of the object is held.
bool space_get_if_used(AddressSpace& space);
void space_put(AddressSpace& space);
// For the pages of the object in [begin, end) that areas of `space` map; then one flush, and visited() for each area
// that maps the object. No mutex of mm but the object's first two is held.
void space_walk(AddressSpace& space, MemoryObject& object, u32 begin, u32 end, AreaWalk what);

} // namespace loft
