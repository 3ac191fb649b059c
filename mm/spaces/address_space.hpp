// An address space: the memory of a program, its areas, its page tables, and its faults.
//
//     areas     ranges of addresses with rights and a kind                                  (mm/spaces/area.hpp)
//     tables    the pages that are present; faults add entries, page by page                (mm/spaces/user_tables.hpp)
//     root      the CPUs that may hold translations of the space, running it or lazily      (mm/tables/space_root.hpp)
//
// Locking: one Mutex for each space, fair, held while its owner may sleep. Faults, maps and unmaps of one space run one
// at a time, and none can be starved. Apart from the mutex's owner only the processor changes entries (A and D).
//
// A page of a private area belongs to one mapping ("owned" in its entry), or fork has shared it, or it is a page of the
// area's object. The first write to a page that is not owned gives the writer a copy, or the page itself if only this
// mapping counts it. Each mapping and each pin counts a page; the last put frees it. A mapping puts its page only after
// every CPU that may hold its translation has flushed.
//
// Lack of memory is an error, never a panic: a call that returns no_memory has changed nothing, except where its
// comment says otherwise.
#pragma once

#include "arch/base/error.hpp"
#include "arch/base/fault.hpp"
#include "arch/base/not_copyable.hpp"
#include "mm/frames/slab.hpp"
#include "mm/ground/mutex.hpp"
#include "mm/spaces/area.hpp"
#include "mm/spaces/user_tables.hpp"
#include "mm/tables/space_root.hpp"

namespace loft {

class TlbBatch;

struct SpaceStats {
    u32 resident = 0; // entries that hold a frame
    u32 swapped = 0;  // entries that hold a swap slot
    u32 tables = 0;   // page tables, without directories
    u32 areas = 0;
    bool operator==(const SpaceStats&) const = default;
};

enum class SpaceUse : u8 {
    none,    // no program runs in it yet
    program, // a program
    ends,    // a program that has been ended: its threads leave when they next check it
};

class AddressSpace : NotCopyable<AddressSpace> {
  public:
    // An empty space with the kernel's part in it, reference count 1; null if there is no memory. Preemptible context.
    [[nodiscard]] static AddressSpace* create();
    void get();                       // any context; the caller has a reference
    [[nodiscard]] bool get_if_used(); // false: it is being destroyed. Any context; the caller keeps it from being freed
    // Drops a reference; the last one destroys the space. CPUs that have its root loaded lazily, idle ones included,
    // load the kernel's root; then all memory of the space is freed. No thread may run in it. Preemptible context. Cost
    // of the last one: one remote call, to those CPUs only.
    void put();

    // Frees all memory of the space, which no thread runs in any more, whoever else has a reference. CPUs that have its
    // root loaded lazily, idle ones included, load the kernel's root. Preemptible context. Cost: one remote call, to
    // those CPUs only.
    void clear();
    // The same while threads of the program may still run, which ends (SpaceUse::ends): they find nothing mapped.
    // Preemptible context; no mutex of a space or of an object is held. Cost: one flush on the CPUs of the space.
    void reap();

    // Whether a program uses the space; for the choice of one to end. Any context.
    void set_use(SpaceUse use) { use_.store(use); }
    SpaceUse use() const { return use_.load(); }

    // Makes an area of `bytes` (rounded up to pages), without pages. Fixed: at `where` (page-aligned); areas there are
    // replaced. Otherwise `where` is a hint, used if that range is free (0: no hint); else the highest hole that is
    // large enough. MapKind::stack: `bytes` is the maximum size; the area starts as its topmost page and grows down by
    // faults. MapKind::grows: the area has its whole size and grows down as a stack, to at most kGrowth in all.
    // `backing`: the object of an anonymous or shared area, and its page at the begin of the area; the area takes its
    // own reference. `locked` there: reclaim leaves the area's pages alone. A page behind the end of the object is
    // FaultResult::no_page. Without it, a shared area gets a new ZeroObject. Errors: invalid (size, alignment, page
    // numbers beyond PageIndex::kMaxPages), no_access (fixed, below layout::kUserBegin), busy (fixed without `replace`,
    // and the range is not free), no_space, no_memory. Preemptible context. Cost: none; if areas are replaced: as
    // unmap. Source: mmap(2).
    Result<VirtAddr> map(VirtAddr where, u32 bytes, Prot prot, MapKind kind, bool fixed, bool replace = true,
                         Backing backing = {});
    // Removes all areas of the range and their pages; holes are no error. Errors: invalid, no_memory (an area had to be
    // split). Preemptible context. Cost: one flush on the CPUs of the space (more for over 64 pages that others count,
    // too). Source: munmap(2).
    Status unmap(VirtAddr begin, u32 bytes);
    // Changes the rights of the range, which must have no hole and no guard area. `down`: the range begins with its
    // first area, which must grow down (else invalid). Errors: not_found (a hole), no_access (a guard area, or a right
    // that an area must not have: UserArea::may_write), invalid, no_memory; nothing has changed then. Preemptible
    // context. Cost: one flush if rights were removed. Source: mprotect(2).
    Status protect(VirtAddr begin, u32 bytes, Prot prot, bool down = false);

