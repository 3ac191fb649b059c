// Swap under every schedule: pages that go out against programs that use them, fork, unmap, pins, and other CPUs that
// swap the same pages out. Nobody sees anything but what was stored last, and in the end no slot has a user.
#include "mm/cache/swap_area.hpp"
#include "mm/spaces/user_copy.hpp"
#include "mm/windows/highmem.hpp"
#include "tests/host/disk_tools.hpp"
#include "tests/host/explorer/rig.hpp"
#include "tests/host/spaces/program.hpp"

#include <array>
#include <new>

using namespace loft;
using namespace loft::test;

// As for mm's own static objects, a schedule begins with its first value.
namespace loft::litmus {
namespace {

alignas(sim::SimDisk) u8 swap_disk_memory[sizeof(sim::SimDisk)];

} // namespace
} // namespace loft::litmus

namespace {

constexpr u32 kSwapPages = 2;

sim::DiskOptions immediate_disk() {
    sim::DiskOptions options = swap_disk(16);
    options.at_once = true;
    return options;
}

// A space with two private pages, whose first words are 1 and 2. No entry has its A bit: the next call swaps them out.
struct SwapWorld {
    explicit SwapWorld(u32 cpus) : s{cpus, 2, 0} {
        disk = new (loft::litmus::swap_disk_memory) sim::SimDisk{immediate_disk()};
        REQUIRE(disk->ready());
        warm_up();
        area = *SwapArea::open(*disk);
        space = AddressSpace::create();
        REQUIRE(space != nullptr);
        map_pages(*space, kBase, kSwapPages);
        run_in(space);
        for (u32 i = 0; i < kSwapPages; ++i)
            user_store(page(i), i + 1);
        run_in(nullptr);
        REQUIRE(space->protect(page(0), kSwapPages * kPageSize, kRead)); // no CPU has the root any more
        REQUIRE(space->protect(page(0), kSwapPages * kPageSize, kReadWrite));
        age(*space);
        REQUIRE(used() == 0);
    }
    ~SwapWorld() { disk->~SimDisk(); }

    // Takes the A bits.
    static void age(AddressSpace& space) {
        bool passed = false;
        REQUIRE(space.swap_out(1, passed) == 0);
    }
    void adopt() {
        s.memory.adopt(*space, page(0), kSwapPages, kReadWrite);
        s.memory.may_be_unmapped(*space, page(0), kSwapPages);
    }
    void program(u32 cpu, std::function<void()> body) {
        s.thread(cpu, [this, me = static_cast<u32>(s.explored.threads.size()), body = std::move(body)] {
            s.small_kernel.run_in(me, space);
            body();
            s.small_kernel.run_in(me, nullptr);
        });
    }
    static void swap_out(AddressSpace& space) {
        bool passed = false;
        gone += space.swap_out(kSwapPages, passed);
    }
    static inline u32 gone = 0; // pages that were swapped out, in all schedules
    // Until they are only on the disk, if nobody uses them.
    static void swap_out_and_drop(AddressSpace& space) {
        swap_out(space);
        sim::expect(static_cast<bool>(write_back_all()), "the disk takes them");
        static_cast<void>(drop_pages(kSwapPages));
    }
    u32 used() const { return area->slots() - area->free_slots(); }
    static u32 word_at(AddressSpace& space, u32 number) {
        u32 word = 0;
        sim::expect(read_space(space, &word, UserAddr{page(number).value()}, sizeof word) == 0, "the page is there");
        return word;
    }
    // At the end of a schedule. All pages come in, and then no slot has a user, and no page is in the cache.
    void check_end(std::array<u32, kSwapPages> words) {
        for (u32 i = 0; i < kSwapPages; ++i)
            sim::expect(word_at(*space, i) == words[i], "it has what was stored last");
        sim::expect(used() == 0, "no slot has a user");
        sim::expect(page_cache_stats().pages == 0, "no page is in the cache");
    }
    void explore(u64 systematic, u64 by_chance) {
        disk->keep();
        s.loose_books = true;
        s.explored.reset = [this, next = s.explored.reset] {
            next();
            disk->rewind();
        };
        gone = 0;
        s.explore(sim::reduced(schedules(systematic), 1, 1));
        CHECK((gone != 0) == goes_out);
        s.explore(sim::random(schedules(by_chance)));
        disk->rewind();
    }

    Scene s;
    sim::SimDisk* disk = nullptr;
    SwapArea* area = nullptr;
    AddressSpace* space = nullptr;
    bool goes_out = true; // pages do, in some schedule
};

} // namespace

TEST_CASE("explorer: a program uses pages while they are swapped out", "[.explorer][explorer-swap]") {
    SwapWorld w{2};
    w.adopt();
    w.program(0, [] {
        user_store(page(0), 10);
        static_cast<void>(user_load(page(1)));
        user_store(page(0), 11);
    });
    w.s.thread(1, [&w] { SwapWorld::swap_out_and_drop(*w.space); });
    w.s.explored.check = [&w] { w.check_end({11, 2}); };
    w.explore(3'000, 1'000);
}

