// Reclaim: files larger than memory, read, written and mapped; nothing is lost, and lowmem stays free.
#include "mm/reclaim/reclaim.hpp"
#include "mm/spaces/user_copy.hpp"
#include "tests/host/cache/test_file.hpp"

#include <vector>

using namespace loft;
using namespace loft::test;

namespace {

u32 free_in(ZoneId zone) { return zone_info(zone).free; }
u32 low_free() { return free_in(ZoneId::normal) + free_in(ZoneId::dma); }

constexpr u32 kMemory = 64 * MiB / kPageSize; // of small()
constexpr u32 kLarge = kMemory + kMemory / 4; // pages of a file that does not fit

// What the cache of a file may take of lowmem: nothing if there is high memory, else all but the reserves.
void check_lowmem(u32 before) {
    if (kHigh) CHECK(before - low_free() <= 16);
    CHECK(low_free() >= zone_info(ZoneId::normal).user_reserve);
}

} // namespace

TEST_CASE("reclaim: a file larger than memory is read", "[reclaim]") {
    Booted kernel;
    warm_up();
    const Books before = books();
    const u32 low = low_free();
    {
        TestFile file{u64{kLarge} * kPageSize, true};
        const u32 dropped = page_cache_stats().dropped;
        for (u32 pass = 0; pass < 2; ++pass)
            for (u32 page = 0; page < kLarge; ++page) {
                const Result<Page*> found = file.page(page);
                REQUIRE(found);
                u32 word = 0;
                memcpy_from_page(&word, *found, 8, sizeof word);
                put_page(*found);
                REQUIRE(word == TestFile::word(page, 8));
            }
        check_lowmem(low);
        CHECK(page_cache_stats().dropped - dropped >= kLarge / 4);
        CHECK(page_cache_stats().dropped - dropped <= 2 * kLarge);
        CHECK(page_cache_stats().pages >= (kHigh ? kMemory / 4 : kMemory / 2));
    }
    CHECK(books() == before);
}

TEST_CASE("reclaim: a file larger than memory is written, and no page is lost", "[reclaim]") {
    Booted kernel;
    warm_up();
    const Books before = books();
    const u32 low = low_free();
    {
        TestFile file{u64{kLarge} * kPageSize, true};
        for (u32 page = 0; page < kLarge; ++page) {
            // No writer is throttled here: memory fills with dirty pages.
            const Result<Page*> found = file.page(page);
            REQUIRE(found);
            const u32 word = ~page;
            memcpy_to_page(*found, 8, &word, sizeof word);
            file.stored_to(page);
            put_page(*found);
        }
        check_lowmem(low);
        REQUIRE(file.write_back());
        for (u32 page = 0; page < kLarge; ++page)
            REQUIRE(file.source.at(page)[2] == ~page);
    }
    CHECK(books() == before);
}

TEST_CASE("reclaim: a program maps a file larger than memory", "[reclaim]") {
    for (const MapKind kind : {MapKind::shared, MapKind::anonymous}) {
        Booted kernel;
        warm_up();
        const Books before = books();
        const u32 low = low_free();
        {
            TestFile file{u64{kLarge} * kPageSize, true};
            Owned space;
            map_file(*space, file, 0, kLarge, kind);
            run_in(space.get());
            // A page at the begin is accessed all the time, and some get contents of the program's own.
            for (u32 page = 1; page < kLarge; ++page) {
                REQUIRE(user_load(at(0)) == TestFile::word(0, 0));
                REQUIRE(user_load(at(page, 4)) == TestFile::word(page, 4));
                if (page % 64 == 0) user_store(at(page, 12), ~page);
            }
            check_lowmem(low);
            CHECK(space->stats().resident < kMemory);
            for (u32 page = 64; page < kLarge; page += 64) {
                REQUIRE(user_load(at(page, 12)) == ~page);
                REQUIRE(user_load(at(page, 4)) == TestFile::word(page, 4));
            }
            // The source gets the stores to shared memory, and no others.
            REQUIRE(file.write_back());
            for (u32 page = 64; page < kLarge; page += 64)
                REQUIRE((kind == MapKind::shared) == (file.source.contains(page) && file.source[page][3] == ~page));
            run_in(nullptr);
        }
        CHECK(books() == before);
    }
}

