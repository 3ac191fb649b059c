// The block interface: data through bounce frames, order, errors, time limits, disks that are taken away, stacks.
#include "mm/cache/block.hpp"
#include "tests/host/disk_tools.hpp"

using namespace loft;
using namespace loft::test;

namespace {

using sim::SimDisk;

// Requests whose end is counted and remembered.
struct Watched : BlockRequest {
    explicit Watched(BlockOp op, u64 sector) : BlockRequest{op, sector, &Watched::done} {}
    explicit Watched(BlockOp op, u64 sector, const std::vector<Page*>& pages) : Watched{op, sector} {
        add_frames(*this, pages);
    }
    static void done(BlockRequest& request) {
        auto& me = static_cast<Watched&>(request);
        CHECK_FALSE(preemptible());
        ++me.ends;
        order.push_back(request.sector());
        if (me.then) me.then();
    }
    bool ended_with(Error error) const { return ends == 1 && !status() && status().error() == error; }
    bool is_good() const { return ends == 1 && status(); }

    u32 ends = 0;
    std::function<void()> then;
    static inline std::vector<u64> order;
};

std::unique_ptr<Watched> watched(BlockOp op, u64 sector, const std::vector<Page*>& pages) {
    return std::make_unique<Watched>(op, sector, pages);
}

void time_passes(BlockDevice& disk, u32 calls = BlockDevice::kPatience) {
    for (u32 i = 0; i < calls; ++i)
        disk.check_time();
}

bool failed_with(const Status& status, Error error) { return !status && status.error() == error; }

} // namespace

TEST_CASE("block: a request takes 32 parts, and whole sectors", "[block]") {
    Booted kernel;
    Page* const page = new_page();
    BlockRequest request{BlockOp::read};
    for (u32 i = 0; i < BlockRequest::kMaxParts; ++i)
        CHECK(request.add(page, i % kPageSectors * kSectorBytes, kSectorBytes));
    CHECK(!request.add(page, 0, kSectorBytes));
    CHECK(request.parts() == 32);
    CHECK(request.sectors() == 32);
    request.reuse(BlockOp::write, 7);
    CHECK(request.parts() == 0);
    CHECK(request.sectors() == 0);
    CHECK(request.op() == BlockOp::write);
    CHECK(request.sector() == 7);
    CHECK_PANIC(request.add(page, 0, 0), "");
    CHECK_PANIC(request.add(page, 0, 100), "");
    CHECK_PANIC(request.add(page, 256, kSectorBytes), "");
    CHECK_PANIC(request.add(page, kPageSize - kSectorBytes, 2 * kSectorBytes), "");
    free_page(page);
}

TEST_CASE("block: data of a disk that reaches all memory needs no bounce frame", "[block]") {
    Booted kernel;
    const Books before = books();
    {
        SimDisk disk;
        REQUIRE(disk.ready());
        CHECK(disk.name() == std::string_view{"sim"});
        CHECK(bounce_frames() == 0);
        CHECK(books() == before);
        std::vector<Page*> pages = new_pages(3);
        BlockRequest request{BlockOp::read, 80};
        add_frames(request, pages);
        REQUIRE(disk.run(request));
        for (u32 i = 0; i < 3; ++i)
            CHECK(frame_has(pages[i], disk.image(), 80 + i * kPageSectors));
        for (u32 i = 0; i < 3; ++i)
            fill_frame(pages[i], i);
        request.reuse(BlockOp::write, 8);
        add_frames(request, pages);
        REQUIRE(disk.run(request));
        for (u32 i = 0; i < 3; ++i)
            CHECK(frame_has(pages[i], disk.image(), 8 + i * kPageSectors));
        BlockRequest flush{BlockOp::flush};
        REQUIRE(disk.run(flush));
        const BlockStats now = disk.stats();
        CHECK(since_start(now.reads) == 1);
        CHECK(since_start(now.writes) == 1);
        CHECK(since_start(now.flushes) == 1);
        CHECK(since_start(now.bounced) == 0);
        CHECK(since_start(now.errors) == 0);
        free_all(pages);
    }
    CHECK(books() == before);
}

