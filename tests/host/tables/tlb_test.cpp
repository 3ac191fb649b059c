// TlbBatch: every CPU flushes what was added, at the documented cost, and no frame is freed before. Also the flush
// clocks and idle CPUs: which CPUs need not be interrupted.
#include "mm/ground/counters.hpp"
#include "mm/ground/layout.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/kmap_local.hpp"
#include "tests/host/booted.hpp"

#include <optional>

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kCpus = 3;

// An unused part of the upper part.
VirtAddr place(u32 page) { return VirtAddr{layout::boundaries.vmap_begin} + page * kPageSize; }

void map(VirtAddr va, Page* page, PteFlags flags) { hal::pte_set(kernel_pte(va), Pte{page_to_pfn(page), flags}); }
void unmap(VirtAddr va) { hal::pte_clear(kernel_pte(va)); }

template <typename F> void on_every_cpu(F&& what) {
    sim::machine().online().for_each([&](CpuId cpu) { sim::on_cpu(cpu, [&] { what(cpu.value()); }); });
}

// What mm has counted on all CPUs since the boot.
TlbStats counted() { return since_start(tlb_stats_sum(), hal::online_cpus().count()); }

struct Totals {
    u64 invlpg, non_global, full, ipis;
    bool operator==(const Totals&) const = default;
};
Totals totals() {
    const sim::Counters c = sim::machine().total();
    return {c.invlpg, c.flush_non_global, c.flush_all, c.ipis_sent};
}
Totals since(const Totals& before) {
    const Totals now = totals();
    return {now.invlpg - before.invlpg, now.non_global - before.non_global, now.full - before.full,
            now.ipis - before.ipis};
}

} // namespace

TEST_CASE("TlbBatch: after the flush no CPU sees the old frame, be the pages neighbours or not", "[tlb]") {
    for (const TlbBatch::Kind kind : {TlbBatch::Kind::non_global, TlbBatch::Kind::global}) {
        for (const u32 pages : {1u, 2u, TlbBatch::kMaxPages, TlbBatch::kMaxPages + 1, 40u}) {
            for (const u32 distance : {1u, 2u}) {
                INFO("global " << (kind == TlbBatch::Kind::global) << ", pages " << pages << ", distance " << distance);
                Booted kernel{small(kCpus)};
                const PteFlags flags =
                    kind == TlbBatch::Kind::global ? kernel_prot.data : kernel_prot.pool | pte::accessed | pte::dirty;
                auto before = new_pages(pages), after = new_pages(pages);
                for (u32 i = 0; i < pages; ++i) {
                    stamp(before[i]);
                    stamp(after[i]);
                    map(place(i * distance), before[i], flags);
                }
                on_every_cpu([&](u32) {
                    for (u32 i = 0; i < pages; ++i)
                        REQUIRE(shows(place(i * distance), before[i]));
                });
                TlbBatch batch{kind};
                for (u32 i = 0; i < pages; ++i) {
                    unmap(place(i * distance));
                    map(place(i * distance), after[i], flags);
                    batch.add(place(i * distance));
                }
                CHECK_THROWS_AS(shows(place(0), after[0]), sim::StaleAccess); // a flush is owed
                batch.flush();
                on_every_cpu([&](u32) {
                    for (u32 i = 0; i < pages; ++i)
                        REQUIRE(shows(place(i * distance), after[i]));
                });
            }
        }
    }
}

TEST_CASE("TlbBatch: up to 16 pages cost one invlpg each on each CPU, more cost one full flush", "[tlb]") {
    Booted kernel{small(kCpus)};
    const auto cost = [](TlbBatch::Kind kind, u32 pages) {
        const Totals before = totals();
        TlbBatch batch{kind};
        for (u32 i = 0; i < pages; ++i)
            batch.add(place(2 * i)); // not adjacent
        batch.flush();
        return since(before);
    };
    const u64 ipis = kCpus - 1;
    for (const TlbBatch::Kind kind : {TlbBatch::Kind::non_global, TlbBatch::Kind::global}) {
        CHECK(cost(kind, 1) == Totals{kCpus, 0, 0, ipis});
        CHECK(cost(kind, 16) == Totals{16 * kCpus, 0, 0, ipis});
    }
    // A batch that has been flushed is as a new one.
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add(place(0));
    batch.flush();
    const Totals before = totals();
    batch.add(place(2));
    batch.flush();
    CHECK(since(before) == Totals{kCpus, 0, 0, ipis});
    CHECK(cost(TlbBatch::Kind::non_global, 17) == Totals{0, kCpus, 0, ipis});
    CHECK(cost(TlbBatch::Kind::global, 17) == Totals{0, 0, kCpus, ipis});
    CHECK(cost(TlbBatch::Kind::non_global, 500) == Totals{0, kCpus, 0, ipis});
}

