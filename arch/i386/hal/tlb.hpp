// hal/tlb: the instructions that flush TLB entries. In mm, only mm/tables/tlb_batch.cpp calls them. Contract:
// arch/base/hal_contract.hpp.
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/isa/control.hpp"

namespace loft::hal {

// Identifies the caller of a flush. The simulated machine uses it to suppress one flush at a time, so that a test must
// fail; here it is empty.
struct Site {
    static constexpr Site current() { return {}; }
};

// One page of this CPU's current address space, global or not, large or not; and all paging-structure caches (SDM vol.
// 3, 4.10.4.1).
inline void invlpg(VirtAddr va, Site = Site::current()) { asm volatile("invlpg (%0)" ::"r"(va.value()) : "memory"); }

// Everything but global pages, and the PDPTEs are reloaded: a CR3 load.
inline void flush_non_global(Site = Site::current()) { write_cr3(read_cr3()); }

// Everything, global pages included: CR4.PGE off and on (SDM 4.10.4.1); a CPU without PGE has no global pages.
inline void flush_all(Site = Site::current()) {
    const u32 cr4 = read_cr4();
    if (cr4 & cr4_bit::pge) {
        write_cr4(cr4 & ~cr4_bit::pge);
        write_cr4(cr4);
    } else {
        write_cr3(read_cr3());
    }
}

// The root of the page tables: the PDPT (32-byte aligned, below 4 GiB) or the page directory.
inline void load_root(PhysAddr root) { write_cr3(static_cast<u32>(root.value())); }
inline PhysAddr current_root() { return PhysAddr{u64{read_cr3()} & ~u64{0x1f}}; }

} // namespace loft::hal
