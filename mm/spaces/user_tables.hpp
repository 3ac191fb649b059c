// The page tables of one address space, and the one walk through them.
//
//     PAE     the root (PDPT, 32 bytes) -> 3 directories of the program, and the kernel's one, shared by all
//     else    the root is the one directory; its upper quarter is a copy of the kernel's
//             -> tables (mm/spaces/highpte.hpp), which may be high
//
// The kernel's upper tables all exist since boot and its directories never change, so a copy of them never grows old.
// All directories of the program exist from the start: the processor reads PDPTEs only when CR3 is loaded (SDM vol. 3,
// 4.4.1), and nobody ever has to hear of a new one. The table's frame counts its entries that hold a frame; the last
// one takes the table with it.
//
// An entry that is not 0 holds a frame. One of a page without any rights is not present, but keeps its frame.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "arch/base/thread_safety.hpp"
#include "mm/spaces/area.hpp"
#include "mm/spaces/highpte.hpp"

#include <algorithm>

namespace loft {

class TlbBatch;

namespace user_pte {
inline constexpr PteFlags owned = pte::software0; // no other space has this private page
inline constexpr PteFlags held = pte::software1;  // in every entry that holds a frame
// A page of an object that is written back, in a shared area: its D bit counts. The entry is made with D clear.
inline constexpr PteFlags tracked = pte::software2;
} // namespace user_pte

// The entry of a page in an area: all rights that the area gives, but writing to a private page that others may have
// too.
Pte user_entry(Pfn pfn, const UserArea& area, bool owned);

class UserTables : NotCopyable<UserTables> {
  public:
    UserTables() = default;

    [[nodiscard]] bool create(); // false: no memory, nothing is taken
    void destroy();              // no tables are left, and no CPU has the root

    PhysAddr root() const { return root_; }
    u32 tables() const { return tables_; }

    // --- Under the mutex of the space.

    // Where the table of this address is, or will be. It lies in lowmem.
    hal::PteCell* directory_entry(VirtAddr va) const;
    // Puts the first entry into a table that `pde` does not have yet. False: no memory for the table.
    [[nodiscard]] bool begin_table(hal::PteCell* pde, VirtAddr va, Pte entry);
    // `n` entries of the table have come.
    void added(Pte table, u32 n) const;
    // `n` entries of the table have gone. Was it all of them, the table goes too, after the batch's flush.
    void removed(hal::PteCell* pde, VirtAddr va, u32 n, TlbBatch& batch);

    // The walk: visit(pde, PageRange) for each table that is there and covers part of the range, in order; ends, and
    // returns false, when it does. The analysis of locks ends at a visitor, which says what it needs.
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

// visit(cell, Pte, VirtAddr) for each entry of one table that holds a frame, in order, the table mapped meanwhile;
// ends, and returns false, when it does. The visitor may change the entry.
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
