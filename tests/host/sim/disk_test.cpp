// The simulated disk itself: what it must detect, what it has after a power cut, its errors.
#include "tests/host/disk_tools.hpp"

#include <set>

using namespace loft;
using namespace loft::test;

namespace {

using sim::SimDisk;

void write_sector(SimDisk& disk, u64 sector, u32 value, Page* page) {
    fill_frame(page, value);
    BlockRequest request{BlockOp::write, sector};
    REQUIRE(request.add(page, 0, kSectorBytes));
    REQUIRE(disk.run(request));
}
sim::Sector value_of(u32 value) { return written_sector(value * kPageSectors); }

} // namespace

TEST_CASE("sim disk: a frame that is freed before its transfer has ended", "[sim][disk]") {
    Booted kernel;
    SimDisk disk;
    REQUIRE(disk.ready());
    Page* const page = new_page();
    static u32 ends;
    ends = 0;
    BlockRequest request{GENERATE(BlockOp::read, BlockOp::write), 8, [](BlockRequest&) { ++ends; }};
    REQUIRE(request.add(page, 0, kPageSize));
    disk.submit(request);
    CHECK_THROWS_MATCHES(free_page(page), sim::ReleasedAccess, Says("given back before its transfer ended"));
    kernel.machine.cpu(CpuId{0}).interrupts = false; // so the driver is not told
    disk.step();
    CHECK_THROWS_MATCHES(free_page(page), sim::ReleasedAccess, Says("disk sim"));
    kernel.machine.cpu(CpuId{0}).interrupts = true;
    CHECK(ends == 0);
    disk.step();
    CHECK(ends == 1);
}

TEST_CASE("sim disk: a transfer out of reach, or of a free frame", "[sim][disk]") {
    // A driver that lies about its disk's reach.
    Booted kernel;
    SimDisk disk{{.reach = kShortReach}};
    REQUIRE(disk.prepare("liar", {1000, 32, Pfn{kMaxPfn}, 4}));
    Page* const page = new_page();
    BlockRequest request{BlockOp::read, 8};
    REQUIRE(request.add(page, 0, kPageSize));
    CHECK_THROWS_MATCHES(disk.submit(request), sim::BadAccess, Says("out of its reach"));
}

TEST_CASE("sim disk: in any order, in small steps", "[sim][disk]") {
    Booted kernel;
    std::set<std::vector<u64>> orders;
    for (u64 seed = 0; seed < 20; ++seed) {
        SimDisk disk{{.depth = 4, .step = 2, .any_order = true, .seed = seed * 1000}};
        REQUIRE(disk.ready());
        std::vector<Page*> pages = new_pages(4);
        static std::vector<u64> ended;
        ended.clear();
        std::vector<std::unique_ptr<BlockRequest>> all;
        for (u32 i = 0; i < 4; ++i) {
            all.push_back(std::make_unique<BlockRequest>(
                BlockOp::read, 8 * i, [](BlockRequest& request) { ended.push_back(request.sector()); }));
            add_frames(*all.back(), {pages[i]});
            disk.submit(*all.back());
        }
        u32 steps = 0;
        for (; disk.can_step(); ++steps)
            disk.step();
        CHECK(steps == 16);
        CHECK(ended.size() == 4);
        for (u32 i = 0; i < 4; ++i)
            CHECK(frame_has(pages[i], disk.image(), 8 * i));
        orders.insert(ended);
        free_all(pages);
    }
    CHECK(orders.size() > 5);
}

TEST_CASE("sim disk: after a power cut the flushed writes are there, of others any part", "[sim][disk]") {
    Booted kernel;
    SimDisk disk{{.depth = 4}};
    REQUIRE(disk.ready());
    Page* const page = new_page();
    const sim::DiskImage fresh;
    write_sector(disk, 10, 1, page);
    CHECK(disk.unsure() == 1);
    CHECK(disk.after_power_cut(0).at(10) == fresh.at(10));
    CHECK(disk.after_power_cut(1).at(10) == value_of(1));
    BlockRequest flush{BlockOp::flush};
    REQUIRE(disk.run(flush));
    CHECK(disk.unsure() == 0);
    write_sector(disk, 10, 2, page);
    write_sector(disk, 11, 3, page);
    write_sector(disk, 10, 4, page);
    std::set<std::pair<int, bool>> seen;
    for (u64 seed = 0; seed < 60; ++seed) {
        const sim::DiskImage image = disk.after_power_cut(seed);
        int ten = -1;
        for (const int value : {1, 2, 4})
            if (image.at(10) == value_of(static_cast<u32>(value))) ten = value;
        const bool eleven = image.at(11) == value_of(3);
        CHECK((eleven || image.at(11) == fresh.at(11)));
        seen.insert({ten, eleven});
    }
    CHECK(seen.size() == 6); // each of the three, with and without the other; nothing else
    for (const auto& [ten, eleven] : seen)
        CHECK(ten != -1);
    // A write that is torn: some of its sectors.
    BlockRequest large{BlockOp::write, 64};
    fill_frame(page, 9);
    REQUIRE(large.add(page, 0, kPageSize));
    REQUIRE(disk.run(large));
    std::set<u32> counts;
    for (u64 seed = 0; seed < 60; ++seed) {
        const sim::DiskImage image = disk.after_power_cut(seed);
        u32 there = 0;
        for (u32 i = 0; i < kPageSectors; ++i)
            there += image.at(64 + i) == written_sector(9 * kPageSectors + i);
        counts.insert(there);
    }
    CHECK(counts.contains(0));
    CHECK(counts.contains(kPageSectors));
    CHECK(counts.size() > 4);
    free_page(page);
}

TEST_CASE("sim disk: a flush covers the writes whose end was told before it was submitted", "[sim][disk]") {
    Booted kernel;
    SimDisk disk{{.depth = 4}};
    REQUIRE(disk.ready());
    Page* const page = new_page();
    fill_frame(page, 1);
    const auto nothing = [](BlockRequest&) {};
    BlockRequest write{BlockOp::write, 10, nothing}, flush{BlockOp::flush, 0, nothing};
    REQUIRE(write.add(page, 0, kSectorBytes));
    const bool told = GENERATE(false, true);
    disk.submit(write);
    if (told) disk.work();
    disk.submit(flush);
    disk.work();
    CHECK(disk.after_power_cut(0).at(10) == (told ? value_of(1) : sim::DiskImage{}.at(10)));
    // A disk that starts with this image has the same contents.
    SimDisk later{{.image = disk.after_power_cut(1)}};
    REQUIRE(later.ready());
    BlockRequest read{BlockOp::read, 10};
    REQUIRE(read.add(page, kSectorBytes, kSectorBytes));
    REQUIRE(later.run(read));
    CHECK(sector_of(page, 1) == value_of(1));
    free_page(page);
}
