// Memory objects: the contents of areas that map one, the page that a store changes, and the calls of stored_to().
#include "mm/cache/memory_object.hpp"
#include "mm/spaces/user_copy.hpp"
#include "tests/host/cache/test_file.hpp"
#include "tests/host/slow.hpp"
#include "tests/host/spaces/program.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <set>
#include <vector>

using namespace loft;
using namespace loft::test;

namespace {

template <typename F> void keeps_books(F&& body) {
    Booted kernel;
    warm_up();
    const Books before = books();
    body();
    CHECK(books() == before);
}

} // namespace

TEST_CASE("object: a private area shows its pages, and a store stays in the space", "[address_space][object]") {
    keeps_books([] {
        TestFile file{3 * kPageSize};
        Owned one, two;
        map_file(*one, file, 0, 3, MapKind::anonymous);
        map_file(*two, file, 0, 2, MapKind::anonymous, kReadWrite, 1);
        run_in(one.get());
        CHECK(user_load(at(0, 8)) == TestFile::word(0, 8));
        CHECK(user_load(at(1)) == TestFile::word(1, 0));
        // A page that is written after a read, and one that is written first.
        user_store(at(1), 100);
        user_store(at(2, 4), 200);
        CHECK(user_load(at(1)) == 100);
        CHECK(user_load(at(1, 4)) == TestFile::word(1, 4));
        CHECK(user_load(at(2, 4)) == 200);
        CHECK(user_load(at(2)) == TestFile::word(2, 0));
        run_in(two.get());
        CHECK(user_load(at(0)) == TestFile::word(1, 0));
        CHECK(user_load(at(1, 4)) == TestFile::word(2, 4));
        CHECK(file.fills == 3);
        CHECK(word_of(file, 1) == TestFile::word(1, 0));
        CHECK(word_of(file, 2) == TestFile::word(2, 0));
    });
}

TEST_CASE("object: spaces that only read have its frames, not copies", "[address_space][object]") {
    keeps_books([] {
        TestFile file{2 * kPageSize};
        Owned one, two;
        for (AddressSpace* space : {one.get(), two.get()}) {
            map_file(*space, file, 0, 2, MapKind::anonymous, kRead | Prot::exec);
            run_in(space);
            CHECK(user_load(at(0)) == TestFile::word(0, 0));
        }
        const Result<Page*> own = file.page(0);
        REQUIRE(own);
        Page* seen = nullptr;
        for (AddressSpace* space : {one.get(), two.get()}) {
            REQUIRE(get_user_pages(*space, UserAddr{kBase}, 1, false, &seen));
            CHECK(seen == *own);
            put_page(seen);
        }
        CHECK((*own)->refs() == 4); // the object, two mappings, and this test
        put_page(*own);
    });
}

TEST_CASE("object: fork of a private area, then each side writes", "[address_space][object][fork]") {
    keeps_books([] {
        TestFile file{2 * kPageSize};
        Owned parent;
        map_file(*parent, file, 0, 2, MapKind::anonymous);
        run_in(parent.get());
        user_store(at(0), 7);
        CHECK(user_load(at(1)) == TestFile::word(1, 0));
        Owned child = fork_of(*parent);
        run_in(child.get());
        CHECK(user_load(at(0)) == 7);
        user_store(at(0), 8);
        user_store(at(1), 9);
        run_in(parent.get());
        CHECK(user_load(at(0)) == 7);
        CHECK(user_load(at(1)) == TestFile::word(1, 0));
        user_store(at(1), 10);
        CHECK(word_of(file, 1) == TestFile::word(1, 0));
    });
}

TEST_CASE("object: a shared area shows the page itself", "[address_space][object]") {
    keeps_books([] {
        TestFile file{2 * kPageSize};
        Owned one, two;
        map_file(*one, file, 0, 2, MapKind::shared);
        map_file(*two, file, 0, 1, MapKind::shared, kReadWrite, 1);
        run_in(one.get());
        user_store(at(1), 5);
        run_in(two.get());
        CHECK(user_load(at(0)) == 5);
        CHECK(word_of(file, 1) == 5);
        // The object is not written back: stored_to() is not called.
        REQUIRE(two->unmap(at(0), kPageSize));
    });
}

TEST_CASE("object: behind its end is no page, and its last page ends in zeros", "[address_space][object]") {
    for (const MapKind kind : {MapKind::anonymous, MapKind::shared}) {
        keeps_books([kind] {
            TestFile file{kPageSize + 8};
            Owned space;
            map_file(*space, file, 0, 4, kind);
            run_in(space.get());
            CHECK(user_load(at(1, 4)) == TestFile::word(1, 4));
            CHECK(user_load(at(1, 8)) == 0);
            for (const FaultAccess access : {FaultAccess::read, FaultAccess::write})
                CHECK(space->handle_fault(at(2), access) == FaultResult::no_page);
            CHECK(space->stats().resident == 1);
            char byte;
            CHECK(copy_from_user(&byte, UserAddr{at(2).value()}, 1) == 1);
            CHECK(copy_from_user(&byte, UserAddr{at(1).value()}, 1) == 0);
        });
    }
}