TEST_CASE("TlbBatch: neighbours become one range, and every page of a range is flushed", "[tlb]") {
    Booted kernel{small(kCpus)};
    const Totals before = totals();
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add(place(5), 3);
    batch.add(place(8), 2);
    batch.add(place(10));
    batch.add(place(1), 4); // below: a range of its own
    batch.add(place(3), 0); // adds nothing
    CHECK_FALSE(batch.empty());
    batch.flush();
    CHECK(since(before) == Totals{10 * kCpus, 0, 0, kCpus - 1});
}

TEST_CASE("TlbBatch: a range of more than 16 pages is a full flush by itself", "[tlb]") {
    Booted kernel{small(kCpus)};
    Totals before = totals();
    {
        TlbBatch batch{TlbBatch::Kind::non_global};
        batch.add(place(0), 16);
        batch.flush();
        CHECK(since(before) == Totals{16 * kCpus, 0, 0, kCpus - 1});
    }
    before = totals();
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add(place(0), 10);
    batch.add(place(20), 7);
    batch.add(place(40)); // has no range of its own any more, but must be flushed
    batch.flush();
    CHECK(since(before) == Totals{0, kCpus, 0, kCpus - 1});
}

TEST_CASE("TlbBatch: an empty batch flushes nothing", "[tlb]") {
    Booted kernel{small(kCpus)};
    const Totals before = totals();
    TlbBatch batch{TlbBatch::Kind::global};
    CHECK(batch.empty());
    batch.flush();
    CHECK(since(before) == Totals{});
}

TEST_CASE("TlbBatch: can be used again after its flush", "[tlb]") {
    Booted kernel{small(kCpus)};
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add(place(0), 100);
    batch.flush();
    CHECK(batch.empty());
    const Totals before = totals();
    batch.add(place(3));
    batch.flush();
    CHECK(since(before) == Totals{kCpus, 0, 0, kCpus - 1});
}

TEST_CASE("TlbBatch: frames go back after the flush on every CPU, not before", "[tlb]") {
    Booted kernel{small(kCpus)};
    const Books before = books();
    std::vector<Page*> pages = new_pages(4);
    for (u32 i = 0; i < pages.size(); ++i) {
        stamp(pages[i]);
        map(place(i), pages[i], kernel_prot.pool | pte::accessed | pte::dirty);
        on_every_cpu([&](u32) { REQUIRE(shows(place(i), pages[i])); });
    }
    const Books mapped = books();
    TlbBatch batch{TlbBatch::Kind::non_global};
    for (u32 i = 0; i < pages.size(); ++i) {
        unmap(place(i));
        batch.add(place(i));
        batch.free_after(pages[i]);
    }
    CHECK_FALSE(batch.empty());
    CHECK(books() == mapped);
    // While CPUs are interrupted, one after the other, no frame is free.
    u32 flushes = 0;
    sim::ScopedHook hook{[&](sim::Point point) {
        if (point != sim::Point::tlb || ++flushes > kCpus * pages.size()) return;
        for (Page* page : pages)
            if (page->type() != PageType::used) FAIL_CHECK("freed before the last flush");
    }};
    batch.flush();
    sim::set_schedule_hook({});
    CHECK(flushes >= kCpus * pages.size());
    CHECK(batch.empty());
    CHECK(books() == before);
    for (u32 i = 0; i < pages.size(); ++i)
        on_every_cpu([&](u32) { CHECK_THROWS_AS(hal::load<u32>(place(i)), sim::PageFault); });
}

TEST_CASE("TlbBatch: frames that nobody can see go back without a flush", "[tlb]") {
    Booted kernel{small(kCpus)};
    const Books before = books();
    const Totals cost = totals();
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.free_after(new_page());
    CHECK_FALSE(batch.empty());
    batch.flush();
    // DEBUG maps a frame to poison it, which costs an invlpg.
    CHECK(since(cost).ipis == 0);
    if (!config::kDebug) CHECK(since(cost) == Totals{});
    CHECK(books() == before);
}

