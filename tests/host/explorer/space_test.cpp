// Address spaces under every schedule: faults, unmap, fork, copies and destruction on several CPUs at the same time.
//
// program_memory.hpp judges every access of a program; the tests add what they expect besides.
#include "mm/spaces/user_copy.hpp"
#include "tests/host/explorer/rig.hpp"
#include "tests/host/oracle.hpp"
#include "tests/host/spaces/program.hpp"
#include "tests/host/spaces/program_memory.hpp"

#include <set>

using namespace loft;
using namespace loft::test;

namespace {

// A space with a few pages, and threads that run in it. When a thread sleeps, its CPU keeps the root lazily.
struct World {
    explicit World(u32 cpus, u32 pages = 2) : s{cpus, 2, 0} {
        warm_up();
        space = space_with_pages(pages); // every CPU starts with the kernel's root and an empty TLB
        memory.adopt(*space, page(0), pages, kReadWrite);
    }
    // A thread of another space, which it takes from a place that is filled before it comes there.
    void program_of(u32 cpu, AddressSpace*& other, std::function<void()> body) {
        s.thread(cpu, [this, &other, me = static_cast<u32>(s.explored.threads.size()), body = std::move(body)] {
            s.small_kernel.run_in(me, other);
            body();
            s.small_kernel.run_in(me, nullptr);
        });
    }
    // Explores; at the end of each schedule memory is as the model says, and then `check` runs.
    void explore(
        const sim::Plan& plan, const std::function<void()>& check = [] {}) {
        s.explored.check = check;
        s.explore(plan);
    }
    // A thread of the program, on this CPU.
    void program(u32 cpu, std::function<void()> body) {
        s.thread(cpu, [this, me = static_cast<u32>(s.explored.threads.size()), body = std::move(body)] {
            s.small_kernel.run_in(me, space);
            body();
            s.small_kernel.run_in(me, nullptr);
        });
    }
    Scene s;
    ProgramMemory& memory = s.memory;
    AddressSpace* space = nullptr;
};

// The value that a program reads at `va`; empty if the access kills it.
std::optional<u32> try_load(VirtAddr va) {
    std::optional<u32> value;
    try {
        value = user_load(va);
    } catch (const Killed&) {
    }
    return value;
}
bool try_store(VirtAddr va, u32 value) {
    bool stored = true;
    try {
        user_store(va, value);
    } catch (const Killed&) {
        stored = false;
    }
    return stored;
}

} // namespace

