// Disks under every schedule: submit, transfers, their ends, time limits, and a disk that is taken away. The disk is an
// agent: it moves data and interrupts CPU 0 at any step. A request that ends twice or never, a thread that is not
// woken, a frame that is used after it was freed or copied too early fails a schedule.
#include "tests/host/disk_tools.hpp"
#include "tests/host/explorer/rig.hpp"

#include <new>

using namespace loft;
using namespace loft::test;

// Plain memory, as mm's own static objects; a schedule begins with its first values.
namespace loft::litmus {
namespace {

alignas(sim::SimDisk) u8 disk_memory[sizeof(sim::SimDisk)];
alignas(BlockRequest) u8 request_memory[3][sizeof(BlockRequest)];
u32 told; // ends of request_memory[0]

// A disk without a device.
struct Quiet final : BlockDevice {
    bool start(BlockRequest&) override { return false; }
    void forget() override {}
};
Quiet quiet[2];

} // namespace
} // namespace loft::litmus

namespace {

using litmus::told;

BlockRequest& request_at(u32 i) { return *std::launder(reinterpret_cast<BlockRequest*>(litmus::request_memory[i])); }

// The disk interrupts CPU 0. All frames that the tests transfer are out of its reach.
struct DiskScene : Scene {
    explicit DiskScene(u32 cpus, sim::DiskOptions options = {}) : Scene{cpus, 2, 0} {
        options.reach = kShortReach;
        disk = new (litmus::disk_memory) sim::SimDisk{std::move(options)};
        if (!disk->ready()) throw std::logic_error{"no memory for the disk"};
        small_kernel.marks_idle = false;
        told = 0;
        for (u32 i = 0; i < 4; ++i) {
            page.push_back(new_page(Gfp::kernel));
            fill_frame(page.back(), i);
        }
    }
    ~DiskScene() { disk->~SimDisk(); }
    void make_request(u32 i, BlockOp op, u64 sector, BlockRequest::Done done) {
        new (litmus::request_memory[i]) BlockRequest{op, sector, done};
    }
    // From here on every schedule starts with this state.
    sim::Report explore(const sim::Plan& plan) {
        disk->keep();
        explored.reset = [this, next = explored.reset] {
            next();
            disk->rewind();
        };
        const auto check = explored.check;
        explored.check = [this, check] {
            const BlockStats now = disk->stats();
            sim::expect(now.queued == 0 && now.started == hung && now.bouncing == hung_frames, "no request is left");
            if (check) check();
        };
        const sim::Report report = Scene::explore(plan);
        disk->rewind();
        return report;
    }

    sim::SimDisk* disk;
    std::vector<Page*> page;
    u32 hung = 0, hung_frames = 0;
};

// Reads a page, or writes it, and checks the data. A frame of its own, which it frees: the disk has no use for it any
// more.
Status read_page(sim::SimDisk& disk, u64 sector) {
    Page* const page = alloc_page(Gfp::kernel);
    sim::expect(page != nullptr, "there is memory");
    Status status;
    {
        BlockRequest request{BlockOp::read, sector};
        sim::expect(request.add(page, 0, kSectorBytes), "one part fits");
        status = disk.run(request);
        if (status) sim::expect(sector_of(page, 0) == disk.image().at(sector), "the data of the disk arrives");
    }
    free_page(page);
    return status;
}
Status write_page(sim::SimDisk& disk, u64 sector, Page* page) {
    BlockRequest request{BlockOp::write, sector};
    sim::expect(request.add(page, 0, kSectorBytes), "one part fits");
    const Status status = disk.run(request);
    if (status) sim::expect(sector_of(page, 0) == disk.image().at(sector), "the data reaches the disk");
    return status;
}

bool is(const Status& status, Error error) { return !status && status.error() == error; }
void time_passes(sim::SimDisk& disk, u32 resets) {
    for (u32 i = 0; i < resets * BlockDevice::kPatience; ++i)
        disk.check_time();
}

} // namespace

