// kmap under every schedule: reuse of slots after a wrap, the lock-free path against a reclaim, pages that are freed,
// addresses that are passed to other CPUs.
#include "tests/host/explorer/rig.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/kmap_local.hpp"

#include <algorithm>

using namespace loft;
using namespace loft::test;

namespace {

void map_use_unmap(Page* page) {
    use(kmap(page), page);
    kunmap(page);
}

// Makes every slot idle with the page of its number. All are mapped at once: a single idle slot would be reclaimed by
// the next kmap.
void fill_the_pool(Scene& s) {
    for (u32 i = 0; i < pkmap_slots(); ++i)
        use(kmap(s.pages[i]), s.pages[i]);
    for (u32 i = 0; i < pkmap_slots(); ++i)
        kunmap(s.pages[i]);
}

// An address that one thread passes to another through memory, and the answer that it is not used any more.
class Handover {
  public:
    explicit Handover(Scene& s) {
        s.explored.reset = [this, next = s.explored.reset] {
            next();
            address_.store(0);
            used_.store(0);
        };
    }
    void give(VirtAddr va) { address_.store(va.value()); }
    void wait_until_used(u32 times) {
        while (used_.load() != times)
            hal::cpu_relax();
    }
    VirtAddr take() {
        u32 va = 0;
        while ((va = address_.load()) == 0)
            hal::cpu_relax();
        return VirtAddr{va};
    }
    void used(u32 times) {
        address_.store(0);
        used_.store(times);
    }

  private:
    hal::Plain<u32> address_;
    hal::Atomic<u32> used_;
};

} // namespace

TEST_CASE("explorer: two CPUs and two slots: each CPU maps a page", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    Scene s{2, 2};
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [&s, cpu] { map_use_unmap(s.pages[cpu]); });
    CHECK(s.explore(sim::reduced()).complete);
}

