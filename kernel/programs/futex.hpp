// Futexes: a thread sleeps until another thread has changed a word of memory and wakes it. Source: futex(2).
#pragma once

#include "arch/base/types.hpp"
#include "kernel/tree/errno.hpp"

namespace loft {

inline constexpr u64 kForever = ~u64{0};
inline constexpr u32 kAnyBit = ~u32{0}; // of the bits by which a waker selects sleepers

// For all of these: a private word is identified by its address in the caller's address space; a shared one by the
// memory that it lies in, so that other programs that share the memory find it. It need not be writable. Private and
// shared keys never match. Errors: inval (not aligned), fault (no such memory). Preemptible context. Cost: no TLB
// operation.

// Sleeps if the word is `value`: until a futex_wake, until `until_us` (of now_us()), or until the program is to end.
// Results: 0, again (the word had another value), timedout, intr.
SysResult futex_wait(UserAddr word, u32 value, u64 until_us, bool shared, u32 bits = kAnyBit);

// Wakes up to `most` threads that sleep at `word` and share a bit with `bits`; returns how many. As on Linux, one is
// woken if `most` is 0 or negative.
SysResult futex_wake(UserAddr word, int most, bool shared, u32 bits = kAnyBit);

// Wakes up to `wake` sleepers and moves up to `move` others to `to`; returns the sum. With `expected`: only if `word`
// has this value, else again.
SysResult futex_requeue(UserAddr word, UserAddr to, int wake, int move, bool shared, const u32* expected);

// Atomically changes `second` as `code` says (FUTEX_WAKE_OP), wakes up to `most` sleepers of `first`, and, if the old
// value passes the comparison in `code`, up to `most_second` of `second`. Returns how many; nosys for an unknown
// operation or comparison.
SysResult futex_wake_op(UserAddr first, UserAddr second, int most, int most_second, u32 code, bool shared);

} // namespace loft
