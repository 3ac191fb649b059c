// Reclaim. Contract: reclaim.hpp.
#include "mm/reclaim/reclaim.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/spaces/address_space.hpp"

#include <algorithm>

namespace loft {

u32 reclaim(u32 wanted, Reclaimer who) {
    might_sleep("reclaim");
    u32 freed = drop_pages(wanted);
    // They are dirty pages of a swap area then, so many that one pass over the cache, which frees them, costs little
    // for each.
    if (freed == 0) static_cast<void>(swap_out_pages(std::max(wanted, page_cache_stats().pages / 32)));
    // What is written now is clean at the next pass of the hand. Programs may make it dirty again and again: each
    // object has its turn once.
    bool more = true;
    for (u32 left = page_cache_stats().objects + 1; freed == 0 && more && left != 0; --left) {
        Result<bool> written = try_write_back_one(who == Reclaimer::server);
        // After another thread has written, maybe all:
        if (written && !*written && who == Reclaimer::program) written = write_back_one();
        more = !written || *written; // after an error: the next object
        freed = drop_pages(wanted);
    }
    return freed;
}

bool reclaim_frames(Reclaimer who, u32 wanted) { return memory_is_low() && reclaim(wanted, who) != 0; }

} // namespace loft
