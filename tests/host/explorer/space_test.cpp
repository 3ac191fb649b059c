// Address spaces under every schedule: faults, unmap, fork, copies and destruction on several CPUs at the same time.
#include "mm/spaces/user_copy.hpp"
#include "tests/host/explorer/rig.hpp"
#include "tests/host/oracle.hpp"
#include "tests/host/spaces/program.hpp"

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kBase = 0x1000'0000;
constexpr VirtAddr page(u32 i) { return VirtAddr{kBase + i * kPageSize}; }

// A space with a few pages, and threads that run in it. When a thread sleeps, its CPU keeps the root lazily.
struct World {
    explicit World(u32 cpus, u32 pages = 2) : s{cpus, 2, 0} {
        warm_up();
        space = AddressSpace::create();
        REQUIRE(space != nullptr);
        map_pages(*space, kBase, pages);
        run_in(space);
        for (u32 i = 0; i < pages; ++i)
            user_store(page(i), i + 1);
        // Every CPU starts with the kernel's root and an empty TLB.
        run_in(nullptr);
        REQUIRE(space->protect(page(0), kPageSize, kRead));
        REQUIRE(space->protect(page(0), kPageSize, kReadWrite));
        REQUIRE(space->cpus().empty());
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
    const u32 fresh = kBase + 0x100'0000;
    map_pages(*w.space, fresh, 1);
    for (u32 cpu = 0; cpu < 2; ++cpu)
        w.program(cpu, [=] {
            user_store(VirtAddr{fresh + 4 * cpu}, cpu + 1);
            sim::expect(user_load(VirtAddr{fresh + 4 * cpu}) == cpu + 1, "a thread finds what it wrote");
        });
    w.s.frees = 0;
    w.s.explored.check = [&] {
        const auto mapped = oracle_walk(w.space->root().value(), fresh);
        sim::expect(mapped.has_value(), "the page is there");
        sim::expect(sim::peek<u32>(PhysAddr{mapped->phys}) == 1 && sim::peek<u32>(PhysAddr{mapped->phys + 4}) == 2,
                    "both stores are in it");
        sim::expect(w.space->stats().resident == 3, "it is one page");
        sim::expect(static_cast<bool>(w.space->unmap(VirtAddr{fresh}, kPageSize)), "it goes");
    };
    w.s.explore(sim::reduced(schedules(8'000)));
    w.s.explore(sim::random(schedules(1'500)));
}

TEST_CASE("explorer: a fault against an unmap on another CPU", "[.explorer][explorer-space]") {
    World w{2};
    w.program(0, [] {
        for (u32 i = 0; i < 2; ++i) {
            const std::optional<u32> found = try_load(page(0));
            sim::expect(!found || *found <= 1, "a page shows its own contents, is new, or is gone");
        }
        try_store(page(1), 7);
    });
    w.program(1, [&w] {
        sim::expect(static_cast<bool>(w.space->unmap(page(0), kPageSize)), "unmap works");
        sim::expect(!try_load(page(0)), "what was unmapped is gone");
        sim::expect(static_cast<bool>(w.space->map(page(0), kPageSize, kReadWrite, MapKind::anonymous, true)),
                    "map works");
        sim::expect(static_cast<bool>(w.space->unmap(page(0), 2 * kPageSize)), "unmap works");
    });
    // In the end the page of both is unmapped and its table freed.
    w.s.explored.check = [&] {
        sim::expect(w.space->stats().resident == 0 && w.space->stats().tables == 0, "all is gone");
    };
    w.s.loose_books = true;
    w.s.explore(sim::reduced(schedules(8'000)));
    w.s.explore(sim::random(schedules(1'500)));
}

TEST_CASE("explorer: an unmapped page goes to somebody else only when nobody sees it any more",
          "[.explorer][explorer-space]") {
    World w{2};
    w.program(0, [] {
        for (u32 i = 0; i < 3; ++i) {
            const std::optional<u32> found = try_load(page(0));
            sim::expect(!found || *found == 1, "never the contents of the next owner");
        }
    });
    w.program(1, [&w] {
        sim::expect(static_cast<bool>(w.space->unmap(page(0), kPageSize)), "unmap works");
        Page* next = alloc_page(Gfp::high);
        memset_page(next, 0, 0x5a, kPageSize);
        free_page(next);
    });
    w.s.loose_books = true;
    w.s.explore(sim::reduced(schedules(8'000)));
    w.s.explore(sim::random(schedules(1'500)));
}

TEST_CASE("explorer: fork against a write on another CPU", "[.explorer][explorer-space]") {
    World w{2, 1};
    w.program(0, [] {
        user_store(page(0), 2);
        user_store(page(0), 3);
        sim::expect(user_load(page(0)) == 3, "the parent has what it wrote");
    });
    w.program(1, [&w] {
        const Result<AddressSpace*> child = w.space->fork();
        sim::expect(static_cast<bool>(child), "fork works");
        u32 first = 0, second = 0;
        sim::expect(read_space(**child, &first, UserAddr{kBase}, 4) == 0, "the child has its page");
        sim::expect(first >= 1 && first <= 3, "something that was there");
        sim::expect(read_space(**child, &second, UserAddr{kBase}, 4) == 0 && second == first,
                    "the child's page does not change by what the parent does");
        (*child)->put();
    });
    w.s.explored.check = [&] {
        const auto mapped = oracle_walk(w.space->root().value(), kBase);
        sim::expect(mapped && sim::peek<u32>(PhysAddr{mapped->phys}) == 3, "no store is lost");
    };
    w.s.explore(sim::reduced(schedules(8'000)));
    w.s.explore(sim::random(schedules(1'500)));
}

TEST_CASE("explorer: two sides of a fork write at the same time", "[.explorer][explorer-space]") {
    World w{3, 1};
    const Result<AddressSpace*> child = w.space->fork();
    REQUIRE(child);
    w.program(0, [] {
        user_store(page(0), 10);
        sim::expect(user_load(page(0)) == 10, "the parent has its own");
    });
    w.program(1, [] {
        for (u32 i = 0; i < 2; ++i) {
            const u32 found = user_load(page(0));
            sim::expect(found == 1 || found == 10, "another thread of the parent never sees the child's");
        }
    });
    w.s.thread(2, [&w, &child] {
        w.s.small_kernel.run_in(2, *child);
        user_store(page(0), 20);
        sim::expect(user_load(page(0)) == 20, "the child has its own");
        w.s.small_kernel.run_in(2, nullptr);
    });
    w.s.loose_books = true;
    w.s.explore(sim::reduced(schedules(20'000), 2));
    w.s.explore(sim::random(schedules(6'000)));
}

// Message passing across a copy on write: one thread makes the copy, a second one stores to the page and then sets a
// flag, a third one has the old page in its TLB. x86 keeps the order of stores (SDM vol. 3, 8.2.2), also of those to
// different pages.
TEST_CASE("explorer: stores are seen in order across a copy on write", "[.explorer][explorer-space]") {
    World w{3};
    run_in(w.space);
    const Owned child = fork_of(*w.space);
    user_store(page(1), 0); // the page of the flag is private again
    run_in(nullptr);
    REQUIRE(w.space->protect(page(0), kPageSize, kRead));
    REQUIRE(w.space->protect(page(0), kPageSize, kReadWrite));
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
    w.s.explore(sim::reduced(schedules(4'000), 2));
    w.s.explore(sim::random(schedules(30'000)));
}

TEST_CASE("explorer: a lazy CPU against the end of the space", "[.explorer][explorer-space]") {
    World w{2};
    // CPU 1 has run the program and switches to another one, or to none; CPU 0 puts the last reference.
    AddressSpace* const other = AddressSpace::create();
    REQUIRE(other != nullptr);
    map_pages(*other, kBase, 1);
    const bool goes_on = GENERATE(false, true);
    w.s.thread(0, [&w] {
        w.s.small_kernel.run_in(0, w.space);
        sim::expect(user_load(page(0)) == 1, "it is there");
        w.s.small_kernel.run_in(0, nullptr);
        while (w.s.done.load() == 0)
            hal::cpu_relax();
        w.space->put();
    });
    w.s.thread(1, [&w, other, goes_on] {
        w.s.small_kernel.run_in(1, w.space);
        sim::expect(user_load(page(1)) == 2, "it is there");
        w.s.small_kernel.run_in(1, nullptr);
        w.s.done.store(1);
        if (!goes_on) return;
        w.s.small_kernel.run_in(1, other);
        sim::expect(user_load(page(0)) == 0, "the other space is another one");
        w.s.small_kernel.run_in(1, nullptr);
    });
    w.s.loose_books = true;
    w.s.explored.check = [&] {
        sim::expect(page_table_stats().tables == (config::kPae ? 3 : 1) + (goes_on ? 1 : 0), "its tables are back");
    };
    w.s.explore(sim::reduced(schedules(4'000)));
    w.s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("explorer: a CPU comes to a space while another one unmaps there", "[.explorer][explorer-space]") {
    World w{2};
    w.program(0, [&w] { sim::expect(static_cast<bool>(w.space->unmap(page(0), 2 * kPageSize)), "unmap works"); });
    w.s.thread(1, [&w] {
        for (u32 i = 0; i < 2; ++i) {
            w.s.small_kernel.run_in(1, w.space);
            const std::optional<u32> found = try_load(page(0));
            sim::expect(!found || *found == 1, "a page shows its own contents, or is gone");
            w.s.small_kernel.run_in(1, nullptr);
        }
    });
    w.s.loose_books = true;
    w.s.explore(sim::reduced(schedules(8'000)));
    w.s.explore(sim::random(schedules(1'500)));
}

TEST_CASE("explorer: a copy against unmap and map", "[.explorer][explorer-space]") {
    World w{2};
    w.program(0, [] {
        u32 word = 0;
        const u32 left = copy_from_user(&word, UserAddr{kBase}, 4);
        sim::expect(left == 4 || word == 1 || word == 0, "the old page, the new one, or none");
        word = 9;
        static_cast<void>(copy_to_user(UserAddr{kBase + kPageSize}, &word, 4));
    });
    w.program(1, [&w] {
        sim::expect(static_cast<bool>(w.space->unmap(page(0), 2 * kPageSize)), "unmap works");
        sim::expect(static_cast<bool>(w.space->map(page(0), kPageSize, kReadWrite, MapKind::anonymous, true)),
                    "map works");
    });
    w.s.loose_books = true;
    w.s.explore(sim::reduced(schedules(8'000)));
    w.s.explore(sim::random(schedules(1'500)));
}