TEST_CASE("TlbBatch: a batch that is thrown away with work in it is a bug", "[tlb]") {
    Booted kernel{small(1)};
    CHECK(terminates_with(
        [] {
            TlbBatch batch{TlbBatch::Kind::non_global};
            batch.add(place(0));
        },
        "assertion failed: empty()"));
    CHECK(terminates_with(
        [] {
            TlbBatch batch{TlbBatch::Kind::non_global};
            batch.free_after(alloc_page(Gfp::kernel));
        },
        "assertion failed: empty()"));
    CHECK_FALSE(terminates_with(
        [] {
            TlbBatch batch{TlbBatch::Kind::non_global};
            batch.add(place(0));
            batch.flush();
        },
        ""));
}

TEST_CASE("TlbBatch: works with interrupts off and leaves them as they were", "[tlb]") {
    Booted kernel{small(kCpus)};
    for (const bool on : {true, false}) {
        kernel.machine.here().interrupts = on;
        const Totals before = totals();
        TlbBatch batch{TlbBatch::Kind::non_global};
        batch.add(place(0));
        batch.flush();
        CHECK(since(before).ipis == kCpus - 1);
        CHECK(hal::irqs_enabled() == on);
    }
    kernel.machine.here().interrupts = true;
}

TEST_CASE("TlbBatch: this CPU cannot be interrupted between its own flush and the others'", "[tlb]") {
    Booted kernel{small(kCpus)};
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add(place(0));
    u32 flushes = 0, interrupts = 0;
    {
        sim::ScopedHook hook{[&](sim::Point point) {
            if (point != sim::Point::tlb && point != sim::Point::ipi) return;
            ++(point == sim::Point::tlb ? flushes : interrupts);
            CHECK_FALSE(kernel.machine.here().interrupts);
        }};
        batch.flush();
    }
    CHECK(flushes == kCpus);
    CHECK(interrupts == kCpus - 1);
}

TEST_CASE("TlbBatch: one CPU interrupts nobody", "[tlb]") {
    Booted kernel{small(1)};
    const Totals before = totals();
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add(place(0));
    batch.flush();
    CHECK(since(before) == Totals{1, 0, 0, 0});
}

TEST_CASE("tlb: what was asked for is counted on the CPU that did it", "[tlb]") {
    Booted kernel{small(kCpus)};
    for (u32 cpu = 0; cpu < kCpus; ++cpu)
        tlb_stats.of(CpuId{cpu}) = {};
    sim::on_cpu(CpuId{1}, [] {
        TlbBatch few{TlbBatch::Kind::non_global};
        few.add(place(0), 2);
        few.flush();
        TlbBatch many{TlbBatch::Kind::non_global};
        many.add(place(0), 20);
        many.flush();
        TlbBatch all{TlbBatch::Kind::global};
        all.add(place(0), 20);
        all.flush();
        tlb_flush_local_page(place(1));
    });
    for (u32 cpu = 0; cpu < kCpus; ++cpu) {
        INFO("CPU " << cpu);
        const TlbStats stats = since_start(tlb_stats.of(CpuId{cpu}));
        CHECK(stats.invlpg == (cpu == 1 ? 3 : 2));
        CHECK(stats.non_global == 1);
        CHECK(stats.full == 1);
        CHECK(stats.requests == (cpu == 1 ? 3 : 0));
        CHECK(stats.remote == (cpu == 1 ? 3 * (kCpus - 1) : 0));
        CHECK(stats.rounds == (cpu == 1 ? 3 : 0));
        CHECK(stats.skipped_idle + stats.skipped_clean == 0);
    }
    const TlbStats sum = counted();
    CHECK(sum.invlpg == 2 * kCpus + 1);
    CHECK(sum.non_global == kCpus);
    CHECK(sum.full == kCpus);
    CHECK(sum.requests == 3);
    CHECK(sum.rounds == 3);
    CHECK(sum.remote == 3 * (kCpus - 1));
    mm_init_cpu(CpuId{1});
    CHECK(since_start(tlb_stats.of(CpuId{1}).invlpg) == 0);
}

