// The names of the bits of control registers, EFLAGS and MSRs.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

namespace cr0_bit {
inline constexpr u32 mp = 1u << 1, em = 1u << 2, ts = 1u << 3, wp = 1u << 16, pg = 1u << 31;
}
namespace cr4_bit {
inline constexpr u32 pse = 1u << 4, pae = 1u << 5, pge = 1u << 7, osfxsr = 1u << 9, osxmmexcpt = 1u << 10,
                     umip = 1u << 11, smep = 1u << 20, smap = 1u << 21;
}
namespace eflags {
inline constexpr u32 carry = 1u << 0, trap = 1u << 8, interrupt = 1u << 9, direction = 1u << 10, resume = 1u << 16,
                     alignment_check = 1u << 18; // in ring 0: user pages are open (smap.hpp)
}
namespace msr {
inline constexpr u32 apic_base = 0x1b, sysenter_cs = 0x174, debug_control = 0x1d9, pat = 0x277, efer = 0xc000'0080;
inline constexpr u64 efer_nxe = 1ull << 11;
inline constexpr u64 pat_at_reset = 0x0007'0406'0007'0406; // SDM vol. 3, table 12-12
} // namespace msr

} // namespace loft
