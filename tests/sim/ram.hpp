// The memory of the simulated machine: 64 GiB of addresses, of which the host pays for what is touched.
//
// It lies at a fixed address of the host, so that "physical address -> host pointer" is one addition. Fresh
// memory is not zero: it repeats a block of junk (a private mapping of one small file, again and again),
// because the memory of a real machine is not zero either, and a table that nobody cleared must look like
// one.
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

// One byte of knowledge about each frame.
namespace frame_state {
inline constexpr u8 ram = 1;        // there is memory at all
inline constexpr u8 table = 2;      // has been a page table that some CPU could walk: writes to it are watched
inline constexpr u8 handed_out = 4; // the allocator has given it to somebody at least once
inline constexpr u8 free = 8;       // ... and has got it back
inline constexpr u8 dirty = 16;     // written since the snapshot (snapshot.hpp): entries, and data by accesses
} // namespace frame_state
inline u8& frame_state_of(u32 pfn) { return reinterpret_cast<u8*>(kFrameStateBase)[pfn]; }

// Has nothing been written there since ram_reset()? (What was written may be junk by chance: unlikely.)
bool ram_is_junk(u32 pfn);
void ram_make_junk(u32 pfn);

// Makes everything junk again and forgets all frame states. The first call maps the memory.
void ram_reset();

} // namespace loft::sim