    // Makes the objects of all shared areas in the range durable (MemoryObject::sync), if `waits`. Errors: not_found (a
    // hole; the other areas are done all the same), and those of sync. Preemptible context. Source: msync(2).
    Status sync(PageRange range, bool waits);

    // Sets the begin of the heap, rounded up to a page; the heap is empty. Before other threads use the space.
    void set_brk_start(VirtAddr begin, Prot prot = Prot::read | Prot::write);
    // Moves the end of the heap and returns the new end. For an address below the begin of the heap (0, for example) it
    // returns the current end. Errors: no_space (the range is not free), no_memory; the end stays. Preemptible context.
    // Source: brk(2).
    Result<VirtAddr> brk(VirtAddr wanted);

    // The identity of a word of memory for other spaces. In a shared area: the object, with a reference for the caller,
    // and the number of its page. In a private area: null, because a store to it is seen by no other space.
    struct WordPlace {
        MemoryObject* object = nullptr;
        u32 page = 0;
    };
    // Errors: bad_address; no_access (a shared area without rights, or a private one that may not be written).
    // Preemptible context. Source: futex(2).
    Result<WordPlace> place_of(VirtAddr va);

    // A copy of the space, reference count 1: both spaces share private pages until one of them writes; shared areas
    // are the same memory. Pinned pages are copied at once, so that a pin stays a pin of this space's memory. Errors:
    // no_memory (nothing could be reclaimed). Preemptible context. Cost: one flush on the CPUs of the space.
    Result<AddressSpace*> fork();

    // Swaps out private pages that were not accessed since the hand of the clock passed them the last time and that
    // nobody has pinned, until `wanted` pages are mapped by no space any more, the hand has passed as many as `limit`
    // allows, or has come to the end of the space: `passed`. Returns the number of such pages; they are free when they
    // are written and dropped from the cache. Preemptible context; no mutex of a space is held. Cost: one flush on the
    // CPUs of the space for each kBatch pages.
    u32 swap_out(u32 wanted, bool& passed, HandLimit& limit);
    // Brings in all pages that have slots of this area. Errors: no_memory, io (one cannot be read); others may be in
    // then. Preemptible context; no mutex of a space or of an object is held.
    [[nodiscard]] Status bring_in(SwapArea& area);

    // Handles a fault of a program at `va`, or of the kernel on its behalf. Resolves demand-zero pages, pages of
    // objects, copy on write, growth of a stack, and spurious faults. Reclaims frames if there are none; if nothing
    // can be reclaimed twice in turn, takes those of the program that has the most memory, which is ended. A fault on a
    // page of an object that is not a write also maps the pages around it that are in memory: those of its area in the
    // same kAround pages, aligned to their size. Preemptible context; no mutex of a space or of an object is held.
    // Cost: none; for a copy of a page that was present: one flush on the CPUs of the space.
    static constexpr u32 kAround = 16;
    FaultResult handle_fault(VirtAddr va, FaultAccess access);
    // The same; also returns the page of `va`, with a reference taken under the mutex.
    struct Pinned {
        FaultResult result = FaultResult::resolved;
        Page* page = nullptr; // if resolved; the caller must call put_page
        // Of a pin for writing of a page that is written back: its object, with a reference, and its number there. The
        // caller tells the object after its last store (MemoryObject::stored_to), and puts it.
        MemoryObject* object = nullptr;
        u32 number = 0;
    };
    [[nodiscard]] Pinned pin(VirtAddr va, FaultAccess access);

    PhysAddr root() const { return root_.address(); }
    CpuSet cpus() const { return root_.cpus(); } // the CPUs that may hold translations of the space; a snapshot
    SpaceStats stats();                          // preemptible context

  private:
    friend class Cache<AddressSpace>;
    friend void space_switch(AddressSpace* next);
    friend void space_walk(AddressSpace& space, MemoryObject& object, u32 begin, u32 end, AreaWalk what);
    AddressSpace() = default;
    ~AddressSpace() = default;

