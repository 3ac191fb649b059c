// An address space: the memory of a program, its areas, its page tables, and what becomes of its faults.
//
//     areas     what the program has been promised: ranges with rights and a kind           (mm/spaces/area.hpp)
//     tables    what it has got so far; entries appear by faults, page by page              (mm/spaces/user_tables.hpp)
//     root      which CPUs may hold translations of it, running it or lazily                (mm/tables/space_root.hpp)
//
// One sleeping Mutex for each space, in order of arrival, is all the locking: a fault, a map and an unmap of the same
// space take turns, and none can be kept out by others. The processor alone touches entries beside its owner (A and D).
//
// A page of a private area belongs to one mapping ("owned" in its entry), or is shared by fork until one side writes:
// then the writer gets a copy, or the page itself if everybody else has left. A page goes back when the last of those
// who count it, as mappings and as pins, has put it; and a mapping puts it only after every CPU that may still see it
// has flushed.
//
// No memory is an answer here, never a panic: a call that returns no_memory has changed nothing but for what is said
// beside it.
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
    u32 resident = 0; // pages that its tables show
    u32 tables = 0;   // page tables, without directories
    u32 areas = 0;
};

class AddressSpace : NotCopyable<AddressSpace> {
  public:
    // An empty space with the kernel's part in it, reference count 1; null if there is no memory. Preemptible context.
    [[nodiscard]] static AddressSpace* create();
    void get(); // any context, by somebody who has a reference
    // The last one ends it: CPUs that still have its root loaded, idle ones too, are made to load the kernel's, then
    // all of its memory goes back. Nobody may run in it. Preemptible context. Cost: one round of interrupts, to those
    // CPUs only.
    void put();

    // New memory of `bytes` (rounded up to pages), none of it present. Fixed: at `where` (page-aligned), in place of
    // what is there. Else `where` is a hint, taken if that range is free (0: none); or as high as possible below what
    // is there. MapKind::stack: `bytes` is the limit; the area begins with its topmost page and grows down by faults.
    // MapKind::grows: all of it is there, and it grows as a stack, to kGrowth below its end at most.
    // `backing`: what the pages of an anonymous or shared area come from, and which page lies at the beginning; the
    // area takes a reference of its own. Pages behind the end of the object are FaultResult::no_page. Without one,
    // a shared area gets a new ZeroObject.
    // Errors: invalid (size or alignment), no_access (below layout::kUserBegin), busy (fixed, and nothing may be
    // replaced, but something is there), no_space, no_memory.
    // Preemptible context. Cost: none; fixed in place of something: as unmap. Source: mmap(2).
    Result<VirtAddr> map(VirtAddr where, u32 bytes, Prot prot, MapKind kind, bool fixed, bool replace = true,
                         Backing backing = {});
    // Whatever is in the range goes; holes are no error. Errors: invalid, no_memory (an area had to be split).
    // Preemptible context. Cost: one flush on the CPUs of the space (more if over 64 shared pages go). Source:
    // munmap(2).
    Status unmap(VirtAddr begin, u32 bytes);
    // Every page of the range belongs to an area that is no guard, else not_found or no_access and nothing is changed.
    // Errors: also invalid, no_memory. Preemptible context. Cost: one flush if rights were taken away. Source:
    // mprotect(2). `down`: from the beginning of the first area in the range on, which must be one that grows down;
    // else invalid.
    Status protect(VirtAddr begin, u32 bytes, Prot prot, bool down = false);

    // The heap begins at this address, rounded up to a page, and is empty. Before others use the space.
    void set_brk_start(VirtAddr begin, Prot prot = Prot::read | Prot::write);
    // Moves the end of the heap. An address below its begin (0, say) only asks. Returns the end as it is now.
    // Errors: no_space (something is in the way), no_memory: the end stays. Preemptible context. Source: brk(2).
    Result<VirtAddr> brk(VirtAddr wanted);

    // What a word of memory is to other spaces. In a shared area: which page of which object, counted once more for the
    // caller. Elsewhere nothing: no other space has it.
    struct WordPlace {
        MemoryObject* object = nullptr;
        u32 page = 0;
    };
    // Errors: bad_address, no_access: an area that may not be read, or a private one that may not be written.
    // Preemptible context. Source: futex(2).
    Result<WordPlace> place_of(VirtAddr va);

