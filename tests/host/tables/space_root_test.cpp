// SpaceRoot: the CPUs that a flush asks and those that it does not, and that no frame is freed before the flush.
#include "mm/ground/context.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/tables/space_root.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/kmap_local.hpp"
#include "tests/host/oracle.hpp"
#include "tests/host/spaces/program.hpp"

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kFar = 0x2000'0000;
constexpr CpuId k0{0}, k1{1}, k2{2};

CpuSet set_of(std::initializer_list<u32> cpus) {
    CpuSet set;
    for (const u32 cpu : cpus)
        set = set.with(CpuId{cpu});
    return set;
}
void run_on_cpu(CpuId cpu, AddressSpace* space) {
    sim::on_cpu(cpu, [space] { run_in(space); });
}
u64 received(CpuId cpu) { return sim::machine().counters(cpu).ipis_received; }
u64 loads(CpuId cpu) { return sim::machine().counters(cpu).load_root; }
bool on_kernel_root(CpuId cpu) { return sim::machine().cpu(cpu).root == kernel_root().value(); }

// The space runs on CPUs 0 and 1, has eight pages, and both CPUs have touched them.
struct Two {
    explicit Two(u32 cpus = 4) : kernel{small(cpus)} {
        warm_up();
        space.emplace();
        run_on_cpu(k1, space->get());
        run_in(space->get());
        map_pages(**space, kBase, 8);
        for (u32 i = 0; i < 8; ++i)
            user_store(page(i), i + 1);
        sim::on_cpu(k1, [&] {
            for (u32 i = 0; i < 8; ++i)
                REQUIRE(user_load(page(i)) == i + 1);
        });
        for (u32 cpu = 0; cpu < cpus; ++cpu)
            kernel.machine.counters(CpuId{cpu}) = {};
    }
    AddressSpace* operator->() const { return space->get(); }
    AddressSpace& operator*() const { return **space; }
    VirtAddr page(u32 i) const { return VirtAddr{kBase + i * kPageSize}; }
    u64 phys(u32 i) const { return oracle_walk(space->get()->root().value(), page(i).value())->phys; }

    Booted kernel;
    std::optional<Owned> space;
};

} // namespace

TEST_CASE("space root: a CPU is in the set from its first run until it has loaded another root", "[space_root]") {
    Booted kernel{small(4)};
    Owned a, b;
    CHECK(a->cpus().empty());
    run_on_cpu(k1, a.get());
    run_on_cpu(k2, a.get());
    CHECK(a->cpus() == set_of({1, 2}));
    CHECK(kernel.machine.cpu(k1).root == a->root().value());
    CHECK(sim::on_cpu(k1, [] { return active_space(); }) == a.get());
    run_on_cpu(k1, b.get());
    CHECK(a->cpus() == set_of({2}));
    CHECK(b->cpus() == set_of({1}));
    // A kernel thread keeps the root that is loaded.
    run_on_cpu(k1, nullptr);
    CHECK(b->cpus() == set_of({1}));
    CHECK(kernel.machine.cpu(k1).root == b->root().value());
    CHECK(sim::on_cpu(k1, [] { return active_space(); }) == nullptr);
    CHECK(active_space() == nullptr);
    CHECK(on_kernel_root(k0));
}

TEST_CASE("space root: back from a kernel thread nothing is loaded, and nothing was forgotten", "[space_root]") {
    Two t;
    run_on_cpu(k1, nullptr);
    run_on_cpu(k1, t.space->get());
    CHECK(loads(k1) == 0);
    sim::on_cpu(k1, [&] { CHECK(user_load(t.page(3)) == 4); });
    run_on_cpu(k1, t.space->get());
    CHECK(loads(k1) == 0);
}

TEST_CASE("space root: only CPUs of the space are asked", "[space_root]") {
    Two t;
    Owned other;
    run_on_cpu(k2, other.get());
    REQUIRE(t->unmap(t.page(0), kPageSize));
    CHECK(received(k1) == 1);
    CHECK(received(k2) == 0);
    CHECK(received(CpuId{3}) == 0);
    sim::on_cpu(k1, [&] {
        CHECK_THROWS_AS(user_load(t.page(0)), Killed);
        CHECK(user_load(t.page(1)) == 2);
    });
    // From a CPU that does not run the space.
    sim::on_cpu(k2, [&] { REQUIRE(t->unmap(t.page(1), kPageSize)); });
    CHECK(received(k1) == 2);
    CHECK(received(k0) == 1);
    for (const CpuId cpu : {k0, k1})
        sim::on_cpu(cpu, [&] { CHECK_THROWS_AS(user_load(t.page(1)), Killed); });
}