TEST_CASE("object: a read maps the pages around it that are in memory, within its area", "[address_space][object]") {
    for (const MapKind kind : {MapKind::anonymous, MapKind::shared}) {
        keeps_books([kind] {
            TestFile file{48 * kPageSize};
            for (u32 page = 0; page < 48; ++page)
                if (page != 20) put_page(*file.page(page));
            Owned space, other;
            map_file(*space, file, 2, 36, kind, kReadWrite, 2);
            run_in(space.get());
            const auto resident = [&space] { return space->stats().resident; };
            CHECK(user_load(at(18)) == TestFile::word(18, 0));
            CHECK(resident() == 15); // 16 to 31, without 20
            for (u32 page = 16; page < 32; ++page)
                if (page != 20) CHECK(user_load(at(page, 4)) == TestFile::word(page, 4));
            CHECK(resident() == 15);
            CHECK(file.fills == 47);
            CHECK(user_load(at(20)) == TestFile::word(20, 0));
            CHECK(resident() == 16);
            CHECK(user_load(at(3)) == TestFile::word(3, 0));
            CHECK(resident() == 16 + 14); // the area begins at 2
            CHECK(user_load(at(33)) == TestFile::word(33, 0));
            CHECK(resident() == 16 + 14 + 6); // and ends at 38
            Page* const page = *file.page(17);
            CHECK(page->refs() == 3); // the object, the mapping, and this test
            put_page(page);

            map_file(*other, file, 0, 16, kind);
            run_in(other.get());
            user_store(at(5), 7);
            CHECK(other->stats().resident == 1); // a write maps its own page only
            CHECK(user_load(at(4)) == TestFile::word(4, 0));
            CHECK(other->stats().resident == 16);
            CHECK(user_load(at(5)) == 7);
            user_store(at(6), 8);
            CHECK(word_of(file, 6) == (kind == MapKind::shared ? 8 : TestFile::word(6, 0)));
            run_in(nullptr);
            REQUIRE(other->unmap(at(0), 16 * kPageSize));
            CHECK(other->stats().tables == 0);
        });
    }
}

TEST_CASE("object: a page that only its neighbour's fault has mapped is unmapped first", "[address_space][object]") {
    Booted kernel;
    kernel.machine.set_fills(sim::Fills::never); // no speculative walk sets A
    warm_up();
    const Books before = books();
    {
        TestFile file{16 * kPageSize, true};
        for (u32 page = 0; page < 16; ++page)
            put_page(*file.page(page));
        Owned space;
        map_file(*space, file, 0, 16, MapKind::shared);
        run_in(space.get());
        CHECK(user_load(at(3)) == TestFile::word(3, 0));
        CHECK(space->stats().resident == 16);
        user_store(at(4), 1); // a mapping that was not asked for says, too, that the page is dirty
        CHECK(page_cache_stats().dirty == 1);
        bool passed = false;
        HandLimit none;
        file.sweep(passed, none);
        CHECK(passed);
        CHECK(space->stats().resident == 2);
        CHECK(file.sweep(passed, none) == 15); // page 4 is dirty
    }
    CHECK(books() == before);
}

TEST_CASE("object: one that cannot be read is no page, and is asked again", "[address_space][object]") {
    keeps_books([] {
        TestFile file{kPageSize};
        Owned space;
        map_file(*space, file, 0, 1, MapKind::anonymous);
        file.broken = true;
        CHECK(space->handle_fault(at(0), FaultAccess::read) == FaultResult::no_page);
        file.broken = false;
        CHECK(space->handle_fault(at(0), FaultAccess::read) == FaultResult::resolved);
        CHECK(file.fills == 2);
    });
}

TEST_CASE("object: read across pages, and not beyond the end", "[object]") {
    keeps_books([] {
        TestFile file{2 * kPageSize + 100};
        std::array<u32, 1030> words{};
        REQUIRE(file.read(kPageSize - 8, words.data(), sizeof words));
        for (u32 i = 0; i < words.size(); ++i)
            REQUIRE(words[i] == TestFile::word(0, kPageSize - 8 + i * 4));
        CHECK(file.read(2 * kPageSize + 100, words.data(), 0));
        CHECK(file.read(2 * kPageSize + 97, words.data(), 4).error() == Error::invalid);
        CHECK(file.read(~u64{0}, words.data(), 4).error() == Error::invalid);
        CHECK(file.page(3).error() == Error::not_found);
    });
}

