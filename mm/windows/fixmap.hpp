// Fixed mappings: addresses that are known when the kernel is linked, frames that are not.
//
// Works from the first line of C++ (pagetable_early) on. The boot slots let early code read what lies above
// the direct map: multiboot information, modules, ACPI tables.
#pragma once

#include "mm/ground/layout.hpp"
#include "mm/tables/pagetable.hpp"

namespace loft {

// Maps one page at its fixed address, for good or until fixmap_clear. Context: boot, or a holder of whatever
// the slot is for. Cost: one invlpg if the slot was in use. Other CPUs see the slot after their next flush
// only.
VirtAddr fixmap_set(layout::Fix slot, Pfn pfn, PteFlags flags);
void fixmap_clear(layout::Fix slot);

// A view of up to 64 KiB of physical memory through the boot slots. One at a time.
class [[nodiscard]] BootWindow {
  public:
    static constexpr u32 kPages = static_cast<u32>(layout::Fix::boot_last) + 1;

    // At most kPages pages from the one that holds `phys` are visible; a longer request is cut.
    BootWindow(PhysAddr phys, u32 bytes);
    ~BootWindow();
    BootWindow(const BootWindow&) = delete;
    BootWindow& operator=(const BootWindow&) = delete;

    VirtAddr at() const { return at_; }  // where `phys` is
    u32 bytes() const { return bytes_; } // how many bytes from there on are visible

  private:
    VirtAddr at_{};
    u32 bytes_ = 0;
    u32 pages_ = 0;
};

} // namespace loft
