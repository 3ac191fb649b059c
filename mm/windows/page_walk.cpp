// Walking page tables. Contract: page_walk.hpp.
#include "mm/windows/page_walk.hpp"

#include "mm/windows/kmap_local.hpp"

namespace loft {

Walk page_walk(PhysAddr root, VirtAddr va) {
    Walk walk;
    // Tables above the PT are read through the direct map. One outside it ends the walk. Before boot has set
    // lowmem_bytes, each address counts as part of the direct map.
    const auto table_at = [&walk](PhysAddr phys) -> const hal::PteCell* {
        if (is_highmem(phys.pfn()) && layout::boundaries.lowmem_bytes != 0) {
            walk.unreadable = true;
            return nullptr;
        }
        return hal::lowmem_ptr<hal::PteCell>(VirtAddr{layout::kPageOffset + static_cast<u32>(phys.value())});
    };

    PhysAddr directory = root;
    if constexpr (config::kPae) {
        const hal::PteCell* pdpt = table_at(root);
        if (pdpt == nullptr) return walk;
        walk.root = hal::pte_read(pdpt + paging::pdpte_index(va));
        if (!walk.root.present()) return walk;
        directory = walk.root.pfn().phys();
    }

    walk.level = Walk::Level::directory;
    const hal::PteCell* pd = table_at(directory);
    if (pd == nullptr) return walk;
    walk.directory = hal::pte_read(pd + paging::pde_index(va));
    if (!walk.directory.present()) return walk;
    if (walk.directory.has(pte::large)) {
        walk.present = true;
        walk.large = true;
        walk.flags = walk.directory.flags();
        walk.pfn = walk.directory.pfn() + paging::pte_index(va);
        return walk;
    }

    walk.level = Walk::Level::table;
    const Pfn table = walk.directory.pfn();
    if (!is_highmem(table) || layout::boundaries.lowmem_bytes == 0) {
        walk.entry = hal::pte_read(table_at(table.phys()) + paging::pte_index(va));
    } else if (config::kHighMem && table.value() < mem_map_count) {
        // A PT of a program in high memory.
        const u32 flags = hal::irq_save();
        with_private_slot(table, [&](VirtAddr seen) {
            walk.entry = hal::pte_read(hal::lowmem_ptr<hal::PteCell>(seen) + paging::pte_index(va));
        });
        hal::irq_restore(flags);
    } else {
        walk.unreadable = true;
        return walk;
    }
    walk.present = walk.entry.present();
    walk.flags = walk.entry.flags();
    walk.pfn = walk.entry.pfn();
    return walk;
}

} // namespace loft
