// Objects that are written back, under every schedule: stores through mappings against write-back, unmap, fork, and a
// change of the size.
#include "mm/cache/memory_object.hpp"
#include "mm/reclaim/reclaim.hpp"
#include "mm/spaces/user_copy.hpp"
#include "mm/windows/highmem.hpp"
#include "tests/host/explorer/rig.hpp"
#include "tests/host/spaces/program.hpp"

#include <array>

using namespace loft;
using namespace loft::test;

// As for mm's own static objects, a schedule begins with its first value.
namespace loft::litmus {
namespace {

// Two pages, whose first words are 1 and 2 until something else is stored. The source has the first word of each.
constexpr u32 kFilePages = 2;
std::array<u32, kFilePages> source; // of the host; a test resets it

class File final : public MemoryObject {
  public:
    File() : MemoryObject{kFilePages * kPageSize, ObjectKind::written_back} {}

  private:
    Status fill(u32 first, std::span<Page* const> frames) override {
        for (u32 i = 0; i < frames.size(); ++i) {
            clear_highpage(frames[i]);
            memcpy_to_page(frames[i], 0, &source[first + i], sizeof source[0]);
        }
        return {};
    }
    Status store(u32 first, std::span<Page* const> frames) override {
        for (u32 i = 0; i < frames.size(); ++i)
            memcpy_from_page(&source[first + i], frames[i], 0, sizeof source[0]);
        return {};
    }
    void destroy() override;
};
Cache<File> files{"file", Gfp::kernel};
void File::destroy() { files.destroy(this); }

} // namespace
} // namespace loft::litmus

namespace {

using loft::litmus::File, loft::litmus::files, loft::litmus::source, loft::litmus::kFilePages;

struct FileWorld {
    explicit FileWorld(u32 cpus, MapKind kind = MapKind::shared) : s{cpus, 2, 0} {
        warm_up();
        files.reset();
        source = {1, 2};
        file = files.make();
        space = AddressSpace::create();
        REQUIRE(file != nullptr);
        REQUIRE(space != nullptr);
        REQUIRE(space->map(page(0), kFilePages * kPageSize, kReadWrite, kind, true, true, {file, 0}));
        run_in(space);
        for (u32 i = 0; i < kFilePages; ++i)
            REQUIRE(user_load(page(i)) == i + 1);
        run_in(nullptr);
        REQUIRE(space->protect(page(0), kFilePages * kPageSize, kRead)); // no CPU has the root any more
        REQUIRE(space->protect(page(0), kFilePages * kPageSize, kReadWrite));
        s.memory.adopt(*space, page(0), kFilePages, kReadWrite);
        s.memory.may_be_unmapped(*space, page(0), kFilePages);
        s.explored.reset = [this, before = s.explored.reset] {
            before();
            source = {1, 2};
            last = {1, 2};
        };
        s.loose_books = true;
    }
    // The program has no page yet; all are in memory.
    void map_again(MapKind kind) {
        REQUIRE(space->unmap(page(0), kFilePages * kPageSize));
        REQUIRE(space->map(page(0), kFilePages * kPageSize, kReadWrite, kind, true, true, {file, 0}));
    }
    void program(u32 cpu, std::function<void()> body) {
        s.thread(cpu, [this, me = static_cast<u32>(s.explored.threads.size()), body = std::move(body)] {
            s.small_kernel.run_in(me, space);
            body();
            s.small_kernel.run_in(me, nullptr);
        });
    }
    // A store of the program; the last one that was not killed has to reach the source. One thread stores to a page.
    void store(u32 number, u32 value) {
        try {
            user_store(page(number), value);
            last[number] = value;
        } catch (const Killed&) {
        }
    }
    void end_after_first_page() {
        sim::expect(
            static_cast<bool>(s.memory.take_away(*space, page(1), 1, [this] { return file->resize(kPageSize); })),
            "it becomes smaller");
    }
    // At the end of a schedule: after one more write-back the source has what was stored last.
    void check_source() {
        sim::expect(static_cast<bool>(file->write_back()), "write-back works");
        for (u32 i = 0; i < kFilePages; ++i)
            sim::expect(source[i] == last[i], "no store is lost");
        sim::expect(page_cache_stats().dirty == 0, "no page is dirty");
    }

