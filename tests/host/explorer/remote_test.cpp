// Shootdown, remote calls and locks under every schedule.
#include "tests/host/explorer/rig.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/kmap_local.hpp"

using namespace loft;
using namespace loft::test;

namespace {

// An address that no pool uses, and the page that is mapped there.
VirtAddr place(u32 page) { return VirtAddr{layout::boundaries.vmap_begin} + page * kPageSize; }
constexpr PteFlags kPresetPool = pte::present | pte::write | pte::accessed | pte::dirty;
void show(VirtAddr va, Page* page) { hal::pte_set(kernel_pte(va), Pte{page_to_pfn(page), kPresetPool}); }

void flush_now(VirtAddr va) {
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add(va);
    batch.flush();
}

struct Flags {
    void reset() {
        for (auto& f : flag)
            f.store(0);
    }
    void wait(u32 which) {
        while (flag[which].load() == 0)
            hal::cpu_relax();
    }
    void set(u32 which) { flag[which].store(1); }
    hal::Atomic<u32> flag[4];
};

void forget_flags(Scene& s, Flags& flags) {
    s.explored.reset = [&flags, next = s.explored.reset] {
        next();
        flags.reset();
    };
}

} // namespace

TEST_CASE("explorer: a lock lets one CPU in at a time", "[.explorer][explorer-remote]") {
    for (const u32 cpus : {2u, 3u}) {
        Scene s{cpus};
        static SpinLock lock;
        hal::Plain<u32> inside;
        u32 entries = 0;
        s.explored.reset = [&] {
            lock.reset();
            inside.store(0);
            entries = 0;
        };
        for (u32 cpu = 0; cpu < cpus; ++cpu)
            s.thread(cpu, [&] {
                SpinGuard guard{lock};
                sim::expect(inside.load() == 0, "the lock excludes all other CPUs");
                inside.store(1);
                ++entries;
                inside.store(0);
            });
        s.explored.check = [&] { sim::expect(entries == cpus, "every CPU took the lock"); };
        CHECK(s.explore(sim::reduced()).complete);
    }
}

