// A locked instruction on a word that is no object of the kernel: one of a program, in a window.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// cmpxchg: the word gets `next` if it is `expected`. Returns what it was. `word` is mapped, writable, and aligned.
inline u32 compare_exchange_word(VirtAddr word, u32 expected, u32 next) {
    asm volatile("lock cmpxchgl %2, %1"
                 : "+a"(expected), "+m"(*reinterpret_cast<u32*>(word.value()))
                 : "r"(next)
                 : "cc", "memory");
    return expected;
}

} // namespace loft