TEST_CASE("reclaim: private copies of a file fill memory, and the next fault ends", "[reclaim]") {
    Booted kernel;
    warm_up();
    const Books before = books();
    {
        TestFile file{u64{kLarge} * kPageSize, true};
        Owned space;
        map_file(*space, file, 0, kLarge, MapKind::anonymous);
        run_in(space.get());
        u32 page = 0;
        try {
            for (; page < kLarge; ++page)
                user_store(at(page, 12), ~page);
            FAIL("there is more memory than there can be");
        } catch (const Killed&) {
        }
        CHECK(page > kMemory / 2);
        CHECK(file.filled <= page + 4 * MemoryObject::kRun); // it has not been read again and again
        for (u32 i = 0; i < page; ++i) {
            REQUIRE(user_load(at(i, 12)) == ~i);
            REQUIRE(user_load(at(i, 4)) == TestFile::word(i, 4));
        }
        run_in(nullptr);
    }
    CHECK(books() == before);
}

// A store to a private page needs frames for the page of the file, its index, the table, and the copy. If there is none
// for the copy, the page of the file is the only one that reclaim could take.
TEST_CASE("reclaim: a fault that lacks a frame for the copy keeps the page that it has filled", "[reclaim]") {
    u32 kept = 0;
    for (u32 left = 0; left < 8; ++left) {
        Booted kernel;
        warm_up();
        const Books before = books();
        {
            TestFile file{kPageSize, true};
            Owned space;
            map_file(*space, file, 0, 1, MapKind::anonymous);
            run_in(space.get());
            std::vector<Page*> taken;
            file.in_fill = [&] {
                while (Page* const page = alloc_page(Gfp::user))
                    taken.push_back(page);
                for (u32 i = 0; i < left; ++i, taken.pop_back())
                    free_page(taken.back());
            };
            bool killed = false;
            try {
                user_store(at(0), 1);
            } catch (const Killed&) {
                killed = true;
            }
            if (killed && page_cache_stats().pages == 1) ++kept;
            if (page_cache_stats().pages == 1) CHECK(file.fills == 1);
            run_in(nullptr);
            for (Page* const page : taken)
                free_page(page);
        }
        CHECK(books() == before);
    }
    CHECK(kept != 0);
}

TEST_CASE("reclaim: a page that becomes dirty again and again does not hold it up", "[reclaim]") {
    Booted kernel;
    warm_up();
    TestFile file{kPageSize, true};
    put_page(*file.page(0));
    file.stored_to(0);
    u32 stores = 0;
    file.in_store = [&file, &stores] {
        if (++stores < 50) file.stored_to(0);
    };
    CHECK(reclaim(1, Reclaimer::transfer) == 0);
    CHECK(reclaim(1, Reclaimer::program) == 0);
    CHECK(stores <= 4);
    file.in_store = [] {};
    CHECK(reclaim(1, Reclaimer::transfer) == 1);
}

TEST_CASE("reclaim: pages that are used stay, and others go", "[reclaim]") {
    Booted kernel;
    warm_up();
    TestFile file{16 * kPageSize, true};
    Owned space;
    map_file(*space, file, 0, 16, MapKind::shared);
    run_in(space.get());
    for (u32 page = 0; page < 8; ++page)
        user_load(at(page)); // mapped
    for (u32 page = 8; page < 12; ++page)
        put_page(*file.page(page)); // found
    user_store(at(0), 1);
    Page* const held = *file.page(11);
    // The hand passes twice: first it takes the marks and the A bits, which a CPU may set again by speculation. Page 0
    // is dirty, and page 11 is in use.
    for (u32 call = 0; call < 100 && (page_cache_stats().pages != 2 || space->stats().resident != 0); ++call)
        static_cast<void>(drop_pages(~0u));
    CHECK(page_cache_stats().pages == 2);
    CHECK(space->stats().resident == 0);
    for (u32 page = 4; page < 8; ++page)
        user_load(at(page));
    const u32 fills = file.filled;
    CHECK(user_load(at(0)) == 1);
    CHECK(file.filled == fills);
    put_page(held);
    CHECK(reclaim(1, Reclaimer::transfer) != 0);
    while (reclaim(1, Reclaimer::transfer) != 0) {
    }
    CHECK(page_cache_stats().pages == 0);
    CHECK(file.source.at(0)[0] == 1);
    CHECK(user_load(at(0)) == 1);
    CHECK(user_load(at(9)) == TestFile::word(9, 0));
}

