// CPUID: the instruction, and the bits that loft reads (SDM vol. 2, "CPUID").
#pragma once

#include "arch/base/types.hpp"

namespace loft {

struct CpuidResult {
    u32 eax, ebx, ecx, edx;
};

inline CpuidResult cpuid(u32 leaf, u32 subleaf = 0) {
    CpuidResult r;
    asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
    return r;
}

namespace cpuid_leaf {
inline constexpr u32 vendor = 0, features = 1, structured_features = 7, tsc_ratio = 0x15, frequencies = 0x16;
inline constexpr u32 hypervisor = 0x4000'0000,
                     hypervisor_clocks = 0x4000'0010; // not in the SDM: VMware's, and Linux's KVM
inline constexpr u32 extended_max = 0x8000'0000, extended_features = 0x8000'0001, brand = 0x8000'0002,
                     address_sizes = 0x8000'0008;
} // namespace cpuid_leaf

// Leaf 1, EDX. boot/start.asm has the same bits: it checks the required ones before paging.
namespace cpuid_edx {
inline constexpr u32 fpu = 1u << 0, pse = 1u << 3, tsc = 1u << 4, msr = 1u << 5, pae = 1u << 6, cx8 = 1u << 8,
                     apic = 1u << 9, pge = 1u << 13, cmov = 1u << 15, pse36 = 1u << 17, fxsr = 1u << 24, mmx = 1u << 23,
                     sse = 1u << 25, sse2 = 1u << 26;
inline constexpr u32 nx = 1u << 20; // of leaf 8000'0001
} // namespace cpuid_edx

namespace cpuid_ecx { // of leaf 1
inline constexpr u32 hypervisor = 1u << 31;
}

namespace cpuid_7 { // leaf 7, subleaf 0
inline constexpr u32 ebx_smep = 1u << 7, ebx_smap = 1u << 20, ecx_umip = 1u << 2;
}

} // namespace loft
