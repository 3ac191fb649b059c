// TlbBatch: every CPU forgets what was added, as cheaply as promised, and no frame goes back before that.
#include "mm/tlb.hpp"
#include "mm/layout.hpp"
#include "mm/pagetable.hpp"
#include "tests/host/booted.hpp"

#include <optional>

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kCpus = 3;

// A piece of the upper part that nobody uses.
VirtAddr place(u32 page) { return VirtAddr{layout::boundaries.vmap_begin} + page * kPageSize; }

void map(VirtAddr va, Page* page, PteFlags flags) { hal::pte_set(kernel_pte(va), Pte{page_to_pfn(page), flags}); }
void unmap(VirtAddr va) { hal::pte_clear(kernel_pte(va)); }

template <typename F>
void on_every_cpu(F&& what) {
    for (u32 cpu = 0; cpu < kCpus; ++cpu)
        sim::on_cpu(CpuId{cpu}, [&] { what(cpu); });
}

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
                const PteFlags flags = kind == TlbBatch::Kind::global
                                           ? kernel_prot.data
                                           : kernel_prot.pool | pte::accessed | pte::dirty;
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
                CHECK_THROWS_AS(shows(place(0), after[0]), sim::StaleAccess); // the flush is really owed
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
            batch.add(place(2 * i)); // not neighbours
        batch.flush();
        return since(before);
    };
    const u64 ipis = kCpus - 1;
    for (const TlbBatch::Kind kind : {TlbBatch::Kind::non_global, TlbBatch::Kind::global}) {
        CHECK(cost(kind, 1) == Totals{kCpus, 0, 0, ipis});
        CHECK(cost(kind, 16) == Totals{16 * kCpus, 0, 0, ipis});
    }
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
    batch.add(place(3), 0); // nothing
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
    batch.add(place(40)); // more than were counted as ranges: must not be forgotten
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
    // While CPUs are being interrupted, one after the other, the frames are still theirs to see.
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
    // DEBUG reaches a frame that it poisons through a slot, which costs an invlpg.
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
    u32 flushes = 0;
    {
        sim::ScopedHook hook{[&](sim::Point point) {
            if (point != sim::Point::tlb && point != sim::Point::ipi) return;
            ++flushes;
            CHECK_FALSE(kernel.machine.here().interrupts);
        }};
        batch.flush();
    }
    CHECK(flushes == 1 + kCpus);
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
        const TlbStats& stats = tlb_stats.of(CpuId{cpu});
        CHECK(stats.invlpg == (cpu == 1 ? 3 : 2));
        CHECK(stats.non_global == 1);
        CHECK(stats.full == 1);
        CHECK(stats.requests == (cpu == 1 ? 3 : 0));
        CHECK(stats.remote == (cpu == 1 ? 3 * (kCpus - 1) : 0));
    }
    mm_init_cpu(CpuId{1});
    CHECK(tlb_stats.of(CpuId{1}).invlpg == 0);
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
