// Swap areas: disks, and files on disks, that keep pages which have no other place outside memory: private pages of
// programs, and those of objects without a source (mm/cache/memory_object.hpp).
//
// A swap area is a memory object (docs/disks.md, "Swap"): page n is slot n. So the swap cache is the index of that
// object: a page that is swapped out is dirty there until write-back has stored it, a clock drops it, and a fault fills
// it again. What is new here is a count of users for each slot: the entries of page tables that hold it, the object
// whose index holds it, and threads that are filling it. A slot without users is free.
//
// A page in the cache is never stored to: it is mapped read-only, or not at all. Its payload says which slot it has.
// When the last user of a slot goes, its page leaves the cache.
//
// The sectors of each page of a file are looked up once, when it becomes a swap area: from there on the area works on
// the disk, and never enters the file system (as Linux's swapon does). Whoever opens it keeps the file as it is.
//
// Disk or file have the format of mkswap(8): page 0 is the header, with the signature SWAPSPACE2, the number of the
// last page, and the bad ones. Numbers are those of the machine that made it, little endian here.
#pragma once

#include "mm/cache/disk_object.hpp"
#include "mm/ground/spinlock.hpp"

namespace loft {

// What an entry of a page table holds instead of a frame, and an object's index instead of a page. 0: none.
struct SwapSlot {
    static constexpr u32 kSlotBits = 20, kAreaBits = 4;
    u32 area = 0; // the number of the area
    u32 slot = 0;
    bool empty() const { return slot == 0; }
    bool operator==(const SwapSlot&) const = default;

    // In 24 bits: for an object's index, and the payload of a page in the cache.
    u32 packed() const { return area << kSlotBits | slot; }
    static SwapSlot unpacked(u32 bits) { return {bits >> kSlotBits, bits & ((1u << kSlotBits) - 1)}; }
};

// Where the pages of a file lie, for SwapArea::open.
class SwapFile {
  public:
    static constexpr u32 kScattered = ~0u;
    explicit SwapFile(MemoryObject& object) : object_{object} {}
    MemoryObject& object() const { return object_; } // the file; what it is known by
    virtual u32 pages() const = 0;                   // that are in it wholly
    // The first sector of a page; kScattered: its sectors do not follow one another, so it is not used. Errors: invalid
    // (there is a hole), and those of the file system.
    virtual Result<u32> sector_of(u32 page) = 0;

  protected:
    ~SwapFile() = default;

  private:
    MemoryObject& object_;
};

struct SwapStats {
    u32 slots = 0, free = 0; // free: not those of areas that are closed, or whose disk has gone
    u32 in = 0, out = 0;     // pages that were read and written; they wrap
};
SwapStats swap_stats(); // of all areas; any context but NMI; a snapshot
// Writes the pages of all areas, or waits until another thread has, and frees those of `zones` that no space maps.
// Returns their number. Preemptible context; no mutex of a space or of an index is held, but those of other objects may
// be: it waits for the disks of the areas only.
u32 free_swapped_pages(ZoneSet zones);
// Some space maps a page that is in the cache, or a thread uses one. Preemptible context; no mutex of an object is
// held. Cost: the local maps of the indexes, at most.
bool swap_cache_is_mapped();

class SwapArea final : public DiskObject {
  public:
    static constexpr u32 kMost = 1u << SwapSlot::kAreaBits;      // areas at a time
    static constexpr u32 kMostSlots = 1u << SwapSlot::kSlotBits; // the rest of a larger disk is not used

    // Reads the header, and makes the area known: pages are swapped out to it from here on. `file`: it is this file on
    // the disk; null: the disk. They must live longer, and nobody else writes to them. Errors: invalid (no header of
    // mkswap, or one that does not fit; no good page; a file with holes, or with bad pages), busy (it is an area
    // already), no_space (there are kMost), no_memory, and those of the disk and of `file`. Preemptible context. Cost:
    // of a file, four bytes of high memory for each page.
    [[nodiscard]] static Result<SwapArea*> open(BlockDevice& disk, SwapFile* file = nullptr);
    // The caller has closed() it, and no slot has a user. It is not known any more, and destroyed; nothing is written
    // to the disk afterwards. Context as open.
    void remove();
    // The area of this disk, or of this file; null: it is none. Context: any but NMI.
    static SwapArea* of_disk(const BlockDevice& disk);
    static SwapArea* of_file(const MemoryObject& file);
    MemoryObject* file() const { return file_; } // null: a disk
    // The area of a slot that has a user.
    static SwapArea& of(SwapSlot slot);
    // A free slot of any area, with one user. Empty: there is none. Context: any but NMI.
    [[nodiscard]] static SwapSlot take_slot();
    // The slot of a private page in the cache, with one more user. Empty: it is not in the cache, or its area is
    // closed. Preemptible context; the caller has a reference to the page.
    [[nodiscard]] static SwapSlot join(Page* page);

