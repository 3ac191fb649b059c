// Segment selectors: the entries of the GDT.
#pragma once

#include "arch/base/types.hpp"

// The requested privilege level is in the low two bits.
namespace loft::selector {

inline constexpr u16 kernel_code = 0x08, kernel_data = 0x10, user_code = 0x1b, user_data = 0x23;
inline constexpr u16 per_cpu = 0x28; // %fs: hal/cpu.hpp
// The running thread's descriptors, set by set_thread_area. Same numbers as Linux's.
inline constexpr u16 tls_first = 0x30;
inline constexpr u32 tls_count = 3;
inline constexpr u16 tss = 0x48, double_fault_tss = 0x50;
static_assert(tss == tls_first + 8 * tls_count);

} // namespace loft::selector