TEST_CASE("object: neighbours join only where its pages follow each other", "[address_space][object]") {
    keeps_books([] {
        TestFile file{8 * kPageSize};
        Owned space;
        map_file(*space, file, 0, 2, MapKind::anonymous, kRead, 0);
        map_file(*space, file, 2, 2, MapKind::anonymous, kRead, 2);
        CHECK(space->stats().areas == 1);
        map_file(*space, file, 4, 2, MapKind::anonymous, kRead, 6);
        CHECK(space->stats().areas == 2);
        run_in(space.get());
        CHECK(user_load(at(3)) == TestFile::word(3, 0));
        CHECK(user_load(at(4)) == TestFile::word(6, 0));
    });
}

TEST_CASE("object: each page that was stored to reaches the source", "[address_space][object]") {
    keeps_books([] {
        TestFile file{4 * kPageSize, true};
        // The pages that are stored to the source now, with the words that were stored to them.
        const auto stores = [&](const std::map<u32, u32>& pages) {
            REQUIRE(file.write_back());
            std::multiset<u32> numbers;
            for (const auto& [number, value] : pages) {
                numbers.insert(number);
                CHECK(file.source[number][0] == value);
                CHECK(file.source[number][1] == TestFile::word(number, 4));
            }
            CHECK(file.stored == numbers);
            file.stored.clear();
            CHECK(page_cache_stats().dirty == 0);
        };
        Owned space;
        map_file(*space, file, 0, 4, MapKind::shared);
        run_in(space.get());
        user_load(at(0));
        user_store(at(1), 1);
        user_store(at(2), 2);
        SECTION("while they are mapped, and again after the next store") {
            stores({{1, 1}, {2, 2}});
            stores({});
            user_load(at(1));
            user_store(at(2), 3);
            stores({{2, 3}});
        }
        SECTION("after unmap") {
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            CHECK(page_cache_stats().dirty == 2);
            stores({{1, 1}, {2, 2}});
        }
        SECTION("after the end of the space") {
            space.end();
            stores({{1, 1}, {2, 2}});
        }
        SECTION("after another mapping in its place") {
            map_pages(*space, kBase + kPageSize, 1);
            CHECK(page_cache_stats().dirty == 2);
            stores({{1, 1}, {2, 2}});
        }
        SECTION("after losing the right to write, and again after the next store") {
            REQUIRE(space->protect(at(0), 4 * kPageSize, kRead));
            stores({{1, 1}, {2, 2}});
            REQUIRE(space->protect(at(0), 4 * kPageSize, kReadWrite));
            stores({});
            user_store(at(2), 3);
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            stores({{2, 3}});
        }
        SECTION("after a change that leaves the right to write: a store after it counts, too") {
            REQUIRE(space->protect(at(0), 4 * kPageSize, kAll));
            user_store(at(2), 3);
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            stores({{1, 1}, {2, 3}});
        }
        SECTION("from two spaces, one of them made by fork") {
            Owned child = fork_of(*space);
            stores({{1, 1}, {2, 2}});
            run_in(child.get());
            user_store(at(3), 4);
            run_in(space.get());
            user_store(at(0), 5);
            stores({{0, 5}, {3, 4}});
        }
        SECTION("also if the kernel stored, through a mapping of its own") {
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            stores({{1, 1}, {2, 2}});
            map_file(*space, file, 0, 4, MapKind::shared);
            user_load(at(1)); // an entry that is there, and one that is not
            const u32 word = 7;
            for (const u32 page : {1u, 3u})
                REQUIRE(write_space(*space, UserAddr{at(page).value()}, &word, sizeof word) == 0);
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            stores({{1, 7}, {3, 7}});
        }
        SECTION("but not a private area's") {
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            stores({{1, 1}, {2, 2}});
            map_file(*space, file, 0, 4, MapKind::anonymous);
            user_store(at(3), 4);
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            stores({});
        }
        SECTION("only the range that is asked for") {
            REQUIRE(file.write_back(2, 3));
            CHECK(file.stored == std::multiset<u32>{2});
            file.stored.clear();
            stores({{1, 1}});
        }
        SECTION("by the list of dirty objects, without a user of the object") {
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            CHECK(page_cache_stats().objects == 1);
            CHECK(*write_back_one());
            CHECK(file.stored == std::multiset<u32>{1, 2});
            CHECK_FALSE(*write_back_one());
        }
    });
}

TEST_CASE("object: a store that fails leaves the page dirty; a source that is gone does not", "[object]") {
    keeps_books([] {
        TestFile file{4 * kPageSize, true};
        Owned space;
        map_file(*space, file, 0, 4, MapKind::shared);
        run_in(space.get());
        user_store(at(1), 1);
        user_store(at(3), 3);
        file.refusal = Error::io;
        CHECK(file.write_back().error() == Error::io);
        CHECK(page_cache_stats().dirty == 2);
        CHECK(write_back_one().error() == Error::io);
        CHECK(page_cache_stats().objects == 1);
        CHECK(write_back_all().error() == Error::io);
        SECTION("and the next try writes it") {
            file.refusal = {};
            REQUIRE(write_back_all());
            CHECK(file.stored == std::multiset<u32>{1, 3});
        }
        SECTION("gone") {
            file.refusal = Error::gone;
            CHECK(file.write_back().error() == Error::gone);
            CHECK(file.write_back());
        }
        CHECK(page_cache_stats().dirty == 0);
    });
}

