// vmap and vmalloc: tags, areas, deferred flush. Contract: vmap.hpp.
#include "mm/windows/vmap.hpp"

#include "mm/frames/bootmem.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/ground/spinlock.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/highmem.hpp"

#include <bit>

namespace loft {
namespace {

// --- The tags. A page of the range is identified by its number, address >> 12.
//
// The range is divided into runs of pages, without gaps. The tag of a run's first page holds the kind and the length of
// the run; one more tag, `end`, follows the last page of the range:
//
//      free  0  0  0  0  vmap  0  0  (guard)  lazy  link  0  (guard)  free  0  0  0  0  0  0  end
//
// The tags of all other pages of a run are 0, or stale after runs were joined. Runs change under the lock. A reader
// without the lock steps over a run by its length, and over a tag that begins no run by one page. A run that exists
// during the whole walk is always found, whatever changes beside it.
enum class Kind : u32 { // bits of a tag; free is none of them
    free = 0,
    link =
        1u << 27, // begins no run: the second page of a lazy run; instead of a length, the first page of the next one
    vmap = 1u << 28,    // in use; the length includes the guard page
    vmalloc = 1u << 29, // the same, and the area owns its frames
    lazy = 1u << 30,    // unmapped, guard page included; not usable before the flush
    end = 1u << 31,
};
class Tag {
  public:
    constexpr Tag() = default; // begins no run
    constexpr Tag(Kind kind, u32 pages) : word_{pages + static_cast<u32>(kind)} {}
    explicit constexpr Tag(u32 word) : word_{word} {}

    constexpr u32 word() const { return word_; }
    constexpr u32 pages() const { return word_ & kPages; }
    constexpr bool is(Kind kind) const { return (word_ & static_cast<u32>(kind)) != 0; }
    constexpr bool is_free() const { return word_ <= kPages; }
    constexpr bool in_use() const { return is(Kind::vmap) || is(Kind::vmalloc); }
    constexpr bool begins() const { return word_ != 0 && !is(Kind::link); }

