// The frame descriptor: 8 bytes for every 4 KiB frame of the machine.
//
// With 64 GiB there are 16 million of them, in lowmem: one more byte costs 16 MiB of the 896. So a descriptor links to
// others by frame number, not by pointer, and its two words have one layout while the frame is free and another while
// it is used. The type has the same place in both:
//
//          31    26 25   24 23                           10 9                 0
//   free   | type  | spare | next free frame (24)                             |  word 0
//          | order(4) | spare(4) | previous free frame (24)                   |  word 1
//   used   | type  | reference count (16)                  | pkmap slot (10)  |  word 0
//          | payload (32): depends on the type                                |  word 1
//
// Frame 0 (the real-mode vectors) is never allocated, so number 0 ends a list. pkmap slot 0 is never used, so slot 0
// means "no slot".
#pragma once

#include "arch/base/panic.hpp"
#include "arch/base/types.hpp"
#include "mm/ground/layout.hpp"
#include <hal/hal.hpp>

namespace loft {

inline constexpr u32 kMaxOrder = 10; // the largest block: 2^10 frames, 4 MiB

enum class PageType : u8 {
    none = 0, // not RAM, reserved, or inside a free block: in no list, never freed
    buddy,    // head of a free block
    cached,   // free, in a CPU's list
    used,     // head (or only page) of an allocation
    tail,     // further page of an allocation
    slab,     // used, by the object cache; payload: the slab's header
    table,    // used, a page table
};

class Page {
  public:
    static constexpr u32 kMaxRefs = 0xffff; // saturated: a frame with this count is never freed
    static constexpr u32 kNoSlot = 0;

    PageType type() const { return static_cast<PageType>(word0_.load() >> kTypeShift); }

    // Used frames.
    u32 refs() const { return (word0_.load() & kRefField) >> kRefShift; }
    u32 slot() const { return word0_.load() & kSlotMask; }
    bool has_slot() const { return slot() != kNoSlot; }
    u32 payload() const { return word1_; }
    void set_payload(u32 value) { word1_ = value; }

    void make_used(PageType type, u32 refs) { word0_.store(used_word(type, refs)); }
    // Of type `used` and without a kmap slot, whatever its reference count.
    bool is_plain() const { return (word0_.load() & ~kRefField) == used_word(PageType::used, 0); }

    void set_type(PageType type) {
        u32 old = word0_.load();
        while (!word0_.compare_exchange(old, (old & ~kTypeField) | static_cast<u32>(type) << kTypeShift)) {
        }
    }
    // Sets the slot field if it is kNoSlot; false if the page has a slot. Other CPUs may set the slot or change the
    // reference count at the same time.
    bool try_set_slot(u32 slot) {
        for (;;) {
            u32 old = word0_.load() & ~kSlotMask;
            if (word0_.compare_exchange(old, old | slot)) [[likely]]
                return true;
            if ((old & kSlotMask) != kNoSlot) return false;
        }
    }
    // The caller holds the lock of the pool.
    void clear_slot() { word0_.fetch_and(~kSlotMask); }
    // Adds a reference; saturates.
    void get() {
        u32 old = word0_.load();
        do {
            if ((old & kRefField) == kRefField) return;
        } while (!word0_.compare_exchange(old, old + kOneRef));
    }
    // Drops a reference. True if it was the last one; a saturated count stays.
    bool put() {
        u32 old = word0_.load();
        do {
            if ((old & kRefField) == kRefField) return false;
            if ((old & kRefField) == 0) panic("page: reference count of frame below zero");
        } while (!word0_.compare_exchange(old, old - kOneRef));
        return (old & kRefField) == kOneRef;
    }

    // Free frames. The caller holds the zone's lock (buddy), or runs on the CPU of the list with interrupts off
    // (cached).
    Pfn next() const { return Pfn{word0_.load() & kLinkMask}; }
    Pfn prev() const { return Pfn{word1_ & kLinkMask}; }
    u32 order() const { return word1_ >> kOrderShift; }
    void make_free(PageType type, Pfn next, Pfn prev, u32 order) {
        word0_.store(static_cast<u32>(type) << kTypeShift | next.value());
        word1_ = order << kOrderShift | prev.value();
    }
    void make_cached() { word0_.store(static_cast<u32>(PageType::cached) << kTypeShift); }
    void set_next(Pfn next) { word0_.store((word0_.load() & ~kLinkMask) | next.value()); }
    void set_prev(Pfn prev) { word1_ = (word1_ & ~kLinkMask) | prev.value(); }
    void make_none() { word0_.store(0); }

  private:
    static constexpr u32 kTypeShift = 26, kTypeField = 0x3fu << kTypeShift;
    static constexpr u32 used_word(PageType type, u32 refs) {
        return static_cast<u32>(type) << kTypeShift | refs << kRefShift;
    }

    static constexpr u32 kRefShift = 10, kOneRef = 1u << kRefShift, kRefField = kMaxRefs << kRefShift;
    static constexpr u32 kSlotMask = kOneRef - 1;
    static constexpr u32 kLinkMask = 0xff'ffff, kOrderShift = 28;

    hal::Atomic<u32> word0_;
    u32 word1_;
};
static_assert(sizeof(Page) == 8);

// The end of the memory that this configuration reaches: 64 GiB with PAE, 4 GiB without, or the direct map.
inline constexpr u32 kMaxPfn = config::kPae ? 1u << 24 : config::kHighMem ? 1u << 20 : layout::kMaxLowmem >> kPageShift;

// The frame table: one Page for every frame from 0 to mem_map_count - 1.
extern Page* mem_map;
extern u32 mem_map_count;
// The first descriptors of the zones (page_alloc.hpp); the end of the table or behind it if a zone has none.
extern Page* first_normal_page;
extern Page* first_high_page;

inline Pfn page_to_pfn(const Page* page) { return Pfn{static_cast<u32>(page - mem_map)}; }
inline Page* pfn_to_page(Pfn pfn) { return mem_map + pfn.value(); }
inline bool pfn_valid(Pfn pfn) { return pfn.value() < mem_map_count; }
inline bool is_highmem(Pfn pfn) { return pfn >= layout::lowmem_end(); }
inline bool is_highmem(const Page* page) { return page >= first_high_page; }

// True if the page must be mapped to be accessed: a high page, with DEBUG any page.
inline bool needs_slot(const Page* page) { return config::kHighMem && (config::kDebug || is_highmem(page)); }

// The entry that maps the page. The offset of the descriptor in the frame table (8 bytes for each frame) is shifted to
// the frame field of an entry; the frame number itself is never computed.
inline Pte::Halves page_halves(const Page* page, PteFlags flags) {
    const u32 bytes =
        static_cast<u32>(reinterpret_cast<std::uintptr_t>(page) - reinterpret_cast<std::uintptr_t>(mem_map));
    constexpr u32 kShift = kPageShift - std::countr_zero(sizeof(Page));
    const Pte::Halves flag = flags.halves();
    return {bytes << kShift | flag.low, (config::kPae ? bytes >> (32 - kShift) : 0) | flag.high};
}

// Lowmem only: the address of a frame in the direct map, and the reverse.
inline VirtAddr direct_addr(Pfn pfn) { return VirtAddr{layout::kPageOffset + (pfn.value() << kPageShift)}; }
inline PhysAddr direct_phys(VirtAddr va) { return PhysAddr{u64{va.value() - layout::kPageOffset}}; }
inline bool in_direct_map(VirtAddr va) { return va.value() - layout::kPageOffset < layout::boundaries.lowmem_bytes; }

} // namespace loft
