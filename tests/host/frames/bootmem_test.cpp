// bootmem: it allocates usable frames that are not in use, each once, and releases all other usable frames.
#include "mm/frames/bootmem.hpp"
#include "mm/frames/page.hpp"
#include "tests/host/booted.hpp"

#include <set>

using namespace loft;
using namespace loft::test;

namespace {

// A map with these usable ranges [begin, end), as physmap would make it.
struct OwnMap : PhysMap {
    explicit OwnMap(u32 most = 16) : room(most) { ranges = room; }
    std::vector<FrameRange> room;
};
OwnMap usable(std::initializer_list<std::pair<u32, u32>> ranges) {
    OwnMap map;
    for (const auto& [begin, end] : ranges)
        map.ranges[map.count++] = {Pfn{begin}, Pfn{end}};
    return map;
}
ReservedRange in_use(u64 begin, u64 end) { return {PhysAddr{begin}, PhysAddr{end}, "test"}; }
u32 frame_at(VirtAddr va) { return direct_phys(va).pfn().value(); }

std::vector<std::pair<u32, u32>> released() {
    std::vector<std::pair<u32, u32>> runs;
    bootmem_release([&](FrameRange run) { runs.push_back({run.begin.value(), run.end.value()}); });
    return runs;
}
using Runs = std::vector<std::pair<u32, u32>>;

} // namespace

TEST_CASE("bootmem: takes from the top of lowmem, never above it", "[bootmem]") {
    const OwnMap map = usable({{1, 0x9f}, {0x100, 0x400}});
    bootmem_init(map, {}, Pfn{0x300u});
    CHECK(frame_at(bootmem_alloc(kPageSize, kPageSize, "one")) == 0x2ff);
    CHECK(frame_at(bootmem_alloc(3 * kPageSize, kPageSize, "three")) == 0x2fc);
    CHECK(bootmem_taken_frames() == 4);
    CHECK(released() == Runs{{1, 0x9f}, {0x100, 0x2fc}, {0x300, 0x400}});
}

TEST_CASE("bootmem: a request is whole pages, aligned as it wants", "[bootmem]") {
    const OwnMap map = usable({{0x100, 0x1ff}});
    bootmem_init(map, {}, Pfn{0x1000u});
    CHECK(frame_at(bootmem_alloc(1, kPageSize, "a byte")) == 0x1fe);
    CHECK(frame_at(bootmem_alloc(2 * kPageSize + 1, 16 * kPageSize, "aligned")) == 0x1f0);
    CHECK(bootmem_taken_frames() == 1 + 3);
    CHECK(released() == Runs{{0x100, 0x1f0}, {0x1f3, 0x1fe}});
}

TEST_CASE("bootmem: steps over what is in use, and over parts of pages", "[bootmem]") {
    const OwnMap map = usable({{0x100, 0x200}});
    const ReservedRange reserved[] = {in_use(0x1f'f800, 0x1f'f801), in_use(0x1f'c000, 0x1f'd001)};
    bootmem_init(map, reserved, Pfn{0x1000u});
    CHECK(frame_at(bootmem_alloc(kPageSize, kPageSize, "fits between")) == 0x1fe);
    CHECK(frame_at(bootmem_alloc(kPageSize, kPageSize, "below")) == 0x1fb);
    CHECK(released() == Runs{{0x100, 0x1fb}});
}

TEST_CASE("bootmem: frame 0 is nobody's", "[bootmem]") {
    const OwnMap map = usable({{0, 3}});
    bootmem_init(map, {}, Pfn{0x100u});
    CHECK(frame_at(bootmem_alloc(2 * kPageSize, kPageSize, "both")) == 1);
    CHECK(released() == Runs{});
    bootmem_init(map, {}, Pfn{0x100u});
    CHECK(released() == Runs{{1, 3}});
    CHECK_THROWS_AS((void)bootmem_alloc(3 * kPageSize, kPageSize, "three of two"), sim::Refused);
}

TEST_CASE("bootmem: goes to a lower range when the upper one is too small", "[bootmem]") {
    const OwnMap map = usable({{0x100, 0x180}, {0x200, 0x204}});
    bootmem_init(map, {}, Pfn{0x1000u});
    CHECK(frame_at(bootmem_alloc(5 * kPageSize, kPageSize, "five")) == 0x17b);
    CHECK(frame_at(bootmem_alloc(4 * kPageSize, kPageSize, "four")) == 0x200);
}

