// The last resort: memory has run out, nothing can be reclaimed, and the program that has the most memory is ended. The
// others get what it had, and go on.
//
// A program has the pages that it maps, its pages in swap areas, and its page tables; what it shares with others is
// counted, too (as in the score of proc(5)).
//
// Whoever needs the memory takes it from the space itself (AddressSpace::reap), and does not wait for the program: a
// thread of it may wait for a mutex that the caller holds. So its memory is free before its threads have left. One
// caller at a time looks for a program. A program that ends already comes before larger ones.
#pragma once

#include "mm/spaces/address_space.hpp"

namespace loft {

enum class ProgramEnd : u8 {
    none,  // no program runs in that space any more, and the space is empty or not SpaceUse::program
    other, // the program ends, or has been ended before
    own,   // the calling thread's own program ends, and needs no memory any more
};

// Up-call, defined by the kernel: ends the program that runs in the space (SIGKILL), and logs that with its name and
// what it has. It does not wait for its end. The space is SpaceUse::ends afterwards. Context: that of
// end_largest_program.
ProgramEnd program_end(AddressSpace& space, const SpaceStats& has);

} // namespace loft
