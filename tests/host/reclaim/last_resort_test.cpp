// The last resort: which program is ended when memory has run out, and what becomes of the others.
#include "mm/reclaim/last_resort.hpp"
#include "mm/spaces/user_copy.hpp"
#include "tests/host/cache/test_file.hpp"

#include <vector>

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kMostPages = 64 * MiB / kPageSize; // of small()

// A space that a program uses.
struct Program : Owned {
    Program() { (*this)->set_use(SpaceUse::program); }
};

// Pages from `first` on, until there is no memory. Returns their number.
u32 fill_memory(AddressSpace& space, u32 first = 0) {
    map_pages(space, at(first).value(), kMostPages);
    run_in(&space);
    u32 pages = 0;
    try {
        for (; pages < kMostPages; ++pages)
            user_store(at(first + pages), first + pages);
    } catch (const Killed& killed) {
        CHECK(killed.why == FaultResult::no_memory);
    }
    run_in(nullptr);
    return pages;
}

} // namespace

TEST_CASE("last resort: the largest program is ended, and the fault goes on", "[last-resort]") {
    Booted kernel;
    warm_up();
    const Books before = books();
    {
        Program small, large, medium;
        map_pages(*medium, kBase, 600);
        run_in(medium.get());
        for (u32 page = 0; page < 600; ++page)
            user_store(at(page), page);
        map_pages(*small, kBase, 200);
        const u32 filled = fill_memory(*large);
        REQUIRE(filled > 600);
        std::vector<AddressSpace*> ended;
        const OnProgramEnd hook{[&](AddressSpace& space, const SpaceStats& has) {
            ended.push_back(&space);
            CHECK(has.resident == filled);
            return ProgramEnd::other;
        }};
        run_in(small.get());
        for (u32 page = 0; page < 200; ++page)
            user_store(at(page), page + 7);
        CHECK(ended == std::vector{large.get()});
        for (u32 page = 0; page < 200; ++page)
            CHECK(user_load(at(page)) == page + 7);
        run_in(medium.get());
        for (u32 page = 0; page < 600; ++page)
            CHECK(user_load(at(page)) == page);
        run_in(nullptr);
    }
    CHECK(books() == before);
}

TEST_CASE("last resort: a space without a program is passed over", "[last-resort]") {
    Booted kernel;
    warm_up();
    Program small, medium;
    Owned large; // a child without a thread
    map_pages(*small, kBase, 1);
    map_pages(*medium, kBase, 600);
    run_in(medium.get());
    for (u32 page = 0; page < 600; ++page)
        user_store(at(page), page);
    static_cast<void>(fill_memory(*large));
    std::vector<AddressSpace*> asked;
    const OnProgramEnd hook{[&](AddressSpace& space, const SpaceStats&) {
        asked.push_back(&space);
        return ProgramEnd::other;
    }};
    run_in(small.get());
    user_store(at(0), 1);
    CHECK(asked == std::vector{medium.get()});
    run_in(nullptr);
    small->reap();
    CHECK_FALSE(end_largest_program(spaces_cleared()));
    CHECK(asked.size() == 1);
}

TEST_CASE("last resort: a program that ends already is enough, and is taken before larger ones", "[last-resort]") {
    Booted kernel;
    warm_up();
    Program small, large, ending;
    map_pages(*small, kBase, 1);
    map_pages(*ending, kBase, 100);
    run_in(ending.get());
    for (u32 page = 0; page < 100; ++page)
        user_store(at(page), page);
    static_cast<void>(fill_memory(*large));
    ending->set_use(SpaceUse::ends);
    std::vector<AddressSpace*> asked;
    const OnProgramEnd hook{[&](AddressSpace& space, const SpaceStats&) {
        asked.push_back(&space);
        space.set_use(SpaceUse::ends);
        return ProgramEnd::other;
    }};
    run_in(small.get());
    user_store(at(0), 1);
    CHECK(asked == std::vector{ending.get()});
    // Its threads may still run: they find nothing.
    run_in(ending.get());
    CHECK_THROWS_AS(user_load(at(0)), Killed);
    run_in(nullptr);
    CHECK(ending->stats() == SpaceStats{});
    // It has nothing any more, so the next one is the largest.
    CHECK(end_largest_program(spaces_cleared()));
    CHECK(asked == std::vector{ending.get(), large.get()});
}

