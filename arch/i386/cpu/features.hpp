// CPU features: identifying them, and enabling them.
//
// The features that loft requires (PSE, TSC, MSR, CX8, APIC, CMOV, and PAE for a 64g kernel) are checked in
// boot/start.asm before paging, where a refusal is still possible. Here are the optional ones: NX, global pages, and
// SMEP, SMAP and UMIP.
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/isa/control.hpp"

namespace loft {

struct CpuIdentity {
    char vendor[13]; // "GenuineIntel"
    char brand[49];  // empty on CPUs that have none
    u32 family, model, stepping;
    bool pae, pse, pge, tsc, msr, apic, nx, cx8, smep, smap, umip;
    u32 features;         // leaf 1, EDX, unchanged: programs see the usable part of it (AT_HWCAP)
    u32 phys_bits;        // width of physical addresses (SDM vol. 3, 4.1.4): from leaf 8000'0008, or the usual value
    bool phys_bits_known; // the leaf exists, and its value is possible
};

// Reads CPUID once and keeps the result. Any context.
const CpuIdentity& identify_cpu();

// Resets state of earlier software in this CPU (EFER, sysenter, breakpoints, PAT), then enables the available features:
// - EFER.NXE (PAE only: the two-level format has no NX bit, SDM vol. 3, 4.6) and CR4.PGE. Both must be on before mm
//   builds its tables; the boot tables are not global, so no stale translation remains.
// - CR4.SMEP and CR4.SMAP (4.6.1): the kernel executes no page of a program, and reaches them by user copies only
//   (smap.hpp). CR4.UMIP (2.5): programs cannot read where the kernel's descriptor tables are.
// - The FPU for programs (fpu.hpp).
// `nopse`: mm must map with 4 KiB pages. Boot, before mm_init; once per CPU. From here on hal::cpu_features() reports
// what is enabled for mm. Cost: one CR4 write (flushes the TLB).
void enable_features(bool nopse);

// Limits hal::cpu_features() to the address bits that this processor supports, if they are fewer than CPUID reports.
// Boot, before mm_init.
void limit_phys_bits(u32 bits);

// The bits of CR4 that enable_features sets and boot/trampoline.asm must not: those of features that a CPU may lack.
inline constexpr u32 kOptionalCr4 = cr4_bit::pge | cr4_bit::smep | cr4_bit::smap | cr4_bit::umip;

// Enables on another CPU what the boot CPU has enabled. False if this CPU lacks a feature that the boot CPU uses: the
// kernel's mappings would be wrong here.
bool enable_features_like_boot_cpu();

} // namespace loft
