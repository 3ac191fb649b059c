// Exception tables: instructions of the kernel that may fault, and where to go on if they do.
//
// Section .extable has the copies from and to the memory of programs: a fault on a user address is resolved first, as
// one of the program itself would be, and only what cannot be resolved ends the copy. Section .extable.probes has the
// instructions for which a fault is the answer to a question (probe.hpp): nothing is resolved for those. linker.ld
// collects both; the trap dispatcher looks there before it takes a fault of the kernel for a bug.
#pragma once

#include "arch/base/types.hpp"

// For inline assembly: a fault at `at` goes on at `to`. Both are local numeric labels, as strings: "1b", "2f".
#define LOFT_EXTABLE_ENTRY(section, at, to)                                                                            \
    ".pushsection " section ", \"a\"\n\t"                                                                              \
    ".long " at ", " to "\n\t"                                                                                         \
    ".popsection\n\t"
#define LOFT_EXTABLE(at, to) LOFT_EXTABLE_ENTRY(".extable", at, to)
#define LOFT_EXTABLE_PROBE(at, to) LOFT_EXTABLE_ENTRY(".extable.probes", at, to)

namespace loft {

struct Fixup {
    u32 at;
    u32 to;
};
static_assert(sizeof(Fixup) == 8);

// The entry of the instruction at `eip`; null if it has none. Any context; reads rodata only.
const Fixup* find_user_copy_fixup(u32 eip);
const Fixup* find_probe_fixup(u32 eip);

} // namespace loft
