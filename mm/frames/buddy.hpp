// The buddy system of one zone: free blocks of 2^order frames, each aligned to its size, in one list for each order.
//
// The descriptor of a block's first frame holds its state; the other descriptors have the type `none`. Two buddies
// merge if both are free and of the same order. A frame that is not RAM is never free, so holes need no special case.
// Source: Knuth, The Art of Computer Programming vol. 1, 2.5, "The buddy system".
#pragma once

#include "mm/frames/page.hpp"
#include "mm/ground/spinlock.hpp"

namespace loft {

class Buddy {
  public:
    // Frames [begin, end) belong to this zone; all are in use until give(). Boot: no other CPU uses the zone.
    void init(Pfn begin, Pfn end);

    SpinLock lock{LockRank::zone};
    Pfn take(u32 order) LOFT_REQUIRES(lock); // frame 0 if there is no such block
    void give(Pfn pfn, u32 order) LOFT_REQUIRES(lock);
    u32 blocks(u32 order) const LOFT_REQUIRES(lock) { return count_[order]; }
    void verify() const LOFT_REQUIRES(lock); // panics on the first broken invariant

    Pfn begin() const { return begin_; }
    Pfn end() const { return end_; }
    // Any context; without the lock a snapshot.
    u32 free_frames() const { return free_.load(); }

  private:
    void link(Pfn pfn, u32 order) LOFT_REQUIRES(lock);
    void unlink(Pfn pfn, u32 order) LOFT_REQUIRES(lock);

    Pfn begin_{};
    Pfn end_{};
    hal::Plain<u32> free_;                   // written under the lock, read without it
    u32 nonempty_ LOFT_GUARDED_BY(lock) = 0; // bit n: the list of order n is not empty
    Pfn head_[kMaxOrder + 1] LOFT_GUARDED_BY(lock){};
    u32 count_[kMaxOrder + 1] LOFT_GUARDED_BY(lock){};
};

} // namespace loft
