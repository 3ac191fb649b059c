// What this processor can do, and switching it on.
//
// What loft cannot run without (PSE, TSC, MSR, CX8, APIC, CMOV, and PAE for a 64g kernel) is checked in
// boot/start.asm before paging, where a refusal is still possible; here are the features that may be absent:
// NX and global pages.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

struct CpuIdentity {
    char vendor[13]; // "GenuineIntel"
    char brand[49];  // empty on CPUs that have none
    u32 family, model, stepping;
    bool pae, pse, pge, tsc, msr, apic, nx, cx8;
    u32 features;  // leaf 1, EDX, as it is: programs are told what they can use (AT_HWCAP)
    u32 phys_bits; // width of physical addresses (SDM vol. 3, 4.1.4): by leaf 8000'0008, or what is usual without it
    bool phys_bits_known; // the leaf is there, and what it says is possible
};

// Reads CPUID once and keeps the answer. Any context.
const CpuIdentity& identify_cpu();

// Puts back what whoever ran before may have left in this CPU (EFER, the ways of sysenter and of breakpoints, PAT), and
// switches on what it offers: EFER.NXE (PAE only: the two-level format has no NX bit, SDM vol. 3, 4.6) and CR4.PGE.
// Both must be on before mm builds its tables; the boot tables are not global, so nothing stays behind. Also lets
// programs use the FPU (fpu.hpp). `nopse`: mm shall map with 4 KiB pages although the CPU can do better. Boot, before
// mm_init; once a CPU. From here on hal::cpu_features() says what was switched on. Cost: one CR4 write (flushes the
// TLB).
void enable_features(bool nopse);

// This processor takes fewer bits of a physical address than CPUID let expect: hal::cpu_features() says so from here
// on. Boot, before mm_init.
void limit_phys_bits(u32 bits);

// What enable_features does, on another CPU, which shows the boot CPU's choice in its control bits. False if that CPU
// lacks something that the boot CPU uses: its kernel mappings would be wrong here.
bool enable_features_like_boot_cpu();

} // namespace loft
