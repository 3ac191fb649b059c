// Run queues: a thread runs on one CPU at a time, where it may, and no CPU sleeps while a thread waits for it.
#include "tests/threads/rig.hpp"

#include "mm/tables/pagetable.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/kmap_local.hpp"

using namespace loft;
using namespace loft::test;

namespace {

// Runs steps on whatever CPU has the thread, and gives the CPU up in between.
void wander(u32 times) {
    for (u32 i = 0; i < times; ++i) {
        expect_allowed();
        yield();
    }
    expect_allowed();
}

} // namespace

TEST_CASE("threads: when the scheduler has begun, interrupts are as they were", "[.threads][threads-switch]") {
    const Scene s{1};
    CHECK(hal::irqs_enabled());
}

TEST_CASE("threads: an idle CPU that is about to halt gets the thread that is woken", "[.threads][threads-kick]") {
    // No tick comes: a lost kick is a deadlock.
    Scene s{2};
    Thread* sleeper = nullptr;
    s.main([&] {
        s.word[0].store(1);
        hal::unpark(ThreadId{sleeper->id.load()});
    });
    sleeper = s.thread(
        1,
        [&] {
            while (s.word[0].load() == 0)
                hal::park();
            expect_allowed();
        },
        cpus_of({1}));
    SECTION("and no NMI") {}
    SECTION("and an NMI, maybe between its sti and its hlt") {
        s.explored.nmis = 1;
        s.explored.nmi_cpus = 1u << 1;
    }
    s.explore(sim::reduced(schedules(5'000)));
    s.explore(sim::random(schedules(4'000)));
}

TEST_CASE("threads: a CPU that starts finds the threads that were made ready for it before",
          "[.threads][threads-kick]") {
    // Every schedule begins with the first steps of scheduler_run on CPU 1.
    Scene s{2};
    s.main([&] {
        auto body = [&s] {
            expect_allowed();
            s.word[0].store(1);
        };
        Thread* const made = thread_create("early", body, cpus_of({1}));
        sim::expect(made != nullptr, "there is memory for a thread");
        set_affinity(cpus_of({1}));
        expect_allowed();
        thread_join(made);
        sim::expect(s.word[0].load() == 1, "it has run");
    });
    s.explore(sim::reduced(schedules(3'000), 1));
    s.explore(sim::random(schedules(3'000)));
}

TEST_CASE("threads: an idle CPU takes what may run there, and nothing else", "[.threads][threads-pull]") {
    Scene s{2};
    s.main([] { wander(1); });
    s.thread(
        0, [] { wander(1); }, cpus_of({0}));
    s.thread(0, [] { wander(2); });
    s.explored.ticks = 1;
    s.explore(sim::reduced(schedules(8'000), 2));
    s.explore(sim::random(schedules(4'000)));
}

TEST_CASE("threads: threads pass between three CPUs", "[.threads][threads-pull]") {
    Scene s{3};
    s.main([] {
        set_affinity(kEveryCpu);
        wander(2);
        set_affinity(cpus_of({2}));
        expect_allowed();
    });
    s.thread(0, [] { wander(2); });
    s.thread(1, [] {
        wander(1);
        set_affinity(cpus_of({0, 2}));
        wander(1);
    });
    s.thread(
        1,
        [] {
            {
                const MigrateGuard here;
                const CpuId cpu = hal::this_cpu();
                yield();
                sim::expect(hal::this_cpu() == cpu, "a thread that has disabled migration stays");
            }
            set_affinity(cpus_of({1})); // which only a thread that may migrate calls
            expect_allowed();
        },
        cpus_of({1, 2}));
    s.explored.ticks = 2;
    s.explore(sim::reduced(schedules(3'000), 1));
    s.explore(sim::random(schedules(8'000)));
}

TEST_CASE("threads: a thread that may not migrate is woken where it was, and no wish moves it",
          "[.threads][threads-pull]") {
    // CPU 2 is idle, CPU 1 is not.
    Scene s{3};
    Thread* sleeper = nullptr;
    s.main([&] {
        s.word[0].store(1);
        hal::unpark(ThreadId{sleeper->id.load()});
    });
    sleeper = s.thread(1, [&] {
        wait_for(s.word[0]);
        sim::expect(hal::this_cpu() == CpuId{1}, "woken where it was");
        request_move(CpuId{2});
        s.word[1].store(1);
        yield();
        sim::expect(hal::this_cpu() == CpuId{1}, "not moved");
        migrate_enable();
    });
    s.thread(
        1,
        [&] {
            while (s.word[1].load() == 0)
                hal::cpu_relax();
        },
        cpus_of({1}));
    sleeper->migrate_disabled = 1; // from its begin
    s.explored.ticks = 2;
    s.explore(sim::reduced(schedules(3'000), 1));
    s.explore(sim::random(schedules(3'000)));
}

TEST_CASE("threads: the tick preempts a thread that waits for another of its CPU", "[.threads][threads-tick]") {
    Scene s{1};
    s.main([&] {
        while (s.word[0].load() == 0)
            hal::cpu_relax();
    });
    s.thread(0, [&] { s.word[0].store(1); });
    s.explored.ticks = 2;
    CHECK(s.explore(sim::reduced(schedules(20'000))).complete);
}

TEST_CASE("threads: a tick at any step, while threads are woken and moved", "[.threads][threads-tick]") {
    Scene s{2};
    Thread* sleeper = nullptr;
    s.main([&] {
        request_move(CpuId{1});
        s.count[0].fetch_add(1);
        hal::unpark(ThreadId{sleeper->id.load()});
        {
            PreemptGuard guard;
            s.count[0].fetch_add(1);
        }
        s.count[1].fetch_add(1);
        hal::unpark(ThreadId{sleeper->id.load()});
    });
    s.main_thread->affinity = kEveryCpu;
    sleeper = s.thread(1, [&] {
        while (s.count[1].load() == 0)
            hal::park();
        sim::expect(s.count[0].load() == 2, "what came before the wake-up is seen");
    });
    s.explored.ticks = 2;
    s.explore(sim::reduced(schedules(10'000), 2));
    s.explore(sim::random(schedules(8'000)));
}

TEST_CASE("threads: an interrupted thread sees what it is interrupted for", "[.threads][threads-kick]") {
    Scene s{2};
    Thread* sleeper = nullptr;
    s.main([&] {
        s.word[0].store(1);
        interrupt_thread(*sleeper);
    });
    sleeper = s.thread(1, [&] {
        while (s.word[0].load() == 0)
            hal::park();
    });
    s.explore(sim::reduced(schedules(5'000), 2));
    s.explore(sim::random(schedules(3'000)));
}

TEST_CASE("threads: a CPU that was idle runs a thread with no old translation", "[.threads][threads-idle]") {
    // The thread of CPU 1 reads a page, and parks. Main replaces the page, and does not ask an idle CPU to flush.
    Scene s{2};
    const std::vector<Page*> pages = new_pages(2, Gfp::kernel);
    const VirtAddr va{layout::boundaries.vmap_begin};
    const auto show = [&](u32 number) {
        constexpr PteFlags kPreset = pte::present | pte::write | pte::accessed | pte::dirty;
        hal::pte_set(kernel_pte(va), Pte{page_to_pfn(pages[number]), kPreset});
    };
    for (u32 i = 0; i < 2; ++i)
        sim::poke(page_to_pfn(pages[i]).phys(), i);
    Thread* reader = nullptr;
    s.main([&] {
        while (s.word[0].load() == 0)
            hal::park();
        hal::pte_take(kernel_pte(va));
        TlbBatch batch{TlbBatch::Kind::non_global};
        batch.add(va);
        batch.flush();
        show(1);
        s.word[1].store(1);
        hal::unpark(ThreadId{reader->id.load()});
    });
    reader = s.thread(
        1,
        [&] {
            sim::expect(hal::load<u32>(va) == 0, "the first page");
            s.word[0].store(1);
            hal::unpark(s.main_id);
            while (s.word[1].load() == 0)
                hal::park();
            sim::expect(hal::load<u32>(va) == 1, "the second page");
        },
        cpus_of({1}));
    // The handler of an interrupt finds the second page, too.
    s.thread_kernel.in_interrupt = [&] {
        if (hal::this_cpu() == CpuId{1} && s.word[1].load() == 1)
            sim::expect(hal::load<u32>(va) == 1, "the second page");
    };
    show(0);
    const u32 skipped = tlb_stats_sum().skipped_idle;
    bool ever = false;
    s.check = [&] { ever |= tlb_stats_sum().skipped_idle != skipped; };
    SECTION("an interrupt ends its hlt") {}
    SECTION("an interrupt ends its hlt, or an NMI") {
        s.explored.nmis = 1;
        s.explored.nmi_cpus = 1u << 1;
    }
    s.explore(sim::reduced(schedules(4'000), 2));
    s.explore(sim::random(schedules(2'000)));
    CHECK(ever);
}

TEST_CASE("threads: interrupts that come in a handler, and threads that are switched after them",
          "[.threads][threads-nested]") {
    Scene s{2};
    u32 deepest = 0;
    s.thread_kernel.in_interrupt = [&] {
        deepest = std::max(deepest, irq_depth());
        if (irq_depth() == 3) return;
        const u32 depth = irq_depth();
        hal::irq_restore(hal::kIrqsOn);
        s.count[0].fetch_add(1);
        static_cast<void>(hal::irq_save());
        sim::expect(irq_depth() == depth, "the handler goes on where it was");
    };
    Thread* sleeper = nullptr;
    s.main([&] {
        for (u32 i = 1; i <= 2; ++i) {
            s.word[0].store(i);
            hal::unpark(ThreadId{sleeper->id.load()});
            while (s.word[1].load() != i)
                hal::park();
        }
    });
    sleeper = s.thread(1, [&] {
        for (u32 i = 1; i <= 2; ++i) {
            while (s.word[0].load() != i)
                hal::park();
            s.word[1].store(i);
            hal::unpark(s.main_id);
        }
    });
    s.explored.ticks = 3;
    s.explored.handlers_nest = true;
    s.explore(sim::reduced(schedules(2'000), 1));
    s.explore(sim::random(schedules(5'000)));
    CHECK(deepest >= 2);
}