    Scene s;
    File* file = nullptr;
    AddressSpace* space = nullptr;
    std::array<u32, kFilePages> last{};
};

} // namespace

TEST_CASE("explorer: stores through a mapping while the page is written back", "[.explorer][explorer-object]") {
    FileWorld w{2};
    w.program(0, [&w] {
        w.store(0, 10);
        w.store(0, 11);
    });
    w.s.thread(1, [&w] { sim::expect(static_cast<bool>(w.file->write_back()), "write-back works"); });
    w.s.explored.check = [&w] { w.check_source(); };
    w.s.explore(sim::reduced(schedules(20'000), 2, 1));
    w.s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("explorer: a store that needs no fault, because of another thread's, is in the next write-back",
          "[.explorer][explorer-object]") {
    FileWorld w{2};
    w.program(0, [] { user_store(page(0) + 8, 5); }); // not the first word: the source does not have it
    w.program(1, [&w] {
        w.store(0, 11);
        sim::expect(static_cast<bool>(w.file->write_back()), "write-back works");
        sim::expect(source[0] == 11, "a store before the write-back is in it");
    });
    w.s.explored.check = [&w] { w.check_source(); };
    w.s.explore(sim::reduced(schedules(4'000), 1, 1));
    w.s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("explorer: stores through an old translation while one CPU unmaps and another one writes back",
          "[.explorer][explorer-object]") {
    FileWorld w{3};
    w.program(0, [&w] {
        w.store(0, 10);
        w.store(0, 11);
        w.store(0, 12);
    });
    w.program(1, [&w] { sim::expect(static_cast<bool>(w.s.memory.unmap(*w.space, page(0), 1)), "unmap works"); });
    w.s.thread(2, [&w] {
        sim::expect(static_cast<bool>(w.file->write_back()), "write-back works");
        (void)write_back_one();
    });
    w.s.explored.check = [&w] { w.check_source(); };
    w.s.explore(sim::reduced(schedules(6'000), 1, 1));
    w.s.explore(sim::random(schedules(4'000)));
}

TEST_CASE("explorer: stores by the kernel through a pinned page while it is written back",
          "[.explorer][explorer-object]") {
    FileWorld w{2};
    w.s.thread(0, [&w] {
        for (const u32 value : {10u, 11u}) // after an unmap it stores nothing
            if (w.s.memory.write(*w.space, page(0), value)) w.last[0] = value;
    });
    w.s.thread(1, [&w] {
        sim::expect(static_cast<bool>(w.file->write_back()), "write-back works");
        sim::expect(static_cast<bool>(w.s.memory.unmap(*w.space, page(0), 1)), "unmap works");
    });
    w.s.explored.check = [&w] { w.check_source(); };
    w.s.explore(sim::reduced(schedules(6'000), 1, 1));
    w.s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("explorer: a fault while the object becomes smaller", "[.explorer][explorer-object]") {
    for (const MapKind kind : {MapKind::shared, MapKind::anonymous}) {
        FileWorld w{2, kind};
        w.program(0, [&w] {
            w.store(1, 20);
            w.store(1, 21);
        });
        w.s.thread(1, [&w] { w.end_after_first_page(); });
        w.s.explored.check = [&w] {
            sim::expect(w.space->stats().resident == 1, "no page behind the end is mapped");
            sim::expect(w.space->handle_fault(page(1), FaultAccess::read) == FaultResult::no_page, "none comes back");
            sim::expect(page_cache_stats().pages == 1 && page_cache_stats().dirty == 0, "none is in memory");
        };
        w.s.explore(sim::reduced(schedules(2'000), 1, 1));
        w.s.explore(sim::random(schedules(1'000)));
    }
}

TEST_CASE("explorer: a fault that maps the pages around while the object becomes smaller",
          "[.explorer][explorer-object]") {
    for (const MapKind kind : {MapKind::shared, MapKind::anonymous}) {
        FileWorld w{2, kind};
        w.map_again(kind);
        w.program(0, [] { sim::expect(user_load(page(0)) == 1, "it reads the file"); });
        w.s.thread(1, [&w] { w.end_after_first_page(); });
        w.s.explored.check = [&w] {
            sim::expect(w.space->stats().resident == 1, "no page behind the end is mapped");
            sim::expect(page_cache_stats().pages == 1, "none is in memory");
        };
        w.s.explore(sim::reduced(schedules(2'000), 1, 1));
        w.s.explore(sim::random(schedules(1'000)));
    }
}

TEST_CASE("explorer: fork of private copies while the object becomes smaller", "[.explorer][explorer-object]") {
    FileWorld w{2, MapKind::anonymous};
    AddressSpace* child = nullptr;
    w.program(0, [&] {
        w.store(1, 20);
        const Result<AddressSpace*> made = w.space->fork(); // the model does not know that the child loses its page
        child = made ? *made : nullptr;
    });
    w.s.thread(1, [&w] { w.end_after_first_page(); });
    w.s.explored.check = [&] {
        sim::expect(child != nullptr, "fork works");
        for (AddressSpace* space : {w.space, child}) {
            sim::expect(space->stats().resident == 1, "no page behind the end is mapped");
            sim::expect(space->handle_fault(page(1), FaultAccess::read) == FaultResult::no_page, "none comes back");
        }
        child->put();
    };
    w.s.explore(sim::reduced(schedules(6'000), 1, 1));
    w.s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("explorer: cutting and joining areas while the object becomes smaller", "[.explorer][explorer-object]") {
    FileWorld w{2};
    w.s.thread(0, [&w] {
        // Cut in two, and joined again.
        sim::expect(static_cast<bool>(w.s.memory.protect(*w.space, page(1), 1, kRead)), "protect works");
        sim::expect(static_cast<bool>(w.s.memory.protect(*w.space, page(1), 1, kReadWrite)), "protect works");
    });
    w.s.thread(1, [&w] { w.end_after_first_page(); });
    w.s.explored.check = [&w] {
        sim::expect(w.space->stats().resident == 1, "no page behind the end is mapped");
        sim::expect(w.space->stats().areas == 1, "the areas are one again");
    };
    w.s.explore(sim::reduced(schedules(2'000), 1, 1));
    w.s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("explorer: a new area joins an old one while the object becomes smaller", "[.explorer][explorer-object]") {
    FileWorld w{2};
    REQUIRE(w.space->unmap(page(0), kPageSize));
    w.s.thread(0, [&w] {
        sim::expect(
            static_cast<bool>(w.space->map(page(0), kPageSize, kReadWrite, MapKind::shared, true, true, {w.file, 0})),
            "map works");
    });
    w.s.thread(1, [&w] { w.end_after_first_page(); });
    w.s.explored.check = [&w] {
        sim::expect(w.space->stats().resident == 0, "no page behind the end is mapped");
        sim::expect(w.space->stats().areas == 1, "the areas are one");
    };
    w.s.explore(sim::reduced(schedules(2'000), 1, 1));
    w.s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("explorer: two CPUs want the same page of the source, while it is dropped", "[.explorer][explorer-object]") {
    FileWorld w{2};
    REQUIRE(w.space->unmap(page(0), kFilePages * kPageSize));
    REQUIRE(w.file->drop() + w.file->drop() == kFilePages); // the first one takes the marks
    u32 fills = 0, drops = 0;                               // of all schedules
    for (u32 cpu = 0; cpu < 2; ++cpu)
        w.s.thread(cpu, [&, cpu] {
            const u32 filled = page_cache_stats().filled;
            const Result<Page*> found = w.file->page(1);
            sim::expect(static_cast<bool>(found), "it can be filled");
            fills += page_cache_stats().filled != filled;
            u32 word = 0;
            memcpy_from_page(&word, *found, 0, sizeof word);
            sim::expect(word == 2, "it has the bytes of the source");
            put_page(*found);
            if (cpu == 0) drops += w.file->drop(1, 2) + w.file->drop(1, 2);
        });
    w.s.explored.check = [] { sim::expect(page_cache_stats().pages <= 1, "it is in memory at most once"); };
    w.s.explore(sim::reduced(schedules(20'000), 2));
    w.s.explore(sim::random(schedules(1'000)));
    CHECK(fills != 0);
    CHECK(drops != 0);
}

TEST_CASE("explorer: a program uses a file while its pages are reclaimed", "[.explorer][explorer-object]") {
    for (const MapKind kind : {MapKind::shared, MapKind::anonymous}) {
        FileWorld w{2, kind};
        w.program(0, [&w] {
            static_cast<void>(user_load(page(0)));
            w.store(1, 20);
            static_cast<void>(user_load(page(1)));
        });
        w.s.thread(1, [] {
            // Twice: the first time takes the marks of the pages, and the A bits.
            for (u32 pass = 0; pass < 2; ++pass)
                static_cast<void>(drop_pages(1));
            static_cast<void>(try_write_back_one());
            static_cast<void>(drop_pages(1));
        });
        if (kind == MapKind::shared) w.s.explored.check = [&w] { w.check_source(); };
        w.s.explore(sim::reduced(schedules(2'000), 1, 1));
        w.s.explore(sim::random(schedules(1'000)));
    }
}

// One page can be freed, and two threads want one: whoever has waited for the other one has got it, too.
TEST_CASE("explorer: two threads reclaim at once", "[.explorer][explorer-object]") {
    FileWorld w{2};
    REQUIRE(w.space->unmap(page(0), kFilePages * kPageSize));
    static_cast<void>(w.file->write_back());
    REQUIRE(w.file->resize(kPageSize));
    while (drop_pages(1) == 0) {
    }
    put_page(*w.file->page(0));
    static_cast<void>(w.file->write_back());
    REQUIRE(page_cache_stats().pages == 1);
    REQUIRE(page_cache_stats().dirty == 0);
    u32 results[2]{}, both = 0;
    for (u32 cpu = 0; cpu < 2; ++cpu)
        w.s.thread(cpu, [&results, cpu] { results[cpu] = reclaim(1, Reclaimer::program); });
    w.s.explored.check = [&] {
        sim::expect(page_cache_stats().pages == 0, "the page is free");
        sim::expect(results[0] + results[1] != 0, "one has freed it");
        both += results[0] != 0 && results[1] != 0;
    };
    w.s.explored.longest = 60'000; // each part of a turn of the hand looks at the whole index
    w.s.explore(sim::reduced(schedules(1'000), 1, 1));
    w.s.explore(sim::random(schedules(300)));
    CHECK(both != 0);
}

TEST_CASE("explorer: reclaim while other threads write all that could be freed", "[.explorer][explorer-object]") {
    for (const bool by_list : {false, true}) {
        FileWorld w{2};
        REQUIRE(w.space->unmap(page(0), kFilePages * kPageSize));
        for (u32 number = 0; number < kFilePages; ++number)
            w.file->stored_to(number);
        w.s.thread(0, [&w, by_list] {
            sim::expect(static_cast<bool>(by_list ? write_back_all() : w.file->write_back()), "write-back works");
        });
        w.s.thread(1, [] { sim::expect(reclaim(1, Reclaimer::program) != 0, "a page that was dirty is freed"); });
        w.s.explored.longest = 60'000; // each part of a turn of the hand looks at the whole index
        w.s.explore(sim::reduced(schedules(1'000), 1, 1));
        w.s.explore(sim::random(schedules(1'000)));
    }
}
