// Fixed mappings. Contract: fixmap.hpp.
#include "mm/windows/fixmap.hpp"
#include "mm/tables/flush_clock.hpp"

#include "mm/tables/tlb_batch.hpp"

#include <algorithm>

namespace loft {

VirtAddr fixmap_set(layout::Fix slot, Pfn pfn, PteFlags flags) {
    const VirtAddr va = layout::fix_addr(slot);
    hal::PteCell* cell = kernel_pte(va);
    const bool was_used = hal::pte_take(cell).present();
    if (was_used) tlb_flush_local_page(va);
    hal::pte_set(cell, Pte{pfn, flags});
    return va;
}

void fixmap_clear(layout::Fix slot) {
    const VirtAddr va = layout::fix_addr(slot);
    hal::pte_clear(kernel_pte(va));
    tlb_flush_local_page(va);
}

Result<VirtAddr> fixmap_device(PhysAddr registers, u32 bytes) {
    constexpr u32 kFirst = static_cast<u32>(layout::Fix::device_first),
                  kLast = static_cast<u32>(layout::Fix::device_last);
    if (bytes == 0) return Error::invalid;
    if (bytes > (kLast - kFirst + 1) * kPageSize) return Error::no_space;
    const u32 bits = hal::cpu_features().phys_bits, reach_bits = config::kPae ? bits : std::min(bits, 32u);
    const u64 reach = u64{1} << reach_bits;
    if (registers.value() >= reach || reach - registers.value() < bytes) return Error::out_of_reach;
    const u32 pages = pages_for(registers.page_offset() + bytes);
    u32 run = 0;
    for (u32 slot = kFirst; slot <= kLast; ++slot) {
        const bool is_free = !hal::pte_read(kernel_pte(layout::fix_addr(static_cast<layout::Fix>(slot)))).present();
        run = is_free ? run + 1 : 0;
        if (run != pages) continue;
        // The addresses of slots descend with their numbers.
        for (u32 i = 0; i < pages; ++i)
            fixmap_set(static_cast<layout::Fix>(slot - i), registers.pfn() + i, kernel_prot.device);
        return layout::fix_addr(static_cast<layout::Fix>(slot)) + registers.page_offset();
    }
    return Error::no_space;
}

BootWindow::BootWindow(PhysAddr phys, u32 bytes) {
    // The limit is the processor's physical address width: with HIGHMEM=off, too, firmware tables may lie above the
    // memory that the kernel uses.
    const u64 reach = u64{1} << hal::cpu_features().phys_bits;
    const u32 offset = phys.page_offset();
    const u64 wanted = std::min<u64>(u64{offset} + bytes, u64{kPages} * kPageSize);
    const u64 possible = phys.value() < reach ? reach - (phys.value() - offset) : 0;
    const u32 span = static_cast<u32>(std::min(wanted, possible));
    pages_ = pages_for(span);
    bytes_ = span > offset ? span - offset : 0;
    // The addresses of slots descend with their numbers: the first page of the window is the highest slot number.
    for (u32 i = 0; i < pages_; ++i)
        fixmap_set(static_cast<layout::Fix>(pages_ - 1 - i), phys.pfn() + i, kernel_prot.data);
    at_ = pages_ != 0 ? layout::fix_addr(static_cast<layout::Fix>(pages_ - 1)) + offset : VirtAddr{};
}

BootWindow::~BootWindow() {
    for (u32 i = 0; i < pages_; ++i)
        fixmap_clear(static_cast<layout::Fix>(i));
}

} // namespace loft
