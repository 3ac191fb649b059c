// Futexes: threads that sleep until somebody says that a word of their memory has changed. Source: futex(2).
#pragma once

#include "arch/base/types.hpp"
#include "kernel/errno.hpp"

namespace loft {

inline constexpr u64 kForever = ~u64{0};

// Sleeps while the word at `word` is `value`; until futex_wake, `until_us` (of now_us()), or the end of the program.
// A private one is known by its address in this address space; one that is not is known by its frame, too, so that
// another program finds it in shared memory. Results: 0, again (the word was another one), timedout, intr, fault,
// inval. Preemptible context.
SysResult futex_wait(UserAddr word, u32 value, u64 until_us, bool shared);

// Wakes at most so many of those who sleep at `word`; returns how many. Preemptible context.
SysResult futex_wake(UserAddr word, u32 most, bool shared);

} // namespace loft