TEST_CASE("space root: a space that runs on one CPU interrupts nobody", "[space_root]") {
    Two t;
    Owned other;
    run_on_cpu(k1, other.get());
    REQUIRE(t->unmap(t.page(0), 4 * kPageSize));
    REQUIRE(t->protect(t.page(4), kPageSize, kRead));
    Owned child = fork_of(*t);
    user_store(t.page(5), 1);
    CHECK(t.kernel.machine.total().ipis_sent == 0);
    CHECK_THROWS_AS(user_store(t.page(4), 1), Killed);
}

TEST_CASE("space root: a lazy CPU is asked once, and leaves", "[space_root]") {
    Two t;
    run_on_cpu(k1, nullptr);
    CHECK(t->cpus() == set_of({0, 1}));
    REQUIRE(t->unmap(t.page(0), kPageSize));
    CHECK(received(k1) == 1);
    CHECK(t->cpus() == set_of({0}));
    CHECK(on_kernel_root(k1));
    REQUIRE(t->unmap(t.page(1), kPageSize));
    CHECK(received(k1) == 1);
    run_on_cpu(k1, t.space->get());
    CHECK(t->cpus() == set_of({0, 1}));
    sim::on_cpu(k1, [&] {
        CHECK_THROWS_AS(user_load(t.page(1)), Killed);
        CHECK(user_load(t.page(2)) == 3);
    });
}

TEST_CASE("space root: an idle CPU is left alone, and forgets before it does anything", "[space_root]") {
    Two t;
    run_on_cpu(k1, nullptr);
    sim::on_cpu(k1, [] { sim::interrupt([] { tlb_enter_idle(); }); });
    REQUIRE(t->unmap(t.page(0), kPageSize));
    CHECK(received(k1) == 0);
    CHECK(t->cpus() == set_of({0, 1}));
    sim::on_cpu(k1, [&] {
        as_interrupt([] {});
        run_in(t.space->get());
        CHECK_THROWS_AS(user_load(t.page(0)), Killed);
        CHECK(user_load(t.page(1)) == 2);
    });
}

TEST_CASE("space root: an idle CPU is asked when a page table goes", "[space_root]") {
    Two t;
    run_on_cpu(k1, nullptr);
    sim::on_cpu(k1, [] { sim::interrupt([] { tlb_enter_idle(); }); });
    // The CPU answers as in the kernel: it leaves idle first.
    REQUIRE(t->unmap(t.page(0), 8 * kPageSize));
    CHECK(t->stats().tables == 0);
    CHECK(received(k1) == 1);
    CHECK(t->cpus() == set_of({0}));
    CHECK(on_kernel_root(k1));
}

TEST_CASE("space root: the last reference takes the root from lazy and from idle CPUs", "[space_root]") {
    Two t;
    run_on_cpu(k2, t.space->get());
    run_on_cpu(k2, nullptr);
    run_on_cpu(k1, nullptr);
    sim::on_cpu(k1, [] { sim::interrupt([] { tlb_enter_idle(); }); });
    run_in(nullptr);
    const PhysAddr root = (*t.space)->root();
    CHECK(t.kernel.machine.cpu(k1).root == root.value());
    t.space->end();
    for (const CpuId cpu : {k0, k1, k2})
        CHECK(on_kernel_root(cpu));
    CHECK(received(k1) == 1);
    CHECK(received(k2) == 1);
    CHECK(received(CpuId{3}) == 0);
    // Each CPU can run another space.
    Owned next;
    for (const CpuId cpu : {k0, k1, k2})
        run_on_cpu(cpu, next.get());
}

TEST_CASE("space root: nobody runs in a space that ends", "[space_root]") {
    Two t;
    run_in(nullptr);
    t.space->get()->get();
    CHECK(terminates_with(
        [&] {
            try {
                t.space->get()->put();
                t.space->get()->put();
            } catch (const sim::Panic&) {
                std::terminate();
            }
        },
        "the last reference to an address space was put while CPU 1 runs in it"));
    t.space->get()->put();
}

TEST_CASE("space root: more rights cost no flush", "[space_root]") {
    Two t;
    REQUIRE(t->protect(t.page(0), 8 * kPageSize, kRead));
    sim::on_cpu(k1, [&] { CHECK(user_load(t.page(2)) == 3); });
    const u64 sent = t.kernel.machine.total().ipis_sent, requests = tlb_stats_sum().requests;
    REQUIRE(t->protect(t.page(0), 8 * kPageSize, kReadWrite));
    CHECK(tlb_stats_sum().requests == requests);
    // Both CPUs may take one spurious fault.
    for (const sim::Fills fills : {sim::Fills::always, sim::Fills::never}) {
        t.kernel.machine.set_fills(fills);
        user_store(t.page(2), 33);
        sim::on_cpu(k1, [&] {
            user_store(t.page(3), 44);
            CHECK(user_load(t.page(2)) == 33);
        });
    }
    CHECK(t.kernel.machine.total().ipis_sent == sent);
}

