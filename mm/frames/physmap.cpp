// Sorting and trimming the firmware's memory map. Contract: physmap.hpp.
//
// One sweep over the borders of all entries, in order of address. Between two borders the numbers of usable and of
// other entries that cover an address are constant.
#include "mm/frames/physmap.hpp"

#include "arch/base/panic.hpp"

#include <algorithm>

namespace loft {
namespace {

// Appends the whole pages of the usable range [begin, last] that are within reach.
void add_usable(PhysMap& out, u64 begin, u64 last, u32 max_pfn) {
    // Rounds up without an addition that could wrap: `begin` may be the last byte of the address space.
    const u64 first_page = (begin >> kPageShift) + ((begin & (kPageSize - 1)) != 0);
    const u64 end_page = last == ~u64{0} ? u64{1} << (64 - kPageShift) : (last + 1) >> kPageShift;
    const u64 whole = end_page > first_page ? end_page - first_page : 0;
    out.partial_bytes += last - begin + 1 - (whole << kPageShift);
    if (whole == 0) return;

    const u64 reach_end = std::min<u64>(end_page, max_pfn);
    const u64 within = reach_end > first_page ? reach_end - first_page : 0;
    out.unreachable_frames += whole - within;
    if (within == 0) return;

    out.ranges[out.count++] = {Pfn{static_cast<u32>(first_page)}, Pfn{static_cast<u32>(reach_end)}};
}

} // namespace

u32 PhysMap::frames() const {
    u32 sum = 0;
    for (const FrameRange& range : usable())
        sum += range.frames();
    return sum;
}

Pfn PhysMap::end() const { return count == 0 ? Pfn{} : ranges[count - 1].end; }

void physmap_build(PhysMap& out, std::span<const FirmwareRange> map, u32 max_pfn, const PhysMapRoom& room) {
    out = PhysMap{};
    out.ranges = room.ranges;
    LOFT_ASSERT(room.fits(map.size()));

    u32 count = 0;
    for (const FirmwareRange& range : map) {
        if (range.length == 0) {
            ++out.empty_entries;
            continue;
        }
        const bool is_usable = range.type == FirmwareRange::kUsable;
        if (!is_usable) ++out.reserved_entries;
        u64 last = range.base + range.length - 1; // an entry may end at 2^64
        if (last < range.base) {
            ++out.wrapping_entries;
            last = ~u64{0};
        }
        room.borders[count++] = {range.base, is_usable, !is_usable};
        if (last != ~u64{0}) room.borders[count++] = {last + 1, -int{is_usable}, -int{!is_usable}};
    }
    const std::span<MapBorder> borders = room.borders.first(count);
    std::sort(borders.begin(), borders.end(), [](const MapBorder& a, const MapBorder& b) { return a.at < b.at; });

    // Adjacent usable entries become one range before it is trimmed to pages: a page that two of them share is kept.
    int usable = 0, other = 0;
    bool open = false;
    u64 begin = 0;
    for (u32 i = 0; i < count; ++i) {
        usable += borders[i].usable;
        other += borders[i].other;
        const u64 from = borders[i].at;
        const bool is_last = i + 1 == count;
        if (!is_last && borders[i + 1].at == from) continue; // another border at the same address
        const u64 last = is_last ? ~u64{0} : borders[i + 1].at - 1;

        if (usable > 1 || (usable == 1 && other > 0)) out.overlapping_bytes += last - from + 1;
        const bool take = usable > 0 && other == 0;
        if (take && !open) {
            begin = from;
            open = true;
        } else if (!take && open) {
            add_usable(out, begin, from - 1, max_pfn);
            open = false;
        }
        if (open && is_last) add_usable(out, begin, last, max_pfn);
    }
}

} // namespace loft
