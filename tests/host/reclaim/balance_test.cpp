// The work of the reclaim thread: marks, zones, and the rate of the two hands. Its sleep is in the explorer's tests.
#include "mm/cache/swap_area.hpp"
#include "mm/reclaim/balance.hpp"
#include "mm/reclaim/reclaim.hpp"
#include "tests/host/cache/test_file.hpp"
#include "tests/host/disk_tools.hpp"

#include <vector>

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kFrames = 64 * MiB / kPageSize; // of small()

// A machine with a swap area; it has no users left at its end.
struct SwapMachine {
    explicit SwapMachine(u32 pages) : disk{swap_disk(pages)} {
        REQUIRE(disk.ready());
        warm_up();
        area = *SwapArea::open(disk);
    }
    ~SwapMachine() {
        CHECK(area->is_empty());
        area->remove();
        while (*write_back_one()) { // the list of dirty objects may have it still
        }
    }
    u32 out() const { return area->slots() - area->free_slots(); }

    Booted kernel;
    sim::SimDisk disk;
    SwapArea* area = nullptr;
};

// Programs that run one after the other; each has its pages from kBase on, with their numbers in the first words.
struct Load {
    explicit Load(u32 first) : first_{first} { map_pages(*space, kBase, kFrames); }
    bool store(u32 page) {
        run_in(space.get());
        try {
            user_store(at(page), first_ + page);
        } catch (const Killed&) {
            return false;
        }
        return true;
    }
    void check(u32 pages) {
        run_in(space.get());
        for (u32 page = 0; page < pages; ++page)
            REQUIRE(user_load(at(page)) == first_ + page);
        run_in(nullptr);
    }
    Owned space;

  private:
    u32 first_;
};

u32 missing_in(ZoneId zone) {
    ZoneSet zones = ZoneSet{}.with(zone);
    return missing_to_high(zones);
}
bool programs_lack_frames() {
    ZoneSet zones = ZoneSet::every();
    return missing_to_high(zones) != 0;
}
u32 in_lists(ZoneId zone) { return zone_info(zone).free; } // with those in the CPUs' lists
u32 lowmem_free() { return in_lists(ZoneId::dma) + in_lists(ZoneId::normal); }

// What the reclaim thread does.
void work() {
    if (const ZoneSet low = zones_below_low(); !low.empty()) static_cast<void>(balance_zones(low));
}

} // namespace

TEST_CASE("balance: the marks of each zone", "[balance]") {
    Booted kernel;
    for (const ZoneId zone : {ZoneId::dma, ZoneId::normal, ZoneId::high}) {
        const ZoneInfo info = zone_info(zone);
        const u32 step = info.managed / 128;
        CHECK(info.marks.low == info.marks.min + step);
        CHECK(info.marks.high == info.marks.low + step);
        const bool first = zone == (kHigh ? ZoneId::high : ZoneId::normal);
        if (first && kHigh) CHECK(info.marks.min == info.managed / 64);
        // What programs leave: they stop at the high mark of a zone that is not theirs first.
        if (!first) CHECK(info.marks.high + 1 >= info.user_reserve + info.managed / 64);
        if (!first) CHECK(info.marks.high <= info.user_reserve + info.managed / 64);
    }
    CHECK(zones_below_low().empty());
    CHECK_FALSE(memory_is_low());
}

TEST_CASE("balance: programs get frames up to the high mark", "[balance]") {
    SwapMachine machine{2 * kFrames};
    {
        Load load{1};
        u32 page = 0;
        while (zones_below_low() != ZoneSet::every()) {
            REQUIRE(load.store(page++));
        }
        CHECK(machine.out() == 0);
        CHECK(balance_zones(zones_below_low()));
        CHECK_FALSE(programs_lack_frames());
        const Watermarks marks = zone_info(kHigh ? ZoneId::high : ZoneId::normal).marks;
        CHECK(machine.out() >= marks.high - marks.low);
        CHECK(machine.out() <= 2 * (marks.high - marks.min) + 256); // the CPUs' lists have some frames
        load.check(page);
        run_in(nullptr);
    }
}