TEST_CASE("block: frames out of reach are bounced", "[block][block-bounce]") {
    Booted kernel;
    const Books before = books();
    const bool high = GENERATE(false, true);
    ONLY_WITH(config::kHighMem || !high);
    {
        SimDisk disk{{.reach = high ? lowmem_reach() : kShortReach}};
        REQUIRE(disk.ready());
        CHECK(bounce_frames() == BlockDevice::kBounceFrames);
        CHECK(meminfo().bounce == BlockDevice::kBounceFrames * 4);
        std::vector<Page*> pages = new_pages(3, high ? Gfp::high : Gfp::kernel);
        Page* const near = new_page(Gfp::dma);
        pages.insert(pages.begin() + 1, near); // one of four is in reach
        BlockRequest request{BlockOp::read, 80};
        add_frames(request, pages);
        REQUIRE(disk.run(request));
        for (u32 i = 0; i < 4; ++i)
            CHECK(frame_has(pages[i], disk.image(), 80 + i * kPageSectors));
        CHECK(since_start(disk.stats().bounced) == 3);
        for (u32 i = 0; i < 4; ++i)
            fill_frame(pages[i], i);
        request.reuse(BlockOp::write, 8);
        add_frames(request, pages);
        REQUIRE(disk.run(request));
        for (u32 i = 0; i < 4; ++i)
            CHECK(frame_has(pages[i], disk.image(), 8 + i * kPageSectors));
        CHECK(since_start(disk.stats().bounced) == 6);
        CHECK(disk.stats().bouncing == 0);
        free_all(pages);
    }
    CHECK(bounce_frames() == 0);
    CHECK(books() == before);
}

TEST_CASE("block: the reach ends before its frame", "[block][block-bounce]") {
    Booted kernel;
    Page* const page = new_page();
    REQUIRE(page_to_pfn(page) > kShortReach);
    const u32 further = GENERATE(0u, 1u);
    SimDisk disk{{.reach = page_to_pfn(page) + further}};
    REQUIRE(disk.ready());
    BlockRequest request{BlockOp::read, 80};
    add_frames(request, {page});
    REQUIRE(disk.run(request));
    CHECK(since_start(disk.stats().bounced) == 1 - further);
    CHECK(frame_has(page, disk.image(), 80));
    free_page(page);
}

TEST_CASE("block: a bounced part leaves the rest of its frame and of the disk alone", "[block][block-bounce]") {
    Booted kernel;
    SimDisk disk{{.reach = kShortReach}};
    REQUIRE(disk.ready());
    Page* const page = new_page();
    fill_frame(page, 1);
    BlockRequest request{BlockOp::read, 100};
    REQUIRE(request.add(page, 2 * kSectorBytes, 3 * kSectorBytes));
    REQUIRE(request.add(page, 6 * kSectorBytes, kSectorBytes));
    REQUIRE(disk.run(request));
    for (u32 i = 0; i < kPageSectors; ++i) {
        const bool read = (i >= 2 && i < 5) || i == 6;
        CHECK(sector_of(page, i) == (!read    ? written_sector(kPageSectors + i)
                                     : i == 6 ? disk.image().at(103)
                                              : disk.image().at(98 + i)));
    }
    fill_frame(page, 2);
    request.reuse(BlockOp::write, 200);
    REQUIRE(request.add(page, 5 * kSectorBytes, 2 * kSectorBytes));
    REQUIRE(disk.run(request));
    const sim::DiskImage fresh;
    CHECK(disk.image().at(199) == fresh.at(199));
    CHECK(disk.image().at(200) == written_sector(2 * kPageSectors + 5));
    CHECK(disk.image().at(201) == written_sector(2 * kPageSectors + 6));
    CHECK(disk.image().at(202) == fresh.at(202));
    free_page(page);
}

TEST_CASE("block: a thread copies with interrupts on", "[block][block-bounce]") {
    Booted kernel;
    SimDisk disk{{.reach = kShortReach}};
    REQUIRE(disk.ready());
    std::vector<Page*> pages = new_pages(8);
    Watched write{BlockOp::write, 0, pages};
    u32 on = 0, off = 0;
    {
        sim::ScopedHook hook{[&](sim::Point point) {
            if (point == sim::Point::memory) ++(kernel.machine.here().interrupts ? on : off);
        }};
        disk.submit(write);
    }
    CHECK(on >= 8);
    CHECK(off == 0);
    disk.work();
    CHECK(write.is_good());
    free_all(pages);
}

