// Making sense of the firmware's memory map: see physmap.hpp for the rules.
//
// The map is small (a dozen entries, 256 at most), so the method is the plainest one: cut the address space
// at every begin and end that occurs, and ask for each piece which entries cover it.
#include "mm/physmap.hpp"

#include "arch/base/panic.hpp"

#include <algorithm>

namespace loft {
namespace {

struct Entry {
    u64 begin;
    u64 last; // inclusive: an entry may end at 2^64
    bool usable;
};

struct Scratch {
    std::array<Entry, kMaxFirmwareRanges> entries;
    std::array<u64, 2 * kMaxFirmwareRanges> cuts; // begins, and ends + 1
};
Scratch scratch; // 8 KiB that no boot stack has to carry

// Appends [begin, last], which is usable as a whole, to the list: whole pages within reach only.
void add_usable(PhysMap& out, u64 begin, u64 last, u32 max_pfn) {
    // Rounded up without a sum that could wrap: the last byte of the address space is a begin, too.
    const u64 first_page = (begin >> kPageShift) + ((begin & (kPageSize - 1)) != 0);
    const u64 end_page = last == ~u64{0} ? u64{1} << (64 - kPageShift) : (last + 1) >> kPageShift;
    const u64 whole = end_page > first_page ? end_page - first_page : 0;
    out.partial_bytes += last - begin + 1 - (whole << kPageShift);
    if (whole == 0) return;

    const u64 reach_end = std::min<u64>(end_page, max_pfn);
    const u64 within = reach_end > first_page ? reach_end - first_page : 0;
    out.unreachable_frames += whole - within;
    if (within == 0) return;

    if (out.count == PhysMap::kMaxRanges) {
        // The smallest of all goes, be it this one: what is lost must not be the bulk of the memory.
        FrameRange* smallest = std::min_element(
            out.ranges.begin(), out.ranges.end(),
            [](const FrameRange& a, const FrameRange& b) { return a.frames() < b.frames(); });
        ++out.dropped_ranges;
        out.dropped_frames += std::min<u64>(within, smallest->frames());
        if (within <= smallest->frames()) return;
        std::move(smallest + 1, out.ranges.end(), smallest);
        --out.count;
    }
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

void physmap_build(PhysMap& out, std::span<const FirmwareRange> map, u32 max_pfn) {
    out = PhysMap{};
    LOFT_ASSERT(map.size() <= kMaxFirmwareRanges);

    auto& [entries, cuts] = scratch;
    u32 n = 0, cut_count = 0;
    for (const FirmwareRange& range : map) {
        if (range.length == 0) {
            ++out.empty_entries;
            continue;
        }
        if (range.type != FirmwareRange::kUsable) ++out.reserved_entries;
        u64 last = range.base + range.length - 1;
        if (last < range.base) {
            ++out.wrapping_entries;
            last = ~u64{0};
        }
        entries[n++] = {range.base, last, range.type == FirmwareRange::kUsable};
        cuts[cut_count++] = range.base;
        if (last != ~u64{0}) cuts[cut_count++] = last + 1;
    }
    std::sort(cuts.begin(), cuts.begin() + cut_count);
    cut_count = static_cast<u32>(std::unique(cuts.begin(), cuts.begin() + cut_count) - cuts.begin());

    // Pieces between cuts; neighbours that are usable become one range before they are trimmed to pages, so
    // that two entries that meet inside a page do not lose it.
    bool open = false;
    u64 begin = 0;
    for (u32 i = 0; i < cut_count; ++i) {
        const u64 from = cuts[i];
        const u64 last = i + 1 < cut_count ? cuts[i + 1] - 1 : ~u64{0};
        u32 usable = 0, other = 0;
        for (u32 k = 0; k < n; ++k)
            if (entries[k].begin <= from && from <= entries[k].last) ++(entries[k].usable ? usable : other);

        if (usable > 1 || (usable == 1 && other > 0)) out.overlapping_bytes += last - from + 1;
        const bool take = usable > 0 && other == 0;
        if (take && !open) {
            begin = from;
            open = true;
        } else if (!take && open) {
            add_usable(out, begin, from - 1, max_pfn);
            open = false;
        }
        if (open && i + 1 == cut_count) add_usable(out, begin, last, max_pfn);
    }
}

} // namespace loft
