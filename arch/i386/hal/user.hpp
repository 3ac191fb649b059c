// hal/user: user copies, which may fault: between the kernel and the memory of the current program. Contract:
// arch/base/hal_contract.hpp.
//
// One counted string instruction copies whole words, another one the rest. Both are in the exception table: a fault
// that cannot be resolved ends the copy, and ECX then tells how much is left (SDM vol. 1, 7.3.9.2: a string instruction
// that faults leaves its registers as before the faulting iteration). A word that spans two pages counts as not copied
// if either page faults.
//
// Each copy opens user memory for its own instructions (isa/smap.hpp). The places at which a fault continues lie
// before the CLAC, so every way out closes it.
#pragma once

#include "arch/base/fault.hpp"
#include "arch/i386/isa/extable.hpp"
#include "arch/i386/isa/smap.hpp"

namespace loft::hal {

namespace detail {

inline u32 user_move(u32 to, u32 from, u32 bytes) {
    u32 left = bytes / 4;
    asm volatile(LOFT_STAC // opens user memory, until LOFT_CLAC
                 "1:\trep movsl\n\t"
                 "movl %3, %0\n"
                 "2:\trep movsb\n\t"
                 "jmp 4f\n"
                 "3:\tleal (%3,%0,4), %0\n" // words that are left, plus the bytes after them
                 "4:\n\t" LOFT_CLAC LOFT_EXTABLE("1b", "3b") LOFT_EXTABLE("2b", "4b")
                 : "+&c"(left), "+&D"(to), "+&S"(from)
                 : "r"(bytes % 4)
                 : "memory");
    return left;
}

inline u32 user_zero(u32 to, u32 bytes) {
    u32 left = bytes / 4;
    asm volatile(LOFT_STAC // opens user memory, until LOFT_CLAC
                 "1:\trep stosl\n\t"
                 "movl %3, %0\n"
                 "2:\trep stosb\n\t"
                 "jmp 4f\n"
                 "3:\tleal (%3,%0,4), %0\n"
                 "4:\n\t" LOFT_CLAC LOFT_EXTABLE("1b", "3b") LOFT_EXTABLE("2b", "4b")
                 : "+&c"(left), "+&D"(to)
                 : "a"(0), "r"(bytes % 4)
                 : "memory");
    return left;
}

} // namespace detail

inline u32 user_copy_in(void* to, VirtAddr from, u32 bytes) {
    return detail::user_move(reinterpret_cast<u32>(to), from.value(), bytes);
}
inline u32 user_copy_out(VirtAddr to, const void* from, u32 bytes) {
    return detail::user_move(to.value(), reinterpret_cast<u32>(from), bytes);
}
inline u32 user_copy_to_map(VirtAddr to, VirtAddr from, u32 bytes) {
    return detail::user_move(to.value(), from.value(), bytes);
}
inline u32 user_copy_from_map(VirtAddr to, VirtAddr from, u32 bytes) {
    return detail::user_move(to.value(), from.value(), bytes);
}
inline u32 user_clear(VirtAddr to, u32 bytes) { return detail::user_zero(to.value(), bytes); }

} // namespace loft::hal
