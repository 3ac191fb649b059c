// The work of the reclaim thread: a zone that falls below its low mark gets frames until it has its high mark, before
// anybody has to wait for them. Below the min mark whoever wants memory reclaims itself (reclaim_frames).
//
// The thread itself is the kernel's (kernel/files/reclaim_thread.hpp). It sleeps while all zones have their low marks.
// An allocation that leaves a zone with less wakes it (frames_are_low). No wake-up is lost: the thread says that it
// sleeps, then looks at the zones; the allocation takes the frames, then looks whether the thread sleeps. An exchange
// stands between the two steps of each, so one of them sees what the other one has done.
//
// Only pages in the zones that are low are taken (zones_below_low):
//
//     low                          what goes
//     lowmem, for the kernel       pages in lowmem: programs have some there since high memory was full
//     high memory, lowmem is free  pages of files in high memory. No private page: programs go on in lowmem
//     both, for programs           pages in any zone
#pragma once

#include "mm/frames/page_alloc.hpp"

namespace loft {

// Waits until a zone is below its low mark; returns those that are. Preemptible context, one thread at a time, holding
// nothing.
ZoneSet wait_for_low_zones();

// Frees frames of these zones, until each has its high mark. False: nothing can be freed any more. Context and cost: as
// reclaim(), for a program, again and again.
[[nodiscard]] bool balance_zones(ZoneSet zones);

// How long the thread sleeps after a call of balance_zones that has lasted so long and has returned false, as others
// did `before` it. So it uses at most a tenth of a CPU while nothing can be freed, and looks every 3.2 seconds at last.
constexpr u32 pause_ms(u32 lasted_us, u32 before) {
    constexpr u32 kShortest = 100, kMostDoubled = 5;
    return lasted_us / 1000 * 9 + (kShortest << (before < kMostDoubled ? before : kMostDoubled));
}

struct BalanceStats {
    u32 wakes = near_wrap<u32>(); // wait_for_low_zones has returned
    u32 freed = near_wrap<u32>(); // frames
    u32 vain = near_wrap<u32>();  // balance_zones has returned false
};
BalanceStats balance_stats(); // any context; a snapshot

void balance_init(); // boot

} // namespace loft
