// layout: the address map for every size of machine and every option.
#include "mm/ground/boot_info.hpp"
#include "mm/ground/layout.hpp"
#include "tests/host/booted.hpp"

#include <cstring>

using namespace loft;
using namespace loft::layout;
using namespace loft::test;

namespace {

constexpr u64 kAll = BootInfo::kAllHighMem;
constexpr u32 kDefaultVmap = kVmapEnd - (kPageOffset + kMaxLowmem + kDirectMapHole);
Pfn ram_end(u64 bytes) { return Pfn{static_cast<u32>(bytes >> kPageShift)}; }

void check_sound(const Boundaries& b, Pfn end) {
    REQUIRE(b.lowmem_bytes <= kMaxLowmem);
    REQUIRE(b.lowmem_bytes <= end.phys().value());
    REQUIRE(b.lowmem_bytes % kPageSize == 0);
    REQUIRE(b.upper_base % paging::kLargeSize == 0);
    REQUIRE(kPageOffset + b.lowmem_bytes <= b.upper_base);
    // The hole lies between the end of the direct map and the vmap range, and has at least kDirectMapHole bytes.
    REQUIRE(b.vmap_begin >= b.upper_base + kDirectMapHole);
    REQUIRE(b.vmap_begin % kPageSize == 0);
    REQUIRE(kVmapEnd - b.vmap_begin >= kMinVmap);
    REQUIRE(kVmapEnd - b.vmap_begin <= std::max(kMaxVmap, kDefaultVmap));
}

} // namespace