TEST_CASE("tlb: a page that only this CPU saw is flushed here and nowhere else", "[tlb]") {
    Booted kernel{small(kCpus)};
    std::vector<Page*> pages = new_pages(2);
    stamp(pages[1]);
    map(place(0), pages[0], kernel_prot.data);
    (void)hal::load<u32>(place(0));
    unmap(place(0));
    map(place(0), pages[1], kernel_prot.data);
    const Totals before = totals();
    tlb_flush_local_page(place(0));
    CHECK(since(before) == Totals{1, 0, 0, 0});
    CHECK(shows(place(0), pages[1]));
    sim::on_cpu(CpuId{1}, [&] { CHECK_THROWS_AS(hal::load<u32>(place(0)), sim::StaleAccess); });
}

// --- the clocks, and CPUs that are idle

namespace {

constexpr CpuId kOther{1};

// A page that every CPU has read at `at`, and another one that is mapped there now. The test starts the debt.
struct Change {
    explicit Change(u32 page = 0, PteFlags flags = kernel_prot.pool | pte::accessed | pte::dirty) : at{place(page)} {
        stamp(before);
        stamp(after);
        map(at, before, flags);
        on_every_cpu([&](u32) { REQUIRE(shows(at, before)); });
        unmap(at);
        map(at, after, flags);
    }
    bool seen_on(CpuId cpu) const {
        return sim::on_cpu(cpu, [&] { return shows(at, after); });
    }
    VirtAddr at;
    Page* before = new_page();
    Page* after = new_page();
};
void flush_page(VirtAddr at) {
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add(at);
    batch.flush();
}

struct Skips {
    u32 idle = 0, clean = 0;
    bool operator==(const Skips&) const = default;
};
Skips skips() {
    const TlbStats sum = counted();
    return {sum.skipped_idle, sum.skipped_clean};
}

void flush_debt(FlushTime debt) {
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add_debt(debt);
    CHECK_FALSE(batch.empty());
    batch.flush();
    CHECK(batch.empty());
}

} // namespace

TEST_CASE("tlb clock: a debt is owed until the CPU flushes, and not a moment longer", "[tlb]") {
    Booted kernel{small(kCpus)};
    const FlushTime first = tlb_new_debt();
    const FlushTime second = tlb_new_debt();
    CHECK(second == first + 1);
    on_every_cpu([&](u32 cpu) {
        CHECK_FALSE(tlb_is_clean(CpuId{cpu}, first));
        CHECK_FALSE(tlb_is_clean(CpuId{cpu}, second));
    });
    sim::on_cpu(kOther, [] { tlb_flush_local_non_global(); });
    on_every_cpu([&](u32 cpu) {
        CHECK(tlb_is_clean(CpuId{cpu}, first) == (CpuId{cpu} == kOther));
        CHECK(tlb_is_clean(CpuId{cpu}, second) == (CpuId{cpu} == kOther));
    });
    const FlushTime third = tlb_new_debt();
    CHECK(tlb_is_clean(kOther, second));
    CHECK_FALSE(tlb_is_clean(kOther, third));
    // A CPU that starts has an empty TLB.
    mm_init_cpu(CpuId{2});
    CHECK(tlb_is_clean(CpuId{2}, third));
    CHECK_FALSE(tlb_is_clean(CpuId{0}, first));
}

// A clock may lag without bound: a CPU that runs a single busy thread answers by invlpg, and an idle one sleeps.
TEST_CASE("tlb clock: a debt is not forgotten, however many are younger", "[tlb]") {
    Booted kernel{small(1)};
    const FlushTime debt = tlb_new_debt();
    CHECK_FALSE(tlb_is_clean(CpuId{0}, debt));
    tlb_flush_local_non_global();
    CHECK(tlb_is_clean(CpuId{0}, debt));
    CHECK(tlb_is_clean(CpuId{0}, debt - 1));
    CHECK(tlb_is_clean(CpuId{0}, 0));
    CHECK_FALSE(tlb_is_clean(CpuId{0}, debt + 1));
    for (const u32 bits : {31u, 32u, 33u, 48u, 62u})
        for (const FlushTime more : {FlushTime{0}, FlushTime{1}, ~FlushTime{0}}) {
            INFO("2^" << bits << " + " << static_cast<std::int64_t>(more));
            CHECK_FALSE(tlb_is_clean(CpuId{0}, debt + (FlushTime{1} << bits) + more));
        }
}

