// kmap_local with a preemption, a migration or an interrupt between any two operations, per-CPU ones included.
#include "tests/host/explorer/rig.hpp"

#include "mm/windows/page_walk.hpp"
#include "tests/host/spaces/program.hpp"

using namespace loft;
using namespace loft::test;

namespace {

void nested(Page* outer, Page* inner) {
    const LocalAddr a = kmap_local_page(outer);
    const LocalAddr b = kmap_local_page(inner);
    use(b, inner);
    use(a, outer);
    kunmap_local(b);
    look(a, outer);
    kunmap_local(a);
}

} // namespace

TEST_CASE("explorer: two threads of a CPU map locally, preempted anywhere", "[.explorer][explorer-local]") {
    Scene s{1};
    s.small_kernel.marks_idle = false;
    s.explored.percpu_points = true;
    s.explored.preemptions = 2;
    // Each thread later maps another page into the same slot, so that one thread flushes during the other's change.
    s.thread(0, [&s] {
        nested(s.pages[0], s.pages[1]);
        nested(s.pages[2], s.pages[3]);
    });
    s.thread(0, [&s] {
        nested(s.pages[1], s.pages[2]);
        nested(s.pages[3], s.pages[0]);
    });
    s.explore(sim::reduced(schedules(20'000)));
}

TEST_CASE("explorer: a thread that holds a local mapping stays where it is", "[.explorer][explorer-many]") {
    Scene s{2};
    s.small_kernel.marks_idle = false;
    s.explored.percpu_points = true;
    s.explored.roaming = true;
    const auto body = [&s](u32 first) {
        const LocalAddr a = kmap_local_page(s.pages[first]);
        const CpuId cpu = hal::this_cpu();
        use(a, s.pages[first]);
        sim::expect(hal::this_cpu() == cpu, "a thread that holds a mapping is not migrated");
        kunmap_local(a);
        nested(s.pages[first], s.pages[first + 1]);
    };
    for (u32 i = 0; i < 3; ++i)
        s.thread(i % 2, [=] { body(i); });
    s.explored.preemptions = 1;
    s.explore(sim::reduced(schedules(5'000)));
    s.explored.preemptions = 6;
    s.explore(sim::random(schedules(10'000)));
}

TEST_CASE("explorer: an interrupt walks page tables at any moment of a walk", "[.explorer][explorer-local]") {
    ONLY_WITH(config::kHighPte);
    Scene s{2, 2, 0};
    warm_up();
    static AddressSpace* space;
    static constexpr VirtAddr kPlace{0x1000'0000u};
    static Pfn shown;
    space = AddressSpace::create();
    REQUIRE(space != nullptr);
    map_pages(*space, kPlace.value(), 1);
    run_in(space);
    user_store(kPlace, 7);
    run_in(nullptr);
    const auto walk = [] {
        const bool on = hal::irqs_enabled();
        const Walk found = page_walk(space->root(), kPlace);
        sim::expect(found.present && found.pfn == shown, "the walk finds the page");
        sim::expect(hal::irqs_enabled() == on, "interrupts are as before");
    };
    const Walk first = page_walk(space->root(), kPlace);
    REQUIRE(is_highmem(first.directory.pfn()));
    shown = first.pfn;
    s.small_kernel.marks_idle = false;
    s.small_kernel.in_interrupt = walk;
    s.thread(0, walk);
    s.thread(1, [] {
        run_on(
            CpuSet::only(CpuId{0}), [](void*) {}, nullptr);
    });
    CHECK(s.explore(sim::reduced(schedules(20'000))).complete);
    space->put();
}

TEST_CASE("explorer: an interrupt that maps comes anywhere, and the thread is preempted after it",
          "[.explorer][explorer-local]") {
    Scene s{1, 4, 6};
    s.small_kernel.marks_idle = false;
    s.explored.percpu_points = true;
    s.explored.preemptions = 2;
    s.small_kernel.in_interrupt = [&s] { nested(s.pages[4], s.pages[5]); };
    s.thread(0, [&s] { nested(s.pages[0], s.pages[1]); });
    s.thread(0, [&s] {
        const AtomicAddr a = kmap_atomic(s.pages[2]);
        look(a, s.pages[2]);
        kunmap_atomic(a);
    });
    s.explore(sim::reduced(schedules(20'000)));
}

TEST_CASE("explorer: a call interrupt that maps comes anywhere", "[.explorer][explorer-local]") {
    Scene s{2, 4, 6};
    s.small_kernel.marks_idle = false;
    s.explored.percpu_points = true;
    s.small_kernel.in_interrupt = [&s] { nested(s.pages[4], s.pages[5]); };
    s.thread(0, [&s] { nested(s.pages[0], s.pages[1]); });
    s.thread(1, [] {
        run_on(
            CpuSet::only(CpuId{0}), [](void*) {}, nullptr);
    });
    s.explore(sim::reduced(schedules(20'000)));
}