TEST_CASE("block: the frames of a disk that cannot be prepared go back", "[block]") {
    Booted kernel;
    const Books before = books();
    {
        SimDisk disk{{.reach = Pfn{kDmaEnd - 1}}};
        CHECK(failed_with(disk.ready(), Error::out_of_reach));
    }
    for (const u32 nth : {0u, 1u, 63u}) {
        SimDisk disk{{.reach = kShortReach}};
        kernel.machine.fail_allocation(nth);
        CHECK(failed_with(disk.ready(), Error::no_memory));
        CHECK(kernel.machine.allocation_failed());
        CHECK(bounce_frames() == 0);
    }
    CHECK(books() == before);
}

TEST_CASE("block: requests that do not fit end with an error", "[block]") {
    Booted kernel;
    SimDisk disk{{.sectors = 100, .parts = 2}};
    REQUIRE(disk.ready());
    std::vector<Page*> pages = new_pages(3);
    const auto status = [&](BlockOp op, u64 sector, u32 parts) {
        BlockRequest request{op, sector};
        add_frames(request, {pages.begin(), pages.begin() + parts});
        return disk.run(request);
    };
    CHECK(status(BlockOp::read, 84, 2));
    CHECK(failed_with(status(BlockOp::read, 85, 2), Error::invalid));
    CHECK(failed_with(status(BlockOp::write, 100, 1), Error::invalid));
    CHECK(failed_with(status(BlockOp::write, ~u64{0}, 1), Error::invalid));
    CHECK(failed_with(status(BlockOp::read, 0, 0), Error::invalid));
    CHECK(failed_with(status(BlockOp::read, 0, 3), Error::invalid));
    CHECK(failed_with(status(BlockOp::flush, 0, 1), Error::invalid));
    CHECK(status(BlockOp::flush, 0, 0));
    CHECK(disk.counts().starts == 2);
    CHECK(since_start(disk.stats().errors) == 6);
    free_all(pages);
}

TEST_CASE("block: an error of the disk", "[block]") {
    Booted kernel;
    const bool bounced = GENERATE(true, false);
    SimDisk disk{{.reach = bounced ? kShortReach : Pfn{kMaxPfn}}};
    REQUIRE(disk.ready());
    Page* const page = new_page();
    fill_frame(page, 1);
    disk.fail(35);
    BlockRequest request{BlockOp::read, 32};
    REQUIRE(request.add(page, 0, kPageSize));
    CHECK(failed_with(disk.run(request), Error::io));
    CHECK(sector_of(page, 5) == written_sector(kPageSectors + 5));
    request.reuse(BlockOp::write, 32);
    REQUIRE(request.add(page, 0, kPageSize));
    CHECK(failed_with(disk.run(request), Error::io));
    CHECK(disk.stats().bouncing == 0);
    disk.repair(35);
    disk.submit(request); // again, as it is
    CHECK(request.wait());
    CHECK(frame_has(page, disk.image(), 32));
    free_page(page);
}

TEST_CASE("block: order, depth, and a driver without room", "[block]") {
    Booted kernel;
    SimDisk disk{{.depth = 3, .room = GENERATE(1u, 3u, 8u)}};
    REQUIRE(disk.ready());
    std::vector<Page*> pages = new_pages(10);
    std::vector<std::unique_ptr<Watched>> all;
    Watched::order.clear();
    std::vector<u64> wanted;
    for (u32 i = 0; i < 10; ++i) {
        wanted.push_back(900 - 8 * i);
        all.push_back(watched(BlockOp::read, wanted.back(), {pages[i]}));
        disk.submit(*all.back());
    }
    CHECK(disk.stats().started <= 3);
    CHECK(disk.stats().started + disk.stats().queued == 10);
    disk.work();
    CHECK(disk.counts().sectors == wanted);
    CHECK(Watched::order == wanted);
    for (u32 i = 0; i < 10; ++i) {
        CHECK(all[i]->is_good());
        CHECK(frame_has(pages[i], disk.image(), wanted[i]));
    }
    CHECK(disk.counts().most <= 3);
    free_all(pages);
}

