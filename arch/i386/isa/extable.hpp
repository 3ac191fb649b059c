// Exception tables: instructions of the kernel that may fault, each with the address at which to continue.
//
// Section .extable lists the user copies: a fault on a user address is first resolved like one of the program itself;
// only if that fails, the copy ends. Section .extable.probes lists instructions whose fault is an expected result
// (probe.hpp); it is not resolved. linker.ld collects both; the trap dispatcher searches them before it treats a fault
// of the kernel as a bug.
#pragma once

#include "arch/base/types.hpp"

// For inline assembly: after a fault at `at`, continue at `to`. Both are local numeric labels, as strings: "1b", "2f".
#define LOFT_EXTABLE_ENTRY(section, at, to)                                                                            \
    ".pushsection " section ", \"a?\"\n\t"                                                                             \
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

// The entry for the instruction at `eip`; null if there is none. Any context; reads rodata only.
const Fixup* find_user_copy_fixup(u32 eip);
const Fixup* find_probe_fixup(u32 eip);

} // namespace loft
