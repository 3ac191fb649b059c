// Directories and tables of a space. Contract: user_tables.hpp.
#include "mm/spaces/user_tables.hpp"

#include "mm/frames/slab.hpp"
#include "mm/tables/tlb_batch.hpp"

#include <algorithm>
#include <new>

namespace loft {
namespace {

constexpr u32 kUserDirectories = config::kPae ? 3 : 1;
constexpr u32 kKernelEntry = layout::kPageOffset >> paging::kLargeShift; // without PAE: the kernel's first entry

// The root of PAE: 32 bytes, aligned to 32 bytes, below 4 GiB (SDM vol. 3, 4.4.1).
struct alignas(32) Pdpt {
    RawPte entry[4];
};
ObjectCache pdpt_cache{"pdpt", 32, 32, Gfp::user_low};
static_assert(!config::kPae || sizeof(Pdpt) == 32);

hal::PteCell* cells_at(PhysAddr phys) {
    return hal::lowmem_ptr<hal::PteCell>(direct_addr(phys.pfn()) + phys.page_offset());
}

// A directory entry that points at a table. It grants all rights; the PTEs restrict them.
Pte table_entry(const Page* table) {
    return Pte{page_to_pfn(table), pte::present | pte::write | pte::user | pte::accessed};
}

} // namespace

namespace user_pte {
namespace {
constexpr PteFlags kAreaBits[]{pte::write, pte::user, pte::write_through, pte::cache_disable, pte::accessed};
}

Pte swapped(SwapSlot slot) {
    PteFlags flags{};
    for (u32 bit = 0; bit < std::size(kAreaBits); ++bit)
        if ((slot.area >> bit & 1) != 0) flags = flags | kAreaBits[bit];
    return Pte{Pfn{slot.slot}, flags};
}

SwapSlot slot_of(Pte entry) {
    SwapSlot slot{0, entry.pfn().value()};
    for (u32 bit = 0; bit < std::size(kAreaBits); ++bit)
        slot.area |= u32{entry.has(kAreaBits[bit])} << bit;
    return slot;
}
} // namespace user_pte

Pte user_entry(Pfn pfn, const UserArea& area, bool owned) {
    using enum Prot;
    PteFlags flags = user_pte::held;
    if (owned && area.is_private()) flags = flags | user_pte::owned;
    if (area.prot != none) flags = flags | pte::present | pte::user | pte::accessed;
    const bool tracked = area.kind == MapKind::shared && area.object->is_written_back();
    if (tracked) flags = flags | user_pte::tracked;
    if (has(area.prot, write) && !tracked && (owned || !area.is_private())) flags = flags | pte::write | pte::dirty;
    if (!has(area.prot, exec) && hal::cpu_features().no_execute) flags = flags | pte::no_execute;
    return Pte{pfn, flags};
}

bool UserTables::create() {
    const hal::PteCell* kernel = cells_at(kernel_root());
    if constexpr (config::kPae) {
        void* root = pdpt_cache.alloc();
        if (root == nullptr) return false;
        pdpt_ = static_cast<hal::PteCell*>(root);
    }
    for (u32 i = 0; i < kUserDirectories; ++i) {
        Page* page = alloc_directory();
        if (page == nullptr) {
            destroy();
            return false;
        }
        directory_[i] = cells_at(page_to_pfn(page).phys());
    }
    if constexpr (config::kPae) {
        for (u32 i = 0; i < kUserDirectories; ++i)
            hal::pte_set(pdpt_ + i, Pte{direct_phys(hal::lowmem_addr(directory_[i])).pfn(), pte::present});
        const Pte shared = hal::pte_read(kernel + kUserDirectories);
        hal::pte_set(pdpt_ + kUserDirectories, shared);
        directory_[kUserDirectories] = cells_at(shared.pfn().phys());
        root_ = direct_phys(hal::lowmem_addr(pdpt_));
    } else {
        for (u32 i = kKernelEntry; i < paging::kPtesPerTable; ++i) {
            const Pte entry = hal::pte_read(kernel + i);
            if (entry.present()) hal::pte_set(directory_[0] + i, entry);
        }
        root_ = direct_phys(hal::lowmem_addr(directory_[0]));
    }
    return true;
}

void UserTables::destroy() {
    LOFT_ASSERT(tables_ == 0);
    for (u32 i = 0; i < kUserDirectories; ++i) {
        if (directory_[i] == nullptr) continue;
        free_table(pfn_to_page(direct_phys(hal::lowmem_addr(directory_[i])).pfn()));
        directory_[i] = nullptr;
    }
    if (pdpt_ != nullptr) pdpt_cache.free(pdpt_);
    pdpt_ = nullptr;
}

hal::PteCell* UserTables::directory_entry(VirtAddr va) const {
    return directory_[config::kPae ? paging::pdpte_index(va) : 0] + paging::pde_index(va);
}

bool UserTables::begin_table(hal::PteCell* pde, VirtAddr va, Pte entry) {
    Page* page = alloc_table();
    if (page == nullptr) return false;
    const Pte table = table_entry(page);
    hal::pte_set(PteMap{table, va}.cell(), entry);
    page->set_payload(1);
    ++tables_;
    // The table is complete before a page walk can reach it.
    hal::pte_set(pde, table);
    return true;
}

void UserTables::added(Pte table, u32 n) const {
    Page* page = pfn_to_page(table.pfn());
    page->set_payload(page->payload() + n);
}

void UserTables::removed(hal::PteCell* pde, VirtAddr va, u32 n, TlbBatch& batch) {
    const Pte table = hal::pte_read(pde);
    Page* page = pfn_to_page(table.pfn());
    const u32 left = page->payload() - n;
    page->set_payload(left);
    if (left != 0) return;
    hal::pte_clear(pde);
    --tables_;
    forget_table(page);
    batch.free_table_after(page, va);
}

void user_tables_init() { pdpt_cache.reset(); }

} // namespace loft
