// Fixed mappings: the addresses are known when the kernel is linked, the frames at run time.
//
// Usable from pagetable_early on, the first call in C++. The boot slots let early code read physical memory above the
// direct map: multiboot information, modules, ACPI tables. All registers of devices are mapped here.
#pragma once

#include "arch/base/error.hpp"
#include "arch/base/not_copyable.hpp"
#include "mm/ground/layout.hpp"
#include "mm/tables/pagetable.hpp"

namespace loft {

// Maps one page at the fixed address of `slot`, until fixmap_clear. Context: boot, or the owner of the device of the
// slot. Cost: one invlpg if the slot was in use. A slot that was in use: another CPU may keep the old translation
// until its next flush.
VirtAddr fixmap_set(layout::Fix slot, Pfn pfn, PteFlags flags);
void fixmap_clear(layout::Fix slot);

// Maps the registers of a device, uncached, for ever; returns the address of the first. There is no memory at these
// addresses, and no slot is used twice, so no flush is needed. Errors: invalid (no bytes), out_of_reach (of the
// processor, or of this kernel's page tables), no_space (no run of free device slots is long enough). Boot thread.
Result<VirtAddr> fixmap_device(PhysAddr registers, u32 bytes);

// A mapping of up to 64 KiB of physical memory through the boot slots. One at a time.
class [[nodiscard]] BootWindow : NotCopyable<BootWindow> {
  public:
    static constexpr u32 kPages = static_cast<u32>(layout::Fix::boot_last) + 1;

    // Maps at most kPages pages, from the page of `phys` on; a longer request is cut.
    BootWindow(PhysAddr phys, u32 bytes);
    ~BootWindow();

    VirtAddr at() const { return at_; }  // the address of `phys`
    u32 bytes() const { return bytes_; } // mapped bytes from at() on

  private:
    VirtAddr at_{};
    u32 bytes_ = 0;
    u32 pages_ = 0;
};

} // namespace loft