TEST_CASE("tlb clock: loading a root is a flush, and counts as one", "[tlb]") {
    Booted kernel{small(kCpus)};
    Change change;
    const FlushTime debt = tlb_new_debt();
    CHECK_THROWS_AS(change.seen_on(kOther), sim::StaleAccess);
    sim::on_cpu(kOther, [] { tlb_load_root(hal::current_root()); });
    CHECK(tlb_is_clean(kOther, debt));
    CHECK(change.seen_on(kOther));
    CHECK_FALSE(tlb_is_clean(CpuId{2}, debt));
    CHECK(kernel.machine.counters(kOther).load_root == 1);
}

TEST_CASE("tlb clock: it never goes back, although an interrupt flushes in the middle of a flush", "[tlb]") {
    for (const bool root : {false, true}) {
        Booted kernel{small(2)};
        std::vector<FlushTime> paid;
        bool in_interrupt = false;
        {
            sim::ScopedHook hook{[&](sim::Point) {
                if (in_interrupt) return;
                in_interrupt = true;
                paid.push_back(tlb_new_debt());
                tlb_flush_local_non_global();
                for (const FlushTime debt : paid)
                    CHECK(tlb_is_clean(CpuId{0}, debt));
                in_interrupt = false;
            }};
            root ? tlb_load_root(hal::current_root()) : tlb_flush_local_non_global();
        }
        CHECK(paid.size() >= 3);
        for (const FlushTime debt : paid)
            CHECK(tlb_is_clean(CpuId{0}, debt));
    }
}

TEST_CASE("tlb clock: what is taken away during a flush is not what the flush was for", "[tlb]") {
    for (const bool root : {false, true}) {
        Booted kernel{small(2)};
        Change first;
        std::vector<std::pair<FlushTime, bool>> debts; // a debt, and whether the flush came after it
        u32 flushed = 0;
        {
            sim::ScopedHook hook{[&](sim::Point point) {
                debts.push_back({tlb_new_debt(), flushed == 0});
                flushed += point == sim::Point::tlb;
            }};
            root ? tlb_load_root(hal::current_root()) : tlb_flush_local_non_global();
        }
        REQUIRE(flushed == 1);
        CHECK(debts.size() >= 4);
        // The clock may lag. It must never say "clean" for a debt that is younger than the flush.
        for (const auto& [debt, before] : debts)
            CHECK((before || !tlb_is_clean(CpuId{0}, debt)));
        // Debts older than the time that it read are paid.
        CHECK(tlb_is_clean(CpuId{0}, debts.front().first));
    }
}

TEST_CASE("TlbBatch: a debt is paid by those who owe it, with one flush each", "[tlb]") {
    Booted kernel{small(kCpus)};
    Change change;
    const FlushTime debt = tlb_new_debt();
    const Totals before = totals();
    SECTION("nobody has flushed since") {
        flush_debt(debt);
        CHECK(since(before) == Totals{0, kCpus, 0, kCpus - 1});
        CHECK(skips() == Skips{});
    }
    SECTION("one of the others has: it is left alone") {
        sim::on_cpu(kOther, [] { tlb_flush_local_non_global(); });
        flush_debt(debt);
        CHECK(since(before) == Totals{0, kCpus, 0, kCpus - 2});
        CHECK(kernel.machine.counters(kOther).ipis_received == 0);
        CHECK(skips() == Skips{0, 1});
    }
    SECTION("this one has: it does not flush again") {
        tlb_flush_local_non_global();
        flush_debt(debt);
        CHECK(kernel.machine.counters(CpuId{0}).flush_non_global == 1);
        CHECK(since(before) == Totals{0, kCpus, 0, kCpus - 1});
    }
    SECTION("all have: nothing is left to do, no round") {
        on_every_cpu([](u32) { tlb_flush_local_non_global(); });
        const Totals flushed = totals();
        tlb_stats.of(CpuId{0}) = {};
        flush_debt(debt);
        CHECK(since(flushed) == Totals{});
        CHECK(counted().requests == 1);
        CHECK(counted().rounds == 0);
        CHECK(counted().remote == 0);
        CHECK(skips() == Skips{0, kCpus - 1});
    }
    SECTION("they flushed before it was made: that does not count") {
        on_every_cpu([](u32) { tlb_flush_local_non_global(); });
        CHECK(since(before) == Totals{0, kCpus, 0, 0});
        Change again{1};
        const Totals changed = totals();
        flush_debt(tlb_new_debt());
        CHECK(since(changed) == Totals{0, kCpus, 0, kCpus - 1});
        on_every_cpu([&](u32 cpu) { CHECK(again.seen_on(CpuId{cpu})); });
        return;
    }
    on_every_cpu([&](u32 cpu) { CHECK(change.seen_on(CpuId{cpu})); });
}

