// physmap, compared with a count of every unit of memory.
#include "mm/frames/physmap.hpp"
#include "tests/host/booted.hpp"

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kAllPfns = 1u << 24;
constexpr u32 kUsable = FirmwareRange::kUsable, kReserved = 2;

std::vector<std::pair<u32, u32>> ranges_of(const PhysMap& map) {
    std::vector<std::pair<u32, u32>> all;
    for (const FrameRange& range : map.usable())
        all.push_back({range.begin.value(), range.end.value()});
    return all;
}
using Ranges = std::vector<std::pair<u32, u32>>;

// A map, and its memory: exactly as much as the entries may need.
struct BuiltMap : PhysMap {
    std::vector<FrameRange> room;
};

BuiltMap build(const std::vector<FirmwareRange>& firmware, u32 max_pfn = kAllPfns) {
    BuiltMap map;
    map.room.resize(firmware.size());
    std::vector<MapBorder> borders(2 * firmware.size());
    physmap_build(map, firmware, max_pfn, {map.room, borders});
    return map;
}

} // namespace

TEST_CASE("physmap: entries are sorted, and neighbours become one range", "[physmap]") {
    const BuiltMap map = build({{0x30'0000, 0x10'0000, kUsable},
                                {0x10'0000, 0x10'0000, kUsable},
                                {0x20'0000, 0x10'0000, kUsable},
                                {0x80'0000, 0x10'0000, kUsable}});
    CHECK(ranges_of(map) == Ranges{{0x100, 0x400}, {0x800, 0x900}});
    CHECK(map.frames() == 0x400);
    CHECK(map.end() == Pfn{0x900u});
    CHECK(map.overlapping_bytes == 0);
}

TEST_CASE("physmap: an empty map has no frames and no end", "[physmap]") {
    const BuiltMap map = build({});
    CHECK(map.count == 0);
    CHECK(map.frames() == 0);
    CHECK(map.end() == Pfn{});
}

TEST_CASE("physmap: entries of length zero are counted and mean nothing, whatever their type", "[physmap]") {
    const BuiltMap map = build({{0x20'0000, 0, kUsable}, {0x10'0000, 0x20'0000, kUsable}, {0x18'0000, 0, kReserved}});
    CHECK(ranges_of(map) == Ranges{{0x100, 0x300}});
    CHECK(map.empty_entries == 2);
    CHECK(map.reserved_entries == 0);
}

