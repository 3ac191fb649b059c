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
    // Frames [begin, end) belong to this zone; all are in use until they are freed.
    void init(Pfn begin, Pfn end);

    // All of these: the caller holds `lock`.
    SpinLock lock{LockRank::zone};
    Pfn take(u32 order); // 0 if there is none
    void give(Pfn pfn, u32 order);

    Pfn begin() const { return begin_; }
    Pfn end() const { return end_; }
    u32 free_frames() const { return free_; }
    u32 blocks(u32 order) const { return count_[order]; }
    void verify() const; // panics on the first broken invariant

  private:
    void link(Pfn pfn, u32 order);
    void unlink(Pfn pfn, u32 order);

    Pfn begin_{};
    Pfn end_{};
    u32 free_ = 0;
    u32 nonempty_ = 0; // a bit an order
    Pfn head_[kMaxOrder + 1]{};
    u32 count_[kMaxOrder + 1]{};
};

} // namespace loft
