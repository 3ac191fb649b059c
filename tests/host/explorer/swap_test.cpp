// Swap under every schedule: pages that go out against programs that store to them, pins, unmap, the end of an area,
// and other CPUs that swap the same pages out and in. Nobody sees anything but what was stored last, a page has one
// slot, and in the end no slot has a user. A case has as few pages and slots as show that, so that it is complete
// within one preemption.
#include "mm/cache/swap_area.hpp"
#include "mm/reclaim/balance.hpp"
#include "mm/reclaim/last_resort.hpp"
#include "mm/spaces/user_copy.hpp"
#include "mm/windows/highmem.hpp"
#include "tests/host/disk_tools.hpp"
#include "tests/host/explorer/rig.hpp"
#include "tests/host/spaces/program.hpp"

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

// An area with so many slots, and pages of programs that are not out yet.
struct SwapWorld {
    explicit SwapWorld(u32 cpus, u32 slots = 4) : s{cpus, 2, 0} {
        sim::DiskOptions options = swap_disk(1 + slots);
        options.at_once = true;
        disk = new (loft::litmus::swap_disk_memory) sim::SimDisk{options};
        REQUIRE(disk->ready());
        warm_up();
        area = *SwapArea::open(*disk);
    }
    ~SwapWorld() { disk->~SimDisk(); }

