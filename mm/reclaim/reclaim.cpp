// Reclaim. Contract: reclaim.hpp.
#include "mm/reclaim/reclaim.hpp"

#include "mm/cache/memory_object.hpp"
#include "mm/ground/context.hpp"

namespace loft {

u32 reclaim(u32 wanted) {
    might_sleep("reclaim");
    u32 freed = drop_pages(wanted);
    // What is written now is clean at the next pass of the hand.
    while (freed == 0) {
        const Result<bool> written = try_write_back_one();
        if (!written || !*written) break;
        freed = drop_pages(wanted);
    }
    return freed;
}

bool reclaim_frames() { return reclaim(MemoryObject::kRun) != 0; }

} // namespace loft
