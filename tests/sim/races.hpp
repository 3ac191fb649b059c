// Races on plain memory: two accesses of different agents to the same bytes, at least one of them a write, that nothing
// orders. Also: accesses to memory that has been freed.
//
// A configuration with `races` in its name compiles everything but the machine with -fsanitize=thread: the compiler
// calls a function before each access to memory (instrumented.cpp). In an exploration each access is compared with the
// earlier ones to the same bytes (Flanagan and Freund, PLDI 2009), by vector clocks that follow what orders
// agents: words of the HAL, interrupts, thread switches. README.md, "Plain memory", has the rules.
#pragma once

#include "arch/base/types.hpp"
#include "tests/sim/schedule.hpp"

#include <vector>

namespace loft::sim::races {

#if defined(LOFT_RACES)
inline constexpr bool kOn = true;
// Operations of the HAL: the compiler reports none of their accesses, they report what they do themselves.
#define LOFT_UNSEEN __attribute__((no_sanitize("thread")))
#else
inline constexpr bool kOn = false; // none of the functions below is called
#define LOFT_UNSEEN
#endif

enum class Kind : u8 {
    read,
    write,
    cpu_read, // of a per-CPU variable by one instruction, which no interrupt of its CPU divides
    cpu_write,
    cell_read, // of a word that orders: an Atomic, a Plain, a page-table entry
    cell_write,
    frees,
    allocates,
};

// --- Called by the explorer.

struct Stack {
    const u8* begin = nullptr;
    u64 size = 0;
    bool has(u64 address) const { return address - reinterpret_cast<std::uintptr_t>(begin) < size; }
};
// A schedule begins; these are the stacks of its threads. `points`: each access to plain memory is a step.
void begin(const std::vector<Stack>& stacks, bool points);
// From now on this program or interrupt runs, on that stack; kNobody: none of them.
void run(u32 agent, u32 thread, const Stack& stack);
// Who acquires a place is ordered after all who have released it. The place: an event that is not memory.
void release(u64 place);
void acquire(u64 place);
void buffered();       // the agent has put a store into its store buffer
void drained(u32 cpu); // the oldest store there becomes memory

// --- Called by the HAL. `from`: the code address that a message names.

void access(const void* at, u64 bytes, Kind kind, const void* from);
// A load of a word, or with `write` a locked operation on it.
void word(const void* at, u32 bytes, bool write, const void* from);
void frames(u32 pfn, u32 order, Kind kind, const void* from);
void object(const void* at, u32 bytes, Kind kind, const void* from);

// --- Called by instrumented code.

void seen(const void* at, u64 bytes, bool write, const void* from);
// A function begins, and ends; its objects lie at `lowest` and above it.
void function_begins(const void* lowest, const void* from);
void function_ends(const void* from);

} // namespace loft::sim::races

namespace loft::sim {

// Inlined into the operations of the HAL, which are called by mm: so the return address is a place in mm.

// As touch(), for a word that orders agents; with `write` a locked operation.
[[gnu::always_inline]] inline void touch_word(const void* word, u32 bytes, bool write) {
    touch(word, write);
    if constexpr (races::kOn)
        if (detail::exploring) races::word(word, bytes, write, __builtin_return_address(0));
}
[[gnu::always_inline]] inline void touch_plain(const void* at, u64 bytes, races::Kind kind) {
    if constexpr (races::kOn)
        if (detail::exploring) races::access(at, bytes, kind, __builtin_return_address(0));
}
[[gnu::always_inline]] inline void touch_frames(u32 pfn, u32 order, races::Kind kind) {
    if constexpr (races::kOn)
        if (detail::exploring) races::frames(pfn, order, kind, __builtin_return_address(0));
}
[[gnu::always_inline]] inline void touch_object(const void* at, u32 bytes, races::Kind kind) {
    if constexpr (races::kOn)
        if (detail::exploring) races::object(at, bytes, kind, __builtin_return_address(0));
}

} // namespace loft::sim