TEST_CASE("space root: a page that is taken back after fork costs no flush", "[space_root]") {
    Two t;
    { const Owned child = fork_of(*t); }
    const u64 sent = t.kernel.machine.total().ipis_sent, before = t.phys(0);
    user_store(t.page(0), 11);
    CHECK(t.phys(0) == before);
    CHECK(t.kernel.machine.total().ipis_sent == sent);
    sim::on_cpu(k1, [&] {
        user_store(t.page(0), 12);
        CHECK(user_load(t.page(0)) == 12);
    });
}

TEST_CASE("space root: a copy on write is seen by every CPU of the space", "[space_root][fork]") {
    Two t;
    Owned child = fork_of(*t);
    sim::on_cpu(k1, [&] { CHECK(user_load(t.page(0)) == 1); });
    user_store(t.page(0), 100);
    sim::on_cpu(k1, [&] { CHECK(user_load(t.page(0)) == 100); });
    run_on_cpu(k2, child.get());
    sim::on_cpu(k2, [&] {
        CHECK(user_load(t.page(0)) == 1);
        user_store(t.page(0), 200);
    });
    sim::on_cpu(k1, [&] { CHECK(user_load(t.page(0)) == 100); });
}

// A thread that finds the copy may store to it and then set a flag. A thread that sees the flag must not find the old
// page.
TEST_CASE("space root: a copy on write appears when no CPU has the old page any more", "[space_root][fork]") {
    Two t;
    const Owned child = fork_of(*t);
    sim::on_cpu(k1, [&] { CHECK(user_load(t.page(0)) == 1); });
    const u64 old = t.phys(0);
    u32 seen = 0;
    Intruder other{[&] {
        const auto now = oracle_walk(t->root().value(), t.page(0).value());
        if (!now || now->phys == old) return;
        ++seen;
        sim::on_cpu(k1, [&] { REQUIRE(user_load(t.page(0)) == 1); }); // a stale translation throws
    }};
    {
        const sim::ScopedHook hook{[&](sim::Point) { other(); }};
        REQUIRE(t->handle_fault(t.page(0), FaultAccess::write) == FaultResult::resolved);
    }
    other.finish();
    CHECK(seen > 0);
    CHECK(t.phys(0) != old);
}

TEST_CASE("space root: fork takes the right to write from every CPU", "[space_root][fork]") {
    Two t;
    Owned child = fork_of(*t);
    sim::on_cpu(k1, [&] {
        CHECK_FALSE(user_can_write(t.page(0)));
        user_store(t.page(0), 100);
    });
    run_on_cpu(k2, child.get());
    sim::on_cpu(k2, [&] { CHECK(user_load(t.page(0)) == 1); });
}

TEST_CASE("space root: protect takes rights from every CPU", "[space_root]") {
    Two t;
    REQUIRE(t->protect(t.page(0), kPageSize, kRead));
    REQUIRE(t->protect(t.page(1), kPageSize, Prot::none));
    sim::on_cpu(k1, [&] {
        CHECK_THROWS_AS(user_store(t.page(0), 1), Killed);
        CHECK_THROWS_AS(user_load(t.page(1)), Killed);
    });
    if constexpr (config::kPae) {
        REQUIRE(t->protect(t.page(2), kPageSize, kAll));
        sim::on_cpu(k1, [&] { user_exec(t.page(2)); });
        REQUIRE(t->protect(t.page(2), kPageSize, kReadWrite));
        sim::on_cpu(k1, [&] { CHECK_THROWS_AS(user_exec(t.page(2)), Killed); });
    }
}

// Checks at every step of `operation` that no CPU that is awake can reach a freed frame.
namespace {
void nothing_free_is_reached(const std::function<void()>& operation) {
    bool reached = false;
    {
        sim::ScopedHook hook{[&](sim::Point) {
            sim::machine().online().for_each([&](CpuId cpu) {
                if (!tlb_is_idle(cpu)) reached |= sim::machine().may_reach_free_frame(cpu);
            });
        }};
        operation();
    }
    CHECK_FALSE(reached);
}
} // namespace

