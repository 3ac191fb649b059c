// The start of CPUs: who is called in time joins the scheduler, who comes too late stays away, and no two CPUs are the
// same one. The other CPUs are slow: a wait of the boot CPU may end by its deadline at any step of theirs.
#include "tests/threads/rig.hpp"

#include "arch/i386/firmware/topology.hpp"
#include "arch/i386/irq/smp.hpp"
#include "kernel/boot/smp.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "tests/sim/kernel/start.hpp"

#include <set>

using namespace loft;
using namespace loft::test;

namespace {

// Main starts CPUs on a machine where only CPU 0 runs.
struct Start {
    explicit Start(u32 cpus) : s{cpus, cpus - 1} {
        for (u32 cpu = 0; cpu < cpus; ++cpu)
            REQUIRE(topology.lapic_ids.add(static_cast<u8>(cpu)));
        s.explored.patience_ms = kCpuStartMs;
        s.check = [this] {
            for (u32 cpu = 1; cpu < s.explored.cpus.size(); ++cpu)
                sim::expect(online(cpu) != reported(cpu), "it is online at the end, or was reported as left out");
            check();
        };
    }
    void start() { start_other_cpus(topology, config::kMaxCpus, kTrampolinePage); }
    static bool online(u32 cpu) { return hal::online_cpus().has(CpuId{cpu}); }
    bool reported(u32 cpu) const { return s.kernel.machine.logged(sim::text("CPU {} (APIC id {})", cpu, cpu)); }
    bool reported(std::string_view how) const { return s.kernel.machine.logged(how); }

    // A thread that can run nowhere else runs there.
    void use(
        u32 cpu, std::function<void()> body = [] {}) {
        Thread* const made = thread_create("there", body, CpuSet::only(CpuId{cpu}));
        sim::expect(made != nullptr, "there is memory for a thread");
        thread_join(made);
    }

    Scene s;
    CpuTopology topology;
    std::function<void()> check = [] {};
};

} // namespace

TEST_CASE("threads: a CPU that is started has a scheduler and ticks", "[.threads][threads-start]") {
    Start t{2};
    t.s.main([&] {
        t.start();
        sim::expect(t.online(1), "no deadline passes before it has come");
        t.use(1, [] {
            expect_allowed();
            sleep_ms(1);
        });
    });
    t.s.explored.ticks = 1;
    t.s.explore(sim::reduced(schedules(2'000), 1));
    t.s.explore(sim::random(schedules(500)));
}

TEST_CASE("threads: a CPU that comes too late stays away", "[.threads][threads-start]") {
    Start t{2};
    bool seen = false;
    std::set<std::string> found;
    t.s.main([&] {
        t.start();
        seen = t.online(1);
    });
    t.check = [&] {
        const char* const how = t.reported("did not start") ? "absent" : t.reported("got stuck") ? "stuck" : "online";
        found.insert(sim::text("{}{}", how, seen ? ", and seen" : ""));
    };
    t.s.explored.deadlines = 3;
    CHECK(t.s.explore(sim::reduced(schedules(40'000))).complete);
    // The last one: it had its ticket confirmed when the boot CPU gave up, and was about to enter the set.
    const std::set<std::string> all{"absent", "stuck", "online, and seen", "online"};
    CHECK(found == all);
    t.s.explore(sim::random(schedules(1'000)));
    CHECK(found == all);
}

TEST_CASE("threads: a CPU that comes too late, and may find the ticket of another one", "[.threads][threads-start]") {
    // The boot CPU gives CPU 1 up, and calls CPU 2: the hardware of CPU 1 may be the first to come.
    Start t{3};
    u32 exchanged = 0, both = 0;
    t.s.main([&] {
        t.start();
        if (sim::cpus_exchanged() != 0 && t.online(2)) t.use(2); // by interrupts to the hardware that it is now
    });
    t.check = [&] {
        exchanged += sim::cpus_exchanged();
        both += t.online(1) && t.online(2);
    };
    t.s.explored.deadlines = 4;
    CHECK(t.s.explore(sim::reduced(schedules(4'000), 0)).complete); // the exchange needs none
    t.s.explore(sim::reduced(schedules(4'000), 1));
    t.s.explore(sim::random(schedules(4'000)));
    CAPTURE(exchanged, both);
    CHECK((exchanged != 0 && both != 0));
}

TEST_CASE("threads: a CPU that comes when another one is called in its place", "[.threads][threads-start]") {
    // As above, but the boot CPU gives only one of them up.
    Start t{3};
    u32 exchanged = 0;
    t.s.main([&] { t.start(); });
    t.check = [&] {
        exchanged += sim::cpus_exchanged();
        sim::expect(t.online(1) || t.online(2), "one has come in time");
    };
    t.s.explored.deadlines = 2;
    t.s.explore(sim::reduced(schedules(4'000), 1));
    CHECK(exchanged != 0);
}

TEST_CASE("threads: a CPU that starts has no old translation of what was changed meanwhile",
          "[.threads][threads-start]") {
    Start t{2};
    const std::vector<Page*> pages = new_pages(2, Gfp::kernel);
    const VirtAddr va{layout::boundaries.vmap_begin};
    PteFlags flags = pte::present | pte::write | pte::accessed | pte::dirty;
    const auto show = [&](u32 number) { hal::pte_set(kernel_pte(va), Pte{page_to_pfn(pages[number]), flags}); };
    for (u32 i = 0; i < 2; ++i)
        sim::poke(page_to_pfn(pages[i]).phys(), i);
    // It reads the page when that is changed, on the CPU that starts: this one takes it from the queue of CPU 0, maybe
    // before it is idle for the first time.
    t.s.thread(0, [&] {
        if (t.s.word[0].load() == 0 || hal::this_cpu() == CpuId{0}) return;
        sim::expect(hal::load<u32>(va) == 1, "the second page");
    });
    u32 not_asked = 0;
    TlbBatch::Kind kind{};
    t.s.main([&] {
        t.start();
        hal::pte_take(kernel_pte(va));
        TlbBatch batch{kind};
        batch.add(va);
        const u32 before = tlb_stats_sum().remote;
        batch.flush();
        not_asked += !t.reported(1) && tlb_stats_sum().remote == before; // the CPU is about to come online
        show(1);
        t.s.word[0].store(1);
        while (!t.online(1) && !t.reported(1))
            hal::cpu_relax();
    });
    SECTION("by an entry that is not global") {
        kind = TlbBatch::Kind::non_global;
        show(0);
    }
    SECTION("by a global entry") {
        kind = TlbBatch::Kind::global;
        flags = flags | pte::global;
        show(0);
    }
    t.s.explored.deadlines = 3;
    t.s.explore(sim::reduced(schedules(15'000), 1));
    t.s.explore(sim::random(schedules(2'000)));
    CHECK(not_asked != 0);
}

TEST_CASE("threads: a CPU that lacks a feature of the boot CPU does not run", "[.threads][threads-start]") {
    Start t{2};
    t.s.reset = [] { sim::lacks_a_feature(CpuId{1}) = true; };
    t.s.main([&] { t.start(); });
    t.check = [&] {
        sim::expect(!t.online(1), "it stays away");
        sim::expect(t.reported("did not start") || t.reported("lacks a feature") || t.reported("got stuck"), "why");
    };
    t.s.explored.deadlines = 3;
    const sim::Report report = t.s.explore(sim::reduced(schedules(20'000)));
    CHECK(report.complete);
}
