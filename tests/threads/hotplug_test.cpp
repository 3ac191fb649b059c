// A CPU goes away and comes back: nothing that it had is lost, nobody waits for it, and it uses nothing that is old.
#include "tests/threads/rig.hpp"

#include "arch/i386/firmware/topology.hpp"
#include "arch/i386/irq/smp.hpp"
#include "kernel/boot/smp.hpp"
#include "kernel/threads/hotplug.hpp"
#include "mm/ground/counters.hpp"
#include "mm/ground/remote.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/vmap.hpp"

#include <set>

using namespace loft;
using namespace loft::test;

namespace {

constexpr CpuId kLast{1}; // the CPU that goes, of two

bool online(CpuId cpu) { return hal::online_cpus().has(cpu); }
void go(CpuId cpu = kLast) { sim::expect(cpu_down(cpu) == Hotplug::done, "the CPU goes away"); }

// What must hold after cpu_down has returned.
void expect_gone(CpuId cpu) {
    sim::expect(!online(cpu) && !open_cpus().has(cpu), "it is in no set");
    sim::expect(ready_threads(cpu) == 0, "its queue is empty");
}

u32 all_free_frames() {
    u32 sum = 0;
    for (u32 i = 0; i < kZones; ++i)
        sum += zone_info(static_cast<ZoneId>(i)).free;
    return sum;
}

// A page of vmap whose frame changes. Its readers find the first word of either frame, never an old one.
class Window {
  public:
    explicit Window(PteFlags more = {}) : flags_{pte::present | pte::write | pte::accessed | pte::dirty | more} {
        for (u32 i = 0; i < 2; ++i)
            sim::poke(page_to_pfn(pages_[i]).phys(), i);
        show(0);
    }
    void show(u32 number) { hal::pte_set(kernel_pte(va), Pte{page_to_pfn(pages_[number]), flags_}); }
    // Unmaps and flushes; then nobody has the old translation.
    void replace(TlbBatch::Kind kind) {
        hal::pte_take(kernel_pte(va));
        TlbBatch batch{kind};
        batch.add(va);
        batch.flush();
        show(1);
    }
    u32 read() const { return hal::load<u32>(va); }

    const VirtAddr va{layout::boundaries.vmap_begin};

  private:
    PteFlags flags_;
    std::vector<Page*> pages_ = new_pages(2, Gfp::kernel);
};

} // namespace