TEST_CASE("explorer: two CPUs fault on the same page, and get the same one", "[.explorer][explorer-space]") {
    World w{2};
    constexpr VirtAddr fresh{kBase + 0x100'0000};
    map_pages(*w.space, fresh.value(), 1);
    w.memory.adopt(*w.space, fresh, 1, kReadWrite);
    for (u32 cpu = 0; cpu < 2; ++cpu)
        w.program(cpu, [=] {
            user_store(fresh + 4 * cpu, cpu + 1);
            static_cast<void>(user_load(fresh + 4 * cpu));
        });
    const auto check = [&] {
        sim::expect(w.space->stats().resident == 3, "it is one page");
        sim::expect(static_cast<bool>(w.space->unmap(fresh, kPageSize)), "it goes");
    };
    w.explore(sim::reduced(schedules(20'000), 2, 1), check);
    w.explore(sim::random(schedules(1'500)), check);
}

TEST_CASE("explorer: a fault against an unmap on another CPU", "[.explorer][explorer-space]") {
    World w{2};
    w.program(0, [] {
        try_load(page(0));
        try_load(page(0));
        try_store(page(1), 7);
    });
    w.program(1, [&w] {
        sim::expect(static_cast<bool>(w.memory.unmap(*w.space, page(0), 1)), "unmap works");
        try_load(page(0));
        sim::expect(static_cast<bool>(w.memory.map(*w.space, page(0), 1, kReadWrite)), "map works");
        sim::expect(static_cast<bool>(w.memory.unmap(*w.space, page(0), 2)), "unmap works");
    });
    // In the end the page of both is unmapped and its table freed.
    const auto check = [&] {
        sim::expect(w.space->stats().resident == 0 && w.space->stats().tables == 0, "all is gone");
    };
    w.s.loose_books = true;
    w.explore(sim::reduced(schedules(40'000), 1, 1), check);
    w.explore(sim::random(schedules(1'500)), check);
}

TEST_CASE("explorer: an unmapped page goes to its next owner only when no CPU can reach it any more",
          "[.explorer][explorer-space]") {
    World w{2};
    w.program(0, [] {
        for (u32 i = 0; i < 3; ++i)
            try_load(page(0));
    });
    w.program(1, [&w] {
        sim::expect(static_cast<bool>(w.memory.unmap(*w.space, page(0), 1)), "unmap works");
        Page* next = alloc_page(Gfp::high);
        memset_page(next, 0, 0x5a, kPageSize);
        free_page(next);
    });
    w.s.loose_books = true;
    w.explore(sim::reduced(schedules(8'000), 2, 1));
    w.explore(sim::random(schedules(1'500)));
}

TEST_CASE("explorer: stores against a protect on another CPU", "[.explorer][explorer-space]") {
    World w{2, 1};
    w.program(0, [] {
        for (u32 i = 0; i < 2; ++i)
            try_store(page(0), 10 + i);
    });
    w.program(1, [&w] {
        sim::expect(static_cast<bool>(w.memory.protect(*w.space, page(0), 1, kRead)), "protect works");
        static_cast<void>(user_load(page(0)));
        sim::expect(static_cast<bool>(w.memory.protect(*w.space, page(0), 1, kReadWrite)), "protect works");
    });
    w.explore(sim::reduced(schedules(8'000), 1, 1));
    w.explore(sim::random(schedules(1'500)));
}

TEST_CASE("explorer: fork against a write on another CPU", "[.explorer][explorer-space]") {
    World w{2, 1};
    w.program(0, [] {
        user_store(page(0), 2);
        user_store(page(0), 3);
        static_cast<void>(user_load(page(0)));
    });
    w.program(1, [&w] {
        AddressSpace* const child = w.memory.fork(*w.space);
        sim::expect(child != nullptr, "fork works");
        for (u32 i = 0; i < 2; ++i)
            sim::expect(w.memory.read(*child, page(0)).has_value(), "the child has its page");
        w.memory.put(child);
    });
    w.explore(sim::reduced(schedules(4'000), 1, 1));
    w.explore(sim::random(schedules(1'500)));
}

TEST_CASE("explorer: two sides of a fork write at the same time", "[.explorer][explorer-space]") {
    World w{3, 1};
    AddressSpace* child = nullptr;
    {
        const Result<AddressSpace*> forked = w.space->fork();
        REQUIRE(forked);
        child = *forked;
    }
    w.memory.adopt(*child, page(0), 1, kReadWrite);
    w.program(0, [] {
        user_store(page(0), 10);
        static_cast<void>(user_load(page(0)));
    });
    w.program(1, [] {
        for (u32 i = 0; i < 2; ++i)
            static_cast<void>(user_load(page(0)));
    });
    w.program_of(2, child, [] {
        user_store(page(0), 20);
        static_cast<void>(user_load(page(0)));
    });
    w.s.loose_books = true;
    w.explore(sim::reduced(schedules(8'000), 1, 1));
    w.explore(sim::random(schedules(6'000)));
}

// x86 keeps the order of stores (SDM vol. 3, 8.2.2). One CPU makes the copy, a second one stores to it, and a third one
// may have the old page in its TLB. All CPUs have the root loaded, so that one preemption and one old translation are
// enough for the fault.
TEST_CASE("explorer: no CPU reads the old page once the copy is written", "[.explorer][explorer-space][explorer-cow]") {
    World w{3, 1};
    run_in(w.space);
    const Owned child = fork_of(*w.space);
    run_in(nullptr);
    w.memory.adopt(*child, page(0), 1, kReadWrite);
    for (u32 cpu = 0; cpu < 3; ++cpu)
        sim::on_cpu(CpuId{cpu}, [&w] {
            run_in(w.space);
            static_cast<void>(user_load(page(0)));
            run_in(nullptr);
        });
    w.program(0, [] { user_store(page(0) + 4, 1); });
    w.program(1, [] { user_store(page(0), 7); });
    w.program(2, [] { static_cast<void>(user_load(page(0))); });
    w.s.loose_books = true;
    w.explore(sim::reduced(schedules(20'000), 1, 1));
}

// Message passing across a copy on write: one thread makes the copy, a second one stores to the page and then sets a
// flag, a third one has the old page in its TLB.
TEST_CASE("explorer: stores are seen in order across a copy on write", "[.explorer][explorer-space]") {
    World w{3};
    run_in(w.space);
    const Owned child = fork_of(*w.space);
    user_store(page(1), 0); // the page of the flag is private again
    run_in(nullptr);
    REQUIRE(w.space->protect(page(0), kPageSize, kRead));
    REQUIRE(w.space->protect(page(0), kPageSize, kReadWrite));
    w.memory.adopt(*w.space, page(0), 2, kReadWrite);
    w.program(0, [] { user_store(page(0) + 4, 1); });
    w.program(1, [] {
        user_store(page(0), 7);
        user_store(page(1), 1);
    });
    w.program(2, [] {
        static_cast<void>(user_load(page(0)));
        if (user_load(page(1)) != 1) return;
        sim::expect(user_load(page(0)) == 7, "the flag is seen, so the datum is");
    });
    w.s.loose_books = true;
    w.explore(sim::reduced(schedules(8'000), 1, 1));
    w.explore(sim::random(schedules(10'000)));
}

TEST_CASE("explorer: the memory of a program is taken while its threads run", "[.explorer][explorer-space]") {
    World w{3};
    w.s.thread(0, [&w] {
        const auto reap = [&w]() -> Status {
            w.space->reap();
            return {};
        };
        sim::expect(static_cast<bool>(w.memory.take_away(*w.space, page(0), 2, reap)), "it is taken");
    });
    w.program(1, [] {
        try_store(page(0), 5);
        try_load(page(0));
        try_load(page(1));
    });
    w.program(2, [] { try_store(page(1), 7); });
    const auto check = [&w] { sim::expect(w.space->stats() == SpaceStats{}, "nothing is left"); };
    w.s.loose_books = true;
    w.explore(sim::reduced(schedules(8'000), 1, 1), check);
    w.explore(sim::random(schedules(1'500)), check);
}

TEST_CASE("explorer: a pinned page stays the memory of its program", "[.explorer][explorer-space]") {
    World w{2, 1};
    w.program(0, [&w] {
        const auto pin = w.memory.pin(*w.space, page(0));
        sim::expect(pin.page != nullptr, "it can be pinned");
        w.memory.store(pin, 0, 5);
        static_cast<void>(user_load(page(0)));
        static_cast<void>(w.memory.load(pin, 0));
        w.memory.unpin(pin);
    });
    w.program(1, [&w] {
        AddressSpace* const child = w.memory.fork(*w.space);
        sim::expect(child != nullptr, "fork works");
        user_store(page(0), 6);
        static_cast<void>(w.memory.read(*child, page(0)));
        w.memory.put(child);
    });
    w.explore(sim::reduced(schedules(4'000), 1, 1));
    w.explore(sim::random(schedules(1'500)));
}

TEST_CASE("explorer: two CPUs of the kernel read and write one word of a program", "[.explorer][explorer-space]") {
    World w{2, 1};
    // The read may begin while the write is in progress, access the word before it, and return after it.
    w.s.thread(0, [&w] {
        sim::expect(w.memory.write(*w.space, page(0), 5), "the kernel writes");
        sim::expect(w.memory.read(*w.space, page(0)) == 5, "its own value");
    });
    w.s.thread(1, [&w] {
        static_cast<void>(w.memory.read(*w.space, page(0)));
        static_cast<void>(w.memory.read(*w.space, page(0)));
    });
    w.explore(sim::reduced(schedules(8'000), 1, 1));
    w.explore(sim::random(schedules(1'500)));
}

TEST_CASE("explorer: two spaces fault on the same page of shared memory", "[.explorer][explorer-space]") {
    World w{2};
    constexpr VirtAddr fresh{kBase + 0x100'0000};
    map_pages(*w.space, fresh.value(), 1, kReadWrite, MapKind::shared);
    w.memory.adopt(*w.space, fresh, 1, kReadWrite);
    AddressSpace* child = nullptr;
    {
        const Result<AddressSpace*> forked = w.space->fork();
        REQUIRE(forked);
        child = *forked;
    }
    w.memory.adopt(*child, page(0), 2, kReadWrite);
    w.memory.adopt(*child, fresh, 1, kReadWrite, w.space);
    const auto body = [=] {
        static_cast<void>(user_load(fresh + 4 * (active_space() == child ? 1 : 0)));
        user_store(fresh + 4 * (active_space() == child ? 0 : 1), 5);
        static_cast<void>(user_load(fresh));
    };
    w.program(0, body);
    w.program_of(1, child, body);
    w.s.loose_books = true;
    const auto check = [&] {
        const auto one = oracle_walk(w.space->root().value(), fresh.value());
        const auto other = oracle_walk(child->root().value(), fresh.value());
        sim::expect(one && other && one->phys == other->phys, "it is one frame");
    };
    w.explore(sim::reduced(schedules(20'000), 2, 1), check);
    w.explore(sim::random(schedules(1'500)), check);
}

TEST_CASE("explorer: two CPUs put the references of a page", "[.explorer][explorer-page]") {
    Scene s{2, 2, 0};
    Page* const page = alloc_page(Gfp::high);
    REQUIRE(page != nullptr);
    get_page(page);
    get_page(page);
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [page] {
            get_page(page);
            put_page(page);
            put_page(page);
        });
    s.explored.check = [page] { sim::expect(page->refs() == 1, "one reference is left"); };
    s.explore(sim::reduced(schedules(8'000)));
    free_page(page);
}

TEST_CASE("explorer: a lazy CPU against the end of the space", "[.explorer][explorer-space]") {
    World w{2};
    // CPU 1 has run the program and switches to another one, or to none; CPU 0 puts the last reference.
    AddressSpace* const other = AddressSpace::create();
    REQUIRE(other != nullptr);
    map_pages(*other, kBase, 1);
    w.memory.adopt(*other, page(0), 1, kReadWrite);
    const bool goes_on = GENERATE(false, true);
    w.s.thread(0, [&w] {
        w.s.small_kernel.run_in(0, w.space);
        static_cast<void>(user_load(page(0)));
        w.s.small_kernel.run_in(0, nullptr);
        while (w.s.done.load() == 0)
            hal::cpu_relax();
        w.memory.put(w.space);
    });
    w.s.thread(1, [&w, other, goes_on] {
        w.s.small_kernel.run_in(1, w.space);
        static_cast<void>(user_load(page(1)));
        w.s.small_kernel.run_in(1, nullptr);
        w.s.done.store(1);
        if (!goes_on) return;
        w.s.small_kernel.run_in(1, other);
        static_cast<void>(user_load(page(0)));
        w.s.small_kernel.run_in(1, nullptr);
    });
    w.s.loose_books = true;
    const auto check = [&] {
        sim::expect(page_table_stats().tables == (config::kPae ? 3 : 1) + (goes_on ? 1 : 0), "its tables are back");
    };
    w.explore(sim::reduced(schedules(4'000), 1, 1), check);
    w.explore(sim::random(schedules(1'000)), check);
}

TEST_CASE("explorer: two lazy CPUs leave a space at its end", "[.explorer][explorer-space]") {
    World w{3};
    w.s.thread(0, [&w] {
        while (w.s.done.load() != 2)
            hal::cpu_relax();
        w.memory.put(w.space);
    });
    for (u32 cpu = 1; cpu < 3; ++cpu)
        w.s.thread(cpu, [&w, cpu] {
            w.s.small_kernel.run_in(cpu, w.space);
            static_cast<void>(user_load(page(cpu - 1)));
            w.s.small_kernel.run_in(cpu, nullptr);
            w.s.done.fetch_add(1);
        });
    w.s.loose_books = true;
    const auto check = [] { sim::expect(page_table_stats().tables == 0, "its tables are back"); };
    w.explore(sim::reduced(schedules(2'000), 1, 1), check);
    w.explore(sim::random(schedules(1'000)), check);
}

TEST_CASE("explorer: a CPU comes to a space while another one unmaps there", "[.explorer][explorer-space]") {
    World w{2};
    w.program(0, [&w] { sim::expect(static_cast<bool>(w.memory.unmap(*w.space, page(0), 2)), "unmap works"); });
    w.s.thread(1, [&w] {
        for (u32 i = 0; i < 2; ++i) {
            w.s.small_kernel.run_in(1, w.space);
            try_load(page(0));
            w.s.small_kernel.run_in(1, nullptr);
        }
    });
    w.s.loose_books = true;
    w.explore(sim::reduced(schedules(20'000), 2, 1));
    w.explore(sim::random(schedules(1'500)));
}

TEST_CASE("explorer: a copy against unmap and map", "[.explorer][explorer-space]") {
    World w{2};
    w.program(0, [&w] {
        w.memory.copy_in(page(0));
        w.memory.copy_out(page(1), 9);
    });
    w.program(1, [&w] {
        sim::expect(static_cast<bool>(w.memory.unmap(*w.space, page(0), 2)), "unmap works");
        sim::expect(static_cast<bool>(w.memory.map(*w.space, page(0), 1, kReadWrite)), "map works");
    });
    w.s.loose_books = true;
    w.explore(sim::reduced(schedules(8'000), 1, 1));
    w.explore(sim::random(schedules(1'500)));
}

// Words are accessed one after the other, each of them whole.
TEST_CASE("explorer: each word of a copy counts by itself", "[.explorer][explorer-space][explorer-copies]") {
    World w{2, 1};
    std::set<std::pair<bool, bool>> seen; // which words were new
    SECTION("from a program that stores") {
        w.program(0, [&] {
            std::vector<u32> words(2);
            sim::expect(w.memory.copy_in(page(0), words) == 2, "the copy works");
            seen.emplace(words[0] != 1, words[1] != 0);
        });
        w.program(1, [] {
            user_store(page(0), 0x2'0002);
            user_store(page(0) + 4, 0x3'0003);
        });
    }
    SECTION("to a program that loads") {
        w.program(0, [&] { sim::expect(w.memory.copy_out(page(0), {0x2'0002, 0x3'0003}) == 2, "the copy works"); });
        w.program(1, [&] {
            const u32 first = user_load(page(0)), second = user_load(page(0) + 4);
            seen.emplace(first != 1, second != 0);
        });
    }
    w.explore(sim::reduced(schedules(4'000), 2, 1));
    w.explore(sim::random(schedules(1'000)));
    CHECK((seen.size() == 4 || !kWhole));
}

TEST_CASE("explorer: a copy of several words ends where the memory ends",
          "[.explorer][explorer-space][explorer-copies]") {
    World w{2, 2};
    w.program(0, [&w] {
        std::vector<u32> words(3);
        w.memory.copy_in(page(1) - 4, words);
        w.memory.copy_out(page(1) - 8, {5, 6, 7});
    });
    w.program(1, [&w] {
        sim::expect(static_cast<bool>(w.memory.unmap(*w.space, page(1), 1)), "unmap works");
        try_store(page(1) - 4, 8);
    });
    w.s.loose_books = true;
    w.explore(sim::reduced(schedules(4'000), 1, 1));
    w.explore(sim::random(schedules(1'000)));
}

// The frame stays in use, so nothing but the model can tell that the copy goes on there after the unmap.
TEST_CASE("explorer: a copy from shared memory ends with the mapping", "[.explorer][explorer-space][explorer-copies]") {
    World w{2, 1};
    constexpr VirtAddr shared = page(8); // in the same table as page(0), which stays: freeing a table flushes, too
    map_pages(*w.space, shared.value(), 1, kReadWrite, MapKind::shared);
    run_in(w.space);
    user_store(shared, 1);
    run_in(nullptr);
    const Owned child = fork_of(*w.space);
    w.memory.adopt(*w.space, shared, 1, kReadWrite);
    w.memory.adopt(*child, shared, 1, kReadWrite, w.space);
    w.program(0, [&] {
        std::vector<u32> words(2);
        w.memory.copy_in(shared, words);
    });
    w.program(1, [&] {
        sim::expect(static_cast<bool>(w.memory.unmap(*w.space, shared, 1)), "unmap works");
        sim::expect(w.memory.write(*child, shared + 4, 0x5'0005), "the child has the page still");
    });
    w.s.loose_books = true;
    w.explore(sim::reduced(schedules(4'000), 1, 1));
    w.explore(sim::random(schedules(1'000)));
}

TEST_CASE("explorer: a string is copied while the program changes it", "[.explorer][explorer-space][explorer-copies]") {
    World w{2, 1};
    run_in(w.space);
    user_store(page(0), 0x6463'6261); // abcdef
    user_store(page(0) + 4, 0x0000'6665);
    run_in(nullptr);
    w.memory.adopt(*w.space, page(0), 1, kReadWrite);
    std::set<std::string> seen;
    w.program(0, [&] { seen.insert(w.memory.copy_string(page(0), 8).value_or("?")); });
    w.program(1, [] {
        user_store(page(0), 0x0063'6261);     // abc
        user_store(page(0) + 4, 0x6968'6766); // no end before the third word
        user_store(page(0), 0x6463'6261);
    });
    w.explore(sim::reduced(schedules(4'000), 2, 1));
    w.explore(sim::random(schedules(1'000)));
    CHECK((seen == std::set<std::string>{"abcdef", "abc", "abcdfghi"} || !kWhole));
}

// The model itself: it rejects accesses that a wrong kernel would let pass.
TEST_CASE("explorer: the model of a program's memory rejects what x86 and the calls do not allow",
          "[.explorer][explorer-space]") {
    World w{1, 2};
    const auto failure_of = [&w](std::function<void()> body) {
        w.s.explored.threads.clear();
        w.program(0, std::move(body));
        w.s.explored.check = {};
        w.s.loose_books = true;
        return w.s.attempt(sim::reduced(1)).failure;
    };
    const auto says = [&](std::function<void()> body, const char* text) {
        const std::string failure = failure_of(std::move(body));
        INFO(failure);
        CHECK(failure.find(text) != std::string::npos);
    };
    CHECK(failure_of([&w] { w.memory.loaded(page(0), 1); }).empty());
    says([&w] { w.memory.loaded(page(0), 2); }, "loads 2 from 10000000; the memory of the program has 1 there");
    says(
        [&w] {
            user_store(page(0), 7);
            w.memory.loaded(page(0), 1); // its own store comes first
        },
        "loads 1 from 10000000; the memory of the program has 7 there");
    says(
        [&w] {
            REQUIRE(w.memory.unmap(*w.space, page(0), 1));
            w.memory.loaded(page(0), 1);
        },
        "loads 1 from 10000000, where nothing is mapped for reading");
    says(
        [&w] {
            REQUIRE(w.memory.protect(*w.space, page(0), 1, kRead));
            static_cast<void>(w.memory.stored(page(0), 1));
        },
        "stores 1 to 10000000, where nothing is mapped for writing");
    says([&w] { w.memory.killed(w.memory.begin_access(page(0), FaultAccess::write)); },
         "is killed by a write of page 10000, which allowed it all the time");
    says(
        [&w] {
            AddressSpace* const child = w.memory.fork(*w.space);
            user_store(page(0), 9);
            w.s.small_kernel.run_in(0, child);
            w.memory.loaded(page(0), 9); // stored after the fork
        },
        "loads 9 from 10000000; the memory of the program has 1 there");
    says(
        [&w] {
            const auto pin = w.memory.pin(*w.space, page(0));
            w.memory.store(pin, 0, 4);
            w.memory.loaded(page(0), 1);
        },
        "loads 1 from 10000000; the memory of the program has 4 there");
    says(
        [&w] {
            CHECK(w.memory.write(*w.space, page(0), 5));
            w.memory.loaded(page(0), 1);
        },
        "loads 1 from 10000000; the memory of the program has 5 there");
    says(
        [&w] {
            REQUIRE(w.memory.protect(*w.space, page(0), 1, kRead));
            CHECK_FALSE(w.memory.write(*w.space, page(0), 5));
            w.memory.loaded(page(0), 5); // refused, and written nevertheless
        },
        "loads 5 from 10000000; the memory of the program has 1 there");
    // A copy by old translations.
    const auto copies = [](FaultAccess access) { ProgramMemory::copied(page(0), 9, access); };
    says([&] { copies(FaultAccess::read); }, "loads 9 from 10000000; the memory of the program has 1 there");
    says(
        [&] {
            REQUIRE(w.memory.protect(*w.space, page(0), 1, kRead));
            copies(FaultAccess::write);
        },
        "stores 9 to 10000000, where nothing is mapped for writing");
    says(
        [&] {
            copies(FaultAccess::write);
            w.memory.loaded(page(0), 1);
        },
        "loads 1 from 10000000; the memory of the program has 9 there");
    // A store of another kernel that the model does not know of: the frame has something else at the end.
    says(
        [&w] {
            user_store(page(0), 3);
            const auto mapped = oracle_walk(w.space->root().value(), kBase);
            hal::pte_take(reinterpret_cast<hal::PteCell*>(sim::ram_at(0x1000))); // drains the store buffer
            sim::poke<u32>(PhysAddr{mapped->phys}, 0);
        },
        "left 0 at page 10000, offset 0, of a program that has 3 there");
}

namespace {

// Two CPUs that have run the space already, without idle CPUs: few schedules.
struct Pair {
    Pair() : w{2, 1} {
        for (u32 cpu = 0; cpu < 2; ++cpu)
            sim::on_cpu(CpuId{cpu}, [this] { run_in(w.space); });
        w.s.small_kernel.marks_idle = false;
        w.s.loose_books = true;
    }
    // Whether one of all schedules fails.
    bool fails(std::function<void()> first, std::function<void()> second) {
        w.s.thread(0, std::move(first));
        w.s.thread(1, std::move(second));
        const sim::Report report = w.s.attempt(sim::reduced(20'000));
        INFO(report.failure);
        CHECK((report.complete || !report.failure.empty()));
        return !report.failure.empty();
    }
    World w;
};

} // namespace

// The reduction must try each order of a store and a load of a word, and of an access and a call, although a wrong
// kernel lets them reach different frames.
TEST_CASE("explorer: the model sees every order of accesses and calls", "[.explorer][explorer-space]") {
    const auto loads = [](Pair& pair, u32 value) {
        return [&pair, value] {
            sim::schedule_point(sim::Point::memory);
            pair.w.memory.loaded(page(0), value);
        };
    };
    SECTION("a load that gives the old value for ever") {
        Pair pair;
        CHECK(pair.fails(loads(pair, 1), [] { user_store(page(0), 7); }));
    }
    SECTION("a load that gives the new value at once") {
        Pair pair;
        CHECK(pair.fails(loads(pair, 7), [] { user_store(page(0), 7); }));
    }
    SECTION("a kill although the page was mapped before the access") {
        Pair pair;
        CHECK(pair.fails(
            [&pair] {
                sim::schedule_point(sim::Point::memory);
                const u32 access = pair.w.memory.begin_access(page(3), FaultAccess::read);
                sim::schedule_point(sim::Point::memory);
                pair.w.memory.killed(access);
            },
            [&pair] { static_cast<void>(pair.w.memory.map(*pair.w.space, page(3), 1, kReadWrite)); }));
    }
    SECTION("a load that bypasses an own store beside a protect") {
        Pair pair;
        CHECK(pair.fails(
            [&pair] {
                user_store(page(0), 7);
                pair.w.memory.loaded(page(0), 1);
            },
            [&pair] { static_cast<void>(pair.w.memory.protect(*pair.w.space, page(0), 1, kRead)); }));
    }
    SECTION("a write that is lost beside a protect") {
        Pair pair;
        CHECK(pair.fails([&pair] { static_cast<void>(pair.w.memory.protect(*pair.w.space, page(0), 1, kRead)); },
                         [&pair] {
                             if (!pair.w.memory.write(*pair.w.space, page(0), 5)) return;
                             pair.w.memory.loaded(page(0), 1);
                         }));
    }
}