TEST_CASE("layout: without options lowmem is all memory up to 896 MiB, and vmap the rest of the upper 128",
          "[layout]") {
    for (const u64 ram : {u64{32 * MiB}, u64{895 * MiB}, u64{896 * MiB}, u64{897 * MiB}, 4 * GiB, 64 * GiB}) {
        INFO("ram " << ram / MiB << " MiB");
        const Boundaries b = decide(ram_end(ram), kAll, 0);
        check_sound(b, ram_end(ram));
        CHECK(b.lowmem_bytes == std::min<u64>(ram, kMaxLowmem));
        CHECK(b.upper_base == 0xf800'0000);
        CHECK(b.vmap_begin == 0xf880'0000);
    }
}

TEST_CASE("layout: vmalloc= gives exactly the space that was asked for, within its limits", "[layout]") {
    const Pfn end = ram_end(2 * GiB);
    const auto vmap_bytes = [&](u32 vmalloc) {
        const Boundaries b = decide(end, kAll, vmalloc);
        check_sound(b, end);
        return kVmapEnd - b.vmap_begin;
    };
    CHECK(vmap_bytes(32 * MiB) == 32 * MiB);
    CHECK(vmap_bytes(kDefaultVmap) == kDefaultVmap);
    CHECK(vmap_bytes(kDefaultVmap + kPageSize) == kDefaultVmap + kPageSize);
    CHECK(vmap_bytes(300 * MiB) == 300 * MiB);
    CHECK(vmap_bytes(kMaxVmap) == kMaxVmap);
    SECTION("a size that is not a whole page is rounded up") {
        CHECK(vmap_bytes(32 * MiB + 1) == 32 * MiB + kPageSize);
    }
    SECTION("absurd sizes become the nearest possible one") {
        CHECK(vmap_bytes(1) == kMinVmap);
        CHECK(vmap_bytes(kMaxVmap + 1) == kMaxVmap);
        CHECK(vmap_bytes(~0u) == kMaxVmap);
    }
}

TEST_CASE("layout: a large vmalloc= is taken from the direct map, a small one gives it nothing", "[layout]") {
    const Pfn end = ram_end(2 * GiB);
    CHECK(decide(end, kAll, 16 * MiB).lowmem_bytes == kMaxLowmem);
    CHECK(decide(end, kAll, 16 * MiB).upper_base == 0xf800'0000);
    const Boundaries b = decide(end, kAll, 256 * MiB);
    CHECK(b.lowmem_bytes < kMaxLowmem);
    CHECK(b.lowmem_bytes == b.upper_base - kPageOffset);
    // It takes no more than needed: one page table less would not be enough.
    CHECK(b.vmap_begin - b.upper_base < kDirectMapHole + paging::kLargeSize);
}

TEST_CASE("layout: highmem= asks for an exact amount, out of lowmem on a small machine", "[layout]") {
    const auto lowmem = [](u64 ram, u64 highmem) { return decide(ram_end(ram), highmem, 0).lowmem_bytes; };
    if (!config::kHighMem) {
        CHECK(lowmem(512 * MiB, 128 * MiB) == 512 * MiB);
        return;
    }
    CHECK(lowmem(512 * MiB, 128 * MiB) == 384 * MiB);
    CHECK(lowmem(512 * MiB, 0) == 512 * MiB);
    CHECK(lowmem(4 * GiB, 0) == kMaxLowmem);
    CHECK(lowmem(GiB, 512 * MiB) == 512 * MiB);
    CHECK(lowmem(4 * GiB, GiB) == kMaxLowmem);
    SECTION("but never below 16 MiB, and never more than there is") {
        CHECK(lowmem(512 * MiB, 511 * MiB) == kMinLowmem);
        CHECK(lowmem(512 * MiB, 512 * MiB) == kMinLowmem);
        CHECK(lowmem(512 * MiB, 100 * GiB) == kMinLowmem);
        CHECK(lowmem(8 * MiB, 4 * MiB) == 8 * MiB);
    }
}

TEST_CASE("layout: any machine with any options gets a sound map", "[layout][random]") {
    Random random{1};
    for (u32 i = 0; i < 20'000; ++i) {
        const Pfn end{below(random, 1u << (1 + below(random, 24)))};
        const u64 highmem = below(random, 2) ? kAll : u64{below(random, 1u << 24)} << below(random, 14);
        const u32 vmalloc = below(random, 2) ? 0 : static_cast<u32>(random()) >> below(random, 20);
        INFO("end " << end.value() << " highmem " << highmem << " vmalloc " << vmalloc);
        const Boundaries b = decide(end, highmem, vmalloc);
        check_sound(b, end);
        if (end.value() > kMinLowmem >> kPageShift && vmalloc == 0 && highmem == kAll)
            REQUIRE(b.lowmem_bytes == std::min<u64>(end.phys().value(), kMaxLowmem));
    }
}

TEST_CASE("layout: the table of regions covers all addresses once, in order", "[layout]") {
    const Boundaries before = boundaries;
    for (const u64 ram : {u64{32 * MiB}, u64{896 * MiB}, 4 * GiB}) {
        for (const u32 vmalloc : {0u, 4 * MiB, 512 * MiB}) {
            INFO("ram " << ram / MiB << " MiB, vmalloc " << vmalloc / MiB << " MiB");
            boundaries = decide(ram_end(ram), kAll, vmalloc);
            const auto table = regions();
            REQUIRE(!table.empty());
            CHECK(table.size() <= kRegions);
            CHECK(table.front().begin == 0);
            CHECK(table.back().last == 0xffff'ffff);
            for (u32 i = 1; i < table.size(); ++i) {
                INFO(table[i - 1].name << " and " << table[i].name);
                CHECK(table[i].begin > table[i - 1].last);
                CHECK(table[i].last >= table[i].begin);
            }
            const auto region = [&](const char* name) {
                for (const Region& r : table)
                    if (std::strcmp(r.name, name) == 0) return r;
                return Region{};
            };
            CHECK(region("user").last == kPageOffset - 1);
            CHECK(region("direct map").begin == kPageOffset);
            CHECK(region("direct map").last == direct_map_end().value() - 1);
            CHECK(region("vmap").begin == boundaries.vmap_begin);
            CHECK(region("vmap").last == kVmapEnd - 1);
            CHECK(region("fixmap").begin == kFixmapBase);
            CHECK(region("never mapped").begin == kFixmapTop);
            if (config::kHighMem) {
                CHECK(region("pkmap").begin == kPkmapBase);
                CHECK(region("pkmap").last == kPkmapBase + kPkmapSize - 1);
                CHECK(region("kmap_local").begin == kLocalBase);
                CHECK(region("kmap_local").last == kLocalBase + kLocalSize - 1);
            } else {
                CHECK(region("pkmap").name == nullptr);
            }
        }
    }
    boundaries = before;
}

TEST_CASE("layout: windows, slots and fixmap pages lie in their regions and never share a page", "[layout]") {
    std::vector<u32> pages;
    for (u32 i = 0; i < static_cast<u32>(Fix::count); ++i)
        pages.push_back(fix_addr(static_cast<Fix>(i)).value());
    if (config::kHighMem) {
        for (u32 cpu = 0; cpu < config::kMaxCpus; ++cpu) {
            pages.push_back(local_private_slot(CpuId{cpu}).value());
            for (u32 slot = 0; slot < kLocalSlots; ++slot)
                pages.push_back(local_first_slot(CpuId{cpu}).value() + slot * kLocalStride);
        }
        for (u32 slot = 0; slot < kPkmapSlots; ++slot)
            pages.push_back(pkmap_addr(slot).value());
    }
    std::sort(pages.begin(), pages.end());
    CHECK(std::adjacent_find(pages.begin(), pages.end()) == pages.end());
    CHECK(pages.front() >= (config::kHighMem ? kPkmapBase : kFixmapBase));
    CHECK(pages.back() == kFixmapTop - kPageSize);
    CHECK(std::all_of(pages.begin(), pages.end(), [](u32 va) { return va % kPageSize == 0; }));
    // With guard pages no two slots are adjacent.
    if (config::kHighMem && config::kDebug)
        for (u32 slot = 1; slot < kLocalSlots; ++slot)
            CHECK(local_first_slot(CpuId{0}).value() + slot * kLocalStride - 2 * kPageSize * slot ==
                  local_first_slot(CpuId{0}).value());
}
