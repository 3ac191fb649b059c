// The page tables of one address space, and the one walk through them.
//
//     PAE     the root (PDPT, 32 bytes) -> 3 directories of the program, and the kernel's one, shared by all spaces
//     else    the root is the one directory; its upper quarter is a copy of the kernel's
//             -> tables (mm/spaces/highpte.hpp), which may lie in high memory
//
// All upper tables of the kernel exist from boot on and its directories never change, so a copy of them stays valid.
// All directories of the program exist from the start, because the processor reads PDPTEs only when CR3 is loaded (SDM
// vol. 3, 4.4.1): no CPU has to reload CR3 for a new one. The payload of a table's descriptor counts its entries that
// are not 0; when the last one is removed, the table is freed.
//
// An entry that is not 0 holds a frame or a swap slot. The entry of a page without rights is not present, but keeps its
// frame.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "arch/base/thread_safety.hpp"
#include "mm/cache/swap_area.hpp"
#include "mm/spaces/area.hpp"
#include "mm/spaces/highpte.hpp"

#include <algorithm>

namespace loft {

class TlbBatch;

namespace user_pte {
inline constexpr PteFlags owned = pte::software0; // no other space has this private page
inline constexpr PteFlags held = pte::software1;  // in every entry that holds a frame
// A page, in a shared area, of an object that is written back. It is read-only until a fault or a pin for
// writing, which says that the page is dirty.
inline constexpr PteFlags tracked = pte::software2;

// An entry that holds a swap slot: not present, not `held`; bits 1-5 are the number of the area, bits 12-31 the slot.
constexpr bool is_swapped(Pte entry) { return !entry.empty() && !entry.has(held); }
Pte swapped(SwapSlot slot);
SwapSlot slot_of(Pte entry);
} // namespace user_pte

// The entry of a page in an area: all rights of the area, except writing to a private page that is not owned.
Pte user_entry(Pfn pfn, const UserArea& area, bool owned);

class UserTables : NotCopyable<UserTables> {
  public:
    UserTables() = default;

    [[nodiscard]] bool create(); // false: no memory; nothing is allocated
    void destroy();              // no page tables are left, and no CPU has the root loaded

    PhysAddr root() const { return root_; }
    u32 tables() const { return tables_; }

    // --- The caller holds the mutex of the space.

    // The directory entry of this address, present or not. Directories lie in lowmem.
    hal::PteCell* directory_entry(VirtAddr va) const;
    // Makes the table of `pde`, which has none yet, with its first entry. False: no memory for the table.
    [[nodiscard]] bool begin_table(hal::PteCell* pde, VirtAddr va, Pte entry);
    // The caller has added `n` entries to the table.
    void added(Pte table, u32 n) const;
    // The caller has cleared `n` entries of the table. If none is left, the batch frees the table after its flush.
    void removed(hal::PteCell* pde, VirtAddr va, u32 n, TlbBatch& batch);

    // The walk: calls visit(pde, PageRange) for each existing table that covers part of the range, in order; ends, and
    // returns false, if the visitor does. The thread-safety analysis does not follow the call: the visitor declares the
    // locks that it needs.
    template <typename F> bool each_table(PageRange range, F&& visit) const LOFT_UNCHECKED {
        for (u32 begin = range.begin; begin < range.end;) {
            const u32 next = std::min(range.end, round_down(begin, paging::kLargeSize) + paging::kLargeSize);
            hal::PteCell* pde = directory_entry(VirtAddr{begin});
            if (hal::pte_low(pde) != 0 && !visit(pde, PageRange{begin, next})) return false;
            begin = next;
        }
        return true;
    }

  private:
    hal::PteCell* directory_[paging::kDirectories]{};
    hal::PteCell* pdpt_ = nullptr; // PAE
    PhysAddr root_{};
    u32 tables_ = 0;
};

// Calls visit(cell, Pte, VirtAddr) for each entry of one table that is not 0, in order; the table is mapped by a
// local slot meanwhile. Ends, and returns false, if the visitor does. The visitor may change the entry.
template <typename F> bool each_entry(Pte table, PageRange range, F&& visit) LOFT_UNCHECKED {
    u32 left = pfn_to_page(table.pfn())->payload();
    PteMap map{table, VirtAddr{range.begin}};
    for (u32 i = 0; i < range.pages() && left != 0; ++i) {
        if (hal::pte_low(map.cell(i)) == 0) continue;
        --left;
        if (!visit(map.cell(i), hal::pte_read(map.cell(i)), VirtAddr{range.begin + (i << kPageShift)})) return false;
    }
    return true;
}

void user_tables_init(); // boot; after the object cache

} // namespace loft