TEST_CASE("bootmem: refuses to start, and names what for, when there is no room", "[bootmem]") {
    const OwnMap map = usable({{0x100, 0x110}});
    bootmem_init(map, {}, Pfn{0x1000u});
    REQUIRE_REFUSED((void)bootmem_alloc(17 * kPageSize, kPageSize, "the frame table"),
                    "no 68 KiB of contiguous low memory for the frame table");
    CHECK(frame_at(bootmem_alloc(16 * kPageSize, kPageSize, "all")) == 0x100);
    CHECK_THROWS_AS((void)bootmem_alloc(1, kPageSize, "one more"), sim::Refused);
}

TEST_CASE("bootmem: many small requests in a row are one range", "[bootmem]") {
    const OwnMap map = usable({{0x100, 0x400}});
    bootmem_init(map, {}, Pfn{0x1000u});
    for (u32 i = 1; i <= 500; ++i)
        REQUIRE(frame_at(bootmem_alloc(kPageSize, kPageSize, "one")) == 0x400 - i);
    CHECK(released() == Runs{{0x100, 0x400 - 500}});
}

// Each request gets a range of its own, so that the list of allocated ranges must move to boot memory.
TEST_CASE("bootmem: any number of requests that do not touch", "[bootmem]") {
    Booted kernel; // the list moves to its lowmem
    constexpr u32 kPieces = 700;
    OwnMap map{kPieces};
    for (u32 i = 0; i < kPieces; ++i)
        map.ranges[map.count++] = {Pfn{0x400 + 4 * i}, Pfn{0x400 + 4 * i + 1}};
    map.ranges[0].begin = Pfn{0x3f0u}; // in the end the list needs two contiguous frames
    bootmem_init(map, {}, Pfn{0x2000u});
    std::set<u32> taken;
    for (u32 i = 0; i < kPieces - 1; ++i)
        REQUIRE(taken.insert(frame_at(bootmem_alloc(kPageSize, kPageSize, "one"))).second);
    u32 free = 0;
    for (const auto& [begin, end] : released()) {
        free += end - begin;
        for (u32 pfn = begin; pfn < end; ++pfn)
            REQUIRE(taken.count(pfn) == 0);
    }
    CHECK(bootmem_taken_frames() + free == map.frames());
    CHECK(bootmem_taken_frames() == taken.size() + 1 + 2); // by the lists
}

TEST_CASE("bootmem: random maps against a set of frames", "[bootmem][random]") {
    for (u32 seed = 1; seed <= 300; ++seed) {
        INFO("seed " << seed);
        Random random{seed};
        OwnMap map;
        std::set<u32> model;
        for (u32 at = below(random, 20); map.count < 6 && at < 400;) {
            const u32 end = at + 1 + below(random, 100);
            map.ranges[map.count++] = {Pfn{at}, Pfn{end}};
            for (u32 pfn = std::max(at, 1u); pfn < end; ++pfn)
                model.insert(pfn);
            at = end + 1 + below(random, 30);
        }
        std::vector<ReservedRange> reserved;
        for (u32 i = below(random, 5); i-- > 0;) {
            const u64 begin = below(random, 500 * kPageSize), end = begin + below(random, 40 * kPageSize);
            reserved.push_back(in_use(begin, end));
            for (u64 pfn = begin >> kPageShift; begin < end && pfn <= (end - 1) >> kPageShift; ++pfn)
                model.erase(static_cast<u32>(pfn));
        }
        const u32 lowmem_end = below(random, 500);
        bootmem_init(map, reserved, Pfn{lowmem_end});

        u32 taken = 0;
        for (u32 i = below(random, 20); i-- > 0;) {
            const u32 frames = 1 + below(random, 12), align = 1u << below(random, 4);
            u32 begin = 0;
            try {
                begin = frame_at(bootmem_alloc(frames * kPageSize, align * kPageSize, "random"));
            } catch (const sim::Refused&) {
                // A refusal is right only if there is no free place: the model tries each.
                for (u32 at = align; at + frames <= lowmem_end; at += align) {
                    u32 free = 0;
                    for (u32 pfn = at; pfn < at + frames; ++pfn)
                        free += static_cast<u32>(model.count(pfn));
                    REQUIRE(free < frames);
                }
                continue;
            }
            REQUIRE(begin % align == 0);
            REQUIRE(begin + frames <= lowmem_end);
            for (u32 pfn = begin; pfn < begin + frames; ++pfn)
                REQUIRE(model.erase(pfn) == 1);
            taken += frames;
        }
        REQUIRE(bootmem_taken_frames() == taken);
        std::set<u32> left;
        bootmem_release([&](FrameRange run) {
            for (u32 pfn = run.begin.value(); pfn < run.end.value(); ++pfn)
                REQUIRE(left.insert(pfn).second);
        });
        REQUIRE(left == model);
    }
}