TEST_CASE("object: a page that is stored to while it is written is dirty again", "[object]") {
    keeps_books([] {
        TestFile file{2 * kPageSize, true};
        Owned space;
        map_file(*space, file, 0, 2, MapKind::shared);
        run_in(space.get());
        user_store(at(0), 1);
        file.in_store = [&] {
            if (file.stored.empty()) user_store(at(0), 2);
        };
        REQUIRE(file.write_back());
        REQUIRE(file.write_back());
        CHECK(file.source[0][0] == 2);
        CHECK(file.stored == std::multiset<u32>{0, 0});
    });
}

TEST_CASE("object: pages are filled without the mutex of the space", "[address_space][object]") {
    keeps_books([] {
        TestFile file{4 * kPageSize}, other{4 * kPageSize};
        Owned space;
        map_file(*space, file, 0, 2, MapKind::shared);
        bool first = true;
        file.in_fill = [&] {
            if (!std::exchange(first, false)) return;
            SECTION("the area is as before") { CHECK(space->stats().areas == 1); }
            SECTION("the area is gone") { REQUIRE(space->unmap(at(0), 2 * kPageSize)); }
            SECTION("another page of the object is there") {
                map_file(*space, file, 0, 2, MapKind::shared, kReadWrite, 2);
            }
            SECTION("another object is there") { map_file(*space, other, 0, 2, MapKind::shared, kReadWrite, 1); }
            SECTION("private memory is there") { map_pages(*space, kBase, 2); }
            SECTION("the right is gone") { REQUIRE(space->protect(at(0), 2 * kPageSize, kRead)); }
        };
        const FaultResult result = space->handle_fault(at(1), FaultAccess::write);
        run_in(space.get());
        if (space->stats().areas == 0) {
            CHECK(result == FaultResult::bad_address);
        } else if (result == FaultResult::no_access) {
            CHECK(user_load(at(1)) == TestFile::word(1, 0));
        } else {
            CHECK(result == FaultResult::resolved);
            const u32 value = user_load(at(1));
            const u32 wanted = other.fills != 0  ? TestFile::word(2, 0)
                               : file.fills == 2 ? TestFile::word(3, 0)
                               : value == 0      ? 0
                                                 : TestFile::word(1, 0);
            CHECK(value == wanted);
        }
    });
}

TEST_CASE("object: a smaller size takes pages from all spaces, a larger one gives zeros", "[address_space][object]") {
    keeps_books([] {
        TestFile file{4 * kPageSize, true};
        Owned one, two;
        map_file(*one, file, 0, 4, MapKind::shared);
        map_file(*two, file, 0, 2, MapKind::shared, kReadWrite, 2);
        map_file(*two, file, 2, 4, MapKind::anonymous);
        run_in(one.get());
        for (u32 page = 0; page < 4; ++page)
            user_store(at(page), page + 100);
        run_in(two.get());
        CHECK(user_load(at(1)) == 103);
        user_store(at(5), 200); // a private copy of page 3
        CHECK(user_load(at(2)) == 100);
        REQUIRE(file.resize(kPageSize + 8));
        CHECK(file.bytes() == kPageSize + 8);
        CHECK(two->stats().resident == 2); // pages 0 and 1, in its second area
        CHECK(one->stats().resident == 2);
        for (const u32 page : {0u, 1u, 4u, 5u})
            CHECK(two->handle_fault(at(page), FaultAccess::read) == FaultResult::no_page);
        CHECK(user_load(at(2)) == 100);
        CHECK(user_load(at(3)) == 101);
        CHECK(user_load(at(3, 4)) == TestFile::word(1, 4));
        CHECK(user_load(at(3, 8)) == 0);
        run_in(one.get());
        user_store(at(1, 12), 9); // behind the end, in the page that has it
        REQUIRE(file.write_back());
        CHECK(file.stored == std::multiset<u32>{0, 1});
        file.source.clear();
        REQUIRE(file.resize(3 * kPageSize));
        CHECK(user_load(at(1, 12)) == 0);
        CHECK(user_load(at(1, 4)) == TestFile::word(1, 4));
        CHECK(user_load(at(2)) == TestFile::word(2, 0)); // this source has no holes
        CHECK(one->handle_fault(at(3), FaultAccess::read) == FaultResult::no_page);
        CHECK(file.resize(MemoryObject::kMaxBytes + 1).error() == Error::invalid);
    });
}

