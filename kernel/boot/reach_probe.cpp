// The probe: a write to a read-only page with one high address bit. Contract: reach_probe.hpp.
#include "kernel/boot/reach_probe.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/cpu/features.hpp"
#include "arch/i386/cpu/probe.hpp"
#include "arch/i386/irq/traps.hpp"
#include "mm/windows/fixmap.hpp"

namespace loft {
namespace {

// The page is read-only, so the write always faults and no memory is touched. The error code says why: the CPU checks
// reserved bits before access rights (SDM vol. 3, 4.7: P, W/R and RSVD).
bool is_taken(u32 bit) {
    const Pfn frame{1u << (bit - kPageShift)};
    const VirtAddr page = fixmap_set(layout::Fix::boot_first, frame, kernel_prot.rodata);
    const bool written = probe_write32(page, 0);
    const u32 error = probe_error();
    fixmap_clear(layout::Fix::boot_first);
    LOFT_ASSERT(!written);
    return !(error & page_fault_error::reserved_bit);
}

} // namespace

void probe_reach() {
    constexpr u32 kWithoutPae = 32;
    const u32 expected = hal::cpu_features().phys_bits;
    u32 bits = kWithoutPae;
    while (bits < expected && is_taken(bits))
        ++bits;
    if (bits == expected) return;
    limit_phys_bits(bits);
    log(LogLevel::notice, "cpu",
        "physical addresses of this processor have {} bits, {}: nothing from {} GiB on is used", bits,
        identify_cpu().phys_bits_known ? "although CPUID promises more" : "which CPUID does not say",
        1u << (bits - 30));
}

} // namespace loft