TEST_CASE("threads: the boot CPU stays, and so does a CPU that is not there", "[.threads][threads-hotplug]") {
    Scene s{2};
    s.cpus_come_and_go();
    s.main([&] {
        sim::expect(cpu_down(CpuId{0}) == Hotplug::boot_cpu, "the boot CPU");
        sim::expect(cpu_down(CpuId{5}) == Hotplug::no_such && cpu_down(CpuId{77}) == Hotplug::no_such, "no such CPU");
        sim::expect(cpu_up(kLast) == Hotplug::no_such && cpu_up(CpuId{77}) == Hotplug::no_such, "it is there");
        go();
        expect_gone(kLast);
        sim::expect(cpu_down(kLast) == Hotplug::no_such, "it is away");
        sim::expect(hal::this_cpu() == CpuId{0} && thread_self()->affinity == cpus_of({0}), "the caller is back");
    });
    s.explore(sim::reduced(schedules(2'000), 1));
}

TEST_CASE("threads: threads of a CPU that goes away run elsewhere", "[.threads][threads-hotplug]") {
    // One that is ready there, one that is woken meanwhile, one that sleeps there, and one that makes another.
    Scene s{2};
    s.cpus_come_and_go();
    Thread* sleeper = nullptr;
    s.main([&] {
        go();
        expect_gone(kLast);
        s.word[1].store(1);
    });
    SECTION("ready") {
        s.thread(1, [] { yield(); });
        s.thread(
            1, [] {}, cpus_of({1}));
    }
    SECTION("woken") {
        sleeper = s.thread(1, [&] { wait_for(s.word[0]); });
        s.thread(
            0,
            [&] {
                s.word[0].store(1);
                hal::unpark(ThreadId{sleeper->id.load()});
            },
            cpus_of({0}));
    }
    SECTION("woken, with no other CPU") {
        sleeper = s.thread(
            1, [&] { wait_for(s.word[0]); }, cpus_of({1}));
        s.thread(
            0,
            [&] {
                s.word[0].store(1);
                hal::unpark(ThreadId{sleeper->id.load()});
            },
            cpus_of({0}));
    }
    SECTION("made") {
        s.explored.ticks = 1; // a thread that makes another one holds local maps now and then
        s.thread(0, [&] {
            auto body = [&] { s.count[0].fetch_add(1); };
            Thread* const made = thread_create("made", body, cpus_of({1}));
            sim::expect(made != nullptr, "there is memory for a thread");
            set_affinity(cpus_of({1}));
            thread_join(made);
            sim::expect(s.count[0].load() == 1, "it has run");
        });
    }
    s.explore(sim::reduced(schedules(4'000), 1));
    s.explore(sim::random(schedules(2'000)));
}

TEST_CASE("threads: a thread that may run on a CPU that goes away, or on another one", "[.threads][threads-hotplug]") {
    Scene s{3};
    s.cpus_come_and_go();
    s.main([&] { go(CpuId{1}); });
    s.thread(0, [&] {
        set_affinity(cpus_of({1, 2}));
        const IrqGuard same_cpu;
        sim::expect(hal::this_cpu() != CpuId{0}, "it is on the one that stays, or still on the one that goes");
    });
    s.explore(sim::reduced(schedules(4'000), 1));
    s.explore(sim::random(schedules(4'000)));
}

TEST_CASE("threads: two threads take a CPU away each", "[.threads][threads-hotplug]") {
    // Each of the two CPUs asks the other one last of all.
    Scene s{3};
    s.cpus_come_and_go();
    s.main([&] { go(CpuId{2}); });
    s.thread(0, [&] { go(CpuId{1}); });
    s.check = [&] { sim::expect(hal::online_cpus() == cpus_of({0}), "only the boot CPU is left"); };
    s.explored.ticks = 1;
    s.explore(sim::reduced(schedules(3'000), 1));
    s.explore(sim::random(schedules(2'000)));
}

TEST_CASE("threads: an alarm of a CPU that goes away rings", "[.threads][threads-hotplug]") {
    Scene s{2};
    s.cpus_come_and_go();
    s.main([&] { go(); });
    s.thread(1, [] {
        sleep_ms(1);
        sleep_ms(1);
    });
    s.explored.ticks = 1;
    s.explore(sim::reduced(schedules(4'000), 1));
    s.explore(sim::random(schedules(2'000)));
}

TEST_CASE("threads: a flush misses no CPU that is still there, and waits for none that is away",
          "[.threads][threads-hotplug]") {
    // The window is read by a thread that may be on the CPU, and by every interrupt: also by those that come while the
    // CPU is about to go.
    Scene s{3};
    s.cpus_come_and_go();
    TlbBatch::Kind kind{};
    PteFlags more{};
    SECTION("of an entry that is not global") { kind = TlbBatch::Kind::non_global; }
    SECTION("of a global entry") {
        kind = TlbBatch::Kind::global;
        more = pte::global;
    }
    Window window{more};
    s.thread_kernel.in_interrupt = [&] {
        if (s.word[0].load() != 0) sim::expect(window.read() == 1, "an interrupt finds the new frame");
    };
    s.main([&] { go(CpuId{2}); });
    s.thread(
        1,
        [&] {
            window.replace(kind);
            s.word[0].store(1);
        },
        cpus_of({1}));
    s.thread(2, [&] {
        if (s.word[0].load() != 0) sim::expect(window.read() == 1, "a thread finds the new frame");
        yield();
        if (s.word[0].load() != 0) sim::expect(window.read() == 1, "a thread finds the new frame");
    });
    s.explored.ticks = 1;
    s.explore(sim::reduced(schedules(6'000), 1));
    s.explore(sim::random(schedules(3'000)));
}

TEST_CASE("threads: a remote call waits for a CPU that is about to go, and for none that is away",
          "[.threads][threads-hotplug]") {
    Scene s{3};
    s.cpus_come_and_go();
    u32 without = 0, with = 0;
    s.main([&] { go(CpuId{2}); });
    const auto ask = [&](CpuSet whom) {
        run_on(
            whom, [](void* count) { static_cast<hal::Atomic<u32>*>(count)->fetch_add(1); }, &s.count[0]);
    };
    SECTION("of those that are there") {
        s.thread(
            1,
            [&] {
                ask(hal::online_cpus());
                sim::expect(s.count[0].load() >= 1, "the boot CPU has answered at least");
            },
            cpus_of({1}));
    }
    SECTION("of a set that has been read long ago") {
        s.thread(
            1,
            [&] {
                const CpuSet all = cpus_of({0, 1, 2});
                ask(all);
                ask(all);
            },
            cpus_of({1}));
    }
    s.check = [&] { (s.count[0].load() % 2 != 0 ? without : with) += 1; };
    s.explore(sim::reduced(schedules(6'000), 1));
    s.explore(sim::random(schedules(3'000)));
    CHECK((with != 0 && without != 0));
}

TEST_CASE("threads: a CPU that goes away leaves no frame in its lists", "[.threads][threads-hotplug]") {
    Scene s{2};
    s.cpus_come_and_go();
    u32 free = 0;
    s.reset = [&] { free = all_free_frames(); };
    s.main([&] {
        go();
        expect_gone(kLast);
    });
    s.thread(1, [] {
        Page* const page = alloc_page(Gfp::high);
        sim::expect(page != nullptr, "there is a frame");
        yield();
        free_page(page);
    });
    s.check = [&] {
        // The stack of the thread that has ended is not freed: nobody has joined it.
        sim::expect(all_free_frames() == free, "every frame is in a zone, or in the list of a CPU that is there");
    };
    s.explored.ticks = 1;
    s.explore(sim::reduced(schedules(4'000), 1));
    s.explore(sim::random(schedules(2'000)));
}

TEST_CASE("threads: a CPU that goes away leaves the space that it keeps", "[.threads][threads-hotplug]") {
    Scene s{2};
    s.cpus_come_and_go();
    s.program(s.function([](Ring3&) {}));
    s.main([&] {
        go();
        expect_gone(kLast);
    });
    s.explored.ticks = 1;
    s.explore(sim::reduced(schedules(1'500), 1));
    s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("threads: a CPU stays while a thread on it holds a local map, or must not migrate",
          "[.threads][threads-hotplug]") {
    Scene s{2};
    s.cpus_come_and_go();
    u32 waited = 0;
    s.main([&] {
        go();
        sim::expect(s.word[0].load() == 0, "nobody holds anything there");
        waited += s.word[1].load();
    });
    Thread* const lower = take_descriptor("lower");
    // Binds itself, and sleeps so.
    const auto stay = [&](auto&& bind) {
        s.thread(1, [&, bind] {
            const auto bound = bind();
            const CpuId cpu = hal::this_cpu();
            s.word[0].store(cpu == kLast);
            yield();
            sleep_ms(1);
            sim::expect(hal::this_cpu() == cpu && online(cpu), "it is where it was");
            s.word[1].store(cpu == kLast);
            s.word[0].store(0);
        });
    };
    Page* const page = new_page(kHigh ? Gfp::high : Gfp::kernel);
    SECTION("a local map") {
        if (!kHigh) return;
        stay([page] { return LocalMap{page}; });
    }
    SECTION("a guard") {
        stay([] { return MigrateGuard{}; });
    }
    // A thread that is newer than the bound one has an earlier place in the table.
    give_back_descriptor(*lower);
    static_cast<void>(take_descriptor("newer"));
    s.explored.ticks = 1;
    s.explore(sim::reduced(schedules(4'000), 1));
    s.explore(sim::random(schedules(2'000)));
    CHECK(waited != 0);
}

TEST_CASE("threads: a CPU whose thread keeps its local map stays, and everything is as before",
          "[.threads][threads-hotplug]") {
    Scene s{2};
    s.cpus_come_and_go();
    Thread* holder = nullptr;
    s.main([&] {
        while (s.word[0].load() == 0)
            yield();
        sim::expect(cpu_down(kLast) == Hotplug::busy, "it is busy");
        sim::expect(online(kLast) && open_cpus().has(kLast) && hal::this_cpu() == CpuId{0}, "nothing has changed");
        s.word[1].store(1);
        hal::unpark(ThreadId{holder->id.load()});
    });
    holder = s.thread(
        1,
        [&] {
            set_affinity(cpus_of({1}));
            const MigrateGuard here;
            s.word[0].store(1);
            wait_for(s.word[1]);
            expect_allowed();
        },
        cpus_of({1}));
    s.explored.ticks = 2 * kHotplugTries;
    s.explore(sim::random(schedules(200)));
}

// --- back again

namespace {

// Main starts CPU 1, takes it away, and brings it back.
struct Return {
    Return() : s{2, 1} {
        s.cpus_come_and_go();
        for (u32 cpu = 0; cpu < 2; ++cpu)
            REQUIRE(topology.lapic_ids.add(static_cast<u8>(cpu)));
        s.main([this] {
            start_other_cpus(topology, config::kMaxCpus, kTrampolinePage);
            if (s.explored.deadlines != 0 && !online(kLast)) return; // it came too late
            on_it();
            go();
            expect_gone(kLast);
            sim::expect(scheduler_stats_sum().idles == scheduler_stats(CpuId{0}).idles + scheduler_stats(kLast).idles,
                        "its counts are not lost");
            meanwhile();
            come_back();
            afterwards();
        });
    }
    static void use(std::function<void()> body) {
        Thread* const made = thread_create("there", body, CpuSet::only(kLast));
        sim::expect(made != nullptr, "there is memory for a thread");
        thread_join(made);
    }
    Scene s;
    CpuTopology topology;
    std::function<void()> on_it = [] {}, meanwhile = [] {}, afterwards = [] {};
    std::function<void()> come_back = [] {
        sim::expect(cpu_up(kLast) == Hotplug::done, "it comes back");
        sim::expect(open_cpus() == cpus_of({0, 1}), "it takes threads");
    };
};

} // namespace

TEST_CASE("threads: a CPU that has come back runs threads and ticks", "[.threads][threads-hotplug]") {
    Return t;
    u32 ticks = 0;
    t.afterwards = [&] {
        t.use([] {
            expect_allowed();
            sleep_ms(1);
            expect_allowed();
        });
        sim::expect(cpu_down(kLast) == Hotplug::done && cpu_up(kLast) == Hotplug::done, "and so on");
        ticks += since_start(scheduler_stats(kLast)).ticks;
    };
    t.s.explored.ticks = 1;
    t.s.explore(sim::reduced(schedules(2'000), 1));
    t.s.explore(sim::random(schedules(500)));
    CHECK(ticks != 0);
}

TEST_CASE("threads: a CPU that has come back has no old translation, and a clock that says so",
          "[.threads][threads-hotplug]") {
    Return t;
    TlbBatch::Kind kind{};
    PteFlags more{};
    SECTION("of an entry that is not global") { kind = TlbBatch::Kind::non_global; }
    SECTION("of a global entry") {
        kind = TlbBatch::Kind::global;
        more = pte::global;
    }
    Window window{more};
    FlushTime debt = 0;
    t.on_it = [&] { t.use([&] { sim::expect(window.read() == 0, "the first frame"); }); };
    t.meanwhile = [&] {
        const u32 before = tlb_stats_sum().remote;
        window.replace(kind);
        sim::expect(tlb_stats_sum().remote == before, "nobody else is asked");
        debt = tlb_new_debt();
        sim::expect(!tlb_is_clean(kLast, debt), "a CPU that is away flushes nothing");
    };
    t.afterwards = [&] {
        sim::expect(tlb_is_clean(kLast, debt), "it owes nothing");
        t.use([&] { sim::expect(window.read() == 1, "the second frame"); });
    };
    t.s.explore(sim::reduced(schedules(2'000), 1));
    t.s.explore(sim::random(schedules(500)));
}

TEST_CASE("threads: a CPU that comes back too late can be called again", "[.threads][threads-hotplug]") {
    Return t;
    std::set<std::string> found;
    t.come_back = [&] {
        const auto stuck = [&] { return t.s.kernel.machine.logged("got stuck"); };
        Hotplug result = cpu_up(kLast);
        for (u32 i = 0; i < t.s.explored.deadlines && result == Hotplug::failed && !stuck(); ++i)
            result = cpu_up(kLast);
        sim::expect(result == Hotplug::done || stuck(), "it comes when it is called often enough");
        found.insert(result == Hotplug::done ? "back" : "stuck");
        if (stuck()) sim::expect(cpu_up(kLast) == Hotplug::failed, "it got stuck, and stays away");
        if (t.s.kernel.machine.logged("did not start") && result == Hotplug::done) found.insert("back at last");
        sim::expect((result == Hotplug::done) == online(kLast), "it is there, or not");
        if (result == Hotplug::done) t.use([] { expect_allowed(); });
    };
    t.s.explored.deadlines = 4;
    t.s.explore(sim::random(schedules(3'000)));
    CHECK((found.contains("back") && found.contains("back at last")));
}

TEST_CASE("threads: a thread goes back to its CPU when that is back", "[.threads][threads-hotplug]") {
    Return t;
    Thread* it = nullptr;
    bool sleeps = false;
    SECTION("when it is woken") { sleeps = true; }
    SECTION("at a tick") {}
    std::function<void()> body = [&] {
        t.s.word[0].store(1);
        while (hal::this_cpu() != kLast || t.s.word[1].load() == 0)
            sleeps ? sleep_ms(1) : yield();
        expect_allowed();
    };
    t.meanwhile = [&] {
        it = thread_create("homeless", body, CpuSet::only(kLast));
        sim::expect(it != nullptr, "there is memory for a thread");
        while (t.s.word[0].load() == 0)
            yield();
    };
    t.afterwards = [&] {
        t.s.word[1].store(1);
        thread_join(it);
    };
    t.s.explored.ticks = 2;
    t.s.explore(sim::random(schedules(1'000)));
}
