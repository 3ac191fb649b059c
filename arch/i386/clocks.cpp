// Clocks of known frequency. Contract: clocks.hpp.
#include "arch/i386/clocks.hpp"

#include "arch/i386/control.hpp"
#include "arch/i386/cpuid.hpp"
#include "arch/i386/pit.hpp"

namespace loft {
namespace {

constexpr u16 kRtcIndex = 0x70, kRtcData = 0x71;
constexpr u8 kSeconds = 0x00, kStatusB = 0x0b; // with bit 7 of the index clear NMIs come through
constexpr u8 kBinary = 1 << 2;

u8 read_rtc(u8 reg) {
    out8(kRtcIndex, reg);
    return in8(kRtcData);
}

} // namespace

Clock pit_clock() {
    pit_start_counter();
    return {"the PIT", kPitHz / 1000, 0xffff, [] { return u32{0} - pit_read_counter(); }}; // it counts down
}

u32 rtc_second() {
    const u8 value = read_rtc(kSeconds);
    return read_rtc(kStatusB) & kBinary ? value : value / 16 * 10 + value % 16;
}

u32 tsc_khz_by_cpuid() {
    if (cpuid(cpuid_leaf::features).ecx & cpuid_ecx::hypervisor) {
        const u32 highest = cpuid(cpuid_leaf::hypervisor).eax;
        if (highest >= cpuid_leaf::hypervisor_clocks && highest < cpuid_leaf::hypervisor + 0x1000)
            if (const u32 khz = cpuid(cpuid_leaf::hypervisor_clocks).eax) return khz;
    }
    if (cpuid(cpuid_leaf::vendor).eax < cpuid_leaf::tsc_ratio) return 0;
    const CpuidResult ratio = cpuid(cpuid_leaf::tsc_ratio); // EBX / EAX of a crystal of ECX Hz
    return ratio.eax != 0 ? divide(u64{ratio.ecx / 1000} * ratio.ebx, ratio.eax) : 0;
}

u32 base_khz_by_cpuid() {
    return cpuid(cpuid_leaf::vendor).eax >= cpuid_leaf::frequencies
               ? (cpuid(cpuid_leaf::frequencies).eax & 0xffff) * 1000
               : 0;
}

} // namespace loft