TEST_CASE("explorer: two threads of a program fault at the same swapped page", "[.explorer][explorer-swap]") {
    SwapWorld w{3};
    w.adopt();
    SwapWorld::swap_out_and_drop(*w.space);
    REQUIRE(w.used() == kSwapPages);
    REQUIRE(page_cache_stats().pages == 0);
    w.program(0, [] { user_store(page(0), 10); });
    w.program(1, [] { static_cast<void>(user_load(page(0))); });
    w.s.thread(2, [&w] { SwapWorld::swap_out(*w.space); });
    w.goes_out = false; // the hand takes the A bits only
    w.s.explored.check = [&w] { w.check_end({10, 2}); };
    w.explore(3'000, 1'000);
}

TEST_CASE("explorer: fork while pages are swapped out, or come in", "[.explorer][explorer-swap]") {
    SwapWorld w{2};
    const bool comes_in = GENERATE(false, true);
    if (comes_in) SwapWorld::swap_out_and_drop(*w.space);
    w.goes_out = !comes_in;
    w.s.thread(0, [&w] {
        const Result<AddressSpace*> child = w.space->fork();
        sim::expect(static_cast<bool>(child), "there is memory");
        const u32 word = 30;
        sim::expect(write_space(**child, UserAddr{page(1).value()}, &word, sizeof word) == 0, "the child has the page");
        sim::expect(SwapWorld::word_at(**child, 0) == 1, "and the other one");
        (*child)->put();
    });
    w.s.thread(1, [&w, comes_in] {
        if (!comes_in) return SwapWorld::swap_out_and_drop(*w.space);
        const u32 word = 20;
        sim::expect(write_space(*w.space, UserAddr{page(1).value()}, &word, sizeof word) == 0, "the page is there");
    });
    w.s.explored.check = [&w, comes_in] { w.check_end({1, comes_in ? 20u : 2u}); };
    w.explore(3'000, 1'000);
}

TEST_CASE("explorer: unmap while pages are swapped out, or come in", "[.explorer][explorer-swap]") {
    SwapWorld w{2};
    const bool comes_in = GENERATE(false, true);
    if (comes_in) SwapWorld::swap_out_and_drop(*w.space);
    w.goes_out = !comes_in;
    w.s.thread(0, [&w] { sim::expect(static_cast<bool>(w.space->unmap(page(0), kPageSize)), "unmap works"); });
    w.s.thread(1, [&w, comes_in] {
        if (!comes_in) return SwapWorld::swap_out_and_drop(*w.space);
        u32 word = 1;
        static_cast<void>(read_space(*w.space, &word, UserAddr{page(0).value()}, sizeof word));
        sim::expect(word == 1, "it has its own contents, if it is there");
    });
    w.s.explored.check = [&w] {
        sim::expect(SwapWorld::word_at(*w.space, 1) == 2, "the other page is there");
        sim::expect(w.space->stats().resident == 1 && w.space->stats().swapped == 0, "and nothing else");
        sim::expect(w.used() == 0 && page_cache_stats().pages == 0, "no slot has a user");
    };
    w.explore(3'000, 1'000);
}

TEST_CASE("explorer: a page is pinned while it is swapped out", "[.explorer][explorer-swap]") {
    SwapWorld w{2};
    w.s.thread(0, [&w] {
        Page* pinned = nullptr;
        const Result<u32> count = get_user_pages(*w.space, UserAddr{page(0).value()}, 1, true, &pinned);
        sim::expect(static_cast<bool>(count), "it is pinned");
        for (u32 word = 10; word < 12; ++word) { // as a device would
            memcpy_to_page(pinned, 0, &word, sizeof word);
            sim::expect(SwapWorld::word_at(*w.space, 0) == word, "the program sees what is stored to the pinned page");
        }
        put_page(pinned);
    });
    w.s.thread(1, [&w] { SwapWorld::swap_out_and_drop(*w.space); });
    w.s.explored.check = [&w] { w.check_end({11, 2}); };
    w.explore(3'000, 1'000);
}

TEST_CASE("explorer: two CPUs swap the pages of parent and child out", "[.explorer][explorer-swap]") {
    SwapWorld w{2};
    AddressSpace* const child = *w.space->fork();
    SwapWorld::age(*w.space);
    SwapWorld::age(*child);
    w.s.thread(0, [&w] { SwapWorld::swap_out_and_drop(*w.space); });
    w.s.thread(1, [child] {
        SwapWorld::swap_out(*child);
        const u32 word = 30;
        sim::expect(write_space(*child, UserAddr{page(0).value()}, &word, sizeof word) == 0, "the page is there");
    });
    w.s.explored.check = [&w, child] {
        sim::expect(SwapWorld::word_at(*child, 0) == 30, "the child has its own page");
        sim::expect(SwapWorld::word_at(*child, 1) == 2, "and that of its parent");
        w.check_end({1, 2});
    };
    w.explore(3'000, 1'000);
}

TEST_CASE("explorer: an area is emptied while pages go out and come in", "[.explorer][explorer-swap]") {
    SwapWorld w{2};
    SwapWorld::swap_out_and_drop(*w.space);
    w.s.thread(0, [&w] { sim::expect(static_cast<bool>(empty_swap_area(*w.area)), "all pages can be read"); });
    w.s.thread(1, [&w] {
        sim::expect(SwapWorld::word_at(*w.space, 1) == 2, "the page is there");
        SwapWorld::swap_out(*w.space);
        SwapWorld::swap_out(*w.space);
    });
    w.goes_out = false; // the area is closed
    w.s.explored.check = [&w] { w.check_end({1, 2}); };
    w.explore(3'000, 1'000);
}