TEST_CASE("TlbBatch: of several debts the youngest counts, whatever their order", "[tlb]") {
    for (const bool young_first : {false, true}) {
        INFO("young first " << young_first);
        Booted kernel{small(2)};
        const FlushTime old = tlb_new_debt();
        on_every_cpu([](u32) { tlb_flush_local_non_global(); });
        Change change;
        const FlushTime young = tlb_new_debt();
        TlbBatch batch{TlbBatch::Kind::non_global};
        batch.add_debt(young_first ? young : old);
        batch.add_debt(young_first ? old : young);
        const Totals before = totals();
        batch.flush();
        CHECK(since(before) == Totals{0, 2, 0, 1});
        on_every_cpu([&](u32 cpu) { CHECK(change.seen_on(CpuId{cpu})); });
    }
}

TEST_CASE("TlbBatch: a debt and pages that were taken away just now are one full flush", "[tlb]") {
    Booted kernel{small(kCpus)};
    Change change;
    const FlushTime debt = tlb_new_debt();
    on_every_cpu([](u32) { tlb_flush_local_non_global(); }); // no CPU owes the debt ...
    Change again{1};                                         // ... but every CPU owes this one
    const Totals before = totals();
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add_debt(debt);
    batch.add(again.at);
    batch.flush();
    CHECK(since(before) == Totals{0, kCpus, 0, kCpus - 1});
    on_every_cpu([&](u32 cpu) { CHECK(again.seen_on(CpuId{cpu})); });
}

TEST_CASE("TlbBatch: a debt is of non-global pages, a global batch takes none", "[tlb]") {
    Booted kernel{small(1)};
    TlbBatch batch{TlbBatch::Kind::global};
    CHECK_PANIC(batch.add_debt(tlb_new_debt()), "assertion failed");
}

TEST_CASE("TlbBatch: a CPU that flushes while others are being asked is left alone, and has forgotten the page",
          "[tlb]") {
    // CPU 1 flushes by itself at some point of CPU 0's batch.
    u32 spared = 0, asked = 0;
    for (u32 at = 0;; ++at) {
        Booted kernel{small(2)};
        Change change;
        u32 points = 0;
        bool done = false;
        {
            sim::ScopedHook hook{[&](sim::Point) {
                if (points++ != at) return;
                done = true;
                sim::on_cpu(kOther, [] { tlb_flush_local_non_global(); });
            }};
            flush_page(change.at);
        }
        REQUIRE(change.seen_on(kOther));
        if (!done) break;
        const u64 ipis = kernel.machine.total().ipis_sent;
        REQUIRE(ipis + counted().skipped_clean == 1);
        ++(ipis != 0 ? asked : spared);
    }
    CHECK(asked > 0);  // before the time of the debt: no evidence
    CHECK(spared > 0); // after it
}

TEST_CASE("TlbBatch: an idle CPU is not interrupted, and looks at the clock before it runs anything", "[tlb]") {
    Booted kernel{small(kCpus)};
    sim::on_cpu(kOther, [] { tlb_enter_idle(); });
    CHECK(tlb_is_idle(kOther));
    CHECK_FALSE(tlb_is_idle(CpuId{0}));
    for (u32 round = 0; round < 2; ++round) {
        INFO("round " << round);
        Change change{round};
        kernel.machine.counters(kOther) = {};
        const Skips before = skips();
        round == 0 ? flush_page(change.at) : flush_debt(tlb_new_debt());
        CHECK(kernel.machine.counters(kOther).ipis_received == 0);
        CHECK(skips() == Skips{before.idle + 1, before.clean});
        CHECK(change.seen_on(CpuId{2}));
        CHECK_THROWS_AS(change.seen_on(kOther),
                        sim::StaleAccess); // an access without tlb_leave_idle() is an error
        sim::on_cpu(kOther, [] { tlb_leave_idle(); });
        CHECK(kernel.machine.counters(kOther).flush_non_global == 1);
        CHECK_FALSE(tlb_is_idle(kOther));
        CHECK(change.seen_on(kOther));
        // No flush the second time, and none if no debt was made while it was idle.
        sim::on_cpu(kOther, [] {
            tlb_leave_idle();
            tlb_enter_idle();
            tlb_leave_idle();
        });
        CHECK(kernel.machine.counters(kOther).flush_non_global == 1);
        sim::on_cpu(kOther, [] { tlb_enter_idle(); });
    }
}

