// Saving and loading the FPU. Contract: fpu.hpp.
#include "arch/i386/cpu/fpu.hpp"

#include "arch/i386/isa/control.hpp"
#include "arch/i386/isa/cpuid.hpp"

#include <cstring>

namespace loft {
namespace {

enum class Method : u8 { none, fnsave, fxsave };
constinit Method method = Method::none;
constinit bool has_sse = false;

constexpr u32 kControlWord = 0x037f; // as after FNINIT: 64 bits of precision, round to nearest, all exceptions masked
constexpr u32 kMxcsr = 0x1f80;       // the same for SSE (SDM vol. 1, 10.2.3)
constexpr u32 kMxcsrOffset = 24;     // in the FXSAVE area

} // namespace

void fpu_choose(u32 features) {
    method = !(features & cpuid_edx::fpu) ? Method::none : features & cpuid_edx::fxsr ? Method::fxsave : Method::fnsave;
    has_sse = method == Method::fxsave && (features & cpuid_edx::sse);
}

u32 fpu_usable(u32 features) {
    constexpr u32 kSse = cpuid_edx::sse | cpuid_edx::sse2,
                  kAll = kSse | cpuid_edx::fpu | cpuid_edx::mmx | cpuid_edx::fxsr;
    return features & ~(method == Method::none ? kAll : has_sse ? 0 : kSse);
}

bool fpu_suits(u32 features) {
    const bool fpu = features & cpuid_edx::fpu, fxsr = features & cpuid_edx::fxsr, sse = features & cpuid_edx::sse;
    return (method == Method::none || fpu) && (method != Method::fxsave || fxsr) && (!has_sse || sse);
}

// boot/start.asm has set EM, so that FPU instructions trap. Without an FPU it stays set.
void fpu_init_cpu() {
    if (method == Method::none) return;
    write_cr0((read_cr0() & ~cr0_bit::em) | cr0_bit::mp | cr0_bit::ts);
    if (method == Method::fxsave) write_cr4(read_cr4() | cr4_bit::osfxsr | (has_sse ? cr4_bit::osxmmexcpt : 0));
}

void fpu_reset(FpuState& state) {
    std::memset(state.bytes, 0, sizeof state.bytes);
    if (method == Method::fxsave) {
        std::memcpy(state.bytes, &kControlWord, 2);
        std::memcpy(state.bytes + kMxcsrOffset, &kMxcsr, 4);
    } else {
        // Control, status, tags: all registers empty.
        constexpr u32 image[]{0xffff'0000 | kControlWord, 0xffff'0000, 0xffff'ffff};
        std::memcpy(state.bytes, image, sizeof image);
    }
}

void fpu_save(FpuState* state) {
    if (method == Method::fxsave)
        asm volatile("fxsave %0" : "=m"(*state));
    else if (method == Method::fnsave) // fnsave also empties the registers
        asm volatile("fnsave %0\n\t"
                     "frstor %0"
                     : "=m"(*state));
}

void fpu_load(const FpuState* state) {
    if (method == Method::none) return;
    asm volatile("clts");
    if (method == Method::fxsave)
        asm volatile("fxrstor %0" ::"m"(*state));
    else // FRSTOR would raise a pending exception of the replaced state in the kernel (SDM vol. 2, "FRSTOR")
        asm volatile("fnclex\n\t"
                     "frstor %0" ::"m"(*state));
}

void fpu_off() {
    if (method != Method::none) write_cr0(read_cr0() | cr0_bit::ts);
}

} // namespace loft
