// Futexes: threads that sleep until another one says that a word of their memory has changed. Source: futex(2).
#pragma once

#include "arch/base/types.hpp"
#include "kernel/files/errno.hpp"

namespace loft {

inline constexpr u64 kForever = ~u64{0};
inline constexpr u32 kAnyBit = ~u32{0}; // of the bits by which a waker chooses among sleepers

// In all of these: a private word is known by its address in this address space. One that is not private is known by
// the memory that it lies in, so that another program that shares it finds it; it need not be writable. The two kinds
// do not find each other. Errors: inval (not aligned), fault (no such memory). Preemptible context. Cost: no TLB
// operation.

// Sleeps while the word is `value`; until one of futex_wake's, `until_us` (of now_us()), or the end of the program.
// Results: 0, again (the word was another one), timedout, intr.
SysResult futex_wait(UserAddr word, u32 value, u64 until_us, bool shared, u32 bits = kAnyBit);

// Wakes so many of those that sleep at `word` with one of these bits; returns how many. As Linux does, one is woken
// also if `most` is 0 or negative.
SysResult futex_wake(UserAddr word, int most, bool shared, u32 bits = kAnyBit);

// Wakes as many as `wake` says and lets up to `move` others sleep at `to` instead; returns the sum. `expected`: only
// if `word` has this value, else again.
SysResult futex_requeue(UserAddr word, UserAddr to, int wake, int move, bool shared, const u32* expected);

// Changes `second` in one atomic step as `code` says (FUTEX_WAKE_OP), wakes `most` sleepers of `first`, and, if the
// old value passes the comparison in `code`, `most_second` of `second`. Returns how many; nosys for a code that means
// nothing.
SysResult futex_wake_op(UserAddr first, UserAddr second, int most, int most_second, u32 code, bool shared);

} // namespace loft
