// Building the kernel's page tables. Contract: pagetable.hpp.
#include "mm/tables/pagetable.hpp"

#include "mm/frames/bootmem.hpp"

#include <algorithm>
#include <cstring>

namespace loft {

KernelProt kernel_prot;

namespace detail {
std::uintptr_t kernel_ptes_origin;
}

namespace {

using paging::kLargeSize;
using paging::kPtesPerTable;

PhysAddr root_address;
u32 frames_used;

// An empty table in lowmem.
hal::PteCell* new_table(const char* what, u32 tables = 1) {
    const VirtAddr va = bootmem_alloc(tables * kPageSize, kPageSize, what);
    frames_used += tables;
    auto* cells = hal::lowmem_ptr<hal::PteCell>(va);
    std::memset(static_cast<void*>(cells), 0, tables * kPageSize);
    return cells;
}

Pfn frame_of(const void* table) { return direct_phys(hal::lowmem_addr(table)).pfn(); }

// A directory entry that points at a table. It grants all rights; the PTEs restrict them.
Pte table_entry(const void* table) { return Pte{frame_of(table), pte::present | pte::write | pte::accessed}; }

hal::PteCell* upper_tables; // the first entry of the upper part

// From now on `cells` is the array of entries for addresses from `base` on.
void set_upper_tables(hal::PteCell* cells, VirtAddr base) {
    upper_tables = cells;
    detail::kernel_ptes_origin =
        reinterpret_cast<std::uintptr_t>(cells) - (base.value() >> kPageShift) * sizeof(RawPte);
}

// The kernel's directories as one array: an entry for each kLargeSize of address space.
struct Directories {
    hal::PteCell* first; // PAE: four contiguous pages; else one page
    hal::PteCell* of(VirtAddr va) const { return first + (va.value() >> paging::kLargeShift); }
};

bool inside(VirtAddr va, const ImagePart& part) { return va >= part.begin && va < part.end; }

// Attributes of a page of the direct map.
PteFlags direct_flags(const BootInfo& info, VirtAddr va) {
    if (inside(va, info.text)) return kernel_prot.text;
    if (inside(va, info.rodata)) return kernel_prot.rodata;
    return kernel_prot.data;
}

// True if one large page can map [va, va + kLargeSize): it holds no part of the image, which needs other attributes,
// and not the first MiB, which mixes memory types (SDM vol. 3, 12.11.9).
bool may_be_large(const BootInfo& info, VirtAddr va) {
    if (!hal::cpu_features().large_pages) return false;
    const u32 begin = va.value(), end = begin + kLargeSize;
    if (begin < layout::kPageOffset + MiB) return false;
    if (end > layout::direct_map_end().value()) return false;
    for (const ImagePart* part : {&info.text, &info.rodata, &info.data})
        if (begin < part->end.value() && part->begin.value() < end) return false;
    return true;
}

void build_direct_map(const BootInfo& info, Directories dirs) {
    const VirtAddr end = layout::direct_map_end();
    for (VirtAddr va{layout::kPageOffset}; va < end; va = va + kLargeSize) {
        if (may_be_large(info, va)) {
            hal::pte_set(dirs.of(va), Pte{direct_phys(va).pfn(), kernel_prot.data | pte::large});
            continue;
        }
        hal::PteCell* table = new_table("the direct map's page tables");
        for (u32 i = 0; i < kPtesPerTable; ++i) {
            const VirtAddr page = va + i * kPageSize;
            if (page >= end) break;
            if (std::find(info.guard_pages.begin(), info.guard_pages.end(), page) != info.guard_pages.end()) continue;
            hal::pte_set(table + i, Pte{direct_phys(page).pfn(), direct_flags(info, page)});
        }
        hal::pte_set(dirs.of(va), table_entry(table));
    }
}

// Builds all tables above the direct map. Copies the fixmap entries that are in use.
void build_upper(Directories dirs) {
    const VirtAddr base{layout::boundaries.upper_base};
    const u32 tables = (0u - base.value()) >> paging::kLargeShift;
    hal::PteCell* cells = new_table("the upper page tables", tables);
    for (u32 i = 0; i < tables; ++i)
        hal::pte_set(dirs.of(base + i * kLargeSize), table_entry(cells + i * kPtesPerTable));

    hal::PteCell* early = upper_tables;
    if (early != nullptr) {
        for (u32 slot = 0; slot < static_cast<u32>(layout::Fix::count); ++slot) {
            const VirtAddr va = layout::fix_addr(static_cast<layout::Fix>(slot));
            const Pte old = hal::pte_read(early + paging::pte_index(va));
            if (old.present()) hal::pte_set(cells + ((va - base) >> kPageShift), old);
        }
    }
    set_upper_tables(cells, base);
}

} // namespace

void pagetable_init_flags() {
    const hal::CpuFeatures cpu = hal::cpu_features();
    const PteFlags nx = cpu.no_execute ? pte::no_execute : PteFlags{};
    const PteFlags g = cpu.global ? pte::global : PteFlags{};
    const PteFlags seen = pte::accessed | pte::dirty;
    kernel_prot.text = pte::present | g | seen;
    kernel_prot.rodata = pte::present | g | seen | nx;
    kernel_prot.data = pte::present | pte::write | g | seen | nx;
    kernel_prot.device = pte::present | pte::write | g | seen | nx | pte::cache_disable | pte::write_through;
    kernel_prot.pool = pte::present | pte::write | nx;
    kernel_prot.pool_ro = pte::present | nx;
    kernel_prot.pool_rx = pte::present;
}

void pagetable_early(hal::PteCell* last_table) {
    pagetable_init_flags();
    layout::boundaries.upper_base = 0u - kLargeSize;
    set_upper_tables(last_table, VirtAddr{layout::boundaries.upper_base});
}

PhysAddr pagetable_build(const BootInfo& info) {
    frames_used = 0;
    Directories dirs{new_table("the page directories", paging::kDirectories)};
    build_direct_map(info, dirs);
    build_upper(dirs);

    if constexpr (config::kPae) {
        // The PDPT. Its entries have no R/W and no accessed bit (SDM vol. 3, table 4-8), and the CPU reads
        // them only when CR3 is loaded (4.4.1): all four are there from the start.
        hal::PteCell* pdpt = new_table("the page-directory-pointer table");
        for (u32 i = 0; i < paging::kRootEntries; ++i)
            hal::pte_set(pdpt + i, Pte{frame_of(dirs.first + i * kPtesPerTable), pte::present});
        root_address = direct_phys(hal::lowmem_addr(pdpt));
    } else {
        root_address = direct_phys(hal::lowmem_addr(dirs.first));
    }
    return root_address;
}

PhysAddr kernel_root() { return root_address; }
u32 pagetable_frames() { return frames_used; }

} // namespace loft