TEST_CASE("explorer: two CPUs ask each other, interrupts off", "[.explorer][explorer-remote]") {
    Scene s{2};
    hal::Atomic<u32> answers;
    s.explored.reset = [&] { answers.store(0); };
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [&, cpu] {
            IrqGuard guard;
            run_on(
                CpuSet::only(CpuId{1 - cpu}), [](void* n) { static_cast<hal::Atomic<u32>*>(n)->fetch_add(1); },
                &answers);
            sim::expect(answers.load() != 0, "run_on returns when the call has run");
        });
    s.explored.check = [&] { sim::expect(answers.load() == 2, "every call runs once"); };
    CHECK((s.explore(sim::reduced(schedules(20'000))).complete || !kWhole));
}

TEST_CASE("explorer: three CPUs ask all others at once", "[.explorer][explorer-remote]") {
    Scene s{3};
    hal::Atomic<u32> answers;
    s.explored.reset = [&] { answers.store(0); };
    for (u32 cpu = 0; cpu < 3; ++cpu)
        s.thread(cpu, [&] {
            run_on(
                hal::online_cpus(), [](void* n) { static_cast<hal::Atomic<u32>*>(n)->fetch_add(1); }, &answers);
        });
    s.explored.check = [&] { sim::expect(answers.load() == 6, "every call runs once"); };
    s.explore(sim::reduced(schedules(5'000), 2));
    s.explore(sim::random(schedules(5'000)));
}

TEST_CASE("explorer: a thread that waits with interrupts on answers for the CPU that was asked",
          "[.explorer][explorer-remote]") {
    // CPU 1 has a second thread and CPU 2 none: the one that answers may be preempted, and continue on CPU 2.
    Scene s{3};
    s.thread(0, [] {
        run_on(
            CpuSet::only(CpuId{1}),
            [](void*) { sim::expect(hal::this_cpu() == CpuId{1}, "the call runs on the CPU that was asked"); },
            nullptr);
    });
    s.thread(1, remote_answer); // as in cpu_relax
    s.thread(1, [] {});
    s.explored.preemptions = 1;
    s.explored.roaming = true;
    s.explore(sim::reduced(schedules(20'000)));
    s.explore(sim::random(schedules(5'000)));
}

TEST_CASE("explorer: who waits for a lock answers the one who holds it", "[.explorer][explorer-remote]") {
    Scene s{2};
    static SpinLock lock;
    s.explored.reset = [] { lock.reset(); };
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [] {
            SpinGuard guard{lock};
            flush_now(place(0));
        });
    s.explore(sim::reduced(schedules(20'000)));
}

TEST_CASE("explorer: an address shows another page: nobody sees the old one", "[.explorer][explorer-remote]") {
    Scene s{2};
    Flags flags;
    forget_flags(s, flags);
    show(place(0), s.pages[0]);
    s.thread(0, [&] {
        look(place(0), s.pages[0]);
        flags.wait(0); // the other CPU no longer uses the old page
        hal::pte_take(kernel_pte(place(0)));
        flush_now(place(0));
        show(place(0), s.pages[1]);
        flags.set(1);
        look(place(0), s.pages[1]);
    });
    s.thread(1, [&] {
        look(place(0), s.pages[0]);
        flags.set(0);
        flags.wait(1);
        use(place(0), s.pages[1]);
    });
    s.explore(sim::reduced(schedules(20'000)));
}

TEST_CASE("explorer: a batch frees when everybody has answered, not before", "[.explorer][explorer-remote]") {
    // A CPU that reads the entry with interrupts off may use the frame until it turns them on: only then it answers.
    Scene s{2};
    static Page* shown;
    shown = new_page(Gfp::kernel);
    show(place(0), shown);
    s.frees = 1;
    s.thread(0, [] {
        hal::pte_take(kernel_pte(place(0)));
        TlbBatch batch{TlbBatch::Kind::non_global};
        batch.add(place(0));
        batch.free_after(shown);
        batch.flush();
    });
    s.thread(1, [] {
        IrqGuard guard;
        const Pte entry = hal::pte_read(kernel_pte(place(0)));
        if (entry.present()) hal::store<u32>(direct_addr(entry.pfn()), 1);
    });
    s.small_kernel.marks_idle = false;
    s.explore(sim::reduced(schedules(20'000)));
}

TEST_CASE("explorer: an idle CPU is not asked, and sees nothing old when it wakes", "[.explorer][explorer-remote]") {
    // CPU 1 has the old page in its TLB and is idle. It is woken while CPU 0 changes the page and reads which CPUs are
    // idle.
    Scene s{3};
    Flags flags;
    forget_flags(s, flags);
    show(place(0), s.pages[0]);
    s.thread(1, [&] {
        look(place(0), s.pages[0]);
        flags.set(0);
        hal::park();
        flags.wait(1);
        look(place(0), s.pages[1]);
    });
    s.thread(0, [&] {
        flags.wait(0);
        hal::pte_take(kernel_pte(place(0)));
        flush_now(place(0));
        show(place(0), s.pages[1]);
        flags.set(1);
    });
    s.thread(2, [] { hal::unpark(ThreadId{1}); });
    const u32 skipped = tlb_stats_sum().skipped_idle;
    bool ever = false;
    s.explored.check = [&] { ever |= tlb_stats_sum().skipped_idle != skipped; };
    s.explore(sim::reduced(schedules(20'000)));
    s.explore(sim::random(schedules(5'000)));
    CHECK(ever);
}

TEST_CASE("explorer: an interrupt wakes an idle CPU into what is new", "[.explorer][explorer-remote]") {
    // The handler itself accesses the page: the CPU checks its clock before.
    Scene s{2};
    Flags flags;
    forget_flags(s, flags);
    show(place(0), s.pages[0]);
    static Page* now_shown;
    now_shown = s.pages[1];
    s.thread(1, [&] {
        look(place(0), s.pages[0]);
        flags.set(0);
    });
    s.thread(0, [&] {
        flags.wait(0);
        hal::pte_take(kernel_pte(place(0)));
        flush_now(place(0));
        show(place(0), s.pages[1]);
        run_on(
            CpuSet::only(CpuId{1}), [](void*) { look(place(0), now_shown); }, nullptr);
    });
    s.explore(sim::reduced(schedules(20'000)));
}