TEST_CASE("space root: no frame is free before the flush", "[space_root][batch]") {
    Two t;
    nothing_free_is_reached([&] { REQUIRE(t->unmap(t.page(0), 3 * kPageSize)); });
    nothing_free_is_reached([&] { map_pages(*t, t.page(3).value(), 2); });
    Owned child = fork_of(*t);
    nothing_free_is_reached([&] { user_store(t.page(5), 9); });
    child.end();
    nothing_free_is_reached([&] { REQUIRE(t->unmap(t.page(0), 8 * kPageSize)); });
    CHECK(t->stats().resident == 0);
}

TEST_CASE("space root: a page that others have is not put before the flush", "[space_root][batch]") {
    Two t;
    Owned child = fork_of(*t);
    const u64 shared = t.phys(0);
    Page* const page = pfn_to_page(PhysAddr{shared}.pfn());
    REQUIRE(page->refs() == 2);
    const auto kept_while_seen = [&](const std::function<void()>& operation) {
        bool too_early = false;
        {
            sim::ScopedHook hook{[&](sim::Point) {
                sim::machine().online().for_each([&](CpuId cpu) {
                    const bool seen = sim::machine().cpu(cpu).stale.any_page([&](u32, const sim::Translation& at) {
                        return at.user && at.pfn == page_to_pfn(page).value();
                    });
                    too_early |= seen && page->refs() < 2;
                });
            }};
            operation();
        }
        CHECK_FALSE(too_early);
    };
    SECTION("copied on write") {
        kept_while_seen([&] { user_store(t.page(0), 9); });
    }
    SECTION("unmapped") {
        kept_while_seen([&] { REQUIRE(t->unmap(t.page(0), kPageSize)); });
    }
    CHECK(page->refs() == 1);
}

TEST_CASE("space root: many pages go with one flush, shared ones with one in 64", "[space_root][batch]") {
    Two t;
    constexpr u32 kPages = 200;
    map_pages(*t, kFar, kPages);
    for (u32 i = 0; i < kPages; ++i)
        user_store(VirtAddr{kFar + i * kPageSize}, i);
    u32 requests = tlb_stats_sum().requests;
    REQUIRE(t->unmap(VirtAddr{kFar}, kPages * kPageSize));
    CHECK(tlb_stats_sum().requests == requests + 1);

    map_pages(*t, kFar, kPages);
    for (u32 i = 0; i < kPages; ++i)
        user_store(VirtAddr{kFar + i * kPageSize}, i);
    Owned child = fork_of(*t);
    sim::on_cpu(k1, [&] {
        for (u32 i = 0; i < kPages; ++i)
            REQUIRE(user_load(VirtAddr{kFar + i * kPageSize}) == i);
    });
    requests = tlb_stats_sum().requests;
    nothing_free_is_reached([&] { REQUIRE(t->unmap(VirtAddr{kFar}, kPages * kPageSize)); });
    CHECK(tlb_stats_sum().requests == requests + kPages / TlbBatch::kMaxPuts + 1);
    sim::on_cpu(k1, [&] {
        for (u32 i = 0; i < kPages; ++i)
            REQUIRE_THROWS_AS(user_load(VirtAddr{kFar + i * kPageSize}), Killed);
    });
    run_on_cpu(k2, child.get());
    sim::on_cpu(k2, [&] {
        for (u32 i = 0; i < kPages; ++i) {
            REQUIRE(user_load(VirtAddr{kFar + i * kPageSize}) == i);
            user_store(VirtAddr{kFar + i * kPageSize}, i + 1);
        }
    });
}

TEST_CASE("space root: a table goes after a flush, also if its last page has filled the batch", "[space_root][batch]") {
    Two t;
    map_pages(*t, kFar, TlbBatch::kMaxPuts);
    for (u32 i = 0; i < TlbBatch::kMaxPuts; ++i)
        user_store(VirtAddr{kFar + i * kPageSize}, i);
    const Owned child = fork_of(*t); // so that others count the pages, too
    const u32 requests = tlb_stats_sum().requests, tables = t->stats().tables;
    nothing_free_is_reached([&] { REQUIRE(t->unmap(VirtAddr{kFar}, TlbBatch::kMaxPuts * kPageSize)); });
    CHECK(t->stats().tables == tables - 1);
    CHECK(tlb_stats_sum().requests == requests + 2); // the second one for the table
}

TEST_CASE("space root: the end of a space flushes nothing but the roots", "[space_root][batch]") {
    Two t;
    run_in(nullptr);
    run_on_cpu(k1, nullptr);
    const u64 before = t.kernel.machine.total().invlpg + t.kernel.machine.total().flush_non_global;
    t.space->end();
    CHECK(t.kernel.machine.total().ipis_sent == 1);
    if (!config::kDebug)
        CHECK(t.kernel.machine.total().invlpg + t.kernel.machine.total().flush_non_global <= before + 1);
}
