// The last resort: memory has run out, nothing can be reclaimed, and the program that has the most memory is ended. The
// others wait for what it had, and go on.
//
// A program has the pages that it maps, its pages in swap areas, and its page tables; what it shares with others is
// counted, too (as in the score of proc(5)).
#pragma once

#include "mm/spaces/address_space.hpp"

namespace loft {

enum class ProgramEnd : u8 {
    none,  // no program runs in that space, not yet or not any more
    other, // a program has ended, and its memory is free
    own,   // the calling thread's own program ends, and needs no memory any more
};

// Up-call, defined by the kernel: ends the program that runs in the space (SIGKILL), and logs that with its name and
// what it has; but not if another program ends already, or spaces_cleared() is not `since` any more: maybe that was the
// largest one. Waits until spaces_cleared() is not `since`. Context: that of end_largest_program.
ProgramEnd program_end(AddressSpace& space, const SpaceStats& has, u32 since);

} // namespace loft
