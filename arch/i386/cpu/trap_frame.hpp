// The stack frame of an exception or interrupt.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// The interrupted registers, lowest address first. A handler may change them: eip to continue elsewhere, eflags (TF) to
// single-step, the general registers except esp.
struct TrapFrame {
    u32 gs, fs, es, ds;                                  // pushed by trap_entry.asm
    u32 edi, esi, ebp, esp_at_pusha, ebx, edx, ecx, eax; // pusha
    u32 vector;                                          // pushed by the stub
    u32 error;                                           // by the CPU, or 0 from the stub
    u32 eip, cs, eflags;                                 // by the CPU
    u32 user_esp, user_ss;                               // by the CPU, only from another ring

    bool from_user() const { return (cs & 3) != 0; }
    // The interrupted stack pointer: within the same ring the CPU does not push it (SDM vol. 3, 6.12.1).
    u32 esp() const { return from_user() ? user_esp : static_cast<u32>(reinterpret_cast<std::uintptr_t>(&user_esp)); }
};
static_assert(sizeof(TrapFrame) == 19 * 4);

// The error code of a page fault (SDM vol. 3, 4.7).
namespace page_fault_error {
inline constexpr u32 present = 1u << 0, write = 1u << 1, user = 1u << 2, reserved_bit = 1u << 3, fetch = 1u << 4;
}

} // namespace loft
