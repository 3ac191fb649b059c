// Page tables of programs, which may lie in high memory.
//
// Every process needs tables, a machine has as many processes as its memory can hold, and lowmem does not grow with it:
// so tables come from where there is most of it. The price is that a table has no address for good. Whoever wants an
// entry asks for it and gives it back:
//
//     hal::PteCell* entry = pte_offset_map(pmd, addr);         or        PteMap entry{pmd, addr};
//     ...
//     pte_unmap(entry);
//
// It is the local stack that shows the table (mm/windows/kmap_local.hpp): no lock, no sleep, no limit but its depth;
// never kmap(), which could sleep and runs out. A table in lowmem is arithmetic, so the same calls reach the kernel's
// own tables. With DEBUG=1 lowmem tables go through a real slot too: a missing pte_unmap is a held slot, which is
// reported when the context returns to its program, sleeps idle or ends. HIGHPTE=0 and `userpte=nohigh`: every table is
// in lowmem.
//
// There is no pte_offset(): code that has not heard of high tables does not compile.
// Source: the highpte proposal for Linux 2.5.5 (Molnar, van de Ven 2002).
#pragma once

#include "arch/base/not_copyable.hpp"
#include "mm/windows/kmap_local.hpp"

namespace loft {

// The entry of `addr` in the table that directory entry `pmd` (present, not large) leads to. To be given back in the
// opposite order of mapping, as any local map. Any context but NMI; never sleeps, takes no lock. Cost: that of
// kmap_local_page; nothing for a table in lowmem.
[[nodiscard, gnu::always_inline]] inline hal::PteCell* pte_offset_map(Pte pmd, VirtAddr addr) {
    const Pfn table = pmd.pfn();
    VirtAddr seen;
    if (!config::kHighPte || (!config::kDebug && !is_highmem(table))) [[unlikely]] {
        seen = direct_addr(table);
    } else if constexpr (config::kDebug) {
        seen = detail::local_map_debug(table);
    } else {
        seen = detail::claim_slot();
        detail::show(seen, pmd.same_frame(kernel_prot.data));
    }
    return hal::lowmem_ptr<hal::PteCell>(seen + paging::pte_index(addr) * u32{sizeof(hal::PteCell)});
}

// Takes any entry of the table. Panics if that is not the youngest mapping. Context: the one that mapped.
[[gnu::always_inline]] inline void pte_unmap(const hal::PteCell* entry) {
    if constexpr (config::kHighPte) detail::unmap_slot(hal::lowmem_addr(entry));
}

// The two for the length of a scope; cell(i) is the i-th entry behind the one that was asked for.
class [[nodiscard]] PteMap : NotCopyable<PteMap> {
  public:
    [[nodiscard]] PteMap(Pte pmd, VirtAddr addr) : cell_{pte_offset_map(pmd, addr)} {}
    ~PteMap() { pte_unmap(cell_); }
    hal::PteCell* cell(u32 i = 0) const { return cell_ + i; }

  private:
    hal::PteCell* cell_;
};

// --- Tables as frames.

// An empty table (order 0, type `table`, payload 0), from high memory where that is allowed; null if there is no
// memory.
// Context: any but NMI. Lowmem that tables take leaves the reserve that programs leave everywhere
// (mm/frames/page_alloc.hpp).
[[nodiscard]] Page* alloc_table();
// An empty directory, always in lowmem: the walk of the kernel goes through it without mapping anything.
[[nodiscard]] Page* alloc_directory();
// The frame is about to go back (free_table does it at once; a batch, later): it does not count as a table any more.
void forget_table(Page* table);
void free_table(Page* table);

struct PageTableStats {
    u32 tables = 0; // frames that are tables or directories of programs
    u32 high = 0;   // of these, in high memory
};
PageTableStats page_table_stats(); // any context

// Boot: `userpte=nohigh` keeps all tables in lowmem.
void highpte_init(bool nohigh);

} // namespace loft