TEST_CASE("block: a request that needs many bounce frames is not overtaken", "[block][block-bounce]") {
    Booted kernel;
    SimDisk disk{{.depth = 8, .reach = kShortReach}};
    REQUIRE(disk.ready());
    std::vector<Page*> pages = new_pages(32);
    std::vector<std::unique_ptr<Watched>> all;
    const std::vector<u32> sizes{32, 20, 32, 1, 12, 32}; // 12 frames are left when the third one waits
    std::vector<u64> wanted;
    for (u32 i = 0; i < sizes.size(); ++i) {
        wanted.push_back(i * 1000);
        all.push_back(watched(BlockOp::read, i * 1000, {pages.begin(), pages.begin() + sizes[i]}));
        disk.submit(*all.back());
    }
    CHECK(disk.stats().started == 2);
    CHECK(disk.stats().bouncing == 52);
    CHECK(since_start(disk.stats().waits) == 1);
    disk.work();
    CHECK(disk.counts().sectors == wanted);
    for (const auto& one : all)
        CHECK(one->is_good());
    CHECK(disk.stats().bouncing == 0);
    CHECK(since_start(disk.stats().bounced) == 129);
    free_all(pages);
}

TEST_CASE("block: a driver that refuses a bounced write gets the same data later", "[block][block-bounce]") {
    Booted kernel;
    SimDisk disk{{.depth = 4, .reach = kShortReach, .room = 1}};
    REQUIRE(disk.ready());
    std::vector<Page*> pages = new_pages(4);
    std::vector<std::unique_ptr<Watched>> all;
    for (u32 i = 0; i < 4; ++i) {
        fill_frame(pages[i], i);
        all.push_back(watched(BlockOp::write, 8 * i, {pages[i]}));
        disk.submit(*all.back());
    }
    disk.work();
    for (u32 i = 0; i < 4; ++i) {
        CHECK(all[i]->is_good());
        CHECK(frame_has(pages[i], disk.image(), 8 * i));
    }
    CHECK(disk.counts().refused != 0);
    CHECK(since_start(disk.stats().bounced) == 4);
    free_all(pages);
}

TEST_CASE("block: a late request is started again, once", "[block][block-time]") {
    Booted kernel;
    SimDisk disk{{.depth = 3, .reach = kShortReach}};
    REQUIRE(disk.ready());
    std::vector<Page*> pages = new_pages(5);
    std::vector<std::unique_ptr<Watched>> all;
    for (u32 i = 0; i < 5; ++i) {
        fill_frame(pages[i], i);
        all.push_back(watched(BlockOp::write, 8 * i, {pages[i]}));
    }
    SECTION("it ends the second time") {
        disk.hang(3);
        for (const auto& one : all)
            disk.submit(*one);
        disk.work();
        time_passes(disk, BlockDevice::kPatience - 1);
        CHECK(disk.counts().forgotten == 0);
        time_passes(disk, 1);
        CHECK(disk.counts().forgotten == 3);
        CHECK(since_start(disk.stats().resets) == 1);
        disk.work();
        // Those that were forgotten come first, in their order.
        CHECK(disk.counts().sectors == std::vector<u64>{0, 8, 16, 0, 8, 16, 24, 32});
        for (u32 i = 0; i < 5; ++i) {
            CHECK(all[i]->is_good());
            CHECK(frame_has(pages[i], disk.image(), 8 * i));
        }
    }
    SECTION("it does not, and the others do") {
        disk.hang(1);
        for (const auto& one : all)
            disk.submit(*one);
        disk.work();
        time_passes(disk, BlockDevice::kPatience - 1);
        disk.hang(1);
        time_passes(disk, 1);
        disk.work();
        CHECK(all[0]->ends == 0);
        time_passes(disk);
        CHECK(all[0]->ended_with(Error::timed_out));
        for (u32 i = 1; i < 5; ++i)
            CHECK(all[i]->is_good());
        CHECK(since_start(disk.stats().resets) == 2);
    }
    SECTION("two are late together, both times") {
        for (u32 i = 0; i < 2; ++i) {
            disk.hang(2);
            if (i == 0)
                for (u32 one = 0; one < 2; ++one)
                    disk.submit(*all[one]);
            time_passes(disk);
        }
        CHECK(all[0]->ended_with(Error::timed_out));
        CHECK(all[1]->ended_with(Error::timed_out));
    }
    SECTION("one that was started later has its whole time") {
        disk.hang(1);
        disk.submit(*all[0]);
        disk.work();
        time_passes(disk, BlockDevice::kPatience - 1);
        disk.hang(1);
        disk.submit(*all[1]);
        time_passes(disk, 1); // both are started again
        CHECK(disk.counts().sectors == std::vector<u64>{0, 8, 0, 8});
        disk.work();
        CHECK(all[0]->is_good());
        CHECK(all[1]->is_good());
        // A second use of the same request has two starts again.
        all[0]->ends = 0;
        disk.hang(1);
        disk.submit(*all[0]);
        disk.work();
        time_passes(disk);
        disk.work();
        CHECK(all[0]->is_good());
    }
    SECTION("one that was started later is late for the first time when the other is for the second") {
        disk.hang(1);
        disk.submit(*all[0]);
        time_passes(disk, BlockDevice::kPatience - 1);
        disk.hang(1);
        disk.submit(*all[1]);
        disk.hang(2);
        time_passes(disk, 1);
        time_passes(disk);
        disk.work();
        CHECK(all[0]->ended_with(Error::timed_out));
        CHECK(all[1]->is_good());
    }
    SECTION("with frames that others wait for") {
        std::vector<Page*> more = new_pages(32);
        const auto big = watched(BlockOp::read, 1000, more), bigger = watched(BlockOp::read, 2000, more),
                   third = watched(BlockOp::read, 3000, more);
        disk.hang(2);
        for (Watched* one : {big.get(), bigger.get(), third.get()})
            disk.submit(*one);
        CHECK(disk.stats().started == 2);
        time_passes(disk);
        CHECK(disk.stats().bouncing == 64);
        disk.work();
        CHECK(big->is_good());
        CHECK(bigger->is_good());
        CHECK(third->is_good());
        free_all(more);
    }
    CHECK(disk.stats().bouncing == 0);
    CHECK(disk.stats().started == 0);
    CHECK(disk.stats().queued == 0);
    free_all(pages);
}

