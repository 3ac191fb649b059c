// Per-CPU areas. Contract: percpu.hpp, hal/cpu.hpp.
#include "arch/i386/cpu/percpu.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/cpu/image.hpp"

#include <hal/cpu.hpp>

#include <cstring>

namespace loft {

namespace hal {
extern "C" {
constinit u32 loft_percpu_offset[config::kMaxCpus]{};
LOFT_PERCPU u32 loft_my_offset = 0;
LOFT_PERCPU u32 loft_my_cpu = 0;
}
} // namespace hal

u32 percpu_bytes() { return static_cast<u32>(__percpu_end - __percpu_begin); }

void percpu_init() {
    if constexpr (config::kSmp) std::memcpy(__percpu_pristine, __percpu_begin, percpu_bytes());
}

bool percpu_exists(CpuId cpu) {
    return cpu.value() == 0 || (cpu.value() < config::kMaxCpus && hal::loft_percpu_offset[cpu.value()] != 0);
}

void percpu_adopt(CpuId cpu, VirtAddr area) {
    LOFT_ASSERT(cpu.value() != 0 && cpu.value() < config::kMaxCpus && area.page_offset() == 0);
    std::memcpy(reinterpret_cast<void*>(area.value()), __percpu_pristine, percpu_bytes());
    const u32 offset = area - image_addr(__percpu_begin);
    hal::loft_percpu_offset[cpu.value()] = offset;
    const auto set = [offset](const u32& variable, u32 value) {
        *reinterpret_cast<u32*>(reinterpret_cast<u32>(&variable) + offset) = value;
    };
    set(hal::loft_my_offset, offset);
    set(hal::loft_my_cpu, cpu.value());
}

} // namespace loft