TEST_CASE("tlb: an interrupt that wakes an idle CPU finds nothing stale", "[tlb][context]") {
    Booted kernel{small(2)};
    sim::on_cpu(kOther, [] { tlb_enter_idle(); });
    Change change;
    flush_page(change.at);
    CHECK(kernel.machine.total().ipis_sent == 0);
    sim::on_cpu(kOther, [&] {
        as_interrupt([&] {
            CHECK_FALSE(tlb_is_idle(kOther));
            CHECK(shows(change.at, change.after));
        });
    });
}

TEST_CASE("tlb: a CPU that goes idle or wakes at any moment of a batch sees the old page at none", "[tlb]") {
    for (const bool wakes : {false, true}) {
        u32 skipped = 0, asked = 0;
        for (u32 at = 0;; ++at) {
            INFO("wakes " << wakes << ", at step " << at);
            Booted kernel{small(2)};
            Change change;
            if (wakes) sim::on_cpu(kOther, [] { tlb_enter_idle(); });
            u32 points = 0;
            bool done = false;
            {
                sim::ScopedHook hook{[&](sim::Point) {
                    if (points++ != at) return;
                    done = true;
                    sim::on_cpu(kOther, [&] { wakes ? tlb_leave_idle() : tlb_enter_idle(); });
                }};
                flush_page(change.at);
            }
            sim::on_cpu(kOther, [] { tlb_leave_idle(); });
            REQUIRE(change.seen_on(kOther));
            if (!done) break;
            const TlbStats sum = counted();
            REQUIRE(kernel.machine.total().ipis_sent + sum.skipped_idle + sum.skipped_clean == 1);
            ++(kernel.machine.total().ipis_sent != 0 ? asked : skipped);
        }
        CHECK(skipped > 0);
        CHECK(asked > 0);
    }
}

// The reverse: a whole batch runs at any step of waking up.
TEST_CASE("tlb: a CPU that wakes up sees every batch, at whatever moment it comes", "[tlb]") {
    u32 skipped = 0, asked = 0;
    for (u32 at = 0;; ++at) {
        INFO("at step " << at);
        Booted kernel{small(2)};
        Change change;
        tlb_enter_idle();
        u32 points = 0;
        bool done = false;
        {
            sim::ScopedHook hook{[&](sim::Point) {
                if (points++ != at) return;
                done = true;
                sim::on_cpu(kOther, [&] { flush_page(change.at); });
            }};
            tlb_leave_idle();
        }
        if (!done) break;
        REQUIRE(change.seen_on(CpuId{0}));
        ++(kernel.machine.total().ipis_sent != 0 ? asked : skipped);
    }
    CHECK(skipped > 0);
    CHECK(asked > 0);
}

TEST_CASE("TlbBatch: global pages are flushed everywhere, whoever is idle or has flushed since", "[tlb]") {
    Booted kernel{small(kCpus)};
    for (const u32 pages : {1u, TlbBatch::kMaxPages + 1}) {
        Change change{pages, kernel_prot.data};
        sim::on_cpu(kOther, [] { tlb_enter_idle(); });
        // A CR3 load does not flush global pages, so the clock is no evidence for them.
        sim::on_cpu(CpuId{2}, [] { tlb_flush_local_non_global(); });
        const Totals before = totals();
        TlbBatch batch{TlbBatch::Kind::global};
        batch.add(change.at, pages);
        batch.flush();
        CHECK(since(before) == Totals{pages == 1 ? kCpus : 0, 0, pages == 1 ? 0 : kCpus, kCpus - 1});
        CHECK(skips() == Skips{});
        on_every_cpu([&](u32 cpu) { CHECK(change.seen_on(CpuId{cpu})); });
        sim::on_cpu(kOther, [] { tlb_leave_idle(); });
    }
}