TEST_CASE("physmap: a reserved entry wins over a usable one, and the loss is counted", "[physmap]") {
    const BuiltMap map = build({{0x10'0000, 0x10'0000, kUsable}, {0x14'0000, 0x2'0000, 4}});
    CHECK(ranges_of(map) == Ranges{{0x100, 0x140}, {0x160, 0x200}});
    CHECK(map.overlapping_bytes == 0x2'0000);
    CHECK(map.reserved_entries == 1);
}

TEST_CASE("physmap: memory that is said to be usable twice is taken once", "[physmap]") {
    const BuiltMap map = build({{0x10'0000, 0x8'0000, kUsable}, {0x14'0000, 0x8'0000, kUsable}});
    CHECK(ranges_of(map) == Ranges{{0x100, 0x1c0}});
    CHECK(map.overlapping_bytes == 0x4'0000);
}

TEST_CASE("physmap: only whole pages are taken, and two entries that meet inside a page do not lose it", "[physmap]") {
    SECTION("begin and end are trimmed") {
        const BuiltMap map = build({{0x10'0001, 0x3000, kUsable}});
        CHECK(ranges_of(map) == Ranges{{0x101, 0x103}});
        CHECK(map.partial_bytes == 0x1000);
    }
    SECTION("less than a page") {
        const BuiltMap map = build({{0x10'0800, 0x7ff, kUsable}, {0x20'0800, 0x1000, kUsable}});
        CHECK(map.count == 0);
        CHECK(map.partial_bytes == 0x17ff);
    }
    SECTION("two halves") {
        const BuiltMap map = build({{0x10'0000, 0x800, kUsable}, {0x10'0800, 0x1800, kUsable}});
        CHECK(ranges_of(map) == Ranges{{0x100, 0x102}});
        CHECK(map.partial_bytes == 0);
    }
}

TEST_CASE("physmap: an entry that wraps around 2^64 is cut there", "[physmap]") {
    const BuiltMap map =
        build({{0x10'0000, 0x1000, kUsable}, {~u64{0} - 0x1fff, 0x1'0000, kUsable}, {~u64{0}, 2, kReserved}});
    CHECK(map.wrapping_entries == 2);
    CHECK(ranges_of(map) == Ranges{{0x100, 0x101}});
    CHECK(map.unreachable_frames == 1); // 0xfff...e000; the page after it holds the reserved byte
}

TEST_CASE("physmap: an entry may end exactly at 2^64", "[physmap]") {
    const BuiltMap map = build({{0, 0x1000, kUsable}, {~u64{0} - 0xfff, 0x1000, kUsable}});
    CHECK(map.wrapping_entries == 0);
    CHECK(map.unreachable_frames == 1);
    CHECK(ranges_of(map) == Ranges{{0, 1}});
}

TEST_CASE("physmap: a usable byte at the very end of the address space is no page", "[physmap]") {
    const BuiltMap map = build({{0x10'0000, 0x1000, kUsable}, {~u64{0}, 1, kUsable}, {~u64{0}, 2, kUsable}});
    CHECK(ranges_of(map) == Ranges{{0x100, 0x101}});
    CHECK(map.unreachable_frames == 0);
    CHECK(map.partial_bytes == 1);
}

TEST_CASE("physmap: frames beyond the reach are counted, not taken", "[physmap]") {
    SECTION("an entry that crosses the limit") {
        const BuiltMap map = build({{0x10'0000, 0x10'0000, kUsable}}, 0x180);
        CHECK(ranges_of(map) == Ranges{{0x100, 0x180}});
        CHECK(map.unreachable_frames == 0x80);
    }
    SECTION("one that begins at it") {
        const BuiltMap map = build({{0x18'0000, 0x10'0000, kUsable}}, 0x180);
        CHECK(map.count == 0);
        CHECK(map.unreachable_frames == 0x100);
    }
    SECTION("QEMU's pc with 64 GiB: the last GiB lies behind 36 bits") {
        const BuiltMap map = build({{0, 3 * GiB, kUsable}, {4 * GiB, 61 * GiB, kUsable}});
        CHECK(map.frames() == 63u << 18);
        CHECK(map.end() == Pfn{kAllPfns});
        CHECK(map.unreachable_frames == 1u << 18);
    }
}

TEST_CASE("physmap: as many pieces as there are entries, and all of them are kept", "[physmap]") {
    std::vector<FirmwareRange> firmware;
    for (u32 i = 0; i < 3000; ++i)
        firmware.push_back({u64{0x10'0000} + i * 0x2000, 0x1000, kUsable});
    firmware.push_back({4 * GiB, GiB, kUsable});
    const BuiltMap map = build(firmware);
    CHECK(map.count == 3001);
    CHECK(map.frames() == (1u << 18) + 3000);
    CHECK(map.end() == Pfn{5u << 18});
    for (u32 i = 1; i < map.count; ++i)
        REQUIRE(map.ranges[i - 1].end < map.ranges[i].begin);
}

TEST_CASE("physmap: each hole in one entry makes one piece more", "[physmap]") {
    std::vector<FirmwareRange> firmware{{0, GiB, kUsable}};
    for (u32 i = 1; i <= 2000; ++i)
        firmware.push_back({u64{i} * 0x2000, 0x1000, kReserved});
    const BuiltMap map = build(firmware);
    CHECK(map.count == 2001);
    CHECK(map.frames() == (1u << 18) - 2000);
}

TEST_CASE("physmap: less room than the entries may need is a bug of the caller", "[physmap]") {
    const std::vector<FirmwareRange> firmware(3, FirmwareRange{0, 0x1000, kUsable});
    std::vector<FrameRange> ranges(3);
    std::vector<MapBorder> borders(6);
    PhysMap map;
    physmap_build(map, firmware, kAllPfns, {ranges, borders});
    CHECK(map.frames() == 1);
    CHECK_PANIC(physmap_build(map, firmware, kAllPfns, (PhysMapRoom{std::span{ranges}.first(2), borders})),
                "room.fits");
    CHECK_PANIC(physmap_build(map, firmware, kAllPfns, (PhysMapRoom{ranges, std::span{borders}.first(5)})),
                "room.fits");
}

// The model: for each unit of 512 bytes the number of usable entries and of other entries that cover it.
TEST_CASE("physmap: random maps equal a count of every unit of memory", "[physmap][random]") {
    constexpr u32 kUnit = 512, kPages = 96, kUnits = kPages * kPageSize / kUnit, kPerPage = kPageSize / kUnit;
    constexpr u32 kSeeds = 3000;
    for (u32 seed = 1; seed <= kSeeds; ++seed) {
        INFO("seed " << seed);
        Random random{seed};
        const u64 base = std::vector<u64>{0, MiB, 4 * GiB - 40 * kPageSize}[below(random, 3)];
        const u32 limit = static_cast<u32>(base >> kPageShift) + below(random, kPages + 20);
        std::vector<u32> usable(kUnits), other(kUnits);
        std::vector<FirmwareRange> firmware;
        u32 empty = 0, reserved = 0;
        for (u32 i = below(random, below(random, 10) == 0 ? 200 : 12); i-- > 0;) {
            u32 begin = below(random, kUnits), length = below(random, below(random, 2) == 0 ? kUnits / 3 : 12);
            if (below(random, 3) == 0) begin = round_down(begin, kPerPage);
            if (below(random, 3) == 0) length = round_down(length, kPerPage);
            length = std::min(length, kUnits - begin);
            const u32 type = below(random, 3) != 0 ? kUsable : below(random, 6);
            firmware.push_back({base + begin * kUnit, u64{length} * kUnit, type});
            empty += length == 0;
            reserved += length != 0 && type != kUsable;
            for (u32 u = begin; u < begin + length; ++u)
                ++(type == kUsable ? usable : other)[u];
        }
        u64 overlapping = 0, partial = 0, unreachable = 0;
        std::vector<u32> frames;
        for (u32 page = 0; page < kPages; ++page) {
            u32 taken = 0;
            for (u32 u = page * kPerPage; u < (page + 1) * kPerPage; ++u) {
                taken += usable[u] > 0 && other[u] == 0;
                overlapping += usable[u] > 1 || (usable[u] > 0 && other[u] > 0) ? kUnit : 0;
            }
            const u32 pfn = static_cast<u32>(base >> kPageShift) + page;
            if (taken < kPerPage)
                partial += taken * kUnit;
            else if (pfn >= limit)
                ++unreachable;
            else
                frames.push_back(pfn);
        }

        const BuiltMap map = build(firmware, limit);
        std::vector<u32> found;
        for (const FrameRange& range : map.usable())
            for (u32 pfn = range.begin.value(); pfn < range.end.value(); ++pfn)
                found.push_back(pfn);
        REQUIRE(found == frames);
        for (u32 i = 1; i < map.count; ++i)
            REQUIRE(map.ranges[i - 1].end < map.ranges[i].begin);
        REQUIRE(map.frames() == frames.size());
        REQUIRE(map.empty_entries == empty);
        REQUIRE(map.reserved_entries == reserved);
        REQUIRE(map.overlapping_bytes == overlapping);
        REQUIRE(map.partial_bytes == partial);
        REQUIRE(map.unreachable_frames == unreachable);
    }
}