TEST_CASE("object: a smaller size takes pages of an object without a source, too", "[address_space][object]") {
    keeps_books([] {
        TestFile file{4 * kPageSize, ObjectKind::swapped};
        Owned one, two;
        map_file(*one, file, 0, 4, MapKind::shared);
        map_file(*two, file, 0, 4, MapKind::anonymous);
        run_in(one.get());
        for (u32 page = 0; page < 4; ++page)
            user_store(at(page), page + 100);
        run_in(two.get());
        CHECK(user_load(at(2)) == 102);
        user_store(at(3), 200);
        CHECK(file.drop() + file.drop() == 0); // nothing else has these pages
        REQUIRE(file.resize(kPageSize + 8));
        CHECK(one->stats().resident == 2);
        CHECK(two->stats().resident == 2);
        CHECK(two->handle_fault(at(2), FaultAccess::read) == FaultResult::no_page);
        run_in(one.get());
        CHECK(one->handle_fault(at(2), FaultAccess::read) == FaultResult::no_page);
        CHECK(user_load(at(1)) == 101);
        user_store(at(1, 12), 9);
        file.source.clear();
        REQUIRE(file.resize(3 * kPageSize));
        CHECK(user_load(at(1, 12)) == 0);
        CHECK(user_load(at(2)) == TestFile::word(2, 0));
        REQUIRE(file.write_back());
        CHECK(file.stored.empty());
        CHECK(page_cache_stats().clocked == 1);
    });
}

TEST_CASE("object: a size inside a page: nothing is left behind it", "[object]") {
    keeps_books([] {
        for (const bool in_memory : {true, false})
            for (const bool through_zero : {true, false}) {
                TestFile file{kPageSize - 96, true};
                if (in_memory) put_page(*file.page(0));
                REQUIRE(file.resize(100));
                REQUIRE(file.write_back());
                if (!in_memory) CHECK(file.drop() + file.drop() == 1);
                if (through_zero) REQUIRE(file.resize(40));
                REQUIRE(file.resize(2 * kPageSize));
                std::array<u32, kPageSize / 4> words{};
                REQUIRE(file.read(0, words.data(), kPageSize));
                const u32 kept = through_zero ? 10 : 25;
                CHECK(words[kept - 1] == TestFile::word(0, (kept - 1) * 4));
                CHECK(std::all_of(words.begin() + kept, words.end(), [](u32 word) { return word == 0; }));
            }
        TestFile broken{200, true};
        broken.broken = true;
        CHECK(broken.resize(100).error() == Error::out_of_reach);
        CHECK(broken.bytes() == 200);
    });
}

TEST_CASE("object: a page that cannot be read or stored harms no other", "[object]") {
    keeps_books([] {
        TestFile file{40 * kPageSize, true};
        file.bad_page = 20;
        for (u32 page = 0; page < 40; ++page) {
            const Result<Page*> found = file.page(page);
            REQUIRE(static_cast<bool>(found) == (page != 20));
            if (found) put_page(*found);
        }
        file.bad_page = ~0u;
        put_page(*file.page(20));
        for (u32 page = 10; page < 30; ++page)
            file.stored_to(page);
        file.bad_page = 20;
        CHECK(file.write_back().error() == Error::io);
        CHECK(file.stored.size() == 19);
        CHECK(page_cache_stats().dirty == 1);
        file.bad_page = ~0u;
        REQUIRE(file.write_back());
        CHECK(file.stored.size() == 20);
    });
}

TEST_CASE("object: a frozen one takes no stores", "[object][frozen]") {
    keeps_books([] {
        TestFile file{4 * kPageSize - 200, true};
        Owned space;
        map_file(*space, file, 0, 3, MapKind::shared);
        run_in(space.get());
        user_store(at(0), 7); // its page can be written
        CHECK(user_load(at(1)) == TestFile::word(1, 0));
        file.set_frozen(true);
        CHECK(file.is_frozen());
        REQUIRE(file.sync());
        CHECK(file.stored == std::multiset<u32>{0});
        for (u32 page = 0; page < 3; ++page) // the right was taken away; a page that is there; one that is not
            CHECK(space->handle_fault(at(page), FaultAccess::write) == FaultResult::no_page);
        CHECK(user_load(at(0)) == 7);
        CHECK_FALSE(file.stored_to(0));
        Page* const frame = alloc_page(Gfp::user);
        CHECK_FALSE(file.insert(3, frame));
        put_page(frame);
        CHECK(page_cache_stats().dirty == 0);
        // Of a larger one, the bytes behind the old end are zeros on the disk, too.
        REQUIRE(file.resize(4 * kPageSize - 100));
        REQUIRE(file.write_back());
        CHECK(file.stored == std::multiset<u32>{0, 3});
        file.set_frozen(false);
        user_store(at(0), 8);
        REQUIRE(file.write_back());
        CHECK(file.source[0][0] == 8);
        run_in(nullptr);
    });
}

