// What DEBUG=1 adds to the allocator: poison in free frames, and the question whether a frame that is freed
// is still mapped somewhere.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Panics if a mapping that is held anywhere shows one of the frames; then fills them with poison.
void debug_frame_freed(Pfn pfn, u32 order);
// Panics if a frame that was poisoned when it was freed has been written since.
void debug_check_poison(Pfn pfn, u32 order);

inline constexpr u32 kPoison = 0x6b6b'6b6b;

} // namespace loft
