// Return addresses by walking the chain of frame pointers.
#pragma once

#include "arch/base/types.hpp"

#include <span>

namespace loft {

// Writes return addresses, innermost first, into `out` and returns how many. `ebp` is a frame pointer,
// normally current_frame() or TrapFrame::ebp: in the latter case the first entry is the caller of the
// interrupted function, and TrapFrame::eip goes in front. The walk crosses trap frames. It ends at a frame
// pointer that is 0, unaligned, in user or fixmap addresses, not above the one before it, or unreadable:
// it never faults. Any context but NMI.
u32 collect_stack(u32 ebp, std::span<u32> out);

// The frame pointer of the function this is inlined into.
[[gnu::always_inline]] inline u32 current_frame() { return reinterpret_cast<u32>(__builtin_frame_address(0)); }

} // namespace loft
