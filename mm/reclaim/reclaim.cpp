// Reclaim. Contract: reclaim.hpp.
#include "mm/reclaim/reclaim.hpp"

#include "mm/cache/swap_area.hpp"
#include "mm/ground/context.hpp"
#include "mm/ground/mutex.hpp"
#include "mm/spaces/address_space.hpp"

#include <algorithm>

namespace loft {
namespace {

// How many pages the hands have passed. Of the hand that has passed the smaller part of its pages it is the turn. Other
// threads turn the hands, too: what they count may be lost, which changes the rate for a moment.
constinit hal::Atomic<u32> cache_passed, private_passed;
constinit hal::Atomic<u32> filled_before; // PageCacheStats::filled at the last call

// One thread at a time turns the hands. Many would come to the same object, and hand its mutex, which faults need, too,
// from one to the next for the few pages that each may pass: then all CPUs only switch threads.
constinit Mutex turning{"of the hands of the clocks"};
constinit hal::Atomic<u32> freed_by_all{near_wrap<u32>()}; // frames

// What all threads have freed since a call of reclaim has begun: whoever waits for another one gets what that frees.
class Freed {
  public:
    u32 frames() const { return freed_by_all.load() - before_; }
    void add(u32 frames) { freed_by_all.fetch_add(frames); }
    // turn(), by one thread at a time, unless `wanted` frames are free before it is this thread's turn.
    template <typename F> void by_one_thread(u32 wanted, F&& turn) {
        MutexGuard guard{turning};
        if (frames() < wanted) add(turn());
    }

  private:
    const u32 before_ = freed_by_all.load();
};

constexpr u32 kParts = 16; // of a turn; a hand that is behind passes one

// One pass over the cache for so many pages that were swapped out, of the pages in the cache, costs little for each.
constexpr u32 kWorthAPass = 32;

using Take = u32 (*)(u32 wanted, HandLimit& limit);

// Takes up to `wanted` pages of the next part of a turn over so many pages.
u32 turn(Take take, hal::Atomic<u32>& passed, u32 pages, u32 wanted, HandLimit& limit) {
    const u32 part = pages / kParts + 1;
    limit.looks = part;
    const u32 taken = take(wanted, limit);
    passed.fetch_add(taken < wanted ? part : part - limit.looks); // less is there: it is a small ring
    return taken;
}

// Whether pages may go to swap areas, too. While lowmem is free, programs get that when high memory is full, and need
// no swap. Pages of objects do not: so if some were filled since the last call, others have to make room for them.
bool pages_go_to_swap(ZoneSet zones) {
    ZoneSet every = ZoneSet::every();
    const u32 filled = page_cache_stats().filled;
    const bool some_were_read = filled_before.exchange(filled) != filled;
    return swap_stats().slots != 0 && (!zones.has(ZoneId::high) || some_were_read || missing_to_high(every) != 0);
}

// Turns both hands, or that of the cache, each at most twice, until `wanted` pages are free or swapped out. Returns the
// number of free ones.
u32 turn_hands(u32 wanted, ZoneSet zones, bool swaps, u32& swapped) {
    // The frames that the cache does not have. Those of the kernel are among them; what several programs share is
    // counted once.
    const u32 cached = page_cache_stats().pages, others = frames_in_use() - std::min(frames_in_use(), cached);
    const auto cache_is_behind = [&] {
        return u64{cache_passed.load()} * (others + 1) <= u64{private_passed.load()} * (cached + 1);
    };
    u32 freed = 0;
    for (u32 cache_left = 2 * kParts + 1, private_left = swaps ? cache_left : 0;
         freed + swapped < wanted && cache_left + private_left != 0;) {
        const u32 more = wanted - freed - swapped, batch = std::max(more, cached / kWorthAPass);
        const u32 may_swap = swaps ? batch : 0;
        HandLimit limit{.zones = zones, .swaps = may_swap};
        if (private_left == 0 || (cache_left != 0 && cache_is_behind())) {
            --cache_left;
            freed += turn(drop_pages, cache_passed, cached, more, limit);
            swapped += may_swap - limit.swaps;
        } else {
            --private_left;
            swapped += turn(swap_out_pages, private_passed, others, batch, limit);
        }
    }
    // Without swap only one hand turns. What was passed long ago counts less and less.
    for (hal::Atomic<u32>* const passed : {&cache_passed, &private_passed})
        if (!swaps)
            passed->store(0);
        else if (cache_passed.load() > cached + 1 || private_passed.load() > others + 1)
            passed->store(passed->load() / 2);
    return freed;
}

} // namespace

u32 reclaim(u32 wanted, Reclaimer who, ZoneSet zones) {
    might_sleep("reclaim");
    Freed freed;
    u32 swapped = 0;
    freed.by_one_thread(wanted, [&] {
        const bool swaps = pages_go_to_swap(zones);
        const u32 taken = turn_hands(wanted, zones, swaps, swapped);
        // There are more entries than frames if programs share pages.
        if (swaps && taken + swapped == 0) {
            HandLimit limit{zones};
            swapped = swap_out_pages(wanted, limit);
        }
        return taken;
    });
    // The pages of a swap area are free when they are written. Everybody may wait for that: a store waits for the disk
    // only, and not for the list of dirty objects, whose thread may store a file and want frames for that.
    if (freed.frames() == 0 || (freed.frames() < wanted && swapped > page_cache_stats().pages / kWorthAPass / 2))
        freed.add(free_swapped_pages(zones));
    // What is written now is clean at the next pass of the hand. Programs may make it dirty again and again: each
    // object has its turn once.
    bool more = true;
    for (u32 left = page_cache_stats().objects + 1; freed.frames() == 0 && more && left != 0; --left) {
        Result<bool> written = try_write_back_one(who == Reclaimer::server);
        // After another thread has written, maybe all:
        if (written && !*written && who == Reclaimer::program) written = write_back_one();
        more = !written || *written; // after an error: the next object
        freed.by_one_thread(1, [&] {
            HandLimit limit{.zones = zones, .swaps = 0}; // what goes out now is not free yet
            return drop_pages(wanted, limit);
        });
    }
    return freed.frames();
}

bool reclaim_frames(Reclaimer who, u32 wanted) { return memory_is_low() && reclaim(wanted, who) != 0; }

void reclaim_init() {
    cache_passed.store(0);
    private_passed.store(0);
    filled_before.store(page_cache_stats().filled);
}

} // namespace loft