TEST_CASE("block: an end that comes late ends nothing", "[block][block-time]") {
    Booted kernel;
    SimDisk disk{{.depth = 2}};
    REQUIRE(disk.ready());
    Page* const page = new_page();
    auto first = watched(BlockOp::read, 8, {page});
    disk.submit(*first);
    disk.work();
    CHECK(first->is_good());
    SECTION("of a request that has ended") {
        disk.tell_again();
        CHECK(first->ends == 1);
    }
    SECTION("of a request that has been submitted again") {
        disk.hang(1);
        disk.submit(*first);
        disk.tell_again();
        CHECK(first->ends == 1);
        CHECK(disk.stats().started == 1);
        time_passes(disk);
        disk.work();
        CHECK(first->ends == 2);
    }
    SECTION("of a request that is freed") {
        first.reset();
        disk.tell_again();
    }
    CHECK(since_start(disk.stats().late) == 1);
    CHECK(disk.stats().started == 0);
    free_page(page);
}

TEST_CASE("block: a flush has more time than a transfer", "[block][block-time]") {
    Booted kernel;
    SimDisk disk;
    REQUIRE(disk.ready());
    Page* const page = new_pages(1)[0];
    const auto flush = watched(BlockOp::flush, 0, {}), write = watched(BlockOp::write, 8, {page});
    disk.hang(2);
    disk.submit(*flush);
    time_passes(disk, BlockDevice::kFlushPatience - BlockDevice::kPatience);
    disk.submit(*write);
    time_passes(disk, BlockDevice::kPatience - 1);
    CHECK(since_start(disk.stats().resets) == 0);
    time_passes(disk, 1); // both are late now
    CHECK(since_start(disk.stats().resets) == 1);
    disk.work();
    CHECK(flush->is_good());
    CHECK(write->is_good());
    // A transfer that is late resets the disk, but the flush is not late by that.
    flush->ends = write->ends = 0;
    disk.hang(4); // both starts of both
    disk.submit(*flush);
    disk.submit(*write);
    time_passes(disk, 2 * BlockDevice::kPatience);
    disk.work();
    CHECK(write->ended_with(Error::timed_out));
    CHECK(flush->is_good());
    free_page(page);
}

TEST_CASE("block: a driver without room is asked again by the time limit", "[block][block-time]") {
    Booted kernel;
    SimDisk disk{{.room = 0}};
    REQUIRE(disk.ready());
    BlockRequest flush{BlockOp::flush};
    disk.submit(flush);
    CHECK(disk.counts().refused == 1);
    disk.check_time();
    CHECK(disk.counts().refused == 2);
    disk.take_away();
    CHECK(failed_with(flush.wait(), Error::gone));
}