TEST_CASE("object: a source that does not answer is tried once, and its pages stay dirty", "[object]") {
    keeps_books([] {
        TestFile file{200 * kPageSize, true};
        u32 stores = 0;
        file.in_store = [&stores] { ++stores; };
        for (u32 page = 0; page < 200; ++page) {
            put_page(*file.page(page));
            if (page % 50 < 40) file.stored_to(page); // four runs, and parts of runs
        }
        file.refusal = Error::timed_out;
        CHECK(file.write_back().error() == Error::timed_out);
        CHECK(stores == 1);
        CHECK(page_cache_stats().dirty == 160);
        file.refusal = {};
        REQUIRE(*write_back_one()); // it is in the list of dirty objects
        CHECK(file.stored.size() == 160);
        CHECK(page_cache_stats().dirty == 0);
    });
}

// A swap area frees pages whose store is under way: then nobody but end_writing lists the object again.
TEST_CASE("object: after a source did not answer, the rest is listed if the pages that failed have gone", "[object]") {
    keeps_books([] {
        constexpr u32 kRun = MemoryObject::kRun;
        TestFile file{2 * kRun * kPageSize, true};
        for (u32 page = 0; page < 2 * kRun; ++page) {
            put_page(*file.page(page));
            file.stored_to(page);
        }
        file.refusal = Error::timed_out;
        file.in_store = [&file] {
            for (u32 page = 0; page < kRun; ++page)
                put_page(file.take_out(page));
        };
        CHECK(write_back_one().error() == Error::timed_out);
        CHECK(page_cache_stats().dirty == kRun);
        file.refusal = {};
        file.in_store = [] {};
        CHECK(*write_back_one());
        CHECK(file.stored.size() == kRun);
    });
}

TEST_CASE("object: sync of a range makes the shared areas in it durable", "[object]") {
    keeps_books([] {
        TestFile one{2 * kPageSize, true}, two{2 * kPageSize, true}, own{kPageSize, true};
        Owned space;
        map_file(*space, one, 0, 2, MapKind::shared);
        map_file(*space, own, 2, 1, MapKind::anonymous);
        map_file(*space, two, 4, 2, MapKind::shared);
        run_in(space.get());
        for (const u32 page : {0u, 1u, 2u, 4u, 5u})
            user_store(at(page), page + 100);
        const auto range = [](u32 first, u32 end) { return PageRange{at(first).value(), at(end).value()}; };
        REQUIRE(space->sync(range(0, 3), false)); // waits for nothing
        CHECK(one.source.empty());
        REQUIRE(space->sync(range(1, 2), true));
        CHECK(one.source[1][0] == 101); // the whole object
        CHECK(one.source[0][0] == 100);
        CHECK(two.source.empty());
        user_store(at(0), 7);
        CHECK(space->sync(range(0, 6), true).error() == Error::not_found); // the hole; all the same:
        CHECK(one.source[0][0] == 7);
        CHECK(two.source[1][0] == 105);
        CHECK(own.source.empty());
        two.refusal = Error::io;
        user_store(at(4), 8);
        CHECK(space->sync(range(4, 6), true).error() == Error::io);
        run_in(nullptr);
    });
}

// mprotect(2), EACCES: "for example, if you mmap(2) a file to which you have read-only access".
TEST_CASE("object: a shared area of a file that is open for reading gets no right to write", "[object]") {
    keeps_books([] {
        TestFile file{4 * kPageSize, true};
        Owned space;
        REQUIRE(space->map(at(0), 2 * kPageSize, kRead, MapKind::shared, true, true, {&file, 0, false}));
        REQUIRE(space->map(at(2), 2 * kPageSize, kRead, MapKind::shared, true, true, {&file, 2, true}));
        CHECK(space->stats().areas == 2);
        CHECK(space->protect(at(0), kPageSize, kReadWrite).error() == Error::no_access);
        CHECK(space->protect(at(1), 2 * kPageSize, kReadWrite).error() == Error::no_access);
        REQUIRE(space->protect(at(0), kPageSize, Prot::none));
        REQUIRE(space->protect(at(0), kPageSize, kRead | Prot::exec));
        Owned child = fork_of(*space);
        for (AddressSpace* const one : {space.get(), child.get()}) {
            CHECK(one->protect(at(0), kPageSize, kReadWrite).error() == Error::no_access);
            CHECK(one->protect(at(1), kPageSize, kReadWrite).error() == Error::no_access);
            CHECK(one->handle_fault(at(2), FaultAccess::write) == FaultResult::no_access);
        }
        REQUIRE(space->protect(at(2), 2 * kPageSize, kReadWrite));
        REQUIRE(space->map(at(4), 2 * kPageSize, kRead, MapKind::anonymous, true, true, {&file, 0, false}));
        REQUIRE(space->protect(at(4), kPageSize, kReadWrite)); // private: its stores do not reach the file
    });
}