TEST_CASE("explorer: a disk reads, and its thread sleeps", "[.explorer][explorer-disk]") {
    DiskScene s{2};
    const u32 cpu = GENERATE(0u, 1u);
    s.thread(cpu, [&s] { sim::expect(static_cast<bool>(read_page(*s.disk, 8)), "it succeeds"); });
    s.explore(sim::reduced(schedules(3'000)));
}

TEST_CASE("explorer: two CPUs submit, the disk ends", "[.explorer][explorer-disk]") {
    DiskScene s{2, {.depth = GENERATE(1u, 2u), .any_order = true}};
    s.thread(0, [&s] { sim::expect(static_cast<bool>(read_page(*s.disk, 8)), "it succeeds"); });
    s.thread(1, [&s] { sim::expect(static_cast<bool>(write_page(*s.disk, 16, s.page[0])), "it succeeds"); });
    s.explore(sim::reduced(schedules(3'000), 3));
    s.explore(sim::random(schedules(3'000)));
}

TEST_CASE("explorer: a driver without room, two CPUs submit", "[.explorer][explorer-disk]") {
    DiskScene s{2, {.depth = 2, .room = 1}};
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [&s, cpu] { sim::expect(static_cast<bool>(read_page(*s.disk, 8 * cpu)), "it succeeds"); });
    s.explore(sim::reduced(schedules(3'000), 3));
    s.explore(sim::random(schedules(2'000)));
}

TEST_CASE("explorer: a completion submits the request again while another CPU submits", "[.explorer][explorer-disk]") {
    DiskScene s{2, {.depth = 1}};
    static sim::SimDisk* disk;
    disk = s.disk;
    s.make_request(0, BlockOp::read, 8, [](BlockRequest& request) {
        if (++told < 3) disk->submit(request);
    });
    REQUIRE(request_at(0).add(s.page[0], 0, kSectorBytes));
    s.thread(0, [] { disk->submit(request_at(0)); });
    s.thread(1, [] { sim::expect(static_cast<bool>(read_page(*disk, 16)), "it succeeds"); });
    s.explored.check = [] { sim::expect(told == 3, "it was told each time"); };
    s.explore(sim::reduced(schedules(3'000), 3));
    s.explore(sim::random(schedules(2'000)));
}

TEST_CASE("explorer: a time limit passes while a request ends", "[.explorer][explorer-disk]") {
    DiskScene s{2};
    SECTION("one reset") {
        s.thread(0, [&s] { sim::expect(static_cast<bool>(read_page(*s.disk, 8)), "it succeeds"); });
        s.thread(1, [&s] { time_passes(*s.disk, 1); });
    }
    SECTION("two resets") {
        s.thread(0, [&s] {
            const Status status = read_page(*s.disk, 8);
            sim::expect(status || is(status, Error::timed_out), "it succeeds, or is too late");
        });
        s.thread(1, [&s] { time_passes(*s.disk, 2); });
    }
    SECTION("of another request, which the disk does not answer") {
        s.disk->hang(1);
        s.make_request(0, BlockOp::read, 32, [](BlockRequest&) { ++told; });
        REQUIRE(request_at(0).add(s.page[1], 0, kSectorBytes));
        s.disk->submit(request_at(0));
        s.disk->work();
        s.thread(0, [&s] { sim::expect(static_cast<bool>(write_page(*s.disk, 16, s.page[0])), "it succeeds"); });
        s.thread(1, [&s] { time_passes(*s.disk, 1); });
        s.explored.check = [&s] {
            sim::expect(told == 1, "it ends once");
            sim::expect(sector_of(s.page[1], 0) == s.disk->image().at(32), "with its data");
        };
    }
    s.explore(sim::reduced(schedules(4'000), 2));
    s.explore(sim::random(schedules(4'000)));
}

TEST_CASE("explorer: a disk is taken away while CPUs submit and requests end", "[.explorer][explorer-disk]") {
    DiskScene s{2, {.depth = 1}};
    const auto good_or_gone = [](const Status& status) {
        sim::expect(status || is(status, Error::gone), "it succeeds, or the disk is gone");
    };
    s.thread(0, [&s, good_or_gone] {
        good_or_gone(read_page(*s.disk, 8));
        good_or_gone(write_page(*s.disk, 16, s.page[0]));
    });
    s.thread(1, [&s] {
        s.disk->take_away();
        sim::expect(is(read_page(*s.disk, 24), Error::gone), "nothing succeeds later");
    });
    s.explore(sim::reduced(schedules(4'000), 2));
    s.explore(sim::random(schedules(3'000)));
}

TEST_CASE("explorer: a time limit passes, and the disk is taken away", "[.explorer][explorer-disk]") {
    DiskScene s{3, {.depth = 1}};
    s.thread(0, [&s] {
        const Status status = read_page(*s.disk, 8);
        sim::expect(status || is(status, Error::gone), "it succeeds, or the disk is gone");
    });
    s.thread(1, [&s] { s.disk->take_away(); });
    s.thread(2, [&s] { time_passes(*s.disk, 1); });
    s.explore(sim::random(schedules(4'000)));
}

TEST_CASE("explorer: two CPUs prepare and remove disks, each bounce frame counts", "[.explorer][explorer-disk]") {
    Scene s{2, 2, 0};
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [&s, cpu] {
            BlockDevice& disk = litmus::quiet[cpu];
            const Status status = disk.prepare("quiet", {.sectors = 8, .parts = 1, .reach = kShortReach});
            sim::expect(static_cast<bool>(status), "there is memory");
            s.done.fetch_add(1);
            while (s.done.load() < 2)
                hal::cpu_relax();
            sim::expect(bounce_frames() <= 2 * BlockDevice::kBounceFrames, "none is counted twice");
            disk.finish();
        });
    s.explored.check = [] { sim::expect(bounce_frames() == 0, "none is left"); };
    s.explore(sim::reduced(schedules(3'000), 1));
}

TEST_CASE("explorer: two CPUs compete for the last bounce frame", "[.explorer][explorer-disk]") {
    DiskScene s{2, {.depth = 4}};
    // Two requests that never end hold 63 frames.
    s.disk->hang(2);
    for (u32 i = 0; i < 2; ++i) {
        s.make_request(i, BlockOp::write, 1000 * i, [](BlockRequest&) { ++told; });
        for (u32 part = 0; part < 32 - i; ++part)
            REQUIRE(request_at(i).add(s.page[0], 0, kSectorBytes));
        s.disk->submit(request_at(i));
    }
    s.disk->work();
    s.hung = 2;
    s.hung_frames = 63;
    s.thread(0, [&s] { sim::expect(static_cast<bool>(read_page(*s.disk, 8)), "it succeeds"); });
    s.thread(1, [&s] { sim::expect(static_cast<bool>(write_page(*s.disk, 16, s.page[1])), "it succeeds"); });
    s.explored.check = [&s] { sim::expect(told == 0 && s.disk->counts().forgotten == 0, "the others go on"); };
    s.explore(sim::reduced(schedules(3'000), 3));
    s.explore(sim::random(schedules(3'000)));
    s.explored.check = {};
    s.disk->take_away();
    CHECK(told == 2);
}