TEST_CASE("reclaim: a page that a program accesses at each pass of the hand stays mapped", "[reclaim]") {
    Booted kernel;
    warm_up();
    TestFile file{kPageSize, true}, other{8 * kPageSize, true};
    Owned space;
    map_file(*space, file, 0, 1, MapKind::shared);
    run_in(space.get());
    // The hand passes both files in each call: there is one page to drop in the second one.
    u32 page = 8; // downwards, so that no page is read ahead
    const auto pass = [&] {
        put_page(*other.page(--page));
        CHECK(other.drop() == 0); // takes the mark
        CHECK(drop_pages(1) == 1);
        CHECK(page_cache_stats().pages == 1);
    };
    for (u32 round = 0; round < 4; ++round) {
        hal::flush_all(); // a CPU whose TLB has the translation does not set the A bit again
        user_load(at(0));
        pass();
        CHECK(space->stats().resident == 1);
    }
    run_in(nullptr);
}

TEST_CASE("reclaim: a page without a source, a private copy and a pinned page stay", "[reclaim]") {
    Booted kernel;
    warm_up();
    TestFile kept{2 * kPageSize}, file{4 * kPageSize, true};
    Owned space;
    map_file(*space, kept, 0, 2, MapKind::shared);
    map_file(*space, file, 2, 4, MapKind::anonymous);
    run_in(space.get());
    user_store(at(0), 10);
    user_store(at(2), 12); // a private copy
    user_load(at(3));
    Page* pinned = nullptr;
    REQUIRE(get_user_pages(*space, UserAddr{at(3).value()}, 1, false, &pinned));
    Owned child = fork_of(*space); // the private copy has two mappings now
    while (reclaim(1, Reclaimer::transfer) != 0) {
    }
    CHECK(user_load(at(0)) == 10);
    CHECK(user_load(at(2)) == 12);
    u32 word = 0;
    memcpy_from_page(&word, pinned, 4, sizeof word);
    CHECK(word == TestFile::word(1, 4));
    CHECK(file.filled == 2);
    CHECK(user_load(at(3, 4)) == TestFile::word(1, 4));
    CHECK(file.filled == 2); // the pin has kept it in memory
    put_page(pinned);
    run_in(child.get());
    CHECK(user_load(at(2)) == 12);
    run_in(nullptr);
}

TEST_CASE("reclaim: faults, pins and fork get memory from the cache, until there is none", "[reclaim]") {
    Booted kernel;
    warm_up();
    const Books before = books();
    {
        TestFile file{u64{kLarge} * kPageSize, true};
        for (u32 page = 0; page < kLarge; ++page)
            put_page(*file.page(page));
        const u32 cached = page_cache_stats().pages;
        Owned space;
        map_pages(*space, kBase, kMemory);
        run_in(space.get());
        u32 page = 0;
        try {
            for (; page < kMemory; ++page)
                user_store(at(page), page);
            FAIL("there is more memory than there can be");
        } catch (const Killed&) {
        }
        CHECK(page >= cached);
        CHECK(page_cache_stats().pages == 0);
        for (u32 i = 0; i < page; ++i)
            REQUIRE(user_load(at(i)) == i);
        run_in(nullptr);
    }
    CHECK(books() == before);
}

TEST_CASE("reclaim: a source that cannot be written keeps its dirty pages", "[reclaim]") {
    Booted kernel;
    warm_up();
    TestFile file{4 * kPageSize, true}, other{4 * kPageSize, true};
    for (u32 page = 0; page < 4; ++page) {
        put_page(*file.page(page));
        file.stored_to(page);
    }
    file.refusal = Error::io;
    CHECK(reclaim(1, Reclaimer::transfer) == 0);
    CHECK(page_cache_stats().dirty == 4);
    put_page(*other.page(0));
    CHECK(reclaim(1, Reclaimer::transfer) != 0);
    file.refusal = {};
    while (reclaim(1, Reclaimer::transfer) != 0) {
    }
    CHECK(file.stored.size() == 4);
    CHECK(page_cache_stats().pages == 0);
}

TEST_CASE("reclaim: after a source that cannot be written comes the next one", "[reclaim]") {
    Booted kernel;
    warm_up();
    TestFile first{kPageSize, true}, second{kPageSize, true};
    for (TestFile* const file : {&first, &second}) {
        put_page(*file->page(0));
        file->stored_to(0);
    }
    first.refusal = Error::io;
    CHECK(reclaim(1, Reclaimer::program) == 1);
    CHECK(second.stored.size() == 1);
}