    // A copy of the whole space, reference count 1: private pages are shared until one side writes, shared areas are
    // the same memory. Pages that somebody has pinned are copied at once, so that a pin stays a pin of this space's
    // memory.
    // Errors: no_memory. Preemptible context. Cost: one flush on the CPUs of the space.
    Result<AddressSpace*> fork();

    // A program, or the kernel on its behalf, faulted at `va`. Resolves what can be: demand-zero pages, copy on write,
    // growth of a stack, a fault that is settled already. Preemptible context. Cost: none; a copy: one flush on the
    // space's CPUs.
    FaultResult handle_fault(VirtAddr va, FaultAccess access);
    // The same, and the page that is there then, with a reference taken while nobody could change it.
    struct Pinned {
        FaultResult result = FaultResult::resolved;
        Page* page = nullptr; // if resolved; put_page gives it back
    };
    [[nodiscard]] Pinned pin(VirtAddr va, FaultAccess access);

    PhysAddr root() const { return root_.address(); }
    CpuSet cpus() const { return root_.cpus(); } // those that may hold translations of it; a snapshot
    SpaceStats stats();                          // preemptible context

  private:
    friend class Cache<AddressSpace>;
    friend void space_switch(AddressSpace* next);
    AddressSpace() = default;
    ~AddressSpace() = default;

    Pinned resolve(VirtAddr va, FaultAccess access) LOFT_REQUIRES(mutex_); // the page is not counted
    Pinned fill(const UserArea& area, VirtAddr va, FaultAccess access)
        LOFT_REQUIRES(mutex_); // a page that was not there
    Page* own(const UserArea& area, VirtAddr va, hal::PteCell* cell, Pte entry)
        LOFT_REQUIRES(mutex_);                               // null: no memory for a copy
    bool show(VirtAddr va, Pte entry) LOFT_REQUIRES(mutex_); // false: no memory for a table
    void remove(PageRange range) LOFT_REQUIRES(mutex_);
    void zap(PageRange range, TlbBatch& batch) LOFT_REQUIRES(mutex_);
    void change_rights(const UserArea& area, hal::PteCell* cell, Pte old, VirtAddr va, TlbBatch& batch)
        LOFT_REQUIRES(mutex_);                                     // of an entry that is there
    void note_stores(VirtAddr va, Pte gone) LOFT_REQUIRES(mutex_); // to the object, if it is written back
    bool copy_to(AddressSpace& child, TlbBatch& batch) LOFT_REQUIRES(mutex_, child.mutex_);
    bool copy_pages(AddressSpace& child, const UserArea& area, TlbBatch& batch) LOFT_REQUIRES(mutex_, child.mutex_);

    hal::Atomic<u32> refs_{1};
    Mutex mutex_{"of an address space"};
    AreaTree areas_ LOFT_GUARDED_BY(mutex_);
    UserTables tables_ LOFT_GUARDED_BY(mutex_);
    SpaceRoot root_;
    u32 resident_ LOFT_GUARDED_BY(mutex_) = 0;
    u32 brk_begin_ LOFT_GUARDED_BY(mutex_) = 0, brk_end_ LOFT_GUARDED_BY(mutex_) = 0;
    Prot brk_prot_ LOFT_GUARDED_BY(mutex_) = Prot::none;
};

// This CPU runs `next` from now on; null: a kernel thread, which keeps whatever root is loaded (lazily), because it has
// no business below layout::kUserEnd. The thread that runs has a reference. Called by the scheduler, interrupts off.
// Cost: a CR3 load, or nothing if that root is loaded already.
void space_switch(AddressSpace* next);

// What there is of all spaces together. Any context; a snapshot.
struct SpaceTotals {
    u32 spaces = 0;
    u32 areas = 0;
    u32 zero_objects = 0;
    bool operator==(const SpaceTotals&) const = default;
};
SpaceTotals space_totals();

// The space of the thread that runs; null in a kernel thread. Any context.
AddressSpace* active_space();

void address_space_init();              // boot; after the object cache
void address_space_init_cpu(CpuId cpu); // the kernel's root is loaded there

} // namespace loft
