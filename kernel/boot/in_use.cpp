// Ranges of memory in use. Contract: in_use.hpp.
#include "kernel/boot/in_use.hpp"

#include <algorithm>

namespace loft {
namespace {

bool touch(const ReservedRange& range, u64 begin, u64 end) {
    const auto first = [](u64 at) { return at >> kPageShift; };
    const auto behind = [](u64 last_end) { return ((last_end - 1) >> kPageShift) + 1; };
    return first(begin) <= behind(range.end.value()) && first(range.begin.value()) <= behind(end);
}

} // namespace

void InUse::add(u64 begin, u64 end, const char* what) {
    if (begin >= end) return;
    for (u32 i = 0; i != list_.size(); ++i) {
        const ReservedRange& known = list_[i];
        if (known.begin.value() <= begin && end <= known.end.value()) return;
        if (known.what != what || !touch(known, begin, end)) continue;
        begin = std::min(begin, known.begin.value());
        end = std::max(end, known.end.value());
        remove(i);
        return add(begin, end, what); // the joined range may touch others
    }
    if (list_.size() == kRoom) join_nearest();
    u32 at = list_.size();
    list_.add({});
    for (; at != 0 && list_[at - 1].begin.value() > begin; --at)
        list_[at] = list_[at - 1];
    list_[at] = {PhysAddr{begin}, PhysAddr{end}, what};
}

void InUse::join_nearest() {
    u32 best = 0;
    u64 smallest = ~u64{0}, reached = 0;
    for (u32 i = 0; i + 1 < list_.size(); ++i) {
        // A range may extend beyond ranges that begin after it.
        reached = std::max(reached, list_[i].end.value());
        const u64 next = list_[i + 1].begin.value(), gap = next > reached ? next - reached : 0;
        if (gap < smallest) {
            smallest = gap;
            best = i;
        }
    }
    ReservedRange& first = list_[best];
    const ReservedRange& second = list_[best + 1];
    if (first.what != second.what) first.what = "several things";
    first.end = std::max(first.end, second.end);
    remove(best + 1);
}

void InUse::remove(u32 index) {
    for (u32 i = index; i + 1 < list_.size(); ++i)
        list_[i] = list_[i + 1];
    list_.shorten();
}

} // namespace loft
