// What must not be given away: the ranges of physical memory that hold something before there is an allocator.
#pragma once

#include "arch/base/fixed_list.hpp"
#include "mm/ground/boot_info.hpp"

namespace loft {

// In order of address; things of one name that touch the same or neighbouring pages are one range. There is no
// allocator yet, and no limit to what firmware and loaders leave behind: when the list is full, the two neighbours with
// the smallest gap between them become one range. So memory may be kept that nothing is in, but whatever was added
// stays covered.
class InUse {
  public:
    static constexpr u32 kRoom = 64;

    // [begin, end); an empty range is ignored. `what` stays with the caller.
    void add(u64 begin, u64 end, const char* what);
    std::span<const ReservedRange> view() const { return list_.view(); }

  private:
    void join_nearest();
    void remove(u32 index);

    FixedList<ReservedRange, kRoom> list_;
};

} // namespace loft