    // A space with private pages, whose first words are 1, 2 and so on. No entry has its A bit: the next call of
    // swap_out takes them.
    static AddressSpace* new_space(u32 pages) {
        AddressSpace* const space = space_with_pages(pages);
        take_a_bits(*space);
        REQUIRE(space->stats().swapped == 0);
        return space;
    }
    static void take_a_bits(AddressSpace& space) {
        bool passed = false;
        HandLimit none;
        sim::expect(space.swap_out(1, passed, none) == 0, "the hand takes the A bits only");
    }
    // The child. Neither space has A bits.
    static AddressSpace* fork_of(AddressSpace& space) {
        AddressSpace* const child = *space.fork();
        take_a_bits(space);
        take_a_bits(*child);
        REQUIRE(space.stats().swapped + child->stats().swapped == 0);
        return child;
    }
    static void swap_out(AddressSpace& space, u32 pages) {
        bool passed = false;
        HandLimit none;
        static_cast<void>(space.swap_out(pages, passed, none));
        gone += space.stats().swapped;
    }
    static inline u32 gone = 0; // pages that were out after swap_out, in all schedules
    void write_back() const { sim::expect(static_cast<bool>(area->write_back()), "the disk takes them"); }
    void write_and_drop() const {
        write_back();
        for (u32 pass = 0; pass < 2; ++pass) // the first one takes the marks of pages that were found
            static_cast<void>(area->drop());
    }
    u32 used() const { return area->slots() - area->free_slots(); }
    static u32 word_at(AddressSpace& space, u32 number) {
        u32 word = 0;
        sim::expect(read_space(space, &word, UserAddr{page(number).value()}, sizeof word) == 0, "the page is there");
        return word;
    }
    // At the end of a schedule: all pages have come in.
    void check_nothing_is_out() const {
        sim::expect(used() == 0, "no slot has a user");
        sim::expect(page_cache_stats().pages == 0, "no page is in the cache");
    }
    // The only page of both goes out, once, and comes in.
    void check_one_page_of(AddressSpace& parent, AddressSpace& child) const {
        for (AddressSpace* const space : {&parent, &child}) {
            bool passed = false;
            HandLimit none;
            for (u32 pass = 0; pass < 3; ++pass) // to the end, for the A bit, and for the page
                static_cast<void>(space->swap_out(1, passed, none));
            sim::expect(space->stats().resident == 0, "the page can go out");
        }
        sim::expect(used() == 1, "it has one slot");
        write_and_drop();
        sim::expect(page_cache_stats().pages == 0, "it can leave memory");
        sim::expect(word_at(parent, 0) == 1 && word_at(child, 0) == 1, "and comes back");
        check_nothing_is_out();
    }
    void explore(u32 preemptions = 1) {
        disk->keep();
        gone = 0;
        s.loose_books = true;
        s.explored.table_points = false; // the mutex of a space orders them
        s.explored.reset = [this, next = s.explored.reset] {
            next();
            disk->rewind();
        };
        const sim::Report report = s.explore(sim::reduced(schedules(20'000), preemptions, 1));
        if (kWhole && report.failure.empty()) CHECK(report.complete);
        s.explore(sim::random(schedules(300)));
        disk->rewind();
    }

    Scene s;
    sim::SimDisk* disk = nullptr;
    SwapArea* area = nullptr;
};

// Shared memory whose pages have the first words 1, 2 and so on. No page counts as found, and no entry has its A bit:
// the next sweep takes them.
struct ObjectWorld : SwapWorld {
    explicit ObjectWorld(u32 pages) : SwapWorld{2}, space{AddressSpace::create()}, object{ZeroObject::create(pages)} {
        REQUIRE((space != nullptr && object != nullptr));
        REQUIRE(space->map(page(0), pages * kPageSize, kReadWrite, MapKind::shared, true, true, {object}));
        for (u32 number = 0; number < pages; ++number)
            store(number, number + 1);
        sweep(~0u);
        REQUIRE(used() == 0);
    }
    void sweep(u32 pages) const {
        bool passed = false;
        HandLimit limit{.swaps = pages};
        static_cast<void>(object->sweep(passed, limit));
        gone += used();
    }
    void store(u32 number, u32 word) const {
        sim::expect(write_space(*space, UserAddr{page(number).value()}, &word, sizeof word) == 0, "the page is there");
    }
    void check_is_in(u32 pages) const {
        sim::expect(used() == 0, "no slot has a user");
        sim::expect(page_cache_stats().pages == pages, "pages are in the object only");
    }
    AddressSpace* const space;
    ZeroObject* const object;
};

} // namespace

// The hand takes A bits without a flush, so the CPU of the program may store by an old translation until the flush of
// swap_out. That waits for this CPU, which interrupts may reach late: no preemption is needed.
TEST_CASE("explorer: a program stores to a page that goes out and is written", "[.explorer][explorer-swap]") {
    SwapWorld w{2};
    AddressSpace* const space = SwapWorld::new_space(1);
    w.s.memory.adopt(*space, page(0), 1, kReadWrite);
    w.s.memory.may_be_unmapped(*space, page(0), 1);
    w.s.thread(0, [&w, space] {
        w.s.small_kernel.run_in(0, space);
        static_cast<void>(user_load(page(0)));
        SwapWorld::take_a_bits(*space);
        w.s.done.store(1);
        hal::unpark(ThreadId{2});
        while (w.s.done.load() != 2) // it is not idle: the flush has to ask it
            hal::cpu_relax();
        w.write_back();
        user_store(page(0), 10);
        w.s.small_kernel.run_in(0, nullptr);
    });
    w.s.thread(1, [&w, space] {
        while (w.s.done.load() != 1)
            hal::park();
        w.s.done.store(2);
        SwapWorld::swap_out(*space, 1);
    });
    w.s.explored.check = [&w, space] {
        w.write_and_drop();
        sim::expect(SwapWorld::word_at(*space, 0) == 10, "no store is lost");
        w.check_nothing_is_out();
    };
    w.explore(0);
    CHECK(SwapWorld::gone != 0);
}

TEST_CASE("explorer: the kernel stores to a pinned page that is to go out", "[.explorer][explorer-swap]") {
    SwapWorld w{2};
    AddressSpace* const space = SwapWorld::new_space(1);
    w.s.thread(0, [space] {
        Page* pinned = nullptr;
        const Result<u32> count = get_user_pages(*space, UserAddr{page(0).value()}, 1, true, &pinned);
        sim::expect(static_cast<bool>(count), "it is pinned");
        const u32 word = 10;
        memcpy_to_page(pinned, 0, &word, sizeof word); // as a device would
        put_page(pinned);
    });
    w.s.thread(1, [&w, space] {
        SwapWorld::swap_out(*space, 1);
        w.write_back();
    });
    w.s.explored.check = [&w, space] {
        w.write_and_drop();
        sim::expect(SwapWorld::word_at(*space, 0) == 10, "no store is lost");
        w.check_nothing_is_out();
    };
    w.explore();
    CHECK(SwapWorld::gone != 0);
}

TEST_CASE("explorer: two CPUs swap the same page out", "[.explorer][explorer-swap]") {
    SwapWorld w{2};
    AddressSpace* const parent = SwapWorld::new_space(1);
    AddressSpace* const child = SwapWorld::fork_of(*parent);
    w.s.thread(0, [parent] { SwapWorld::swap_out(*parent, 1); });
    w.s.thread(1, [child] {
        SwapWorld::swap_out(*child, 1);
        sim::expect(SwapWorld::word_at(*child, 0) == 1, "the page is there");
    });
    w.s.explored.check = [&w, parent, child] { w.check_one_page_of(*parent, *child); };
    w.explore();
    CHECK(SwapWorld::gone != 0);
}

TEST_CASE("explorer: two programs bring the same page in", "[.explorer][explorer-swap]") {
    SwapWorld w{2};
    AddressSpace* const parent = SwapWorld::new_space(1);
    AddressSpace* const child = SwapWorld::fork_of(*parent);
    SwapWorld::swap_out(*parent, 1);
    SwapWorld::swap_out(*child, 1);
    REQUIRE(w.used() == 1);
    REQUIRE(page_cache_stats().pages == 1);
    for (u32 cpu = 0; cpu < 2; ++cpu)
        w.s.thread(cpu, [space = cpu == 0 ? parent : child] {
            sim::expect(SwapWorld::word_at(*space, 0) == 1, "the page is there");
        });
    w.s.explored.check = [&w, parent, child] { w.check_one_page_of(*parent, *child); };
    w.explore();
}

// Slot 1 is used, slot 2 is free, and the search begins at slot 1.
TEST_CASE("explorer: a slot becomes free while another page looks for one", "[.explorer][explorer-swap]") {
    SwapWorld w{2, 2};
    AddressSpace* const in = SwapWorld::new_space(1);
    AddressSpace* const out = SwapWorld::new_space(2);
    SwapWorld::swap_out(*in, 1);
    SwapWorld::swap_out(*out, 1);
    REQUIRE(SwapWorld::word_at(*out, 0) == 1);
    REQUIRE(w.used() == 1);
    u32 taken_again = 0; // slot 1, in all schedules
    w.s.thread(0, [in] { sim::expect(SwapWorld::word_at(*in, 0) == 1, "the page is there"); });
    w.s.thread(1, [out] { SwapWorld::swap_out(*out, 1); }); // page 1
    w.s.explored.check = [&] {
        sim::expect(w.used() == 1, "one page is out");
        const Result<Page*> first = w.area->find(1);
        sim::expect(static_cast<bool>(first), "there is slot 1");
        if (*first != nullptr) {
            ++taken_again;
            put_page(*first);
        }
        sim::expect(SwapWorld::word_at(*out, 0) == 1 && SwapWorld::word_at(*out, 1) == 2, "both pages are there");
        w.check_nothing_is_out();
    };
    w.explore();
    CHECK(SwapWorld::gone != 0);
    CHECK(taken_again != 0);
}

TEST_CASE("explorer: unmap while the page comes in from the disk", "[.explorer][explorer-swap]") {
    SwapWorld w{2};
    AddressSpace* const space = SwapWorld::new_space(1);
    SwapWorld::swap_out(*space, 1);
    w.write_and_drop();
    REQUIRE(page_cache_stats().pages == 0);
    u32 came = 0; // in all schedules
    w.s.thread(0, [space] { sim::expect(static_cast<bool>(space->unmap(page(0), kPageSize)), "unmap works"); });
    w.s.thread(1, [space, &came] {
        u32 word = 1;
        came += read_space(*space, &word, UserAddr{page(0).value()}, sizeof word) == 0;
        sim::expect(word == 1, "it has its own contents, if it is there");
    });
    w.s.explored.check = [&w] { w.check_nothing_is_out(); };
    w.explore();
    CHECK(came != 0);
}

// The child, whose pages go out, is visited first.
TEST_CASE("explorer: an area is emptied while pages go out", "[.explorer][explorer-swap]") {
    SwapWorld w{2};
    AddressSpace* const parent = SwapWorld::new_space(1);
    AddressSpace* const child = *parent->fork();
    map_pages(*child, page(1).value(), 1);
    const u32 word = 2;
    REQUIRE(write_space(*child, UserAddr{page(1).value()}, &word, sizeof word) == 0);
    SwapWorld::take_a_bits(*parent);
    SwapWorld::take_a_bits(*child);
    SwapWorld::swap_out(*parent, 1);
    REQUIRE(parent->stats().swapped == 1);
    REQUIRE(child->stats().swapped == 0);
    all_spaces().passed(*parent);
    w.s.thread(0, [&w] { sim::expect(static_cast<bool>(empty_swap_area(*w.area)), "all pages can be read"); });
    w.s.thread(1, [child] { SwapWorld::swap_out(*child, 2); });
    w.s.explored.check = [&w, parent, child] {
        w.check_nothing_is_out();
        sim::expect(SwapWorld::word_at(*parent, 0) == 1 && SwapWorld::word_at(*child, 0) == 1, "the pages are there");
        sim::expect(SwapWorld::word_at(*child, 1) == 2, "and that of the child alone");
    };
    w.explore();
    CHECK(SwapWorld::gone != 0);
}

// swapoff: a thread that has seen that the area is open may not have its slot yet.
TEST_CASE("explorer: an area goes while a page looks for a slot", "[.explorer][explorer-swap]") {
    SwapWorld w{2};
    AddressSpace* const space = SwapWorld::new_space(1);
    u32 went = 0; // in all schedules
    bool removed = false;
    w.s.thread(0, [&w, &removed, &went] {
        removed = false;
        w.area->set_closed(true);
        if (!w.area->is_empty()) return;
        w.area->remove();
        removed = true;
        ++went;
    });
    w.s.thread(1, [space] { SwapWorld::swap_out(*space, 1); });
    w.s.explored.check = [&removed, space] {
        sim::expect(!removed || space->stats().swapped == 0, "no page is in an area that has gone");
        sim::expect(SwapWorld::word_at(*space, 0) == 1, "the page is there");
    };
    w.explore();
    CHECK(went != 0);
    CHECK(SwapWorld::gone != 0);
}

// Whoever has the disk next must not find old pages written over its own.
TEST_CASE("explorer: nothing is written to a disk that was a swap area", "[.explorer][explorer-swap]") {
    SwapWorld w{2};
    AddressSpace* const space = SwapWorld::new_space(1);
    SwapWorld::swap_out(*space, 1);
    REQUIRE(space->stats().swapped == 1);
    u32 starts = 0, stored = 0;
    w.s.thread(0, [&stored] { stored += try_write_back_one().value_or(false); });
    w.s.thread(1, [&w, &starts] {
        sim::expect(static_cast<bool>(empty_swap_area(*w.area)) && w.area->is_empty(), "all pages can be read");
        w.area->remove();
        starts = w.disk->counts().starts;
    });
    w.s.explored.check = [&w, &starts, space] {
        sim::expect(w.disk->counts().starts == starts, "the disk is left alone");
        sim::expect(SwapWorld::word_at(*space, 0) == 1, "the page is there");
    };
    w.explore(0);
    CHECK(stored != 0);
}

// As for a private page: the entry is taken before the flush, and the page may be found in the cache after it.
TEST_CASE("explorer: a program stores to a page of an object that goes out", "[.explorer][explorer-swap]") {
    ObjectWorld w{1};
    w.s.memory.adopt(*w.space, page(0), 1, kReadWrite);
    w.s.memory.may_be_unmapped(*w.space, page(0), 1);
    w.s.thread(0, [&w] {
        w.s.small_kernel.run_in(0, w.space);
        static_cast<void>(user_load(page(0)));
        w.sweep(1); // takes the A bit
        w.s.done.store(1);
        hal::unpark(ThreadId{2});
        while (w.s.done.load() != 2) // it is not idle: the flush has to ask it
            hal::cpu_relax();
        w.write_back();
        user_store(page(0), 10);
        w.s.small_kernel.run_in(0, nullptr);
    });
    w.s.thread(1, [&w] {
        while (w.s.done.load() != 1)
            hal::park();
        w.s.done.store(2);
        w.sweep(1);
    });
    w.s.explored.check = [&w] {
        w.write_and_drop();
        sim::expect(SwapWorld::word_at(*w.space, 0) == 10, "no store is lost");
        w.check_is_in(1);
    };
    w.explore(0);
    CHECK(SwapWorld::gone != 0);
}

TEST_CASE("explorer: a page of an object goes out while others use the object", "[.explorer][explorer-swap]") {
    ObjectWorld w{2};
    u32 preemptions = 1;
    w.s.thread(0, [&w] {
        w.sweep(2);
        w.write_back();
    });
    SECTION("a fault") {
        w.s.thread(1, [&w] { w.store(0, 10); });
        w.s.explored.check = [&w] {
            w.write_and_drop();
            sim::expect(SwapWorld::word_at(*w.space, 0) == 10, "no store is lost");
            sim::expect(SwapWorld::word_at(*w.space, 1) == 2, "and the other page is there");
            w.check_is_in(2);
        };
    }
    SECTION("a smaller size") {
        w.s.thread(1, [&w] { sim::expect(static_cast<bool>(w.object->resize(kPageSize)), "it is shorter"); });
        w.s.explored.check = [&w] {
            w.write_and_drop();
            sim::expect(w.object->pages() == 1, "it has one page");
            sim::expect(SwapWorld::word_at(*w.space, 0) == 1, "which is there");
            w.check_is_in(1);
        };
    }
    SECTION("the end of the area") {
        preemptions = 0; // the walks over all spaces and objects have many steps
        w.s.thread(1, [&w] { sim::expect(static_cast<bool>(empty_swap_area(*w.area)), "all pages can be read"); });
        w.s.explored.check = [&w] {
            // A slot that was taken before the area was closed is given back by the next look, as swapoff does.
            sim::expect(static_cast<bool>(empty_swap_area(*w.area)) && w.area->is_empty(), "the area is empty");
            w.area->set_closed(false);
            sim::expect(SwapWorld::word_at(*w.space, 0) == 1 && SwapWorld::word_at(*w.space, 1) == 2, "all is there");
            w.check_is_in(2);
        };
    }
    w.explore(preemptions);
    CHECK(SwapWorld::gone != 0);
}

TEST_CASE("explorer: a page of an object comes in while others use the object", "[.explorer][explorer-swap]") {
    ObjectWorld w{1};
    w.sweep(1);
    REQUIRE(w.used() == 1);
    w.write_and_drop();
    u32 preemptions = 1;
    u32 came = 0; // in all schedules
    w.s.thread(0, [&w, &came] {
        u32 word = 1;
        came += read_space(*w.space, &word, UserAddr{page(0).value()}, sizeof word) == 0;
        sim::expect(word == 1, "it has its own contents, if it is there");
    });
    SECTION("another fault") {
        w.s.thread(1, [&w] { sim::expect(SwapWorld::word_at(*w.space, 0) == 1, "the page is there"); });
        w.s.explored.check = [&w] { w.check_is_in(1); };
    }
    SECTION("a smaller size") {
        w.s.thread(1, [&w] { sim::expect(static_cast<bool>(w.object->resize(0)), "it is empty"); });
        w.s.explored.check = [&w] { w.check_is_in(0); };
    }
    SECTION("the end of the area") {
        preemptions = 0; // the walks over all spaces and objects have many steps
        w.s.thread(1, [&w] { sim::expect(static_cast<bool>(empty_swap_area(*w.area)), "the page can be read"); });
        w.s.explored.check = [&w] { w.check_is_in(1); };
    }
    w.explore(preemptions);
    CHECK(came != 0);
}

TEST_CASE("explorer: the largest program is found while a clock turns the ring of spaces",
          "[.explorer][explorer-swap]") {
    Scene s{2, 2, 0};
    warm_up();
    AddressSpace* const small = space_with_pages(1);
    AddressSpace* const large = space_with_pages(2);
    for (AddressSpace* const space : {small, large})
        space->set_use(SpaceUse::program);
    AddressSpace* ended = nullptr;
    const OnProgramEnd hook{[&](AddressSpace& space, const SpaceStats&) {
        ended = &space;
        return ProgramEnd::other;
    }};
    s.thread(0, [] { sim::expect(end_largest_program(spaces_cleared()), "a program is ended"); });
    s.thread(1, [] {
        AddressSpace* const first = all_spaces().first();
        all_spaces().passed(*first);
        first->put();
    });
    s.explored.check = [&] { sim::expect(ended == large && ended != small, "it is the largest one"); };
    s.loose_books = true;
    const sim::Report report = s.explore(sim::reduced(schedules(20'000), 1, 1));
    if (kWhole && report.failure.empty()) CHECK(report.complete);
}

// The allocation takes frames and then looks whether the thread sleeps; the thread says so and then looks at the zones.
TEST_CASE("explorer: a zone becomes low while the reclaim thread falls asleep", "[.explorer][explorer-swap]") {
    Scene s{2, 2, 0};
    warm_up();
    std::vector<Page*> taken;
    while (zones_below_low().empty())
        taken.push_back(alloc_page(Gfp::user));
    while (!zones_below_low().empty()) {
        free_page(taken.back());
        taken.pop_back();
        drain_local_pages();
    }
    u32 slept = 0; // in all schedules
    s.thread(0, [&] {
        sim::expect(!wait_for_low_zones().empty(), "a zone is low");
        slept += s.done.load() != 0;
    });
    s.thread(1, [&s] {
        sim::expect(alloc_page(Gfp::user) != nullptr, "there are frames above the reserve");
        s.done.store(1);
    });
    s.loose_books = true;
    const sim::Report report = s.explore(sim::reduced(schedules(20'000)));
    if (kWhole && report.failure.empty()) CHECK(report.complete);
    s.explore(sim::random(schedules(1'000)));
    CHECK(slept != 0);
    free_all(taken);
}
