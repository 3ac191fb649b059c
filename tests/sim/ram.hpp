// The memory of the simulated machine: 64 GiB of addresses; the host allocates only pages that are written.
//
// It lies at a fixed host address, so that "physical address -> host pointer" is one addition. Fresh memory is not
// zero: it repeats a block of junk (private mappings of one small file). The memory of a real machine is not zero
// either, and a table that was not cleared must be noticed.
#pragma once

#include "arch/base/types.hpp"

#include <cstring>

namespace loft::sim {

inline constexpr u64 kRamLimit = 64 * GiB; // 36 bits: what PAE reaches (SDM vol. 3, 4.1.4, without larger MAXPHYADDR)
inline constexpr u32 kFrameLimit = static_cast<u32>(kRamLimit >> kPageShift);

inline constexpr std::uintptr_t kRamBase = 0x2000'0000'0000;
// Pointers into these 4 GiB stand for virtual addresses: a page-table cell that is reached through a mapping.
inline constexpr std::uintptr_t kWindowBase = 0x2100'0000'0000;
inline constexpr std::uintptr_t kFrameStateBase = 0x2200'0000'0000;

inline u8* ram_at(u64 phys) { return reinterpret_cast<u8*>(kRamBase + phys); }

// One byte of state for each frame.
namespace frame_state {
inline constexpr u8 ram = 1;        // the frame is RAM
inline constexpr u8 table = 2;      // has been a page table that some CPU could walk: writes to it are tracked
inline constexpr u8 handed_out = 4; // has been allocated at least once
inline constexpr u8 free = 8;       // has been allocated and is free now
inline constexpr u8 dirty = 16;     // written since the snapshot (snapshot.hpp): entries, and data by accesses
} // namespace frame_state
inline u8& frame_state_of(u32 pfn) { return reinterpret_cast<u8*>(kFrameStateBase)[pfn]; }

// True if the frame has not been written since ram_reset(). (It could have been written with the same junk: unlikely.)
bool ram_is_junk(u32 pfn);
void ram_make_junk(u32 pfn);

// Fills all memory with junk and clears all frame states. The first call maps the memory.
void ram_reset();

} // namespace loft::sim