    // A page of an object that has to be filled before a fault can be resolved.
    struct Missing {
        MemoryObject* object = nullptr; // with a reference; null: no page is missing
        u32 page = 0;
        SwapSlot slot{};        // the page is in this slot, of which the thread is a user
        Page* filled = nullptr; // the page that was missing in the last pass, with a reference
    };
    Pinned fault(VirtAddr va, FaultAccess access, bool pins); // `pins`: takes a reference to the page
    FaultResult fill_missing(Missing& missing);
    Pinned resolve(VirtAddr va, FaultAccess access, Missing& missing)
        LOFT_REQUIRES(mutex_); // takes no reference to the page
    Pinned fill(const UserArea& area, VirtAddr va, FaultAccess access, Missing& missing)
        LOFT_REQUIRES(mutex_);                                                // for an empty entry
    void map_around(const UserArea& area, VirtAddr va) LOFT_REQUIRES(mutex_); // its own entry is there
    Pinned swap_in(const UserArea& area, VirtAddr va, FaultAccess access, hal::PteCell* cell, Pte entry,
                   Missing& missing) LOFT_REQUIRES(mutex_);
    static constexpr u32 kBatch = 16, kSweep = 1024; // pages that are unmapped, and looked at, with the mutex held
    u32 swap_out_batch(u32 most, bool& passed, HandLimit& limit) LOFT_REQUIRES(mutex_);
    VirtAddr find_swapped(VirtAddr from, const SwapArea& area) LOFT_REQUIRES(mutex_);
    bool permit_stores(const UserArea& area, VirtAddr va, hal::PteCell* cell, Pte entry) LOFT_REQUIRES(mutex_);
    Page* own(const UserArea& area, VirtAddr va, hal::PteCell* cell, Pte entry)
        LOFT_REQUIRES(mutex_);                                    // null: no memory for a copy
    bool show(VirtAddr va, Pte entry) LOFT_REQUIRES(mutex_);      // false: no memory for a table
    bool set_entry(VirtAddr va, Pte entry) LOFT_REQUIRES(mutex_); // likewise; the entry may hold a swap slot
    void remove(PageRange range) LOFT_REQUIRES(mutex_);
    void zap(PageRange range, TlbBatch& batch) LOFT_REQUIRES(mutex_);
    template <typename F> void zap_if(PageRange range, TlbBatch& batch, F&& goes) LOFT_REQUIRES(mutex_);
    static bool is_cold(const UserArea& area, hal::PteCell* cell, Pte entry, VirtAddr va); // mutex_ is held
    void change_rights(const UserArea& area, hal::PteCell* cell, Pte old, VirtAddr va, TlbBatch& batch)
        LOFT_REQUIRES(mutex_); // of an entry that is not empty
    Result<AddressSpace*> try_fork();
    bool copy_to(AddressSpace& child, TlbBatch& batch) LOFT_REQUIRES(mutex_, child.mutex_);
    bool copy_pages(AddressSpace& child, const UserArea& area, TlbBatch& batch) LOFT_REQUIRES(mutex_, child.mutex_);

    hal::Atomic<u32> refs_{1};
    Mutex mutex_{"of an address space"};
    AreaTree areas_ LOFT_GUARDED_BY(mutex_){*this};
    UserTables tables_ LOFT_GUARDED_BY(mutex_);
    SpaceRoot root_;
    u32 resident_ LOFT_GUARDED_BY(mutex_) = 0;
    u32 swapped_ LOFT_GUARDED_BY(mutex_) = 0;
    u32 brk_begin_ LOFT_GUARDED_BY(mutex_) = 0, brk_end_ LOFT_GUARDED_BY(mutex_) = 0;
    Prot brk_prot_ LOFT_GUARDED_BY(mutex_) = Prot::none;
    u32 hand_ LOFT_GUARDED_BY(mutex_) = layout::kUserBegin; // of the clock
    ListLink ring_;
    hal::Atomic<SpaceUse> use_{SpaceUse::none};
    friend class LastResort;
    u32 compared_ = 0; // the last look at all spaces that has come to it (mm/reclaim/last_resort.cpp)

  public:
    using SpaceRing = Ring<AddressSpace, &AddressSpace::ring_>; // of all spaces
};

AddressSpace::SpaceRing& all_spaces(); // for clocks, and for mm/reclaim/last_resort.cpp

// AddressSpace::swap_out for all spaces: the hand goes from space to space, until it has passed all of them twice, or
// as many pages as `limit` allows.
u32 swap_out_pages(u32 wanted, HandLimit& limit);
inline u32 swap_out_pages(u32 wanted) {
    HandLimit none;
    return swap_out_pages(wanted, none);
}
// Brings in all pages of spaces and objects with slots of this area, which it closes: when it returns success, no slot
// has a user, but for those of faults under way. Context as bring_in.
[[nodiscard]] Status empty_swap_area(SwapArea& area);

// How often clear() or reap() has freed the memory of a space; it wraps. Any context.
u32 spaces_cleared();
// Up-call, defined by mm/reclaim: nothing can be reclaimed; ends the program that has the most memory, and frees that,
// unless the memory of one was freed `since` that value of spaces_cleared(), which was read before the caller has
// looked for memory. True: the caller tries again. False: its own program ends, or there is none. Preemptible context;
// no mutex of a space or of an object is held.
bool end_largest_program(u32 since);

// Switches this CPU to `next`. Null: the next thread is a kernel thread; the loaded root is kept lazily, as a kernel
// thread does not access addresses below layout::kUserEnd. The thread has a reference to `next`. Context: the
// scheduler, interrupts off. Cost: a CR3 load, unless `next` is null or its root is loaded already.
void space_switch(AddressSpace* next);

// Totals of all spaces. Any context but NMI; a snapshot.
struct SpaceTotals {
    u32 spaces = 0;
    u32 areas = 0;
    u32 zero_objects = 0;
    bool operator==(const SpaceTotals&) const = default;
};
SpaceTotals space_totals();

// The space of the current thread; null in a kernel thread. Any context.
AddressSpace* active_space();

void address_space_init();              // boot; after the object cache
void address_space_init_cpu(CpuId cpu); // `cpu` has the kernel's root loaded

} // namespace loft
