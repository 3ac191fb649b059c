// NMIs between any two steps, and interrupts in handlers. The explorer compares all static objects before and after
// each NMI (tests/sim/README.md).
#include "tests/threads/rig.hpp"

#include "kernel/report/nmi.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/tables/tlb_batch.hpp"

using namespace loft;
using namespace loft::test;

TEST_CASE("threads: an NMI between any two steps of two threads that wake each other", "[.threads][threads-nmi]") {
    Scene s{1};
    s.main([&] { wait_for(s.word[0]); });
    s.thread(0, [&] {
        s.word[0].store(1);
        hal::unpark(s.main_id);
    });
    s.check = [] { sim::expect(nmi_count(CpuId{0}) == 1, "it is counted once"); };
    s.explored.nmis = 1;
    SECTION("and no tick") {}
    SECTION("and a tick") { s.explored.ticks = 1; }
    const sim::Report report = s.explore(sim::reduced(schedules(40'000)));
    CHECK(report.complete);
}

TEST_CASE("threads: an NMI at any step of programs that end", "[.threads][threads-nmi]") {
    // One ends by itself, the other one is killed.
    Scene s{2};
    const u32 ends = s.function([](Ring3& me) { me.call(nr::exit_group, 3); });
    const u32 loops = s.function([&](Ring3& me) {
        for (;;)
            me.call(nr::sched_yield);
    });
    s.program(ends, cpus_of({0}));
    Process* const killed = s.program(loops, cpus_of({1}));
    s.main([&] { process_kill(*killed, WaitStatus::killed(Signal::kill)); });
    s.check = [&] {
        sim::expect(s.status(0) == WaitStatus::exited(3), "its own status");
        sim::expect(s.status(1) == WaitStatus::killed(Signal::kill), "it is killed");
        s.kernel.machine.online().for_each(
            [](CpuId cpu) { sim::expect(nmi_count(cpu) == 1, "each NMI is counted once"); });
    };
    s.explored.nmis = 1;
    s.explored.ticks = 1;
    s.explore(sim::random(schedules(3'000)));
}

TEST_CASE("threads: an NMI at any step of a program in ring 3 that is killed", "[.threads][threads-nmi]") {
    Scene s{2};
    const u32 loads = s.function([&](Ring3& me) {
        me.tell(s.word[0], s.main_id);
        for (u32 i = 0; i < 4; ++i)
            me.load(user_word(1));
    });
    Process* const killed = s.program(loads, cpus_of({1}));
    s.main([&] {
        wait_for(s.word[0]);
        process_kill(*killed, WaitStatus::killed(Signal::kill));
    });
    s.explored.nmis = 1;
    s.explored.nmi_cpus = 1u << 1;
    s.explore(sim::reduced(schedules(2'000), 1, 0));
    s.explore(sim::random(schedules(2'000)));
}
