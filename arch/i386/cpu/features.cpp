// CPU features. Contract: features.hpp, and hal::cpu_features of hal/cpu.hpp.
#include "arch/i386/cpu/features.hpp"

#include "arch/base/config.hpp"
#include "arch/i386/cpu/fpu.hpp"
#include "arch/i386/cpu/probe.hpp"
#include "arch/i386/cpu/smap.hpp"
#include "arch/i386/isa/control.hpp"
#include "arch/i386/isa/cpuid.hpp"

#include <hal/cpu.hpp>

namespace loft {
namespace {

// A CPU without extended leaves answers with the data of its highest basic leaf: any value.
constexpr u32 kNoExtendedMax = 0x8001'0000;

constinit CpuIdentity identity{};
constinit bool identified = false;

// Enabled features. The boot tables use large pages; enable_features enables the rest.
constexpr u32 kMostPhysBits = config::kPae ? 36 : 32; // the most that this kernel can use
constinit hal::CpuFeatures enabled{
    .large_pages = true, .global = false, .no_execute = false, .phys_bits = kMostPhysBits};
constinit u32 enabled_cr4 = 0; // of kOptionalCr4

void put_register(char* to, u32 four_characters) { __builtin_memcpy(to, &four_characters, 4); }

void read_names(CpuIdentity& id, u32 extended_max) {
    const CpuidResult v = cpuid(cpuid_leaf::vendor);
    put_register(id.vendor, v.ebx);
    put_register(id.vendor + 4, v.edx);
    put_register(id.vendor + 8, v.ecx);
    if (extended_max < cpuid_leaf::brand + 2) return;
    for (u32 i = 0; i < 3; ++i) {
        const CpuidResult b = cpuid(cpuid_leaf::brand + i);
        char* part = id.brand + 16 * i;
        put_register(part, b.eax);
        put_register(part + 4, b.ebx);
        put_register(part + 8, b.ecx);
        put_register(part + 12, b.edx);
    }
}

// Family and model have two fields each (SDM vol. 2, "CPUID", figure 3-6).
void read_signature(CpuIdentity& id, u32 signature) {
    const u32 family = signature >> 8 & 0xf, model = signature >> 4 & 0xf;
    id.family = family == 15 ? family + (signature >> 20 & 0xff) : family;
    id.model = family == 6 || family == 15 ? model + (signature >> 16 & 0xf) * 16 : model;
    id.stepping = signature & 0xf;
}

// MAXPHYADDR (SDM vol. 3, 4.1.4). An impossible value is ignored.
void read_phys_bits(CpuIdentity& id, u32 extended_max) {
    constexpr u32 kLeast = 32, kMost = 52;
    if (extended_max >= cpuid_leaf::address_sizes && extended_max < kNoExtendedMax) {
        id.phys_bits = cpuid(cpuid_leaf::address_sizes).eax & 0xff;
        id.phys_bits_known = id.phys_bits >= kLeast && id.phys_bits <= kMost;
    }
    if (!id.phys_bits_known) id.phys_bits = id.pae ? 36 : 32;
}

CpuIdentity read_identity() {
    CpuIdentity id{};
    const u32 extended_max = cpuid(cpuid_leaf::extended_max).eax;
    read_names(id, extended_max);

    const CpuidResult basic = cpuid(cpuid_leaf::features);
    read_signature(id, basic.eax);
    id.features = basic.edx;
    id.pse = basic.edx & cpuid_edx::pse;
    id.tsc = basic.edx & cpuid_edx::tsc;
    id.msr = basic.edx & cpuid_edx::msr;
    id.pae = basic.edx & cpuid_edx::pae;
    id.cx8 = basic.edx & cpuid_edx::cx8;
    id.apic = basic.edx & cpuid_edx::apic;
    id.pge = basic.edx & cpuid_edx::pge;
    const bool extended = extended_max >= cpuid_leaf::extended_features && extended_max < kNoExtendedMax;
    id.nx = extended && (cpuid(cpuid_leaf::extended_features).edx & cpuid_edx::nx);
    if (cpuid(cpuid_leaf::vendor).eax >= cpuid_leaf::structured_features) {
        const CpuidResult structured = cpuid(cpuid_leaf::structured_features);
        id.smep = structured.ebx & cpuid_7::ebx_smep;
        id.smap = structured.ebx & cpuid_7::ebx_smap;
        id.umip = structured.ecx & cpuid_7::ecx_umip;
    }
    read_phys_bits(id, extended_max);
    return id;
}

// The bits of kOptionalCr4 that this CPU has.
u32 optional_cr4(const CpuIdentity& cpu) {
    return (cpu.pge ? cr4_bit::pge : 0) | (cpu.smep ? cr4_bit::smep : 0) | (cpu.smap ? cr4_bit::smap : 0) |
           (cpu.umip ? cr4_bit::umip : 0);
}

// PAT defines the memory types of PWT and PCD; loft's entries assume the reset value. A change requires empty caches
// and TLB (SDM vol. 3, 12.12.4, and 12.11.8 for the order).
void reset_memory_types() {
    u64 pat = 0;
    if (!probe_read_msr(msr::pat, pat) || pat == msr::pat_at_reset) return;
    write_back_caches();
    static_cast<void>(probe_write_msr(msr::pat, msr::pat_at_reset));
    write_back_caches();
    write_cr3(read_cr3());
}

// Resets state of a kernel that ran before (kexec); registers are written whole. EFER.SCE and SYSENTER_CS would let a
// program into ring 0 at that kernel's entry; BTF would make single-step trap on branches only.
void forget_what_ran_before() {
    reset_breakpoints();
    static_cast<void>(probe_write_msr(msr::efer, enabled.no_execute ? msr::efer_nxe : 0));
    static_cast<void>(probe_write_msr(msr::sysenter_cs, 0));
    static_cast<void>(probe_write_msr(msr::debug_control, 0));
    reset_memory_types();
}

void switch_on() {
    forget_what_ran_before();
    write_cr4(read_cr4() | enabled_cr4);
    fpu_init_cpu();
}

} // namespace

const CpuIdentity& identify_cpu() {
    if (!identified) {
        identity = read_identity();
        identified = true;
    }
    return identity;
}

void enable_features(bool nopse) {
    const CpuIdentity& cpu = identify_cpu();
    fpu_choose(cpu.features);
    enabled = {.large_pages = !nopse,
               .global = cpu.pge,
               .no_execute = config::kPae && cpu.nx,
               .phys_bits = cpu.phys_bits < kMostPhysBits ? cpu.phys_bits : kMostPhysBits};
    enabled_cr4 = optional_cr4(cpu);
    if (cpu.smap) smap_write_instructions(); // a write to CR4 follows: it serializes
    switch_on();
}

bool enable_features_like_boot_cpu() {
    const CpuIdentity here = read_identity();
    if ((enabled.no_execute && !here.nx) || (enabled_cr4 & ~optional_cr4(here)) != 0 ||
        here.phys_bits < enabled.phys_bits || !fpu_suits(here.features))
        return false;
    switch_on();
    return true;
}

void limit_phys_bits(u32 bits) { enabled.phys_bits = bits; }

hal::CpuFeatures hal::cpu_features() { return enabled; }

} // namespace loft
