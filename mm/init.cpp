// Initialisation of mm: this file fixes its order.
#include "mm/init.hpp"

#include "mm/cache/block.hpp"
#include "mm/cache/disk_object.hpp"
#include "mm/cache/swap_area.hpp"
#include "mm/frames/bootmem.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/frames/slab.hpp"
#include "mm/ground/context.hpp"
#include "mm/ground/counters.hpp"
#include "mm/ground/remote.hpp"
#include "mm/reclaim/balance.hpp"
#include "mm/spaces/address_space.hpp"
#include "mm/spaces/highpte.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/pkmap.hpp"
#include "mm/windows/vmap.hpp"

#include <algorithm>

namespace loft {
namespace {

PhysMap map;

// With less lowmem loft could start, but not run its self-tests, which need memory in each zone.
constexpr u32 kMinLowFrames = 12 * MiB / kPageSize;

void log_map(const BootInfo& info) {
    for (const FirmwareRange& range : info.firmware)
        log(LogLevel::info, "mm", "firmware [{:012x}-{:012x}) type {}", range.base, range.base + range.length,
            range.type);
    for (const ReservedRange& range : info.reserved)
        log(LogLevel::info, "mm", "in use   [{:012x}-{:012x}) {}", range.begin.value(), range.end.value(), range.what);

    const auto count = [](u64 n, const char* what) {
        if (n != 0) log(LogLevel::notice, "mm", "map: {} {}", n, what);
    };
    count(map.empty_entries, "entries of length zero ignored");
    count(map.wrapping_entries, "entries wrap around 2^64, cut there");
    count(map.reserved_entries, "entries are not usable memory");
    count(map.overlapping_bytes, "bytes are in more than one entry");
    count(map.partial_bytes, "usable bytes ignored: not whole pages");
    count(map.unreachable_frames, "usable pages ignored: beyond what this kernel reaches on this processor");
}

// The end of usable memory with `highmem=`: that many bytes of usable frames lie between lowmem and it.
[[maybe_unused]] u32 highmem_end(Pfn lowmem_end, u64 bytes) {
    u64 left = bytes >> kPageShift;
    for (const FrameRange& range : map.usable()) {
        const u32 begin = std::max(range.begin.value(), lowmem_end.value());
        if (begin >= range.end.value()) continue;
        const u32 here = range.end.value() - begin;
        if (here >= left) return begin + static_cast<u32>(left);
        left -= here;
    }
    return map.end().value();
}

u32 frames_below(Pfn end) {
    u32 sum = 0;
    for (const FrameRange& range : map.usable())
        if (range.begin < end) sum += std::min(range.end, end) - range.begin;
    return sum;
}

void understand_memory(const BootInfo& info) {
    const u32 reach = std::min(kMaxPfn, 1u << (hal::cpu_features().phys_bits - kPageShift));
    physmap_build(map, info.firmware, reach, info.room);
    layout::boundaries = layout::decide(map.end(), info.highmem_bytes, info.vmalloc_bytes);
    const u32 vmap_bytes = layout::kVmapEnd - layout::boundaries.vmap_begin;
    if (info.vmalloc_bytes != 0 && info.vmalloc_bytes != vmap_bytes)
        log(LogLevel::warn, "mm", "vmalloc={} KiB cannot be: the area has {} KiB (whole pages, {} to {} MiB)",
            info.vmalloc_bytes / KiB, vmap_bytes / KiB, layout::kMinVmap / MiB, layout::kMaxVmap / MiB);
    (void)layout::regions(); // fills the table of regions, for a debugger
    u32 end = map.end().value();
    if constexpr (!config::kHighMem)
        end = std::min(end, layout::lowmem_end().value());
    else if (info.highmem_bytes != BootInfo::kAllHighMem)
        end = highmem_end(layout::lowmem_end(), info.highmem_bytes);
    if (end < map.end().value()) physmap_build(map, info.firmware, end, info.room);
    log_map(info);

    if (map.count == 0)
        refuse("the memory map of the firmware has no usable memory ({} entries). Nothing can run here; "
               "check the boot "
               "loader.",
               info.firmware.size());
    const u32 low = frames_below(layout::lowmem_end());
    if (low < kMinLowFrames)
        refuse("not enough memory: {} KiB usable below {} MiB, {} KiB needed (qemu: -m 16M or more)", low * 4,
               layout::boundaries.lowmem_bytes / MiB, kMinLowFrames * 4);
    if (info.stored_end > layout::lowmem_end().phys())
        refuse(
            "what the boot loader passed had to be stored at {}, above the {} MiB of low memory: the memory below is "
            "in use or in pieces. Leave out highmem= and vmalloc=, or load fewer modules",
            info.stored_end, layout::boundaries.lowmem_bytes / MiB);
}

} // namespace

void mm_init(const BootInfo& info) {
    // Attributes of mappings; per-CPU counters and stacks that the code below uses.
    pagetable_init_flags();
    remote_init();
    tlb_init();
    counters_init();
    hal::online_cpus().for_each(mm_init_cpu);

    // The memory map and the end of lowmem.
    understand_memory(info);

    // Needed before the allocator works: page tables and the frame table.
    bootmem_init(map, info.reserved, layout::lowmem_end());
    const PhysAddr root = pagetable_build(info);
    const u32 frames = round_up(map.end().value(), 1u << kMaxOrder);
    const VirtAddr table = bootmem_alloc(frames * u32{sizeof(Page)}, kPageSize, "the frame table");

    // From here on the kernel runs on its own page tables: W^X, guard pages, nothing below the direct map.
    hal::load_root(root);

    // Takes the last boot memory, for its tags.
    vmap_init();

    // RAM has undefined contents at power-on, so every descriptor is written: all zeros is the type `none`.
    hal::zero_words(table, frames * u32{sizeof(Page)});
    page_alloc_init(hal::lowmem_ptr<Page>(table), frames);
    for (const FrameRange& range : map.usable())
        page_alloc_present(range.begin, range.end);
    bootmem_release([](FrameRange run) { page_alloc_add(run.begin, run.end); });
    page_alloc_ready();

    // The pools.
    pkmap_init();

    // Address spaces, and the object caches that they use.
    ObjectCache::forget_all();
    highpte_init(info.userpte_nohigh);
    address_space_init();
    block_init();
    disk_object_init();
    balance_init();

    if constexpr (config::kHighMem) {
        const bool works = pkmap_accessed_bit_works();
        pkmap_trust_accessed_bit(works);
        log(LogLevel::info, "mm", "accessed bit {}",
            works ? "works: unused kmap slots need no flush" : "does not work: every kmap slot is flushed");
    }
}

void mm_init_cpu(CpuId cpu) {
    context.of(cpu) = Context{};
    counters_init_cpu(cpu);
    tlb_init_cpu(cpu);
    remote_stats.of(cpu) = RemoteStats{};
    kmap_local_init_cpu(cpu);
    address_space_init_cpu(cpu);
    page_alloc_init_cpu(cpu);
}

const PhysMap& physmap() { return map; }

MemInfo meminfo() {
    const ZoneInfo dma = zone_info(ZoneId::dma), normal = zone_info(ZoneId::normal), high = zone_info(ZoneId::high);
    constexpr u32 kKiBPerFrame = kPageSize / KiB;
    MemInfo info{};
    info.low_total = (dma.managed + normal.managed) * kKiBPerFrame;
    info.low_free = (dma.free + normal.free) * kKiBPerFrame;
    info.high_total = high.managed * kKiBPerFrame;
    info.high_free = high.free * kKiBPerFrame;
    info.mem_total = info.low_total + info.high_total;
    info.mem_free = info.low_free + info.high_free;
    const PageTableStats tables = page_table_stats();
    info.page_tables = tables.tables * kKiBPerFrame;
    info.page_tables_high = tables.high * kKiBPerFrame;
    const PageCacheStats cache = page_cache_stats();
    info.cached = cache.pages * kKiBPerFrame;
    info.dirty = cache.dirty * kKiBPerFrame;
    const SwapStats swap = swap_stats();
    info.swap_total = swap.slots * kKiBPerFrame;
    info.swap_free = swap.free * kKiBPerFrame;
    info.bounce = bounce_frames() * kKiBPerFrame;
    return info;
}

} // namespace loft