// Two programs: the pages of the first one fill high memory, those of the second one what lowmem gives to programs.
TEST_CASE("balance: lowmem is short while high memory is free, and the reverse, under the same load", "[balance]") {
    ONLY_WITH(kHigh);
    for (const bool lowmem : {true, false}) {
        SwapMachine machine{2 * kFrames};
        TestFile file{1024 * kPageSize, true};
        std::vector<Page*> taken;
        {
            Load high{1}, low{0x100'0000};
            for (u32 page = 0; page < 1024; ++page)
                put_page(*file.page(page));             // in high memory
            CHECK(reclaim(1, Reclaimer::program) >= 1); // no page is read after this call
            const u32 kept = in_lists(ZoneId::high) / 2;
            u32 in_high = 0, in_low = 0;
            while (in_lists(ZoneId::high) > 8 && high.store(in_high))
                ++in_high;
            const u32 most = lowmem ? ~0u : 1000;
            while (in_low < most && zones_below_low() != ZoneSet::every() && low.store(in_low))
                ++in_low;
            CHECK(in_low >= 1000);
            if (lowmem) {
                // Now half of high memory is free, and the kernel takes lowmem.
                REQUIRE(high.space->unmap(at(kept), (in_high - kept) * kPageSize));
                in_high = kept;
                while (!zones_below_low().has(ZoneId::normal))
                    taken.push_back(alloc_page(Gfp::kernel));
            }
            const ZoneSet zones = zones_below_low();
            CHECK(zones.has(ZoneId::high) == !lowmem);
            CHECK(zones.has(ZoneId::normal) == lowmem);
            const u32 cached = page_cache_stats().pages, low_free = lowmem_free();
            const u32 of_high = high.space->stats().resident, of_low = low.space->stats().resident;
            REQUIRE(balance_zones(zones));
            CHECK(zones_below_low().empty());
            CHECK(high.space->stats().resident == of_high);
            if (lowmem) {
                CHECK(missing_in(ZoneId::normal) == 0);
                CHECK(lowmem_free() > low_free);
                CHECK(low.space->stats().resident < of_low);
                CHECK(page_cache_stats().pages == cached);
            } else {
                CHECK(missing_in(ZoneId::high) == 0);
                CHECK(machine.out() == 0);
                CHECK(page_cache_stats().pages < cached);
                CHECK(lowmem_free() + 64 >= low_free);
            }
            high.check(in_high);
            low.check(in_low);
        }
        for (Page* const page : taken)
            free_page(page);
    }
}

TEST_CASE("balance: when nothing can be freed, it says so", "[balance]") {
    for (const bool swap : {false, true}) {
        std::optional<SwapMachine> machine;
        std::optional<Booted> kernel;
        if (swap)
            machine.emplace(65);
        else
            kernel.emplace();
        warm_up();
        {
            Load load{1};
            u32 page = 0;
            while (load.store(page))
                ++page;
            const BalanceStats before = balance_stats();
            CHECK_FALSE(zones_below_low().empty());
            CHECK_FALSE(balance_zones(zones_below_low()));
            CHECK(balance_stats().vain - before.vain == 1);
            CHECK(balance_stats().freed - before.freed <= 64);
            run_in(nullptr);
        }
    }
    CHECK(pause_ms(0, 0) == 100);
    CHECK(pause_ms(0, 1000) == 3'200);
    CHECK(pause_ms(1'000'000, 0) >= 9'000); // a tenth of a CPU
}

// Figures: docs/disks.md, "Reclaim".
TEST_CASE("balance: a file that is read again and again, beside idle private pages", "[balance]") {
    SwapMachine machine{2 * kFrames};
    constexpr u32 kIdle = kFrames * 3 / 8, kHot = kFrames * 5 / 16, kRounds = 12; // high memory is half of all
    {
        Load idle{1};
        for (u32 page = 0; page < kIdle; ++page)
            REQUIRE(idle.store(page));
        TestFile file{u64{kHot} * kPageSize, true};
        for (u32 round = 0; round < kRounds; ++round)
            for (u32 page = 0; page < kHot; ++page) {
                put_page(*file.page(page));
                work();
            }
        INFO(file.filled << " of " << kHot * kRounds << " pages read, " << machine.out() << " out");
        CHECK(file.filled <= 4 * kHot);
        idle.check(kIdle);
    }
}

TEST_CASE("balance: a file that is read once, beside private pages that are used", "[balance][long]") {
    SwapMachine machine{2 * kFrames};
    constexpr u32 kHot = kFrames / 4, kStream = 4 * kFrames, kStep = kFrames / 16;
    {
        Load hot{1};
        for (u32 page = 0; page < kHot; ++page)
            REQUIRE(hot.store(page));
        TestFile file{u64{kStream} * kPageSize, true};
        const u32 in = swap_stats().in;
        for (u32 page = 0; page < kStream; ++page) {
            put_page(*file.page(page));
            work();
            if (page % kStep != 0) continue;
            hal::flush_all(); // so that the A bits are set again
            for (u32 i = 0; i < kHot; ++i)
                REQUIRE(user_load(at(i)) == 1 + i);
        }
        INFO(swap_stats().in - in << " private pages read again");
        CHECK(swap_stats().in - in <= kHot);
        run_in(nullptr);
    }
}
