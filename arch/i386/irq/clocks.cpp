// Clocks of known frequency. Contract: clocks.hpp.
#include "arch/i386/irq/clocks.hpp"

#include "arch/i386/io/pit.hpp"
#include "arch/i386/isa/control.hpp"
#include "arch/i386/isa/cpuid.hpp"

namespace loft {

Clock pit_clock() {
    pit_start_counter();
    return {"the PIT", kPitHz / 1000, 0xffff, [] { return u32{0} - pit_read_counter(); }}; // it counts down
}

u32 tsc_khz_by_cpuid() {
    if (cpuid(cpuid_leaf::features).ecx & cpuid_ecx::hypervisor) {
        const u32 highest = cpuid(cpuid_leaf::hypervisor).eax;
        if (highest >= cpuid_leaf::hypervisor_clocks && highest < cpuid_leaf::hypervisor + 0x1000)
            if (const u32 khz = cpuid(cpuid_leaf::hypervisor_clocks).eax) return khz;
    }
    if (cpuid(cpuid_leaf::vendor).eax < cpuid_leaf::tsc_ratio) return 0;
    const CpuidResult ratio = cpuid(cpuid_leaf::tsc_ratio); // EBX / EAX of a crystal of ECX Hz
    const u64 product = u64{ratio.ecx / 1000} * ratio.ebx;
    return product >> 32 < ratio.eax ? divide(product, ratio.eax) : 0; // otherwise too fast for any processor
}

u32 base_khz_by_cpuid() {
    return cpuid(cpuid_leaf::vendor).eax >= cpuid_leaf::frequencies
               ? (cpuid(cpuid_leaf::frequencies).eax & 0xffff) * 1000
               : 0;
}

} // namespace loft
