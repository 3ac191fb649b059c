// The probe: one page, mapped by a page table above 4 GiB. Contract: table_probe.hpp.
#include "kernel/boot/table_probe.hpp"

#include "arch/i386/cpu/probe.hpp"
#include "kernel/boot/cmdline.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/init.hpp"
#include "mm/spaces/highpte.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>
#include <initializer_list>

namespace loft {
namespace {

constexpr u32 kMark = 0x0ff1'ce42;
constexpr Pfn kFourGiB{1u << 20};
constexpr VirtAddr kSeenAt{0x4000'0000u}; // the first entry of its PDPTE, of its directory, and of its table

void put_entry(VirtAddr table, u32 index, Pte entry) {
    hal::pte_set(hal::lowmem_ptr<hal::PteCell>(table) + index, entry);
}

// `root` has room for four entries, aligned to 32 bytes; `directory` is one page. Both are empty and in lowmem. The
// directory is also the page that the table maps: its last word is the mark.
bool is_found(Page* table, Page* directory, VirtAddr root) {
    const PteFlags used = pte::present | pte::write; // not of a program: SMAP would close it to this probe
    const VirtAddr directory_at = direct_addr(page_to_pfn(directory));
    hal::store<u32>(directory_at + (kPageSize - 4), kMark);
    put_entry(directory_at, 0, Pte{page_to_pfn(table), used});
    // No other bit: SDM table 4-8.
    put_entry(root, paging::pdpte_index(kSeenAt), Pte{page_to_pfn(directory), pte::present});
    // The kernel's own part, so that this code stays mapped.
    const u32 last = paging::kRootEntries - 1;
    const VirtAddr kernel = direct_addr(kernel_root().pfn()) + kernel_root().page_offset();
    put_entry(root, last, hal::pte_read(hal::lowmem_ptr<hal::PteCell>(kernel) + last));

    // The table's frame may be free or in use. No other CPU runs yet and interrupts are off, so no other code sees the
    // change; the entry is restored.
    const IrqGuard nobody_else;
    u32 seen = 0;
    bool readable = false;
    const LocalMap map{table};
    auto* const entry = hal::lowmem_ptr<hal::PteCell>(map.addr());
    const Pte before = hal::pte_exchange(entry, Pte{page_to_pfn(directory), used});
    const PhysAddr kernel_tables = hal::current_root();
    hal::load_root(direct_phys(root));
    readable = probe_read32(kSeenAt + (kPageSize - 4), seen);
    hal::load_root(kernel_tables);
    hal::pte_exchange(entry, before);
    return readable && seen == kMark;
}

// Also true if no table can lie above 4 GiB, or if there is no memory for the probe.
bool tables_above_4g_are_found() {
    if constexpr (!config::kPae) return true;
    const Pfn last{std::min(physmap().end().value(), mem_map_count) - 1};
    if (last < kFourGiB) return true;
    Page* const directory = alloc_page(Gfp::kernel);
    Page* const root = alloc_page(Gfp::kernel);
    bool found = true;
    if (directory != nullptr && root != nullptr) {
        clear_highpage(directory);
        clear_highpage(root);
        found = is_found(pfn_to_page(last), directory, direct_addr(page_to_pfn(root)));
    }
    for (Page* page : {directory, root})
        if (page != nullptr) free_page(page);
    return found;
}

constinit bool may_be_high = false;

} // namespace

void choose_table_memory() {
    if (!config::kHighPte || options().user_tables_low) return;
    may_be_high = tables_above_4g_are_found();
    if (may_be_high) return;
    highpte_init(true);
    log(LogLevel::warn, "mm",
        "this processor does not find page tables above 4 GiB: user page tables stay in lowmem. QEMU's i386 "
        "program has this defect; use qemu-system-x86_64");
}

bool tables_may_be_high() { return may_be_high; }

} // namespace loft
