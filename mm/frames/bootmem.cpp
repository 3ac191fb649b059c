// The boot allocator. It takes the highest free pages of lowmem, so that the DMA zone is not used up. Contract:
// bootmem.hpp.
#include "mm/frames/bootmem.hpp"

#include "mm/frames/page.hpp"

#include <algorithm>

namespace loft {
namespace {

struct State {
    const PhysMap* map = nullptr;
    std::span<const ReservedRange> reserved;
    Pfn lowmem_end{};
    // Allocated ranges, one for each request; a range that ends where another one begins is merged with it. With a
    // fragmented map few are merged: a full list moves to boot memory.
    std::span<FrameRange> taken;
    u32 count = 0;
};
State state;
constexpr u32 kFirstTaken = 32;
FrameRange first_taken[kFirstTaken];

constexpr u64 page_floor(PhysAddr a) { return a.value() >> kPageShift; }
constexpr u64 page_ceil(PhysAddr a) { return (a.value() + (kPageSize - 1)) >> kPageShift; }

// True if a range in use overlaps [begin, end); returns the first such range.
bool first_in_use(u64 begin, u64 end, u64& use_begin, u64& use_end) {
    bool found = false;
    const auto look = [&](u64 b, u64 e) {
        if (b < e && b < end && begin < e && (!found || b < use_begin)) {
            use_begin = b;
            use_end = e;
            found = true;
        }
    };
    for (const ReservedRange& r : state.reserved)
        look(page_floor(r.begin), page_ceil(r.end));
    for (u32 i = 0; i < state.count; ++i)
        look(state.taken[i].begin.value(), state.taken[i].end.value());
    return found;
}

void take(FrameRange range) {
    for (u32 i = 0; i < state.count; ++i) {
        if (state.taken[i].begin == range.end) {
            state.taken[i].begin = range.begin;
            return;
        }
    }
    LOFT_ASSERT(state.count < state.taken.size());
    state.taken[state.count++] = range;
}

// The highest free run of `frames` frames in lowmem; empty if there is none.
FrameRange find_free(u32 frames, u32 align_frames) {
    for (u32 i = state.map->count; i-- > 0;) {
        const FrameRange& range = state.map->ranges[i];
        const u32 floor = std::max(range.begin.value(), 1u); // frame 0 is never used
        u32 end = std::min(range.end.value(), state.lowmem_end.value());
        // Downward: the next try ends below the range that overlaps.
        while (end >= floor && end - floor >= frames) {
            const u32 begin = round_down(end - frames, align_frames);
            if (begin < floor) break;
            u64 use_begin = 0, use_end = 0;
            if (!first_in_use(begin, u64{begin} + frames, use_begin, use_end)) return {Pfn{begin}, Pfn{begin + frames}};
            end = static_cast<u32>(use_begin);
        }
    }
    return {};
}

// Moves the list to a place with room for twice as many ranges. The list always has room for two more entries: for the
// next request, and for the place of the longer list.
void lengthen_list() {
    const u32 bytes = round_up(2 * state.count * u32{sizeof(FrameRange)}, kPageSize);
    const FrameRange place = find_free(pages_for(bytes), 1);
    if (place.frames() == 0)
        refuse("not enough memory: low memory is in so many pieces that there is no room for a list of them ({} KiB). "
               "Check the memory map of the firmware, or the boot loader",
               bytes / KiB);
    take(place);
    const std::span<FrameRange> longer{hal::lowmem_ptr<FrameRange>(direct_addr(place.begin)),
                                       bytes / sizeof(FrameRange)};
    std::copy_n(state.taken.begin(), state.count, longer.begin());
    state.taken = longer;
}

} // namespace

void bootmem_init(const PhysMap& map, std::span<const ReservedRange> reserved, Pfn lowmem_end) {
    state = State{};
    state.map = &map;
    state.reserved = reserved;
    state.lowmem_end = lowmem_end;
    state.taken = first_taken;
}

VirtAddr bootmem_alloc(u32 bytes, u32 align, const char* what) {
    const FrameRange found = find_free(pages_for(bytes), std::max(align >> kPageShift, 1u));
    if (found.frames() != 0) {
        take(found);
        if (state.count + 1 >= state.taken.size()) lengthen_list();
        return direct_addr(found.begin);
    }
    refuse("not enough memory: no {} KiB of contiguous low memory for {}. Give the machine more memory below 896 MiB "
           "(qemu: -m 32M or more), or less above it.",
           bytes / KiB, what);
}

u32 bootmem_taken_frames() {
    u32 sum = 0;
    for (u32 i = 0; i < state.count; ++i)
        sum += state.taken[i].frames();
    return sum;
}

namespace detail {

FrameRange bootmem_next_free(Pfn from) {
    for (const FrameRange& range : state.map->usable()) {
        u64 begin = std::max({range.begin.value(), from.value(), 1u});
        while (begin < range.end.value()) {
            u64 use_begin = 0, use_end = 0;
            if (!first_in_use(begin, range.end.value(), use_begin, use_end))
                return {Pfn{static_cast<u32>(begin)}, range.end};
            if (use_begin > begin) return {Pfn{static_cast<u32>(begin)}, Pfn{static_cast<u32>(use_begin)}};
            begin = use_end;
        }
    }
    return {};
}

} // namespace detail
} // namespace loft