TEST_CASE("object: only pages of a source are dropped", "[object]") {
    keeps_books([] {
        TestFile file{2 * kPageSize};
        put_page(*file.page(0));
        CHECK(file.drop() + file.drop() == 0);
        Page* const frame = alloc_page(Gfp::user);
        memset_page(frame, 0, 2, kPageSize);
        REQUIRE(file.insert(1, frame));
        CHECK(page_cache_stats().dirty == 0);
        CHECK(word_of(file, 1) == 0x0202'0202);
    });
}

TEST_CASE("object: pages that are not used are dropped, and come back", "[object]") {
    keeps_books([] {
        TestFile file{8 * kPageSize, true};
        Owned space;
        map_file(*space, file, 0, 8, MapKind::shared);
        run_in(space.get());
        user_load(at(0));
        user_store(at(1), 1);
        Page* const held = *file.page(2);
        for (const u32 page : {3u, 4u, 5u})
            put_page(*file.page(page));
        CHECK(file.drop() == 0); // all were found
        CHECK(file.drop(0, 4) == 1);
        put_page(*file.page(4));
        CHECK(file.drop() == 1); // 5, but not 4
        put_page(held);
        REQUIRE(space->unmap(at(0), 8 * kPageSize));
        CHECK(file.drop() == 3); // 0, 2 and 4: page 1 is dirty
        REQUIRE(file.write_back());
        CHECK(file.drop() == 1);
        CHECK(page_cache_stats().pages == 0);
        u32 word = 0;
        REQUIRE(file.read(kPageSize, &word, sizeof word));
        CHECK(word == 1);
    });
}

TEST_CASE("object: pages that are read in order are filled many at a time", "[object]") {
    keeps_books([] {
        TestFile file{200 * kPageSize, true};
        for (u32 page = 0; page < 200; ++page)
            put_page(*file.page(page));
        CHECK(file.filled == 200);
        CHECK(file.fills <= 12);
        TestFile random{200 * kPageSize, true};
        for (u32 page = 199; page-- > 100;)
            put_page(*random.page(page));
        CHECK(random.filled == 99);
    });
}

TEST_CASE("object: a page that is replaced is not filled", "[object]") {
    keeps_books([] {
        TestFile file{2 * kPageSize, true};
        Page* const frame = alloc_page(Gfp::user);
        memset_page(frame, 0, 1, kPageSize);
        REQUIRE(file.insert(1, frame));
        Page* const second = alloc_page(Gfp::user);
        CHECK_FALSE(file.insert(1, second));
        CHECK_FALSE(file.insert(2, second));
        free_page(second);
        CHECK(word_of(file, 1) == 0x0101'0101);
        CHECK(file.fills == 0);
        REQUIRE(file.write_back());
        CHECK(file.source[1][3] == 0x0101'0101);
    });
}

TEST_CASE("object: a mapping whose pages have no numbers is refused", "[address_space][object]") {
    keeps_books([] {
        TestFile file{4 * kPageSize};
        Owned space;
        const auto map_from = [&](u32 first) {
            return space->map(at(0), 2 * kPageSize, kRead, MapKind::anonymous, true, true, {&file, first});
        };
        for (const u32 first : {~u32{0}, PageIndex::kMaxPages - 1})
            CHECK(map_from(first).error() == Error::invalid);
        CHECK(space->stats().areas == 0);
        REQUIRE(map_from(PageIndex::kMaxPages - 2)); // behind the end of this one, but a number
        CHECK(space->handle_fault(at(1), FaultAccess::read) == FaultResult::no_page);
    });
}

TEST_CASE("object: its areas count it, and the last user ends it", "[address_space][object]") {
    keeps_books([] {
        bool destroyed = false;
        struct Counted final : MemoryObject {
            explicit Counted(bool& gone) : MemoryObject{2 * kPageSize}, gone_{gone} {}
            ~Counted() = default;
            Status fill(u32, std::span<Page* const> frames) override {
                for (Page* frame : frames)
                    clear_highpage(frame);
                return {};
            }
            void destroy() override { gone_ = true; }
            bool& gone_;
        };
        Counted object{destroyed};
        Owned space;
        REQUIRE(space->map(at(0), 2 * kPageSize, kReadWrite, MapKind::anonymous, true, true, {&object, 0}));
        object.put();
        CHECK_FALSE(destroyed);
        CHECK(object.get_if_used());
        object.put();
        run_in(space.get());
        user_store(at(0), 1);
        REQUIRE(space->unmap(at(0), kPageSize)); // one area is left
        CHECK_FALSE(destroyed);
        REQUIRE(space->unmap(at(1), kPageSize));
        CHECK(destroyed);
        CHECK_FALSE(object.get_if_used());
    });
}

TEST_CASE("object: no memory for a page, its copy, its index, a table", "[address_space][object][failure]") {
    Booted kernel;
    warm_up();
    for (const FaultAccess access : {FaultAccess::read, FaultAccess::write}) {
        const u32 failures = for_every_failure(
            [&](const std::function<void()>& arm) {
                TestFile file{2 * kPageSize};
                Owned space;
                map_file(*space, file, 0, 2, MapKind::anonymous);
                arm();
                const FaultResult result = space->handle_fault(at(0), access);
                CHECK((result == FaultResult::no_memory) == one_failed());
                run_in(space.get());
                CHECK(user_load(at(0, 4)) == TestFile::word(0, 4));
            },
            true);
        CHECK(failures == (access == FaultAccess::write ? 4 : 3));
    }
}

TEST_CASE("object: a sweep goes on where the last one has ended", "[object]") {
    keeps_books([] {
        TestFile file{u64{MemoryObject::kSweep + 2} * kPageSize, true};
        std::vector<Page*> used;
        for (u32 page = 0; page < MemoryObject::kSweep + 2; ++page)
            used.push_back(*file.page(page));
        for (const bool end : {false, true, false, true}) {
            bool passed = !end;
            HandLimit none;
            CHECK(file.sweep(passed, none) == 0);
            CHECK(passed == end);
        }
        put_page(used.back());
        used.pop_back();
        bool passed = false;
        HandLimit none;
        CHECK(file.sweep(passed, none) + file.sweep(passed, none) == 1);
        for (Page* page : used)
            put_page(page);
    });
}

TEST_CASE("object: the clock goes over the pages of all objects", "[object]") {
    keeps_books([] {
        constexpr u32 kLarge = 3 * MemoryObject::kSweep / 2;
        TestFile large{u64{kLarge} * kPageSize, true}, small{4 * kPageSize, true}, kept{2 * kPageSize};
        CHECK(drop_pages(1) == 0);
        const auto fill = [](TestFile& file, u32 pages) {
            for (u32 page = 0; page < pages; ++page)
                put_page(*file.page(page));
        };
        fill(large, kLarge);
        fill(small, 4);
        fill(kept, 2);
        // The first pass takes the mark of each page that was found, the second one drops.
        const u32 first = drop_pages(100);
        CHECK(first >= 100);
        CHECK(first <= MemoryObject::kSweep);
        Page* const used = *small.page(1);
        CHECK(drop_pages(~0u) == kLarge + 4 - first - 1);
        CHECK(page_cache_stats().pages == 3);
        put_page(used);
        CHECK(drop_pages(1) == 1);
        CHECK(drop_pages(1) == 0);
        {
            TestFile other{kPageSize, true};
            CHECK(page_cache_stats().clocked == 3);
        }
        CHECK(page_cache_stats().clocked == 2);
    });
}

// The figure for the greatest machine. The contents of the pages are not written, so that the host needs no memory for
// them; the index is.
TEST_CASE("object: what 64 GiB of cache take of lowmem", "[object][64G]") {
    if (!config::kPae || kDebug) return; // DEBUG writes to each frame that is freed
    class Large final : public MemoryObject {
      public:
        Large() : MemoryObject{kMaxBytes, ObjectKind::written_back} {}
        ~Large() { put(); }

      private:
        Status fill(u32, std::span<Page* const>) override { return {}; }
        void destroy() override {}
    };
    Setup setup;
    setup.machine.cpus = 1;
    setup.machine.ram = 64 * GiB;
    Booted kernel{setup};
    constexpr u32 kMost = kSlow ? 1u << 13 : 1u << 16; // 256 MiB in each step
    const auto low_free = [] { return zone_info(ZoneId::normal).free + zone_info(ZoneId::dma).free; };
    const u32 at_boot = low_free(), high = zone_info(ZoneId::high).free;
    CHECK(u64{high} * kPageSize > 61 * u64{GiB}); // the rest is lowmem, the hole below 4 GiB, and behind 36 bits
    {
        Large file;
        u32 low[3] = {low_free()};
        for (u32 step = 0; step < 2; ++step) {
            for (u32 page = step * kMost; page < (step + 1) * kMost; ++page) {
                const Result<Page*> found = file.page(page);
                REQUIRE(found);
                put_page(*found);
            }
            low[step + 1] = low_free();
            CHECK(page_cache_stats().pages >= (step + 1) * kMost);
        }
        // Some frames at first, and none for a page.
        const u32 first = low[0] - low[1], second = low[1] - low[2];
        CHECK(first <= 16);
        CHECK(second == 0);
        const double bytes_per_page = double{kPageSize} * second / kMost;
        CHECK(bytes_per_page == 0);
        // If all of high memory were such pages:
        const double left = (double{kPageSize} * low[2] - bytes_per_page * high) / MiB;
        INFO("LowFree with " << high / (GiB / kPageSize) << " GiB of cache: " << left << " MiB");
        CHECK(left >= 700);
        // What each frame takes, in the cache or not, is its descriptor.
        CHECK(sizeof(Page) == 8);
        while (drop_pages(1u << 20) != 0) {
        }
    }
    CHECK(low_free() == at_boot);
    CHECK(at_boot / (MiB / kPageSize) >= 740);
}
