// The address map: the printed table, the linker's symbols, and the page tables.
#include "arch/i386/cpu/image.hpp"
#include "kernel/boot/cmdline.hpp"
#include "mm/ground/layout.hpp"
#include "mm/init.hpp"
#include "mm/tables/pagetable.hpp"
#include "tests/guest/support.hpp"
#include "tests/guest/walker.hpp"

#include <algorithm>
#include <span>

namespace loft::guest::layout_test {
namespace {

std::span<const layout::Region> map() { return layout::regions(); }

const layout::Region* region_of(u32 va) {
    for (const layout::Region& region : map())
        if (va >= region.begin && va <= region.last) return &region;
    return nullptr;
}

bool is_guard(VirtAddr va) { return va == image_addr(__boot_stack_guard) || va == image_addr(__df_stack_guard); }

} // namespace

SELFTEST(layout, regions_are_in_order_and_apart) {
    REQUIRE(map().size() >= 5);
    CHECK_EQ(map().front().begin, 0u);
    CHECK_EQ(map().back().last, 0xffff'ffffu);
    for (std::size_t i = 0; i < map().size(); ++i) {
        CHECK_LE(map()[i].begin, map()[i].last);
        CHECK_EQ(map()[i].begin % kPageSize, 0u);
        CHECK_EQ(map()[i].last % kPageSize, kPageSize - 1);
        if (i != 0) CHECK_GT(map()[i].begin, map()[i - 1].last);
    }
}

// The documented numbers of the address map, not those that the constants compute.
SELFTEST(layout, addresses_are_those_of_the_map) {
    const auto named = [](std::string_view name) -> layout::Region {
        for (const layout::Region& region : map())
            if (name == region.name) return region;
        return {1, 0, ""};
    };
    CHECK_EQ(named("user").last, 0xbfff'ffffu);
    const layout::Region direct = named("direct map"), hole = named("hole"), vmap = named("vmap");
    CHECK_EQ(direct.begin, 0xc000'0000u);
    CHECK_LE(direct.last, 0xf7ff'ffffu);
    CHECK_EQ(hole.begin, direct.last + 1);
    CHECK_GE(hole.last - hole.begin + 1, 8 * MiB);
    CHECK_EQ(vmap.begin, hole.last + 1);
    CHECK_EQ(named("never mapped").begin, 0xffff'f000u);
    CHECK_EQ(named("fixmap").last, 0xffff'efffu);

    u32 above_vmap = named("fixmap").begin;
    if constexpr (config::kHighMem) {
        const layout::Region pool = named("pkmap"), local = named("kmap_local");
        CHECK_EQ(pool.begin % (config::kPae ? 2 * MiB : 4 * MiB), 0u);
        CHECK_EQ((pool.last - pool.begin + 1) / kPageSize, config::kPae ? 512u : 1024u);
        const u32 slots = (local.last - local.begin + 1) / kPageSize;
        CHECK_EQ(slots, (config::kSmp ? 32u : 1u) * 33u * (config::kDebug ? 2u : 1u));
        CHECK_LT(pool.last, local.begin);
        above_vmap = pool.begin;
    }
    CHECK_LE(vmap.last + kPageSize, above_vmap - 1); // an overrun of the last area faults, too

    if (options().vmalloc == 0 && options().highmem == BootInfo::kAllHighMem) {
        const u64 ram = physmap().end().phys().value();
        CHECK_EQ(u64{direct.last} + 1 - direct.begin, std::min<u64>(ram, 896 * MiB));
        CHECK_EQ(vmap.begin, 0xf880'0000u);
    } else if (options().vmalloc != 0) {
        // The size of the option in whole pages, within its limits; boot logs a warning if that differs from the
        // option.
        const u32 wanted = round_up(std::clamp(options().vmalloc, layout::kMinVmap, layout::kMaxVmap), kPageSize);
        CHECK_EQ(vmap.last - vmap.begin + 1, wanted);
    }
}

SELFTEST(layout, image_is_as_the_linker_says) {
    const VirtAddr parts[] = {image_addr(__text_begin), image_addr(__text_end),   image_addr(__rodata_begin),
                              image_addr(__rodata_end), image_addr(__data_begin), image_addr(__data_end)};
    for (const VirtAddr at : parts) {
        CHECK_EQ(at.page_offset(), 0u);
        CHECK(in_direct_map(at - 1));
    }
    CHECK(std::is_sorted(std::begin(parts), std::end(parts)));
    CHECK_LT(parts[0], parts[1]);
    CHECK_EQ(image_addr(__image_begin).value(), 0xc010'0000u);
    CHECK_LE(image_addr(__image_begin), parts[0]);
    CHECK_LE(parts[5], image_addr(__image_end));

    // Code, constants and variables lie in their parts of the image, stacks and the early page table in data.
    const auto inside = [](VirtAddr va, const char* begin, const char* end) {
        return va >= image_addr(begin) && va < image_addr(end);
    };
    static const u32 constant = 1;
    static u32 variable = 2;
    CHECK(inside(image_addr(reinterpret_cast<const void*>(&alloc_page)), __text_begin, __text_end));
    CHECK(inside(image_addr(&constant), __rodata_begin, __rodata_end));
    CHECK(inside(image_addr(&variable), __data_begin, __data_end));
    CHECK(inside(image_addr(boot_fixmap_table), __data_begin, __data_end));
    CHECK_EQ(image_addr(boot_fixmap_table).page_offset(), 0u);
    CHECK(inside(image_addr(__percpu_begin), __data_begin, __data_end));
    u32 on_stack = 0;
    const VirtAddr stack{reinterpret_cast<u32>(&on_stack)};
    CHECK(inside(stack, __boot_stack_guard + kPageSize, __boot_stack_top));
}

// Each present entry lies in a region that allows it.
SELFTEST(layout, page_tables_agree_with_the_map) {
    u32 outside = 0, forbidden = 0, idle_pool = 0, early_slots = 0;
    u64 direct_bytes = 0;
    const u32 unread = for_each_mapping([&](const Mapping& m) {
        const layout::Region* region = region_of(m.va);
        if (region == nullptr || m.va + (m.bytes - 1) > region->last) {
            if (outside++ == 0) selftest::note("{:08x} is mapped and lies in no region", m.va);
            return;
        }
        const std::string_view name{region->name};
        if (name == "user" || name == "hole" || name == "never mapped") {
            if (forbidden++ == 0) selftest::note("{:08x} is mapped, in {}", m.va, name);
        } else if (name == "direct map") {
            direct_bytes += m.bytes;
        } else if (name == "pkmap") {
            if (pkmap_count((m.va - layout::kPkmapBase) / kPageSize) == 0) ++idle_pool;
        } else if (name == "fixmap") {
            const u32 slot = (layout::kFixmapTop - m.va) / kPageSize - 1;
            if (slot <= static_cast<u32>(layout::Fix::boot_last)) ++early_slots;
        }
    });
    CHECK_EQ(unread, 0u);
    CHECK_EQ(outside, 0u);
    CHECK_EQ(forbidden, 0u);
    CHECK_EQ(idle_pool, 0u);   // a free slot of the pool has no entry
    CHECK_EQ(early_slots, 0u); // the boot's windows are closed
    CHECK_EQ(direct_bytes, u64{layout::boundaries.lowmem_bytes} - 2 * kPageSize); // the two stack guards
    CHECK(is_guard(image_addr(__boot_stack_guard)) && !walk_naively(image_addr(__df_stack_guard).value()).present());
}

// No kernel mapping allocates a table, and none has to be propagated to other address spaces (bug 15): each table above
// the direct map exists from boot on. They are contiguous, for any number of CPUs (bug 4).
SELFTEST(layout, upper_tables_exist_and_are_contiguous) {
    const u32 step = config::kPae ? 2 * MiB : 4 * MiB;
    const u32 base = layout::boundaries.upper_base;
    REQUIRE_EQ(base % step, 0u);
    const u64 first = directory_entry(base) & 0xf'ffff'f000ull;
    u32 tables = 0, absent = 0, misplaced = 0;
    for (u32 va = base; va != 0; va += step, ++tables) {
        const u64 entry = directory_entry(va);
        if ((entry & 1) == 0) ++absent;
        if ((entry & 0xf'ffff'f000ull) != first + u64{tables} * kPageSize) ++misplaced;
    }
    CHECK_GE(tables, (config::kPae ? 64u : 32u));
    CHECK_EQ(absent, 0u);
    CHECK_EQ(misplaced, 0u);
    CHECK_LT(first + u64{tables} * kPageSize, u64{layout::boundaries.lowmem_bytes});

    // kernel_pte() indexes into them. The tests' walker finds the same entry for the windows of every CPU.
    const auto cell_is_right = [&](VirtAddr va) {
        const u64 at = directory_entry(va.value()) & 0xf'ffff'f000ull;
        const u32 index = va.value() / kPageSize % (config::kPae ? 512 : 1024);
        return direct_phys(hal::lowmem_addr(kernel_pte(va))).value() == at + index * (config::kPae ? 8 : 4);
    };
    CHECK(cell_is_right(VirtAddr{base}));
    CHECK(cell_is_right(VirtAddr{0xffff'f000u}));
    CHECK(cell_is_right(layout::fix_addr(layout::Fix::ioapic)));
    if constexpr (config::kHighMem) {
        u32 wrong = 0;
        for (u32 cpu = 0; cpu < config::kMaxCpus; ++cpu)
            for (u32 slot = 0; slot < layout::kLocalSlots; ++slot)
                wrong += !cell_is_right(layout::local_first_slot(CpuId{cpu}) + slot * layout::kLocalStride);
        CHECK_EQ(wrong, 0u);
    }
}

SELFTEST(layout, windows_of_cpus_are_apart) {
    if (!config::kHighMem) SKIP("this kernel has no high memory");
    const u32 pages_of_window = 33 * (config::kDebug ? 2 : 1);
    for (u32 cpu = 0; cpu < config::kMaxCpus; ++cpu) {
        const VirtAddr first = layout::local_private_slot(CpuId{cpu});
        const VirtAddr last = layout::local_first_slot(CpuId{cpu}) + 31 * layout::kLocalStride;
        CHECK_EQ(first.value(), layout::kLocalBase + cpu * pages_of_window * kPageSize);
        CHECK_LT(last.value(), layout::kLocalBase + (cpu + 1) * pages_of_window * kPageSize);
        CHECK_LT(last.value(), layout::kFixmapBase);
    }
    const PreemptGuard here;
    const LocalMaps& mine = local_maps.mine();
    CHECK_EQ(mine.base, layout::local_first_slot(hal::this_cpu()).value());
    CHECK_EQ(mine.top, mine.base);
    CHECK_EQ(mine.limit, mine.base + 16 * layout::kLocalStride);
}

} // namespace loft::guest::layout_test
