// The machine of this program: memory, a TLB, and page tables that are walked. For what is a function here a HAL of a
// real kernel has an instruction.
#pragma once

#include "arch/base/types.hpp"

#include <cstdint>

namespace embed {

// The physical memory, 32 MiB from 0 on and 32 MiB from 4 GiB on, is one byte array.
inline constexpr loft::u64 kLowBytes = 32 * loft::MiB, kHighBytes = 32 * loft::MiB, kHighBegin = 4 * loft::GiB;
inline constexpr loft::u32 kDirectMap = 0xc000'0000; // where physical 0 is seen (mm/ground/layout.hpp)
extern loft::u8 memory[kLowBytes + kHighBytes];

// The byte that the CPU finds at an address, by what its TLB remembers or by the tables. An access that faults:
loft::u8* look(loft::VirtAddr va, bool write); // is null
loft::u8& at(loft::VirtAddr va, bool write);   // is a panic
loft::u8* user(loft::VirtAddr va, bool write); // is tried again if mm says so, else null

inline loft::u64 root = 0; // CR3; 0: what boot has mapped, which is the direct map of the first 32 MiB
void forget(loft::VirtAddr va);
void forget_all(bool globals);

inline bool interrupts = false; // the CPU's interrupt flag
inline bool permit = false;     // of the only thread, to leave park

} // namespace embed