  private:
    static constexpr u32 kPages = (1u << 27) - 1;
    u32 word_ = 0;
};
using TagCell = hal::Plain<u32>;
static_assert(sizeof(TagCell) == sizeof(u32));

constexpr u32 kEnd = layout::kVmapEnd >> kPageShift;
u32 first_page() { return layout::boundaries.vmap_begin >> kPageShift; }
VirtAddr addr_of(u32 page) { return VirtAddr{page << kPageShift}; }

struct State {
    SpinLock lock{LockRank::vmap};
    std::uintptr_t tags_origin = 0;           // the address that the tag of page 0 would have
    u32 cursor LOFT_GUARDED_BY(lock) = 0;     // the page behind the last area; a run begins there
    u32 room LOFT_GUARDED_BY(lock) = 0;       // the largest area that fits into that run with its guard; 0: unknown
    u32 lazy LOFT_GUARDED_BY(lock) = 0;       // the youngest lazy run, or 0
    u32 lazy_pages LOFT_GUARDED_BY(lock) = 0; // of all lazy runs, without guard pages
    Pfn owed LOFT_GUARDED_BY(lock){};         // vfree: list, through the payload, of frames to free after the flush
    u32 flushes LOFT_GUARDED_BY(lock) = 0;
    u32 rounds LOFT_GUARDED_BY(lock) = 0;
};
State state;

TagCell& tag_cell(u32 page) { return *reinterpret_cast<TagCell*>(state.tags_origin + page * sizeof(TagCell)); }
Tag tag_of(const TagCell& cell) { return Tag{cell.load()}; }
Tag tag_at(u32 page) { return tag_of(tag_cell(page)); }
void put(TagCell& cell, Tag tag) { cell.store(tag.word()); }

// --- The caller holds the lock.

// One flush for all lazy areas. Their addresses become free, and after the flush so do the frames of vfree.
[[gnu::noinline]] void flush_lazy() LOFT_REQUIRES(state.lock) {
    if (state.lazy == 0) return;
    ++state.flushes;
    TlbBatch batch{TlbBatch::Kind::non_global};
    if (state.lazy_pages > TlbBatch::kMaxPages) {
        batch.add(addr_of(first_page()), state.lazy_pages); // becomes a full flush, so the addresses do not matter
    } else {
        for (u32 area = state.lazy; area != 0; area = tag_at(area + 1).pages())
            batch.add(addr_of(area), tag_at(area).pages() - 1);
    }
    TagCell* const tags = &tag_cell(0);
    for (u32 area = state.lazy; area != 0;) {
        const u32 next = tag_of(tags[area + 1]).pages();
        put(tags[area], Tag{Kind::free, tag_of(tags[area]).pages()});
        area = next;
    }
    state.lazy = 0;
    state.lazy_pages = 0;
    while (state.owed.value() != 0) {
        Page* frame = pfn_to_page(state.owed);
        state.owed = Pfn{frame->payload()};
        batch.free_after(frame);
    }
    batch.flush();
}

// Moves the cursor to the next free run with room for an area of `pages` and its guard. Joins adjacent free runs on the
// way, but at most kAhead pages more than needed: interrupts are off.
bool find_room(u32 pages) LOFT_REQUIRES(state.lock) {
    constexpr u32 kAhead = 512;
    TagCell* const tags = &tag_cell(0);
    for (u32 at = state.cursor;;) {
        const Tag tag = tag_of(tags[at]);
        if (tag.is(Kind::end)) return false;
        u32 run = tag.pages();
        if (tag.is_free()) {
            while (run <= pages + kAhead) {
                const Tag next = tag_of(tags[at + run]);
                if (!next.is_free()) break;
                put(tags[at + run], Tag{});
                run += next.pages();
            }
            put(tags[at], Tag{Kind::free, run});
            if (run > pages) {
                state.cursor = at;
                state.room = run - 1;
                return true;
            }
        }
        at += run;
    }
}

// The same. If the search reaches the end of the range, a round ends: a flush makes all lazy areas usable, and the
// search begins again at the first page.
[[gnu::noinline]] bool make_room(u32 pages) LOFT_REQUIRES(state.lock) {
    if (pages == 0 || pages >= kEnd - first_page()) return false;
    if (find_room(pages)) return true;
    ++state.rounds;
    flush_lazy();
    state.cursor = first_page();
    state.room = 0;
    return find_room(pages);
}

// True if an area of `pages` fits at the cursor, which may move to find room. False for 0 pages.
[[gnu::always_inline]] inline bool has_room(u32 pages) LOFT_REQUIRES(state.lock) {
    return pages - 1 < state.room || make_room(pages);
}

// Makes the area at the cursor; returns its first page.
[[gnu::always_inline]] inline u32 take(u32 pages, Kind kind) LOFT_REQUIRES(state.lock) {
    TagCell* const tags = &tag_cell(0);
    const u32 begin = state.cursor, end = begin + pages + 1, rest = state.room - pages;
    put(tags[begin], Tag{kind, pages + 1});
    state.cursor = end;
    if (rest != 0) [[likely]] {
        put(tags[end], Tag{Kind::free, rest});
        state.room = rest - 1;
    } else {
        state.room = 0;
    }
    return begin;
}
[[noreturn, gnu::cold, gnu::noinline]] void not_an_area(VirtAddr addr, Kind kind, const char* who) {
    panic("{}: {} is not the start of {} area", who, addr, kind == Kind::vmalloc ? "a vmalloc" : "a vmap");
}

// The number of pages, without the guard, of the area that begins at `addr`. Panics if none begins there.
[[gnu::always_inline]] inline u32 pages_of_area(VirtAddr addr, Kind kind, const char* who) {
    // The rotation moves an offset inside the page to the top bits: the number is then above kEnd.
    const u32 page = std::rotr(addr.value(), kPageShift);
    if (addr.value() < layout::boundaries.vmap_begin || page >= kEnd) [[unlikely]]
        not_an_area(addr, kind, who);
    const Tag tag = tag_at(page);
    if (!tag.is(kind)) [[unlikely]]
        not_an_area(addr, kind, who);
    return tag.word() - Tag{kind, 1}.word();
}

// Makes an area lazy. Its entries are cleared already; the flush is deferred.
[[gnu::always_inline]] inline void retire(VirtAddr addr, u32 pages) LOFT_REQUIRES(state.lock) {
    const u32 page = addr.value() >> kPageShift;
    TagCell* const tag = &tag_cell(page);
    put(tag[0], Tag{Kind::lazy, pages + 1});
    put(tag[1], Tag{Kind::link, state.lazy});
    state.lazy = page;
    state.lazy_pages += pages;
    // DEBUG flushes at once, so that a use after vunmap faults.
    if (config::kDebug || state.lazy_pages > kLazyPages) [[unlikely]]
        flush_lazy();
}

// --- Without the lock.

// The error of a request that found no room.
[[gnu::noinline]] Result<VirtAddr> no_area(u32 pages) { return pages == 0 ? Error::invalid : Error::no_space; }

const PteFlags& flags_of(VmapProt prot) {
    switch (prot) {
        [[likely]] case VmapProt::rw : return kernel_prot.pool;
    case VmapProt::ro:
        return kernel_prot.pool_ro;
    case VmapProt::rx:
        return kernel_prot.pool_rx;
    }
    return kernel_prot.pool_ro;
}

// Calls what(cell) for `n` entries. Unrolled eight times, which makes the loop overhead small.
template <typename F> [[gnu::always_inline]] inline void for_each_entry(hal::PteCell* cell, u32 n, F&& what) {
    const u32 odd = n % 8;
    hal::PteCell* const rest = cell + (n - odd);
    for (; cell != rest; cell += 8) {
        what(cell);
        what(cell + 1);
        what(cell + 2);
        what(cell + 3);
        what(cell + 4);
        what(cell + 5);
        what(cell + 6);
        what(cell + 7);
    }
    for (u32 i = 0; i != odd; ++i)
        what(rest + i);
}

// Calls visit(first page, pages) for each area in use until it returns false, and returns that.
template <typename F> bool for_each_area(F&& visit) {
    for (u32 page = first_page(); page < kEnd;) {
        const Tag tag = tag_at(page);
        if (tag.in_use() && !visit(page, tag.pages() - 1)) return false;
        page += tag.begins() ? tag.pages() : 1; // no run begins: another CPU is changing runs here
    }
    return true;
}

} // namespace

Result<VirtAddr> vmap(Page* const* pages, u32 n, VmapProt prot) {
    might_sleep("vmap");
    const u32 area =
        with_lock(state.lock, [n]() LOFT_REQUIRES(state.lock) { return has_room(n) ? take(n, Kind::vmap) : 0; });
    if (area == 0) [[unlikely]]
        return no_area(n);
    const VirtAddr begin = addr_of(area);
    const PteFlags& flags = flags_of(prot);
    for_each_entry(kernel_pte(begin), n, [&](hal::PteCell* cell) { hal::pte_set(cell, page_halves(*pages++, flags)); });
    return begin;
}

void vunmap(VirtAddr addr) {
    might_sleep("vunmap");
    with_lock(state.lock, [addr]() LOFT_REQUIRES(state.lock) {
        const u32 pages = pages_of_area(addr, Kind::vmap, "vunmap");
        // The low half is enough: the old values are not needed, and the next pte_set writes both halves.
        for_each_entry(kernel_pte(addr), pages, [](hal::PteCell* cell) { hal::pte_clear_low(cell); });
        retire(addr, pages);
    });
}

Result<VirtAddr> vmalloc(u32 bytes, Gfp gfp) {
    might_sleep("vmalloc");
    const u32 pages = pages_for(bytes);
    const u32 area = with_lock(
        state.lock, [pages]() LOFT_REQUIRES(state.lock) { return has_room(pages) ? take(pages, Kind::vmalloc) : 0; });
    if (area == 0) return no_area(pages);
    const VirtAddr begin = addr_of(area);
    hal::PteCell* cell = kernel_pte(begin);
    for (u32 i = 0; i < pages; ++i) {
        Page* page = alloc_page(gfp);
        if (page == nullptr) {
            // Frames of earlier vfree calls may wait for their flush.
            vmap_flush();
            page = alloc_page(gfp);
        }
        if (page == nullptr) {
            vfree(begin);
            vmap_flush();
            return Error::no_memory;
        }
        clear_highpage(page);
        hal::pte_set(cell + i, Pte{page_to_pfn(page), kernel_prot.pool});
    }
    return begin;
}

void vfree(VirtAddr addr) {
    might_sleep("vfree");
    SpinGuard guard{state.lock};
    const u32 pages = pages_of_area(addr, Kind::vmalloc, "vfree");
    hal::PteCell* cell = kernel_pte(addr);
    for (u32 i = 0; i < pages; ++i) {
        const Pte old = hal::pte_take(cell + i);
        if (!old.present()) continue; // vmalloc ran out of memory before this page
        pfn_to_page(old.pfn())->set_payload(state.owed.value());
        state.owed = old.pfn();
    }
    retire(addr, pages);
}

void vmap_flush() {
    might_sleep("vmap_flush");
    SpinGuard guard{state.lock};
    flush_lazy();
}

VmapStats vmap_stats() {
    VmapStats stats;
    for_each_area([&](u32, u32 pages) {
        ++stats.areas;
        stats.pages += pages;
        return true;
    });
    const SpinGuard guard{state.lock};
    stats.lazy_pages = state.lazy_pages;
    stats.flushes = state.flushes;
    stats.rounds = state.rounds;
    return stats;
}

VmapFault vmap_fault(VirtAddr va) {
    VmapFault fault;
    if (state.tags_origin == 0) return fault; // too early
    const u32 first = first_page(), page = va.value() >> kPageShift;
    if (page < first || page >= kEnd) return fault;
    // Without the lock: a CPU that panics may hold it.
    u32 area = page;
    while (area != first && !tag_at(area).begins())
        --area;
    const Tag tag = tag_at(area);
    const bool lazy = tag.is(Kind::lazy);
    fault.kind = VmapFault::Kind::unused;
    if ((!lazy && !tag.in_use()) || page - area >= tag.pages()) return fault;
    fault.area = addr_of(area);
    fault.pages = tag.pages() - 1;
    fault.kind = lazy                         ? VmapFault::Kind::lazy
                 : page - area == fault.pages ? VmapFault::Kind::guard
                                              : VmapFault::Kind::mapped;
    return fault;
}

// Takes no lock: frames are freed while any lock may be held.
bool vmap_maps_frame(Pfn pfn) {
    return !for_each_area([pfn](u32 area, u32 pages) {
        for (u32 i = 0; i < pages; ++i) {
            const Pte entry = hal::pte_read(kernel_pte(addr_of(area + i)));
            if (entry.present() && entry.pfn() == pfn) return false;
        }
        return true;
    });
}

void vmap_init() LOFT_UNCHECKED { // boot
    const u32 first = first_page(), pages = kEnd - first, bytes = (pages + 1) * u32{sizeof(TagCell)};
    const VirtAddr tags = bootmem_alloc(bytes, kPageSize, "the tags of the vmap area");
    hal::zero_words(tags, bytes);
    state.lock.reset();
    state.tags_origin = reinterpret_cast<std::uintptr_t>(hal::lowmem_ptr<TagCell>(tags)) - first * sizeof(TagCell);
    put(tag_cell(first), Tag{Kind::free, pages});
    put(tag_cell(kEnd), Tag{Kind::end, 0});
    state.cursor = first;
    state.room = 0;
    state.lazy = 0;
    state.lazy_pages = 0;
    state.owed = Pfn{};
    state.flushes = near_wrap<u32>();
    state.rounds = near_wrap<u32>();
}

} // namespace loft
