// SMAP: the pages of programs are closed to the kernel, but between STAC and CLAC (SDM vol. 3, 4.6.1, and vol. 2).
//
// STAC sets EFLAGS.AC and CLAC clears it. On a processor without SMAP both are undefined opcodes. So the kernel is
// built with a nop at each place of one, and section .smap lists the places with their instructions; on a processor
// with SMAP the boot writes them into the code (cpu/smap.hpp). The nop is the one of three bytes that every i386 has:
// leal 0(%esi), %esi. trap_entry.asm has the same for NASM.
#pragma once

#include "arch/base/types.hpp"

#define LOFT_SMAP_PLACE(code)                                                                                          \
    "99:\t.byte 0x8d, 0x76, 0x00\n\t"                                                                                  \
    ".pushsection .smap, \"a?\"\n\t"                                                                                   \
    ".long 99b, " code "\n\t"                                                                                          \
    ".popsection\n\t"
#define LOFT_STAC LOFT_SMAP_PLACE("0xcb010f")
#define LOFT_CLAC LOFT_SMAP_PLACE("0xca010f")

namespace loft {

struct SmapPlace {
    static constexpr u32 kBytes = 3;
    u32 at;
    u32 code; // the instruction: kBytes bytes, the first one lowest
};
static_assert(sizeof(SmapPlace) == 8);

} // namespace loft