    u32 slots() const { return usable_; } // without the bad ones
    u32 free_slots() const { return free_.load(); }
    bool is_empty() const { return free_.load() == usable_; } // no slot has a user
    // No slot is taken from here on, and is_empty() counts each that was taken; or again. Context: any but NMI.
    void set_closed(bool closed);

    // One more user of a slot that has one. Context: any but NMI.
    void add_user(u32 slot);
    // One less. The last one: the page of the slot leaves the cache, and the slot is free. Preemptible context.
    void put_user(u32 slot);
    // The page, which nobody can store to, is that of this slot from here on, and dirty. The object takes a reference
    // of its own. False: there is no memory for the index, or another space has just given the page a slot. Preemptible
    // context; a mutex of a space may be held.
    [[nodiscard]] bool keep(u32 slot, Page* page);
    // The caller's user of the slot goes, and it maps the page, to which it has `mine` references. True: nobody else
    // has the slot or the page, so the page has left the cache and may be stored to. Preemptible context.
    [[nodiscard]] bool claim(u32 slot, Page* page, u32 mine);

  private:
    friend class Cache<SwapArea>;
    // It does not read ahead: the next slots may get other pages meanwhile.
    SwapArea(BlockDevice& disk, u32 end, MemoryObject* file) : DiskObject{disk, false}, end_{end}, file_{file} {}
    ~SwapArea() = default;
    // Its store waits for its disk only, so frames for a file system's own pages may come from private memory, too.
    bool serves_others() const override { return true; }
    Status fill(u32 first, std::span<Page* const> frames) override;
    Status store(u32 first, std::span<Page* const> frames) override;
    u64 sector_of(u32 page) const override;
    void destroy() override;

    [[nodiscard]] Status look_up(SwapFile& file);
    // Counts of users, 16 bits each, in frames of their own: a program has a slot at most once, so they cannot be full.
    static constexpr u32 kPerFrame = kPageSize / 2, kMostFrames = kMostSlots / kPerFrame;
    // Where counts_ has the number of free slots in the frame of this slot.
    static constexpr u32 free_at(u32 slot) { return (kMostFrames + slot / kPerFrame) * 4; }
    static_assert(kMostFrames * 8 == kPageSize);
    static constexpr u32 kNoUse = 0xffff; // the header, a bad slot, or one that becomes free just now
    [[nodiscard]] bool make_counts();
    [[nodiscard]] bool mark_bad(Page* header, u32 pages);
    void mark_bad(u32 slot) LOFT_REQUIRES(lock_);
    Page* frame_of_counts(u32 slot) const;
    u32 count(u32 slot) const LOFT_REQUIRES(lock_);
    void set_count(u32 slot, u32 users) LOFT_REQUIRES(lock_);
    u32 take() LOFT_REQUIRES(lock_); // a free slot, with one user; 0: there is none
    u32 free_in(u32 first, u32 end) const LOFT_REQUIRES(lock_);
    bool try_add_user(u32 slot) LOFT_REQUIRES(lock_); // false: it is free, or becomes free
    bool remove_user(u32 slot) LOFT_REQUIRES(lock_);  // true: it was the last one
    void empty_slot(u32 slot);                        // its last user has gone
    u32 payload_of(u32 slot) const { return SwapSlot{number_, slot}.packed(); }

    template <typename F> static void each(F&& visit); // visit(area), with a reference

    static SpinLock lock_; // of all areas: counts, payloads of private pages, and which areas there are
    static SwapArea* area_[kMost] LOFT_GUARDED_BY(lock_);
    static u32 next_ LOFT_GUARDED_BY(lock_); // pages are spread over all areas
    friend SwapStats swap_stats();
    friend u32 free_swapped_pages(ZoneSet zones);
    friend bool swap_cache_is_mapped();
    friend void swap_area_init();

    const u32 end_; // slots are below this
    MemoryObject* const file_;
    u32 number_ = 0;
    u32 usable_ = 0; // slots that are not bad
    hal::Atomic<u32> free_{0};
    enum Closed : u8 { kByCaller = 1, kGone = 2 };
    hal::Atomic<u32> closed_{0};          // a bit for each reason
    u32 hand_ LOFT_GUARDED_BY(lock_) = 1; // where the search for a free slot begins
    // A frame: the numbers of the frames that have the counts, or 0; and how many slots of each are free.
    Page* counts_ = nullptr;
    // Of a file, a frame: the numbers of the frames that have the first sector of each page, 32 bits each, or 0.
    static constexpr u32 kSectorsPerFrame = kPageSize / 4;
    Page* sectors_ = nullptr;
};

void swap_area_init(); // boot; after the object cache

} // namespace loft
