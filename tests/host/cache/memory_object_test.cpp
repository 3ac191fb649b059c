// Memory objects: the contents of areas that map one, the page that a store changes, and the calls of stored_to().
#include "mm/cache/memory_object.hpp"
#include "mm/spaces/user_copy.hpp"
#include "tests/host/spaces/program.hpp"

#include <algorithm>
#include <array>
#include <set>

using namespace loft;
using namespace loft::test;

namespace {

constexpr VirtAddr at(u32 page, u32 offset = 0) { return VirtAddr{kBase + page * kPageSize + offset}; }

// A file: word i of its contents is i + 1. Valid as long as its variable.
class TestFile final : public MemoryObject {
  public:
    explicit TestFile(u64 bytes, bool written_back = false) : MemoryObject{bytes, written_back} {}
    ~TestFile() { put(); }
    static constexpr u32 word(u32 page, u32 offset) { return (page * kPageSize + offset) / 4 + 1; }

    u32 fills = 0;
    bool broken = false;       // it cannot be read
    std::multiset<u32> told{}; // numbers of pages that were stored to
    bool destroyed = false;

    void stored_to(u32 number) override {
        told.insert(number);
        ended = false;
    }
    // No CPU has a translation any more by which it could store without being noticed.
    void stores_ended() override {
        ended = std::none_of(told.begin(), told.end(), [](u32 page) { return sim::machine().stale(at(page)); });
    }
    bool ended = true;

  private:
    Status fill(u32 number, Page* frame) override {
        ++fills;
        if (broken) return Error::out_of_reach;
        std::array<u32, kPageSize / 4> words{};
        for (u32 i = 0; i < words.size(); ++i)
            if (u64{number} * kPageSize + i * 4 < bytes()) words[i] = word(number, i * 4);
        memcpy_to_page(frame, 0, words.data(), kPageSize);
        return {};
    }
    void destroy() override { destroyed = true; }
};

void map_file(AddressSpace& space, TestFile& file, u32 page, u32 pages, MapKind kind, Prot prot = kReadWrite,
              u32 first = 0) {
    REQUIRE(space.map(at(page), pages * kPageSize, prot, kind, true, true, {&file, first}));
}

u32 word_of(TestFile& file, u32 page) {
    u32 word = 0;
    REQUIRE(file.read(u64{page} * kPageSize, &word, sizeof word));
    return word;
}

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
        CHECK(file.told.empty());
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
        CHECK(file.told.empty());
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

TEST_CASE("object: one that is written back hears of each page that was stored to", "[address_space][object]") {
    keeps_books([] {
        TestFile file{4 * kPageSize, true};
        const auto told = [&](std::multiset<u32> pages) {
            CHECK(file.told == pages);
            CHECK(file.ended);
            file.told.clear();
        };
        Owned space;
        map_file(*space, file, 0, 4, MapKind::shared);
        run_in(space.get());
        user_load(at(0));
        user_store(at(1), 1);
        user_store(at(2), 2);
        SECTION("by unmap") {
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            told({1, 2});
        }
        SECTION("by the end of the space") {
            space.end();
            told({1, 2});
        }
        SECTION("by a mapping in its place") {
            map_pages(*space, kBase + kPageSize, 1);
            told({1});
        }
        SECTION("by losing the right to write, and again after the next store") {
            REQUIRE(space->protect(at(0), 4 * kPageSize, kRead));
            told({1, 2});
            REQUIRE(space->protect(at(0), 4 * kPageSize, kReadWrite));
            told({});
            user_store(at(2), 3);
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            told({2});
        }
        SECTION("by a change that leaves the right to write: a store after it counts, too") {
            REQUIRE(space->protect(at(0), 4 * kPageSize, kAll));
            told({1, 2});
            user_store(at(2), 3);
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            told({2});
        }
        SECTION("also of stores by the kernel, through a mapping of its own") {
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            file.told.clear();
            map_file(*space, file, 0, 4, MapKind::shared);
            user_load(at(1)); // an entry that is there, and one that is not
            const u32 word = 7;
            for (const u32 page : {1u, 3u})
                REQUIRE(write_space(*space, UserAddr{at(page).value()}, &word, sizeof word) == 0);
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            told({1, 3});
        }
        SECTION("a private area is its own") {
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            file.told.clear();
            map_file(*space, file, 0, 4, MapKind::anonymous);
            user_store(at(3), 4);
            REQUIRE(space->unmap(at(0), 4 * kPageSize));
            told({});
        }
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
            Status fill(u32, Page* frame) override {
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
        const u32 failures = for_every_failure([&](const std::function<void()>& arm) {
            TestFile file{2 * kPageSize};
            Owned space;
            map_file(*space, file, 0, 2, MapKind::anonymous);
            arm();
            const FaultResult result = space->handle_fault(at(0), access);
            CHECK((result == FaultResult::no_memory) == one_failed());
            run_in(space.get());
            CHECK(user_load(at(0, 4)) == TestFile::word(0, 4));
        });
        CHECK(failures == (access == FaultAccess::write ? 4 : 3));
    }
}
