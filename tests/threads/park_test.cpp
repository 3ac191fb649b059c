// park and unpark: no permit is lost. The end of a thread, and its join, are built on them.
#include "tests/threads/rig.hpp"

using namespace loft;
using namespace loft::test;

TEST_CASE("threads: a permit is not lost, and shows what was written before it", "[.threads][threads-park]") {
    Scene s{2};
    s.main([&] { wait_for(s.word[0]); });
    // The first permit may be taken by the park that the second one is for.
    s.thread(
        1,
        [&] {
            hal::unpark(s.main_id);
            s.word[0].store(1);
            hal::unpark(s.main_id);
        },
        cpus_of({1}));
    s.explore(sim::reduced(schedules(20'000)));
}

TEST_CASE("threads: two CPUs wake one thread", "[.threads][threads-park]") {
    Scene s{3};
    s.main([&] {
        wait_for(s.word[0]);
        wait_for(s.word[1]);
    });
    for (const u32 me : {0u, 1u})
        s.thread(1 + me, [&s, me] {
            s.word[me].store(1);
            hal::unpark(s.main_id);
        });
    s.explore(sim::reduced(schedules(10'000), 2));
    s.explore(sim::random(schedules(4'000)));
}

TEST_CASE("threads: two threads wake each other in turn", "[.threads][threads-park]") {
    Scene s{2};
    Thread* other = nullptr;
    constexpr u32 kTurns = 3;
    const auto play = [&s](u32 me, ThreadId partner) {
        for (u32 turn = 0; turn < kTurns; ++turn) {
            while (s.word[0].load() != 2 * turn + me)
                hal::park();
            s.word[0].store(2 * turn + me + 1);
            hal::unpark(partner);
        }
    };
    s.main([&] { play(0, ThreadId{other->id.load()}); });
    other = s.thread(1, [&] { play(1, s.main_id); });
    s.explored.ticks = 1;
    s.explore(sim::reduced(schedules(5'000), 2));
    s.explore(sim::random(schedules(4'000)));
}

TEST_CASE("threads: who is woken on an idle CPU does not run before its stack has been left",
          "[.threads][threads-switch]") {
    // Thread 1 parks on CPU 1; main wakes it, and CPU 2 is idle: it runs there while CPU 1 may still be on its stack.
    Scene s{3};
    Thread* sleeper = nullptr;
    s.main([&] {
        hal::unpark(ThreadId{sleeper->id.load()});
        s.word[0].store(1);
        hal::unpark(ThreadId{sleeper->id.load()});
    });
    sleeper = s.thread(
        1, [&] { wait_for(s.word[0]); }, cpus_of({1, 2}));
    SECTION("CPU 1 goes idle") {}
    SECTION("CPU 1 has another thread") {
        s.thread(
            1, [] {}, cpus_of({1}));
    }
    s.explore(sim::reduced(schedules(6'000), 2));
    s.explore(sim::random(schedules(6'000)));
}

TEST_CASE("threads: join waits for the end", "[.threads][threads-join]") {
    Scene s{2};
    Thread* other = nullptr;
    s.main([&] {
        thread_join(other);
        sim::expect(s.word[0].load() == 1, "join returns after the thread has ended, and shows what it wrote");
    });
    other = s.thread(
        1, [&] { s.word[0].store(1); }, cpus_of({1}));
    s.explore(sim::reduced(schedules(10'000)));
    s.explore(sim::random(schedules(3'000)));
}

TEST_CASE("threads: birth and end of a thread on another CPU, twice", "[.threads][threads-join]") {
    // The second one has the descriptor of the first, and maybe its stack.
    Scene s{2};
    s.main([&] {
        for (u32 i = 1; i <= 2; ++i) {
            auto body = [&s] { s.count[0].fetch_add(1); };
            Thread* const made = thread_create("born", body);
            sim::expect(made != nullptr, "there is memory for a thread");
            thread_join(made);
            sim::expect(s.count[0].load() == i, "it has run");
        }
    });
    s.explored.ticks = 1;
    s.explore(sim::reduced(schedules(2'000), 1));
    s.explore(sim::random(schedules(3'000)));
}

TEST_CASE("threads: a late wake-up of a thread that has ended is harmless", "[.threads][threads-join]") {
    Scene s{3};
    Thread* other = nullptr;
    s.main([&] {
        const ThreadId id{other->id.load()};
        hal::unpark(id);
        thread_join(other);
        hal::unpark(id);
    });
    other = s.thread(1, [] { hal::park(); });
    s.thread(2, [&] { hal::unpark(ThreadId{other->id.load()}); });
    s.explore(sim::random(schedules(4'000)));
}

TEST_CASE("threads: two CPUs find at the same time what threads have left behind", "[.threads][threads-join]") {
    Scene s{2};
    s.leaks = 2;
    SECTION("at their end") {
        const std::vector<Page*> pages = new_pages(2, Gfp::high);
        for (u32 cpu = 0; cpu < 2; ++cpu)
            s.thread(cpu, [page = pages[cpu]] { static_cast<void>(kmap(page)); });
        s.explore(sim::reduced(schedules(4'000), 1));
    }
    SECTION("at the return to a program") {
        for (u32 cpu = 0; cpu < 2; ++cpu)
            s.thread(cpu, [] {
                preempt_disable();
                check_return_to_user();
                sim::expect(preemptible(), "the thread goes on without it");
            });
        s.explore(sim::reduced(schedules(4'000), 1));
    }
}

TEST_CASE("threads: each thing that a thread holds when it returns to its program is reported once",
          "[.threads][threads-join]") {
    Scene s{1};
    Page* const page = new_page();
    s.main([&] {
        const auto reports = [] {
            const u32 before = thread_leaks();
            check_return_to_user();
            sim::expect(preemptible() && !local_held() && !pagefaults_disabled(), "the thread goes on without it");
            return thread_leaks() - before;
        };
        sim::expect(reports() == 0, "it holds nothing");
        preempt_disable();
        sim::expect(reports() == 1 && reports() == 0, "preemption that is off");
        pagefault_disable();
        sim::expect(reports() == 1 && reports() == 0, "page-fault handling that is off");
        static_cast<void>(kmap_local_page(page));
        sim::expect(reports() == 1 && reports() == 0, "a local mapping");
        static_cast<void>(kmap(page));
        sim::expect(reports() == 1 && reports() == 0, "a mapping");
        context.add<&Context::minus_kmaps>(~0u);
        kunmap(page);
    });
    s.leaks = 4;
    s.explore(sim::reduced(1));
}
