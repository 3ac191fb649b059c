// The buddy system of one zone: free blocks of 2^order frames, each aligned to its size, in a list for each
// order.
//
// A block's state lives in the descriptor of its first frame; the descriptors inside say "none". Two blocks
// merge when both are free and of the same order; a frame that is not RAM is never free, so a hole needs no
// special case. Knuth, The Art of Computer Programming vol. 1, 2.5, "The buddy system".
#pragma once

#include "mm/frames/page.hpp"
#include "mm/ground/spinlock.hpp"

namespace loft {

class Buddy {
  public:
    // Frames [begin, end) belong to this zone; all are in use until they are freed. Boot: nobody else knows the zone.
    void init(Pfn begin, Pfn end);

    SpinLock lock{LockRank::zone};
    Pfn take(u32 order) LOFT_REQUIRES(lock); // 0 if there is none
    void give(Pfn pfn, u32 order) LOFT_REQUIRES(lock);
    u32 blocks(u32 order) const LOFT_REQUIRES(lock) { return count_[order]; }
    void verify() const LOFT_REQUIRES(lock); // panics on the first broken invariant

    Pfn begin() const { return begin_; }
    Pfn end() const { return end_; }
    // Without the lock a snapshot: how many there were a moment ago.
    u32 free_frames() const { return free_.load(); }

  private:
    void link(Pfn pfn, u32 order) LOFT_REQUIRES(lock);
    void unlink(Pfn pfn, u32 order) LOFT_REQUIRES(lock);

    Pfn begin_{};
    Pfn end_{};
    hal::Plain<u32> free_;                   // changed under the lock, read by anybody
    u32 nonempty_ LOFT_GUARDED_BY(lock) = 0; // a bit an order
    Pfn head_[kMaxOrder + 1] LOFT_GUARDED_BY(lock){};
    u32 count_[kMaxOrder + 1] LOFT_GUARDED_BY(lock){};
};

} // namespace loft
