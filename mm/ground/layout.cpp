// The boundaries that boot computes, and the table of regions that is printed and exported to gdb.
#include "mm/ground/layout.hpp"

#include "mm/ground/boot_info.hpp"

#include <algorithm>
#include <array>

namespace loft::layout {

Boundaries boundaries;

Boundaries decide(Pfn ram_end, u64 highmem, u32 vmalloc) {
    // A `vmalloc=` larger than the default enlarges the upper part, in steps of a page table, and shrinks the direct
    // map by as much. A smaller one does not enlarge the direct map: lowmem has at most 896 MiB.
    constexpr u32 kAboveVmap = 0u - kVmapEnd;
    u32 upper = kDefaultUpper;
    u32 vmap_bytes = kDefaultUpper - kDirectMapHole - kAboveVmap;
    if (vmalloc != 0) {
        const u32 wanted = round_up(std::clamp(vmalloc, kMinVmap, kMaxVmap), kPageSize);
        upper = std::max(upper, round_up(wanted + kDirectMapHole + kAboveVmap, paging::kLargeSize));
        vmap_bytes = wanted;
    }

    const u32 ceiling = 0u - upper - kPageOffset;
    u64 lowmem = std::min<u64>(ram_end.phys().value(), ceiling);
    if (config::kHighMem && highmem != BootInfo::kAllHighMem) {
        // `highmem=` is an exact amount: on a small machine it is taken out of lowmem.
        const u64 ram = ram_end.phys().value();
        const u64 below = ram > highmem ? ram - highmem : 0;
        lowmem = std::min(lowmem, std::max<u64>(below, std::min<u64>(ram, kMinLowmem)));
    }

    Boundaries b;
    b.lowmem_bytes = round_down(static_cast<u32>(lowmem), kPageSize);
    b.lowmem_frames = b.lowmem_bytes >> kPageShift;
    b.upper_base = 0u - upper;
    b.vmap_begin = kVmapEnd - vmap_bytes;
    return b;
}

std::span<const Region> regions() {
    static std::array<Region, kRegions> table;
    const u32 low_last = kPageOffset + boundaries.lowmem_bytes - 1;
    u32 n = 0;
    const auto row = [&n](u32 begin, u32 last, const char* name) {
        if (last >= begin && last != begin - 1) table[n++] = {begin, last, name};
    };
    row(0, kPageOffset - 1, "user");
    row(kPageOffset, low_last, "direct map");
    row(low_last + 1, boundaries.vmap_begin - 1, "hole");
    row(boundaries.vmap_begin, kVmapEnd - 1, "vmap");
    if constexpr (config::kHighMem) {
        row(kPkmapBase, kPkmapBase + kPkmapSize - 1, "pkmap");
        row(kLocalBase, kLocalBase + kLocalSize - 1, "kmap_local");
    }
    row(kFixmapBase, kFixmapTop - 1, "fixmap");
    row(kFixmapTop, 0xffff'ffffu, "never mapped");
    return {table.data(), n};
}

} // namespace loft::layout