TEST_CASE("explorer: two CPUs and two slots: three pages, and the pool wraps", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    Scene s{2, 2};
    s.thread(0, [&s] {
        map_use_unmap(s.pages[0]);
        map_use_unmap(s.pages[2]);
    });
    s.thread(1, [&s] { map_use_unmap(s.pages[1]); });
    // DEBUG flushes in every kunmap, so there are many more schedules.
    CHECK((s.explore(sim::reduced(schedules(10'000))).complete || !kWhole));
}

// 472368 schedules with 64g.
TEST_CASE("explorer: two CPUs and two slots: four pages, twice round the pool", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    Scene s{2, 2};
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [&s, cpu] {
            map_use_unmap(s.pages[cpu]);
            map_use_unmap(s.pages[2 + cpu]);
        });
    s.explore(sim::reduced(schedules(10'000)));
}

TEST_CASE("explorer: two CPUs map the same page at once", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    Scene s{2, 4};
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [&s] { map_use_unmap(s.pages[0]); });
    CHECK((s.explore(sim::reduced(schedules(20'000))).complete || !kWhole));
}

TEST_CASE("explorer: two CPUs that map the same page at once get the same address", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    Scene s{2, 4};
    hal::Atomic<u32> addr[2];
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [&s, &addr, cpu] {
            addr[cpu].store(kmap(s.pages[0]).value());
            s.done.fetch_add(1);
            while (s.done.load() != 2)
                hal::cpu_relax();
            sim::expect(addr[0].load() == addr[1].load(), "one page, one address");
            use(VirtAddr{addr[cpu].load()}, s.pages[0]);
            kunmap(s.pages[0]);
        });
    s.explore(sim::reduced(schedules(10'000)));
}

TEST_CASE("explorer: a slot that one of two CPUs took in vain is used again", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    Scene s{2, 4, 5};
    s.thread(0, [&s] { map_use_unmap(s.pages[0]); });
    s.thread(1, [&s] {
        map_use_unmap(s.pages[0]);
        for (u32 i = 1; i < 5; ++i) // uses every slot
            map_use_unmap(s.pages[i]);
    });
    s.explore(sim::reduced(schedules(20'000)));
    s.explore(sim::reduced(schedules(20'000), 2));
    s.explore(sim::random(schedules(10'000)));
}

TEST_CASE("explorer: a thread sleeps with a number while the pool goes round", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    Scene s{2, 4, 6};
    s.thread(0, [&s] { map_use_unmap(s.pages[0]); });
    s.thread(1, [&s] {
        for (const u32 i : {1, 2, 3, 4, 5, 0})
            map_use_unmap(s.pages[i]);
    });
    s.explore(sim::reduced(schedules(20'000), 2));
    s.explore(sim::random(schedules(20'000)));
}

TEST_CASE("explorer: the only idle slot is found, whoever took a number long ago", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    // Once a third mapping has been made, search() gives up after two rounds, which have to be whole ones: they count
    // from the hand, so it must not go back to a number of the other half. CPU 1 leaves one idle slot: the last of the
    // first half, while the hand is in the second.
    Scene s{2, 8, 9};
    s.thread(0, [&s] {
        map_use_unmap(s.pages[8]);
        s.done.fetch_add(1);
    });
    s.thread(1, [&s] {
        for (u32 i = 0; i < 8; ++i) {
            use(kmap(s.pages[i]), s.pages[i]);
            if (i == 4) kunmap(s.pages[3]);
        }
        while (s.done.load() == 0)
            hal::cpu_relax();
        for (const u32 i : {0, 1, 2, 4, 5, 6, 7})
            kunmap(s.pages[i]);
    });
    s.explore(sim::reduced(schedules(4'000), 1));
}

TEST_CASE("explorer: the path without a lock against the reclaim of the same slot", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    // All slots are idle. The next page gets the slot of the third page, and the first two slots are reclaimed.
    for (const u32 wanted : {0u, 2u}) {
        Scene s{2, 4, 5};
        fill_the_pool(s);
        s.thread(0, [&s, wanted] { map_use_unmap(s.pages[wanted]); });
        s.thread(1, [&s] { map_use_unmap(s.pages[4]); });
        s.explore(sim::reduced(schedules(10'000)));
    }
}

TEST_CASE("explorer: a page is freed while others look for it where it was", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    Scene s{2, 2, 4};
    map_use_unmap(s.pages[0]);
    map_use_unmap(s.pages[1]);
    s.thread(0, [&s] { map_use_unmap(s.pages[0]); });
    s.thread(1, [] {
        Page* page = alloc_page(Gfp::high);
        (void)hal::load<u32>(kmap(page));
        kunmap(page);
        free_page(page);
    });
    s.explore(sim::reduced(schedules(10'000)));
}

TEST_CASE("explorer: an address is handed over to a CPU that never calls kmap", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    Scene s{2, 2, 4};
    Handover h{s};
    constexpr u32 kTurns = 4; // twice round the pool
    s.thread(0, [&] {
        for (u32 i = 0; i < kTurns; ++i) {
            h.give(kmap(s.pages[i]));
            h.wait_until_used(i + 1);
            kunmap(s.pages[i]);
        }
    });
    s.thread(1, [&] {
        for (u32 i = 0; i < kTurns; ++i) {
            use(h.take(), s.pages[i]);
            h.used(i + 1);
        }
    });
    s.explore(sim::reduced(schedules(10'000)));
}

TEST_CASE("explorer: a CPU that flushes by itself is not asked, and sees nothing old", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    Scene s{2, 2, 4};
    Handover h{s};
    s.thread(0, [&] {
        h.give(kmap(s.pages[0]));
        h.wait_until_used(1);
        kunmap(s.pages[0]);
        for (u32 i = 1; i < 3; ++i) { // a round of the pool, until the first slot is reused
            use(kmap(s.pages[i]), s.pages[i]);
            kunmap(s.pages[i]);
        }
        h.give(kmap(s.pages[3]));
        h.wait_until_used(2);
        kunmap(s.pages[3]);
    });
    s.thread(1, [&] {
        use(h.take(), s.pages[0]);
        h.used(1);
        IrqGuard guard; // as if it loaded another address space
        tlb_flush_local_non_global();
        use(h.take(), s.pages[3]);
        h.used(2);
    });
    const u32 before = tlb_stats_sum().skipped_clean;
    bool ever = false;
    s.explored.check = [&] { ever |= tlb_stats_sum().skipped_clean != before; };
    s.explore(sim::reduced(schedules(20'000)));
    CHECK((ever || config::kDebug));
}

TEST_CASE("explorer: who finds a page that is just being mapped finds it clean", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    Scene s{2, 4, 5};
    fill_the_pool(s);
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [&s] { map_use_unmap(s.pages[4]); });
    s.explore(sim::reduced(schedules(10'000)));
}

TEST_CASE("explorer: a slot that nobody touched is used again without a flush", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh && !config::kDebug);
    // Whether the processor fills its TLB speculatively is part of the schedule.
    Scene s{2, 2, 4};
    s.thread(0, [&s] {
        for (u32 i = 0; i < 3; ++i) {
            (void)kmap(s.pages[i]);
            kunmap(s.pages[i]);
        }
        map_use_unmap(s.pages[3]);
    });
    const u32 before = pkmap_stats().unused;
    bool ever = false;
    s.explored.check = [&] { ever |= pkmap_stats().unused != before; };
    CHECK(s.explore(sim::reduced()).complete);
    CHECK(ever);
}

TEST_CASE("explorer: two CPUs make a third mapping, which counts and is reported once", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    Scene s{2, 8, 6};
    s.small_kernel.marks_idle = false;
    s.explored.reset = [next = s.explored.reset] {
        next();
        sim::machine().log().clear();
    };
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [&s, cpu] {
            for (u32 i = 0; i < 3; ++i)
                use(kmap(s.pages[3 * cpu + i]), s.pages[3 * cpu + i]);
            for (u32 i = 3; i-- != 0;)
                kunmap(s.pages[3 * cpu + i]);
        });
    const u32 thirds = pkmap_stats().thirds;
    s.explored.check = [thirds] {
        sim::expect(pkmap_stats().thirds - thirds == 2, "each third mapping counts");
        sim::expect(
            std::ranges::count_if(sim::machine().log(),
                                  [](const std::string& line) { return line.find("another one") != line.npos; }) == 1,
            "one message");
    };
    s.explore(sim::reduced(schedules(4'000), 2));
}

TEST_CASE("explorer: two CPUs get a credit that they have waited for, and count it", "[.explorer][explorer-pkmap]") {
    ONLY_WITH(kHigh);
    // Two credits, which CPUs 0 and 1 hold until the two others wait.
    Scene s{4, 4, 4};
    s.small_kernel.marks_idle = false;
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [&s, cpu] {
            use(kmap(s.pages[cpu]), s.pages[cpu]);
            s.done.fetch_add(1);
            // CPU 0 sees that both wait, and tells CPU 1.
            while (cpu == 0 ? detail::pkmap_hot.credits.value() != -2 : s.done.load() != 3)
                hal::cpu_relax();
            if (cpu == 0) s.done.store(3);
            kunmap(s.pages[cpu]);
        });
    for (u32 cpu = 2; cpu < 4; ++cpu)
        s.thread(cpu, [&s, cpu] {
            while (s.done.load() < 2)
                hal::cpu_relax();
            map_use_unmap(s.pages[cpu]);
        });
    const u32 waits = pkmap_stats().waits;
    s.explored.check = [waits] { sim::expect(pkmap_stats().waits - waits == 2, "both have waited"); };
    s.explore(sim::reduced(schedules(2'000), 1));
    s.explore(sim::random(schedules(4'000)));
}

TEST_CASE("explorer: three CPUs map the same page at once, twice", "[.explorer][explorer-many]") {
    ONLY_WITH(kHigh);
    Scene s{3, 6, 8};
    for (u32 cpu = 0; cpu < 3; ++cpu)
        s.thread(cpu, [&s, cpu] {
            map_use_unmap(s.pages[0]);
            map_use_unmap(s.pages[1 + cpu]); // moves the hand
            map_use_unmap(s.pages[4 + cpu]);
            map_use_unmap(s.pages[0]);
        });
    s.explore(sim::reduced(schedules(10'000), 2));
    s.explore(sim::random(schedules(10'000)));
}

TEST_CASE("explorer: three CPUs share four slots", "[.explorer][explorer-many]") {
    ONLY_WITH(kHigh);
    Scene s{3, 4, 6};
    for (u32 cpu = 0; cpu < 3; ++cpu)
        s.thread(cpu, [&s, cpu] {
            map_use_unmap(s.pages[cpu]);
            map_use_unmap(s.pages[(cpu + 1) % 3]);
            map_use_unmap(s.pages[3 + cpu]);
        });
    s.explore(sim::reduced(schedules(10'000), 2));
    s.explore(sim::random(schedules(5'000)));
}

TEST_CASE("explorer: four CPUs, eight threads, six slots, everything at once", "[.explorer][explorer-many]") {
    ONLY_WITH(kHigh);
    Scene s{4, 6, 10};
    for (u32 thread = 0; thread < 8; ++thread)
        s.thread(thread % 4, [&s, thread] {
            Random random{thread};
            for (u32 turn = 0; turn < 3; ++turn) {
                Page* const page = s.pages[below(random, 10)];
                Page* const second = s.pages[below(random, 10)];
                switch (below(random, 4)) {
                case 0:
                    map_use_unmap(page);
                    break;
                case 1: {
                    const GlobalAddr a = kmap(page), b = kmap(second);
                    use(a, page);
                    use(b, second);
                    kunmap(page);
                    look(b, second);
                    kunmap(second);
                    break;
                }
                case 2: {
                    const GlobalAddr a = kmap(page);
                    const LocalAddr b = kmap_local_page(second);
                    use(b, second);
                    use(a, page);
                    kunmap_local(b);
                    kunmap(page);
                    break;
                }
                case 3: {
                    Page* const fresh = alloc_page(Gfp::high);
                    (void)hal::load<u32>(kmap(fresh));
                    kunmap(fresh);
                    free_page(fresh);
                    break;
                }
                }
            }
        });
    s.explored.preemptions = 4;
    s.explored.roaming = true;
    s.explore(sim::random(schedules(5'000)));
}