TEST_CASE("last resort: of programs of one size, one without a program is not the only one", "[last-resort]") {
    Booted kernel;
    warm_up();
    Program first, second;
    for (AddressSpace* const space : {first.get(), second.get()}) {
        map_pages(*space, kBase, 10);
        run_in(space);
        for (u32 page = 0; page < 10; ++page)
            user_store(at(page), page);
    }
    run_in(nullptr);
    std::vector<AddressSpace*> asked;
    const OnProgramEnd hook{[&](AddressSpace& space, const SpaceStats&) {
        asked.push_back(&space);
        if (asked.size() != 1) return ProgramEnd::other;
        space.set_use(SpaceUse::none); // its last thread has left meanwhile
        return ProgramEnd::none;
    }};
    CHECK(end_largest_program(spaces_cleared()));
    CHECK(asked.size() == 2);
    CHECK(asked[0] != asked[1]);
}

// A child that cannot be made has no memory to give.
TEST_CASE("last resort: a fork that fails is no program that has ended", "[last-resort]") {
    Booted kernel;
    const u32 asked = for_every_failure(
        [](const std::function<void()>& arm) {
            Program parent;
            map_pages(*parent, kBase, 1);
            run_in(parent.get());
            user_store(at(0), 1);
            run_in(nullptr);
            const u32 since = spaces_cleared();
            arm();
            const Result<AddressSpace*> child = parent->fork();
            CHECK(static_cast<bool>(child) == !one_failed());
            if (child) (*child)->put(); // nor one in which no program has run
            CHECK(spaces_cleared() == since);
        },
        true);
    CHECK(asked > 2);
}

TEST_CASE("last resort: the program that faults is the largest one", "[last-resort]") {
    Booted kernel;
    warm_up();
    Program large;
    u32 asked = 0;
    const OnProgramEnd hook{[&](AddressSpace& space, const SpaceStats&) {
        ++asked;
        CHECK(&space == large.get());
        return ProgramEnd::own;
    }};
    CHECK(fill_memory(*large) > 600);
    CHECK(asked == 1);
    // So it is for a copy to the program, and for a pin.
    run_in(large.get());
    CHECK(clear_user(UserAddr{at(kMostPages - 1).value()}, 4) == 4);
    CHECK(asked == 2);
    Page* page = nullptr;
    CHECK(get_user_pages(*large, UserAddr{at(kMostPages - 1).value()}, 1, true, &page).error() == Error::no_memory);
    CHECK(asked == 3);
    run_in(nullptr);
}

TEST_CASE("last resort: page tables and swapped pages count", "[last-resort]") {
    Booted kernel;
    warm_up();
    Program few, many;
    map_pages(*few, kBase, 40);
    run_in(few.get());
    for (u32 page = 0; page < 40; ++page)
        user_store(at(page), page);
    // 30 pages, each in a table of its own.
    run_in(many.get());
    for (u32 table = 0; table < 30; ++table) {
        map_pages(*many, kBase + table * 4 * MiB, 1);
        user_store(VirtAddr{kBase + table * 4 * MiB}, table);
    }
    run_in(nullptr);
    CHECK(few->stats().resident > many->stats().resident);
    const OnProgramEnd hook{[&](AddressSpace& space, const SpaceStats& has) {
        CHECK(&space == many.get());
        CHECK(has.tables == 30);
        return ProgramEnd::other;
    }};
    CHECK(end_largest_program(spaces_cleared()));
    CHECK(many->stats() == SpaceStats{});
    few->clear();
    const OnProgramEnd none{[](AddressSpace&, const SpaceStats&) {
        FAIL("no space has a page");
        return ProgramEnd::other;
    }};
    CHECK_FALSE(end_largest_program(spaces_cleared()));
}

// What reclaim can have is taken first.
TEST_CASE("last resort: while something can be reclaimed, no program is ended", "[last-resort]") {
    Booted kernel;
    warm_up();
    TestFile file{u64{kMostPages} * kPageSize, true};
    for (u32 page = 0; page < kMostPages; ++page)
        put_page(*file.page(page));
    Program space;
    const OnProgramEnd hook{[&](AddressSpace&, const SpaceStats&) {
        CHECK(page_cache_stats().pages <= 1);
        return ProgramEnd::own;
    }};
    CHECK(fill_memory(*space) > kMostPages / 2);
}

// Another thread frees memory while this one finds nothing to reclaim.
TEST_CASE("last resort: memory that became free meanwhile is tried before a program is ended", "[last-resort]") {
    Booted kernel;
    warm_up();
    TestFile file{kPageSize, true};
    put_page(*file.page(0));
    file.stored_to(0);
    file.refusal = Error::io;
    Program small, large;
    map_pages(*small, kBase, 1);
    static_cast<void>(fill_memory(*large));
    u32 stores = 0;
    file.in_store = [&] {
        if (++stores == 1) REQUIRE(large->unmap(at(0), 4 * kPageSize));
    };
    const OnProgramEnd hook{[&](AddressSpace&, const SpaceStats&) {
        FAIL("there is memory");
        return ProgramEnd::own;
    }};
    run_in(small.get());
    user_store(at(0), 1);
    CHECK(stores != 0);
    run_in(nullptr);
}