TEST_CASE("block: a disk that was taken away", "[block]") {
    Booted kernel;
    const Books before = books();
    {
        SimDisk disk{{.depth = 2, .reach = kShortReach}};
        REQUIRE(disk.ready());
        std::vector<Page*> pages = new_pages(40);
        std::vector<std::unique_ptr<Watched>> all;
        Watched::order.clear();
        for (u32 i = 0; i < 4; ++i)
            all.push_back(watched(BlockOp::write, i, {pages.begin(), pages.begin() + 32}));
        for (const auto& one : all)
            disk.submit(*one);
        disk.unplug();
        CHECK(disk.stats().bouncing == 64);
        disk.take_away();
        for (const auto& one : all)
            CHECK(one->ended_with(Error::gone));
        CHECK(Watched::order == std::vector<u64>{0, 1, 2, 3});
        CHECK(disk.stats().bouncing == 0);
        CHECK(disk.counts().forgotten == 2);
        BlockRequest later{BlockOp::read, 0};
        REQUIRE(later.add(pages[0], 0, kPageSize));
        CHECK(failed_with(disk.run(later), Error::gone));
        // A completion that tries again and again does not use up the stack.
        Watched again{BlockOp::read, 5, {pages[0]}};
        again.then = [&] {
            if (again.ends < 100'000) disk.submit(again);
        };
        disk.submit(again);
        CHECK(again.ends == 100'000);
        disk.take_away();
        disk.check_time();
        free_all(pages);
    }
    CHECK(books() == before);
}

TEST_CASE("block: a driver that ends a request inside its start", "[block]") {
    Booted kernel;
    SimDisk disk{{.depth = 1, .reach = kShortReach, .at_once = true}};
    REQUIRE(disk.ready());
    Page* const page = new_page();
    Watched again{BlockOp::read, 8, {page}};
    again.then = [&] {
        if (again.ends < 20'000) disk.submit(again);
    };
    disk.submit(again);
    CHECK(again.ends == 20'000);
    CHECK(frame_has(page, disk.image(), 8));
    BlockRequest waited{BlockOp::read, 16};
    REQUIRE(waited.add(page, 0, kPageSize));
    CHECK(disk.run(waited));
    CHECK(frame_has(page, disk.image(), 16));
    free_page(page);
}

TEST_CASE("block: a completion that submits the request again, for another use", "[block]") {
    Booted kernel;
    SimDisk disk{{.depth = 1, .reach = kShortReach}};
    REQUIRE(disk.ready());
    Page* const page = new_page();
    Watched copy{BlockOp::read, 8, {page}};
    copy.then = [&] {
        if (copy.ends != 1) return;
        copy.reuse(BlockOp::write, 800);
        add_frames(copy, {page});
        disk.submit(copy);
    };
    disk.submit(copy);
    disk.work();
    CHECK(copy.ends == 2);
    for (u32 i = 0; i < kPageSectors; ++i)
        CHECK(disk.image().at(800 + i) == sim::DiskImage{}.at(8 + i));
    free_page(page);
}

TEST_CASE("block: submit in an interrupt, and misuse", "[block]") {
    Booted kernel;
    SimDisk disk{{.reach = kShortReach}};
    REQUIRE(disk.ready());
    Page* const page = new_page();
    Watched read{BlockOp::read, 8, {page}};
    as_interrupt([&] { disk.submit(read); });
    CHECK_PANIC(disk.submit(read), "");
    CHECK_PANIC(read.add(page, 0, kSectorBytes), "");
    CHECK_PANIC(read.reuse(BlockOp::read, 0), "");
    disk.work();
    CHECK(read.is_good());
    CHECK(frame_has(page, disk.image(), 8));
    BlockRequest other{BlockOp::flush};
    {
        PreemptGuard atomic;
        CHECK_PANIC(disk.run(other), "wait for a disk");
        CHECK_PANIC(disk.check_time(), "time limit");
        CHECK_PANIC(disk.take_away(), "taken away");
    }
    disk.work();
    CHECK(other.wait());
    free_page(page);
}

TEST_CASE("block: transfers and interrupts between any two operations", "[block][race]") {
    Booted kernel{small(2)};
    SimDisk disk{{.depth = 2, .reach = kShortReach, .step = 3, .any_order = true, .interrupts = CpuId{0}}};
    REQUIRE(disk.ready());
    std::vector<Page*> pages = new_pages(6);
    for (u32 round = 0; round < 20; ++round) {
        std::vector<std::unique_ptr<Watched>> all;
        for (u32 i = 0; i < 6; ++i) {
            fill_frame(pages[i], round * 8 + i);
            all.push_back(watched(i % 2 != 0 ? BlockOp::write : BlockOp::read, round * 64 + 8 * i, {pages[i]}));
        }
        u32 points = 0;
        Intruder work{[&] {
            if (disk.can_step()) disk.step();
        }};
        {
            sim::ScopedHook hook{[&](sim::Point) {
                if (++points % (round + 1) == 0) work();
            }};
            for (const auto& one : all)
                disk.submit(*one);
            disk.check_time();
        }
        work.finish();
        disk.work();
        for (u32 i = 0; i < 6; ++i) {
            CHECK(all[i]->is_good());
            CHECK(frame_has(pages[i], disk.image(), round * 64 + 8 * i));
        }
    }
    free_all(pages);
}

// --- a disk that lies on another one

namespace {

class Stacked final : public BlockDevice {
  public:
    Stacked(BlockDevice& below, u64 offset, u32 depth) : below_{below}, offset_{offset}, slots_(depth) {
        for (auto& slot : slots_)
            slot = std::make_unique<Slot>(*this);
    }
    ~Stacked() { finish(); }

  private:
    struct Slot : BlockRequest {
        explicit Slot(Stacked& mine) : BlockRequest{BlockOp::read, 0, &Slot::done}, owner{mine} {}
        static void done(BlockRequest& request) {
            auto& slot = static_cast<Slot&>(request);
            BlockRequest& above = *std::exchange(slot.above, nullptr);
            slot.owner.ended(above, slot.ticket, request.status());
        }
        Stacked& owner;
        BlockRequest* above = nullptr; // null: the slot is free
        u32 ticket = 0;
    };

    bool start(BlockRequest& request) override {
        for (auto& slot : slots_) {
            if (slot->above != nullptr) continue;
            slot->above = &request;
            slot->ticket = request.ticket();
            slot->reuse(request.op(), request.sector() + offset_);
            for (u32 i = 0; i < request.parts(); ++i) {
                const BlockPart part = request.transfer(i);
                CHECK(slot->add(part.page, part.offset, part.bytes));
            }
            below_.submit(*slot);
            return true;
        }
        return false;
    }
    // The disk below has time limits of its own.
    void forget() override {
        for (auto& slot : slots_)
            while (slot->above != nullptr)
                hal::park();
    }

    BlockDevice& below_;
    u64 offset_;
    std::vector<std::unique_ptr<Slot>> slots_;
};

} // namespace

// Bug 18: a reserve that both stages shared would be empty when the lower one needs it to complete.
TEST_CASE("block: stacked disks without any free memory", "[block][block-stack]") {
    Booted kernel;
    const Books before = books();
    {
        constexpr u32 kRequests = 64, kParts = BlockRequest::kMaxParts;
        SimDisk disk{{.sectors = 1u << 20, .depth = 4, .reach = kShortReach, .any_order = true}};
        REQUIRE(disk.ready());
        Stacked middle{disk, 100'000, 8};
        REQUIRE(middle.prepare("middle", {1u << 19, kParts, config::kHighMem ? lowmem_reach() : Pfn{kDmaEnd + 64}, 8}));
        Stacked top{middle, 1000, 64};
        REQUIRE(top.prepare("top", {1u << 18, kParts, config::kHighMem ? lowmem_reach() : Pfn{kDmaEnd + 64}, 64}));
        CHECK(bounce_frames() == 3 * BlockDevice::kBounceFrames);
        std::vector<Page*> pages = new_pages(kRequests * kParts);
        std::vector<std::unique_ptr<Watched>> all;
        for (u32 i = 0; i < kRequests; ++i) {
            const std::vector<Page*> mine{pages.begin() + i * kParts, pages.begin() + (i + 1) * kParts};
            all.push_back(watched(i % 2 != 0 ? BlockOp::write : BlockOp::read, i * kParts * kPageSectors, mine));
            for (u32 j = 0; j < kParts; ++j)
                fill_frame(mine[j], i * kParts + j);
        }
        {
            const Shortage none{0, 0};
            for (const auto& one : all)
                top.submit(*one);
            disk.work();
        }
        for (u32 i = 0; i < kRequests; ++i) {
            CHECK(all[i]->is_good());
            bool same = true;
            for (u32 j = 0; j < kParts; ++j)
                same &= frame_has(pages[i * kParts + j], disk.image(), 101'000 + (i * kParts + j) * kPageSectors);
            CHECK(same);
        }
        CHECK(since_start(top.stats().waits) != 0);
        free_all(pages);
    }
    CHECK(books() == before);
}

TEST_CASE("block: the lower of two stacked disks is reset, or taken away", "[block][block-stack]") {
    Booted kernel;
    SimDisk disk{{.depth = 2, .reach = kShortReach}};
    REQUIRE(disk.ready());
    Stacked top{disk, 1000, 4};
    REQUIRE(top.prepare("top", {1000, 32, Pfn{kMaxPfn}, 4}));
    std::vector<Page*> pages = new_pages(3);
    std::vector<std::unique_ptr<Watched>> all;
    for (u32 i = 0; i < 3; ++i) {
        fill_frame(pages[i], i);
        all.push_back(watched(BlockOp::write, 8 * i, {pages[i]}));
    }
    SECTION("reset") {
        disk.hang(2);
        for (const auto& one : all)
            top.submit(*one);
        disk.work();
        time_passes(disk);
        disk.work();
        for (u32 i = 0; i < 3; ++i) {
            CHECK(all[i]->is_good());
            CHECK(frame_has(pages[i], disk.image(), 1000 + 8 * i));
        }
    }
    SECTION("the upper one is impatient") {
        for (const auto& one : all)
            top.submit(*one);
        time_passes(top); // waits for the lower one, and starts the requests again
        disk.work();
        for (const auto& one : all)
            CHECK(one->is_good());
        CHECK(since_start(top.stats().resets) == 1);
    }
    SECTION("taken away") {
        for (const auto& one : all)
            top.submit(*one);
        disk.unplug();
        disk.take_away();
        for (const auto& one : all)
            CHECK(one->ended_with(Error::gone));
    }
    free_all(pages);
}

namespace {

// A disk that shares something with another one, which uses it now.
struct SharingDisk final : BlockDevice {
    bool start(BlockRequest& request) override {
        ++offers;
        if (is_busy) {
            if (meanwhile) std::exchange(meanwhile, nullptr)();
            return false;
        }
        ended(request, request.ticket(), {});
        return true;
    }
    void forget() override {}
    using BlockDevice::offer_again;

    bool is_busy = true;
    u32 offers = 0;
    std::function<void()> meanwhile; // while start refuses a request
};

} // namespace

TEST_CASE("block: what the driver has refused is offered again when it says so", "[block]") {
    Booted kernel;
    SharingDisk disk;
    REQUIRE(disk.prepare("sharing", {.sectors = 100, .parts = 1, .reach = Pfn{kMaxPfn}, .depth = 4}));
    auto pages = new_pages(1);
    const auto one = watched(BlockOp::write, 1, pages), two = watched(BlockOp::write, 2, pages);
    disk.submit(*one);
    disk.submit(*two);
    CHECK(disk.offers == 1); // not for each submit
    CHECK(disk.stats().queued == 2);
    CHECK(disk.stats().started == 0);
    SECTION("afterwards") {
        disk.is_busy = false;
        disk.offer_again();
        CHECK(disk.offers == 3);
    }
    SECTION("and it is still busy") {
        disk.offer_again();
        CHECK(disk.offers == 2);
        CHECK(one->ends == 0);
        disk.is_busy = false;
        disk.check_time();
        CHECK(disk.offers == 4);
    }
    SECTION("before start() has returned") {
        disk.meanwhile = [&disk] {
            disk.is_busy = false;
            disk.offer_again();
        };
        disk.offer_again();
        CHECK(disk.offers == 4);
    }
    CHECK((one->is_good() && two->is_good()));
    CHECK(disk.stats().queued + disk.stats().started == 0);
    disk.finish();
    free_all(pages);
}
