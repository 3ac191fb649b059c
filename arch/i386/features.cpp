// What the processor can do. Contract: features.hpp, and hal::cpu_features of hal/cpu.hpp.
#include "arch/i386/features.hpp"

#include "arch/base/config.hpp"
#include "arch/i386/control.hpp"
#include "arch/i386/cpuid.hpp"
#include "arch/i386/fpu.hpp"

#include <hal/cpu.hpp>

namespace loft {
namespace {

constinit CpuIdentity identity{};
constinit bool identified = false;

// What is switched on. The boot tables use large pages; the rest comes with enable_features.
constinit hal::CpuFeatures enabled{.large_pages = true, .global = false, .no_execute = false};

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

// Family and model are spread over two fields each (SDM vol. 2, "CPUID", figure 3-6).
void read_signature(CpuIdentity& id, u32 signature) {
    const u32 family = signature >> 8 & 0xf, model = signature >> 4 & 0xf;
    id.family = family == 15 ? family + (signature >> 20 & 0xff) : family;
    id.model = family == 6 || family == 15 ? model + (signature >> 16 & 0xf) * 16 : model;
    id.stepping = signature & 0xf;
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
    // A CPU without extended leaves answers with those of the highest basic leaf: anything.
    const bool extended = extended_max >= cpuid_leaf::extended_features && extended_max < 0x8001'0000;
    id.nx = extended && (cpuid(cpuid_leaf::extended_features).edx & cpuid_edx::nx);
    id.phys_bits = extended && extended_max >= cpuid_leaf::address_sizes
                       ? cpuid(cpuid_leaf::address_sizes).eax & 0xff
                   : basic.edx & (cpuid_edx::pae | cpuid_edx::pse36) ? 36
                                                                     : 32;
    return id;
}

void switch_on() {
    if (enabled.no_execute) write_msr(msr::efer, read_msr(msr::efer) | msr::efer_nxe);
    if (enabled.global) write_cr4(read_cr4() | cr4_bit::pge);
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
    enabled = {.large_pages = !nopse, .global = cpu.pge, .no_execute = config::kPae && cpu.nx};
    switch_on();
}

bool enable_features_like_boot_cpu() {
    const CpuIdentity here = read_identity();
    if ((enabled.no_execute && !here.nx) || (enabled.global && !here.pge) || !fpu_suits(here.features))
        return false;
    switch_on();
    return true;
}

hal::CpuFeatures hal::cpu_features() { return enabled; }

} // namespace loft
