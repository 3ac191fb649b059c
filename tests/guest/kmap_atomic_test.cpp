// kmap_atomic: a local mapping; the context must not sleep until the unmap.
#include "mm/windows/vmap.hpp"
#include "tests/guest/support.hpp"

namespace loft::guest::kmap_atomic_test {
namespace {

using selftest::contains;

Context now() { return context.mine(); }

// True if `call` is refused because it may sleep.
template <typename F> bool refused(F&& call) {
    return contains(selftest::catch_panic(call), "called in atomic context");
}

} // namespace

SELFTEST(kmap_atomic, counts_are_raised_and_restored) {
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    CHECK(preemptible());
    const AtomicAddr first = kmap_atomic(pages[0]);
    CHECK_EQ(now().preempt_count, 1u);
    CHECK_EQ(now().pagefaults_off, 1u);
    CHECK(!preemptible());
    CHECK(pagefaults_disabled());
    const AtomicAddr second = kmap_atomic(pages[1]);
    CHECK_EQ(now().preempt_count, 2u);
    CHECK_EQ(now().pagefaults_off, 2u);
    kunmap_atomic(second);
    CHECK(!preemptible());
    CHECK(pagefaults_disabled());
    kunmap_atomic(first);
    CHECK_EQ(now().preempt_count, 0u);
    CHECK_EQ(now().pagefaults_off, 0u);
    CHECK(preemptible());
    CHECK(!pagefaults_disabled());
}

// The counts also change for a lowmem page, which needs no slot.
SELFTEST(kmap_atomic, counts_also_for_lowmem) {
    const KeepsFreeCounts counts;
    const Pages<1> pages{Gfp::kernel};
    REQUIRE(pages.complete());
    const AtomicAddr at = kmap_atomic(pages[0]);
    CHECK_EQ(now().preempt_count, 1u);
    CHECK_EQ(now().pagefaults_off, 1u);
    kunmap_atomic(at + 77);
    CHECK_EQ(now().preempt_count, 0u);
    CHECK_EQ(now().pagefaults_off, 0u);
}

SELFTEST(kmap_atomic, shows_the_page) {
    if (const char* why = no_slots_for(4)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<4> pages;
    REQUIRE(pages.complete());
    for (u32 round = 0; round < 3; ++round) {
        for (Page* page : pages) {
            const AtomicMap map{page};
            write_marks(map.addr(), page_to_pfn(page), round);
        }
        for (Page* page : pages)
            CHECK(signed_by(page, round));
    }
}

// Local and atomic mappings are one stack.
SELFTEST(kmap_atomic, mixes_with_local_maps) {
    if (const char* why = no_slots_for(3)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<3> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages)
        sign(page);
    const LocalMap bottom{pages[0]};
    const AtomicMap middle{pages[1]};
    const LocalMap top{pages[2]};
    CHECK_EQ(local_depth(), 3u);
    CHECK(marks_hold(bottom.addr(), pages.pfn(0)));
    CHECK(marks_hold(middle.addr(), pages.pfn(1)));
    CHECK(marks_hold(top.addr(), pages.pfn(2)));
    CHECK(contains(selftest::catch_panic([&] { kunmap_atomic(middle.addr()); }), "not the youngest"));
    CHECK_EQ(now().preempt_count, 1u);
}

SELFTEST(kmap_atomic, sleeping_inside_is_caught) {
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    const Result<VirtAddr> area = vmap(pages.begin(), 1, VmapProt::rw);
    const Result<VirtAddr> memory = vmalloc(kPageSize);
    REQUIRE(area && memory);
    {
        const AtomicMap map{pages[0]};
        CHECK(refused([&] { static_cast<void>(kmap(pages[1])); }));
        CHECK(refused([&] { static_cast<void>(vmap(pages.begin(), 1, VmapProt::rw)); }));
        CHECK(refused([&] { static_cast<void>(vmalloc(kPageSize)); }));
        CHECK(refused([&] { vunmap(*area); }));
        CHECK(refused([&] { vfree(*memory); }));
        CHECK(refused([&] { vmap_flush(); }));
    }
    // While a local mapping is held, all of them are allowed.
    {
        const LocalMap map{pages[0]};
        const KMap pool{pages[1]};
        vunmap(*area);
        vfree(*memory);
    }
}

// The other atomic contexts: interrupts off (bug 7), preemption off, an interrupt.
SELFTEST(kmap_atomic, kmap_is_refused_wherever_nobody_may_sleep) {
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    const auto map = [&] { static_cast<void>(kmap(pages[0])); };
    {
        const IrqGuard off;
        CHECK(refused(map));
    }
    {
        const PreemptGuard off;
        CHECK(refused(map));
    }
    CHECK(refused([&] { in_interrupt_do(map); }));
    CHECK(hal::irqs_enabled());
    CHECK(preemptible());
    const KMap works{pages[0]};
}

SELFTEST(kmap_atomic, works_in_interrupts) {
    if (const char* why = no_slots_for(2)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    sign(pages[0], 1);
    sign(pages[1], 2);
    u32 wrong = 0;
    const AtomicMap mine{pages[0]};
    in_interrupt_do([&] {
        const AtomicMap map{pages[1]};
        wrong += now().preempt_depth() != 2;
        wrong += !marks_hold(map.addr(), pages.pfn(1), 2);
    });
    CHECK_EQ(wrong, 0u);
    CHECK(marks_hold(mine.addr(), pages.pfn(0), 1));
    CHECK_EQ(now().preempt_count, 1u);
    // An interrupt that forgets to enable preemption again is caught at its end.
    CHECK(contains(selftest::catch_panic([] { in_interrupt_do([] { preempt_disable(); }); }),
                   "changed the preempt count"));
}

} // namespace loft::guest::kmap_atomic_test
