// Backtraces: return addresses from the chain of frame pointers.
#pragma once

#include "arch/base/types.hpp"

#include <span>

namespace loft {

// Writes return addresses, innermost first, into `out` and returns their number. `ebp` is a frame pointer, normally
// current_frame() or TrapFrame::ebp; with the latter the first entry is the caller of the interrupted function, so
// TrapFrame::eip comes before it. The walk crosses trap frames. It ends at a frame pointer that is 0, unaligned, a user
// or fixmap address, not above the previous one, or unreadable: it never faults. Any context but NMI.
u32 collect_stack(u32 ebp, std::span<u32> out);

// The frame pointer of the function into which it is inlined.
[[gnu::always_inline]] inline u32 current_frame() { return reinterpret_cast<u32>(__builtin_frame_address(0)); }

} // namespace loft