TEST_CASE("reclaim: fork gets memory from the cache", "[reclaim]") {
    Booted kernel;
    warm_up();
    TestFile file{256 * kPageSize, true};
    Owned space;
    // Pinned pages, which fork copies.
    constexpr u32 kPages = 200;
    map_pages(*space, kBase, kPages);
    run_in(space.get());
    for (u32 page = 0; page < kPages; ++page)
        user_store(at(page), page);
    std::vector<Page*> pinned(kPages);
    REQUIRE(*get_user_pages(*space, UserAddr{kBase}, kPages, true, pinned.data()) == kPages);
    for (u32 page = 0; page < 256; ++page)
        put_page(*file.page(page));
    const u32 dropped = page_cache_stats().dropped;
    // All memory that programs can have is used, but for some frames of lowmem: for the child's tables.
    std::vector<Page*> taken;
    while (Page* const page = alloc_page(Gfp::user))
        taken.push_back(page);
    for (u32 i = 0; i < 40; ++i, taken.pop_back())
        free_page(taken.back());
    drain_local_pages();
    {
        Owned child = fork_of(*space);
        CHECK(page_cache_stats().dropped != dropped);
        run_in(child.get());
        for (u32 page = 0; page < kPages; ++page)
            CHECK(user_load(at(page)) == page);
        run_in(space.get());
    }
    for (const std::vector<Page*>& pages : {taken, pinned})
        for (Page* const page : pages)
            put_page(page);
    run_in(nullptr);
}

// Lowmem is short and high memory is not: the cache has nothing that helps, and stays.
TEST_CASE("reclaim: a fork that lacks lowmem does not cost the cache", "[reclaim]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    warm_up();
    TestFile file{256 * kPageSize, true};
    Owned space;
    for (u32 page = 0; page < 256; ++page)
        put_page(*file.page(page));
    const u32 cached = page_cache_stats().pages;
    std::vector<Page*> taken;
    while (Page* const page = alloc_page(Gfp::user_low))
        taken.push_back(page);
    CHECK(space->fork().error() == Error::no_memory);
    CHECK(page_cache_stats().pages == cached);
    for (Page* const page : taken)
        free_page(page);
}

TEST_CASE("reclaim: while an object is stored, by the thread that stores it", "[reclaim]") {
    Booted kernel;
    warm_up();
    TestFile file{16 * kPageSize, true}, other{4 * kPageSize, true};
    for (TestFile* one : {&file, &other})
        for (u32 page = 0; page < 4; ++page) {
            put_page(*one->page(page));
            one->stored_to(page);
        }
    bool called = false;
    file.in_store = [&] {
        if (called) return;
        called = true;
        put_page(*file.page(7));
        file.stored_to(7);
        while (reclaim(1, Reclaimer::transfer) != 0) {
        }
        CHECK(other.stored.empty()); // the list is worked at in order
    };
    REQUIRE(file.write_back(0, 4));
    CHECK(called);
    CHECK(file.stored.size() == 4);
    REQUIRE(write_back_all());
    CHECK(file.stored.contains(7));
    CHECK(other.stored.size() == 4);
    CHECK(page_cache_stats().dirty == 0);
}

TEST_CASE("reclaim: for an object that serves others, no file is stored", "[reclaim]") {
    Booted kernel;
    warm_up();
    TestFile file{8 * kPageSize, true}, server{8 * kPageSize, true};
    server.serves = true;
    for (TestFile* one : {&file, &server})
        for (u32 page = 0; page < 4; ++page) {
            put_page(*one->page(page));
            one->stored_to(page);
        }
    for (u32 page = 4; page < 6; ++page)
        put_page(*file.page(page)); // clean
    while (reclaim(1, Reclaimer::server) != 0) {
    }
    CHECK(file.stored.empty()); // although it is the first of the list
    CHECK(server.stored.size() == 4);
    CHECK(page_cache_stats().pages == 4);
    // Without a free frame: the server gets none, because only files could be stored. A file does.
    std::vector<Page*> taken;
    while (Page* const page = alloc_page(Gfp::user))
        taken.push_back(page);
    CHECK(server.page(0).error() == Error::no_memory);
    CHECK(file.stored.empty());
    // From the reserve of lowmem, if it may.
    server.reserve = true;
    const u32 low = low_free();
    const Result<Page*> reserved = server.page(0);
    REQUIRE(reserved);
    CHECK(low - low_free() <= 2); // and maybe one for the index
    CHECK(low != low_free());
    CHECK(word_of(server, 0) == TestFile::word(0, 0));
    put_page(*reserved);
    CHECK(file.stored.empty());
    const Result<Page*> page = file.page(7);
    CHECK(file.stored.size() == 4);
    REQUIRE(page);
    put_page(*page);
    for (Page* const one : taken)
        put_page(one);
}
