// The work of the reclaim thread. Contract: balance.hpp.
#include "mm/reclaim/balance.hpp"

#include "mm/ground/context.hpp"
#include "mm/reclaim/reclaim.hpp"

#include <algorithm>

namespace loft {
namespace {

constinit hal::Atomic<u32> sleeper; // the number of the thread while it sleeps, or is about to; 0: it works
constinit hal::Atomic<u32> wakes{near_wrap<u32>()}, frames{near_wrap<u32>()}, in_vain{near_wrap<u32>()};

constexpr u32 kAtOnce = 512; // frames; then the marks are looked at again

} // namespace

void frames_are_low() {
    if (const ThreadId thread{sleeper.exchange(0)}; thread != ThreadId{}) hal::unpark(thread);
}

ZoneSet wait_for_low_zones() {
    might_sleep("the wait for work of reclaim");
    for (;;) {
        sleeper.exchange(hal::current_thread().value());
        if (const ZoneSet low = zones_below_low(); !low.empty()) {
            sleeper.store(0);
            wakes.fetch_add(1);
            return low;
        }
        hal::park();
    }
}

bool balance_zones(ZoneSet zones) {
    for (;;) {
        const u32 missing = missing_to_high(zones);
        if (missing == 0) return true;
        const u32 freed = reclaim(std::min(missing, kAtOnce), Reclaimer::program, zones);
        frames.fetch_add(freed);
        if (freed != 0) continue;
        in_vain.fetch_add(1);
        return false;
    }
}

BalanceStats balance_stats() { return {wakes.load(), frames.load(), in_vain.load()}; }

void balance_init() {
    sleeper.store(0);
    reclaim_init();
}

} // namespace loft
