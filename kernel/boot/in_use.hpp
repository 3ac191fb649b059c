// Ranges of physical memory that are in use before there is an allocator. The allocator must not get them.
#pragma once

#include "arch/base/fixed_list.hpp"
#include "mm/ground/boot_info.hpp"

namespace loft {

// Sorted by address. Ranges with the same name on the same or adjacent pages are joined. The list is a fixed array, but
// firmware and loaders may leave any number of ranges: when it is full, the two neighbours with the smallest gap are
// joined. Some free memory may then count as in use; memory that was added always stays covered.
class InUse {
  public:
    static constexpr u32 kRoom = 64;

    // [begin, end); an empty range is ignored. `what` is not copied.
    void add(u64 begin, u64 end, const char* what);
    std::span<const ReservedRange> view() const { return list_.view(); }

  private:
    void join_nearest();
    void remove(u32 index);

    FixedList<ReservedRange, kRoom> list_;
};

} // namespace loft
