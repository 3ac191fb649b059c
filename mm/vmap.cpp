// vmap and vmalloc: the tree of areas, and the deferred flush.
#include "mm/vmap.hpp"

#include "mm/context.hpp"
#include "mm/highmem.hpp"
#include "mm/page_alloc.hpp"
#include "mm/pagetable.hpp"
#include "mm/slab.hpp"
#include "mm/spinlock.hpp"

#include <boost/intrusive/set.hpp>

#include <algorithm>
#include <new>

namespace loft {
namespace {

namespace bi = boost::intrusive;

struct Area : bi::set_base_hook<bi::link_mode<bi::normal_link>> {
    u32 begin = 0;
    u32 pages = 0;
    bool lazy = false;        // unmapped; the addresses are not usable before the flush
    bool owns_frames = false; // vmalloc
    Pfn owed{};               // vfree: frames that wait for the flush, a list through their payload

    u32 end() const { return begin + ((pages + 1) << kPageShift); } // with the guard page
};
struct ByAddress {
    using type = u32;
    u32 operator()(const Area& area) const { return area.begin; }
};
using Areas = bi::set<Area, bi::key_of_value<ByAddress>, bi::constant_time_size<false>>;

struct State {
    SpinLock lock{LockRank::vmap};
    // Also held while the tree changes: DEBUG walks it when a frame is freed, from under any lock. Nothing is taken inside.
    SpinLock tree_lock;
    u32 cursor = 0; // where the last area ended
    u32 lazy_pages = 0;
    VmapStats stats;
};
State state;
Cache<Area> area_cache{"vmap_area"};

// The tree has a constructor and a destructor, and the kernel runs neither for objects at namespace scope:
// vmap_init makes it here.
alignas(Areas) std::byte tree_memory[sizeof(Areas)];
Areas& areas() { return *std::launder(reinterpret_cast<Areas*>(tree_memory)); }

// Under the lock: flushes for all lazy areas at once, then frees their frames and addresses.
void flush_lazy() {
    if (state.lazy_pages == 0) return;
    ++state.stats.flushes;
    TlbBatch batch{TlbBatch::Kind::non_global};
    for (auto it = areas().begin(); it != areas().end();) {
        Area& area = *it++;
        if (!area.lazy) continue;
        batch.add(VirtAddr{area.begin}, area.pages);
        while (area.owed.value() != 0) {
            Page* page = pfn_to_page(area.owed);
            area.owed = Pfn{page->payload()};
            batch.free_after(page);
        }
        {
            SpinGuard tree{state.tree_lock};
            areas().erase(areas().iterator_to(area));
        }
        area_cache.destroy(&area);
    }
    state.lazy_pages = 0;
    batch.flush();
}

// Under the lock: addresses for `pages` and their guard, at or above the cursor. 0 if there are none.
u32 find_from_cursor(u32 pages) {
    const u64 need = u64{pages + 1} << kPageShift;
    u32 at = state.cursor;
    auto next = areas().lower_bound(at);
    if (next != areas().begin()) {
        auto before = next;
        at = std::max(at, (--before)->end());
    }
    for (;; ++next) {
        const u32 limit = next == areas().end() ? layout::kVmapEnd : next->begin;
        if (limit >= at && limit - at >= need) return at;
        if (next == areas().end()) return 0;
        at = next->end();
    }
}

// An area of its own for the caller; null with `error` set if there is none.
Area* new_area(u32 pages, bool owns_frames, Error& error) {
    if (pages == 0) {
        error = Error::invalid;
        return nullptr;
    }
    error = Error::no_space;
    if (pages >= (layout::kVmapEnd - layout::boundaries.vmap_begin) >> kPageShift) return nullptr;
    Area* area = area_cache.make();
    if (area == nullptr) {
        error = Error::no_memory;
        return nullptr;
    }
    SpinGuard guard{state.lock};
    u32 begin = find_from_cursor(pages);
    if (begin == 0) {
        // The end of a round: what was unmapped since becomes usable, and the search starts at the bottom.
        ++state.stats.rounds;
        flush_lazy();
        state.cursor = layout::boundaries.vmap_begin;
        begin = find_from_cursor(pages);
    }
    if (begin == 0) {
        area_cache.destroy(area);
        return nullptr;
    }
    area->begin = begin;
    area->pages = pages;
    area->owns_frames = owns_frames;
    {
        SpinGuard tree{state.tree_lock};
        areas().insert(*area);
    }
    state.cursor = area->end();
    ++state.stats.areas;
    state.stats.pages += pages;
    return area;
}

PteFlags flags_of(VmapProt prot) {
    switch (prot) {
    case VmapProt::rw:
        return kernel_prot.pool;
    case VmapProt::ro:
        return kernel_prot.pool_ro;
    case VmapProt::rx:
        return kernel_prot.pool_rx;
    }
    return kernel_prot.pool_ro;
}

// Takes the area that begins at `addr` out of use. Its entries go now, the flush and the frames it owns
// later.
void release(VirtAddr addr, bool owns_frames, const char* who) {
    might_sleep(who);
    SpinGuard guard{state.lock};
    const auto it = areas().find(addr.value());
    if (it == areas().end() || it->lazy || it->owns_frames != owns_frames)
        panic("{}: {} is not the start of {} area", who, addr, owns_frames ? "a vmalloc" : "a vmap");
    Area& area = *it;
    hal::PteCell* cell = kernel_pte(addr);
    for (u32 i = 0; i < area.pages; ++i) {
        const Pte old = hal::pte_take(cell + i);
        if (owns_frames && old.present()) {
            Page* page = pfn_to_page(old.pfn());
            page->set_payload(area.owed.value());
            area.owed = old.pfn();
        }
    }
    area.lazy = true;
    --state.stats.areas;
    state.stats.pages -= area.pages;
    state.lazy_pages += area.pages;
    // DEBUG flushes at once, so that a use after vunmap faults.
    if (config::kDebug || state.lazy_pages > kLazyPages) flush_lazy();
}

} // namespace

Result<VirtAddr> vmap(Page* const* pages, u32 n, VmapProt prot) {
    might_sleep("vmap");
    Error error{};
    Area* area = new_area(n, false, error);
    if (area == nullptr) return error;
    const PteFlags flags = flags_of(prot);
    hal::PteCell* cell = kernel_pte(VirtAddr{area->begin});
    for (u32 i = 0; i < n; ++i)
        hal::pte_set(cell + i, Pte{page_to_pfn(pages[i]), flags});
    return VirtAddr{area->begin};
}

void vunmap(VirtAddr addr) { release(addr, false, "vunmap"); }

Result<VirtAddr> vmalloc(u32 bytes) {
    might_sleep("vmalloc");
    const u32 pages = pages_for(bytes);
    Error error{};
    Area* area = new_area(pages, true, error);
    if (area == nullptr) return error;
    const VirtAddr begin{area->begin};
    hal::PteCell* cell = kernel_pte(begin);
    for (u32 i = 0; i < pages; ++i) {
        Page* page = alloc_page(Gfp::high);
        if (page == nullptr) {
            // Frames of areas that were freed may wait for their flush.
            vmap_flush();
            page = alloc_page(Gfp::high);
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

void vfree(VirtAddr addr) { release(addr, true, "vfree"); }

void vmap_flush() {
    might_sleep("vmap_flush");
    SpinGuard guard{state.lock};
    flush_lazy();
}

VmapStats vmap_stats() {
    VmapStats stats = state.stats;
    stats.lazy_pages = state.lazy_pages;
    return stats;
}

VmapFault vmap_fault(VirtAddr va) {
    VmapFault fault;
    if (va.value() < layout::boundaries.vmap_begin || va.value() >= layout::kVmapEnd) return fault;
    fault.kind = VmapFault::Kind::unused;
    auto it = areas().upper_bound(va.value());
    if (it == areas().begin()) return fault;
    --it;
    if (va.value() >= it->end()) return fault;
    fault.area = VirtAddr{it->begin};
    fault.pages = it->pages;
    fault.kind = it->lazy                              ? VmapFault::Kind::lazy
                 : va.value() >= it->end() - kPageSize ? VmapFault::Kind::guard
                                                       : VmapFault::Kind::mapped;
    return fault;
}

bool vmap_maps_frame(Pfn pfn) {
    SpinGuard tree{state.tree_lock};
    for (const Area& area : areas()) {
        if (area.lazy) continue;
        const hal::PteCell* cell = kernel_pte(VirtAddr{area.begin});
        for (u32 i = 0; i < area.pages; ++i) {
            const Pte entry = hal::pte_read(cell + i);
            if (entry.present() && entry.pfn() == pfn) return true;
        }
    }
    return false;
}

void vmap_init() {
    state.lock.reset();
    state.tree_lock.reset();
    area_cache.reset();
    ::new (tree_memory) Areas;
    state.cursor = layout::boundaries.vmap_begin;
    state.lazy_pages = 0;
    state.stats = VmapStats{};
}

} // namespace loft
