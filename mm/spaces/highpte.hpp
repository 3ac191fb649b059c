// Page tables of programs, which may lie in high memory.
//
// Every process needs page tables. The number of processes grows with the machine's memory, lowmem does not: so tables
// are allocated from high memory. A table there has no permanent address, so a caller maps it to access an entry:
//
//     hal::PteCell* entry = pte_offset_map(pmd, addr);         or        PteMap entry{pmd, addr};
//     ...
//     pte_unmap(entry);
//
// The calls use the local slots (mm/windows/kmap_local.hpp): no lock, no sleep, limited only by the depth of the stack.
// They never use kmap(), which may sleep and whose pool is limited. A table in lowmem is accessed through the direct
// map, so the same calls work for the kernel's tables. With DEBUG=1 lowmem tables use a slot, too: a missing pte_unmap
// leaves a held slot, which is reported when the context returns to its program, idles or ends. With HIGHPTE=0 or
// `userpte=nohigh` every table is in lowmem.
//
// There is no pte_offset(): code that does not map the table does not compile.
// Source: the highpte proposal for Linux 2.5.5 (Molnar, van de Ven 2002).
#pragma once

#include "arch/base/not_copyable.hpp"
#include "mm/windows/kmap_local.hpp"

namespace loft {

// The entry of `addr` in the table of directory entry `pmd` (present, not large). Unmaps are in the reverse order of
// the maps, as for any local map. Any context but NMI; never sleeps, takes no lock. Cost: that of kmap_local_page; none
// for a table in lowmem.
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

// Takes the address of any entry of the table. Panics if it is not the youngest mapping. Context: the one that mapped.
[[gnu::always_inline]] inline void pte_unmap(const hal::PteCell* entry) {
    if constexpr (config::kHighPte) detail::unmap_slot(hal::lowmem_addr(entry));
}

// Both calls as an object; cell(i) is the i-th entry after that of `addr`.
class [[nodiscard]] PteMap : NotCopyable<PteMap> {
  public:
    [[nodiscard]] PteMap(Pte pmd, VirtAddr addr) : cell_{pte_offset_map(pmd, addr)} {}
    ~PteMap() { pte_unmap(cell_); }
    hal::PteCell* cell(u32 i = 0) const { return cell_ + i; }

  private:
    hal::PteCell* cell_;
};

// --- Tables as frames.

// An empty table (order 0, type `table`, payload 0), from high memory if that is allowed; null if there is no memory.
// In lowmem it leaves the reserve of programs (mm/frames/page_alloc.hpp). Context: any but NMI.
[[nodiscard]] Page* alloc_table();
// An empty directory, always in lowmem, so that the kernel's walk needs no mapping for it. Null: no memory.
[[nodiscard]] Page* alloc_directory();
// Removes the frame from the count of tables, before it is freed: at once by free_table, or later by a batch.
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
