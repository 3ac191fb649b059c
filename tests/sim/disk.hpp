// A simulated disk: a device that moves sectors by itself, and its driver.
//
//     sim::SimDisk disk{{.sectors = 1000, .reach = Pfn{4096}}};
//     REQUIRE(disk.ready());               // prepare(), with the limits of the options
//     request.run(disk)                    // in a test with one thread the disk works while the thread waits
//     disk.step(), disk.work()             // or one step, or until it has nothing to do
//     sim::ScopedHook hook{[&](sim::Point) { if (disk.can_step()) disk.step(); }};    // or between any two operations
//
// A step moves some sectors of one transfer, directly from or to memory, or ends a transfer: then the disk interrupts
// its CPU. In an exploration a step is a step of the schedule. Errors that end a test: a frame of a transfer is freed
// before the end of the request was told; a transfer from or to a frame that is free, or out of reach; start() and
// forget() at the same time, or with the wrong interrupt flag; more requests than the limits allow.
//
// Durability: what the disk has when its power is cut is what it had at the start of the last flush that has ended, of
// writes whose end the driver had been told before; and of every other write any part, by sectors (after_power_cut).
#pragma once

#include "mm/cache/block.hpp"
#include "tests/sim/device.hpp"

#include <array>
#include <memory>
#include <unordered_map>
#include <vector>

namespace loft::sim {

using Sector = std::array<u8, kSectorBytes>;

// The contents of a disk: sparse. A sector that was never written has contents that depend on its number.
class DiskImage {
  public:
    Sector at(u64 sector) const;
    void write(u64 sector, const Sector& data) { sectors_[sector] = data; }

  private:
    std::unordered_map<u64, Sector> sectors_;
};

struct DiskOptions {
    const char* name = "sim";
    u64 sectors = 1u << 16;
    u32 parts = BlockRequest::kMaxParts;
    u32 depth = 4;
    Pfn reach{kMaxPfn};
    u32 room = ~0u;         // requests that it takes at a time: with fewer than `depth`, start() refuses some
    u32 step = 8;           // sectors that a step moves at most; they are in one part
    bool any_order = false; // a step works on any of the transfers; else on the oldest one
    bool at_once = false;   // start() does the whole transfer, and tells its end before it returns
    CpuId interrupts{};     // the CPU that the disk interrupts
    u64 seed = 1;           // for any_order, outside an exploration
    DiskImage image{};
};

class SimDisk final : public BlockDevice, public Device {
  public:
    explicit SimDisk(DiskOptions options = {});
    ~SimDisk() override; // gives the bounce frames back

    [[nodiscard]] Status ready(); // prepare(), with the limits of the options

    // --- what goes wrong
    void fail(u64 sector); // every transfer of this sector ends with an error, after those before it were moved
    void repair(u64 sector);
    void fail_flush();       // the next flush ends with an error, and nothing that is not durable comes to be
    void hang(u32 requests); // the next ones, and flushes, never end; they use their frames until forget()
    void unplug();           // no transfer ends any more, and no interrupt comes
    void tell_again();       // the last end that was told is told once more

    // --- its work
    bool can_step() const override;
    void step() override;
    void work(); // until can_step() is false

    // --- what it has
    const DiskImage& image() const; // with what is in its write cache
    // The contents after its power was cut now. Seed 0: nothing that need not be there. Seed 1: everything that was
    // moved. Others: of each write that is not durable nothing, everything, or some of its sectors.
    DiskImage after_power_cut(u64 seed) const;
    u32 unsure() const; // moved sectors that are not durable

    struct Counts {
        u32 starts = 0, refused = 0, forgotten = 0, interrupts = 0;
        u32 most = 0;               // transfers at a time
        std::vector<u64> sectors{}; // of each start, the first one
    };
    const Counts& counts() const;

    // For explorations: every schedule begins with the state at the call of keep(). The object itself, without what it
    // has on the host's heap, is restored by the explorer if it is static (tests/host/explorer/disk_test.cpp).
    void keep();
    void rewind();

    void interrupt() override;
    std::string use_of(u32 pfn) const override;

  private:
    struct Hardware;

    bool start(BlockRequest& request) override;
    void forget() override;
    void enter(const char* what); // start() or forget() begins
    void leave();
    void move(u32 index);
    void deliver();
    u32 pick();

    std::unique_ptr<Hardware> hardware_, kept_;
};

} // namespace loft::sim
