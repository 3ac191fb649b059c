// Contexts: which may sleep, and the counts that an interrupt must restore.
#include "mm/ground/context.hpp"
#include "mm/windows/interrupt_context.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/pkmap.hpp"
#include "tests/host/booted.hpp"

using namespace loft;
using namespace loft::test;

TEST_CASE("context: a thread may sleep unless something forbids it", "[context]") {
    Booted kernel;
    CHECK(preemptible());
    CHECK_NOTHROW(might_sleep("test"));
    SECTION("preemption is off, and pairs nest") {
        preempt_disable();
        preempt_disable();
        CHECK_PANIC(might_sleep("test"), "test may sleep, called in atomic context: preempt count 2");
        preempt_enable();
        CHECK_FALSE(preemptible());
        preempt_enable();
    }
    SECTION("interrupts are off") {
        const u32 flags = hal::irq_save();
        CHECK_FALSE(preemptible());
        CHECK_PANIC(might_sleep("test"), "interrupts off");
        hal::irq_restore(flags);
    }
    SECTION("in an interrupt, even one that turned interrupts on again") {
        const InterruptCookie cookie = interrupt_enter();
        CHECK(hal::irqs_enabled());
        CHECK(in_interrupt());
        CHECK_FALSE(preemptible());
        CHECK_PANIC(might_sleep("test"), "interrupt depth 1");
        interrupt_leave(cookie);
        CHECK_FALSE(in_interrupt());
    }
    CHECK(preemptible());
    CHECK(books().atomic_counts == 0);
}

TEST_CASE("context: the end of a section without preemption runs the scheduler if that was asked for", "[context]") {
    ONLY_WITH(config::kPreempt);
    Booted kernel;
    const u64& runs = kernel.machine.counters(CpuId{0}).reschedules;
    { PreemptGuard guard; }
    CHECK(runs == 0);
    {
        PreemptGuard outer;
        context.store<&Context::reschedule>(1);
        { PreemptGuard inner; }
        CHECK(runs == 0);
    }
    CHECK(runs == 1);
    context.store<&Context::reschedule>(0);
}

TEST_CASE("context: the nesting of one half of the count does not reach the other one", "[context]") {
    Booted kernel;
    SECTION("preemption") {
        for (u32 i = 0; i < Context::kMostNested; ++i)
            preempt_disable();
        CHECK(context.mine().preempt_depth() == Context::kMostNested);
        CHECK_FALSE(in_interrupt());
        if (config::kDebug) CHECK_PANIC(preempt_disable(), "kMostNested");
        for (u32 i = 0; i < Context::kMostNested; ++i)
            preempt_enable();
    }
    SECTION("interrupts") {
        std::vector<InterruptCookie> cookies(Context::kMostNested);
        for (InterruptCookie& cookie : cookies)
            cookie = interrupt_enter();
        CHECK(irq_depth() == Context::kMostNested);
        CHECK(context.mine().preempt_depth() == 0);
        if (config::kDebug) CHECK_PANIC(interrupt_enter(), "kMostNested");
        for (; !cookies.empty(); cookies.pop_back())
            interrupt_leave(cookies.back());
    }
    CHECK(preemptible());
}

TEST_CASE("context: guards give back what they took, nested too", "[context]") {
    Booted kernel;
    {
        PreemptGuard one;
        CHECK_FALSE(preemptible());
        { PreemptGuard two; }
        CHECK_FALSE(preemptible());
    }
    CHECK(preemptible());
    {
        IrqGuard one;
        CHECK_FALSE(hal::irqs_enabled());
        { IrqGuard two; }
        CHECK_FALSE(hal::irqs_enabled());
    }
    CHECK(hal::irqs_enabled());
}

TEST_CASE("context: page-fault handling is off while anybody wants it off", "[context]") {
    Booted kernel;
    CHECK_FALSE(pagefaults_disabled());
    pagefault_disable();
    pagefault_disable();
    pagefault_enable();
    CHECK(pagefaults_disabled());
    CHECK(preemptible()); // the two are independent
    pagefault_enable();
    CHECK_FALSE(pagefaults_disabled());
}

TEST_CASE("context: counts belong to a CPU", "[context]") {
    Booted kernel;
    PreemptGuard guard;
    sim::on_cpu(CpuId{1}, [] { CHECK(preemptible()); });
    CHECK_FALSE(preemptible());
}

TEST_CASE("context: interrupts nest, and leave everything as they found it", "[context]") {
    Booted kernel;
    const Books before = books();
    as_interrupt([] {
        CHECK(in_interrupt());
        as_interrupt([] { CHECK(irq_depth() == 2); });
        CHECK(in_interrupt());
    });
    CHECK_FALSE(in_interrupt());
    CHECK(books() == before);
    CHECK(hal::irqs_enabled());
}

TEST_CASE("context: an interrupt has 16 slots of its own, only while it runs", "[context]") {
    ONLY_WITH(config::kHighMem);
    Booted kernel;
    const u32 thread = local_maps.load<&LocalMaps::limit>();
    CHECK(thread == layout::local_first_slot(CpuId{0}).value() + layout::kLocalThreadSlots * layout::kLocalStride);
    as_interrupt([&] {
        const u32 limit = local_maps.load<&LocalMaps::limit>();
        CHECK(limit == layout::local_first_slot(CpuId{0}).value() + layout::kLocalSlots * layout::kLocalStride);
        as_interrupt([&] { CHECK(local_maps.load<&LocalMaps::limit>() == limit); });
        CHECK(local_maps.load<&LocalMaps::limit>() == limit);
    });
    CHECK(local_maps.load<&LocalMaps::limit>() == thread);
}

TEST_CASE("context: an interrupt that leaves a local mapping behind is caught", "[context]") {
    ONLY_WITH(config::kHighMem);
    Booted kernel;
    Page* page = new_page();
    const LocalAddr mine = kmap_local_page(page);
    SECTION("one too many") {
        const InterruptCookie cookie = interrupt_enter();
        (void)kmap_local_page(page);
        (void)kmap_local_page(page);
        CHECK_PANIC(interrupt_leave(cookie), "interrupt left 2 local mappings behind");
    }
    SECTION("one too few") {
        const InterruptCookie cookie = interrupt_enter();
        kunmap_local(mine);
        CHECK_PANIC(interrupt_leave(cookie), "interrupt left -1 local mappings behind");
    }
}

TEST_CASE("context: an interrupt that changes the preempt count is caught", "[context]") {
    Booted kernel;
    const InterruptCookie cookie = interrupt_enter();
    preempt_disable();
    CHECK_PANIC(interrupt_leave(cookie), "interrupt changed the preempt count from 0 to 1");
    preempt_enable();
    CHECK_NOTHROW(interrupt_leave(cookie));
}

TEST_CASE("context: an interrupt finds the count of the thread that it interrupts", "[context]") {
    Booted kernel;
    PreemptGuard guard;
    const InterruptCookie cookie = interrupt_enter();
    preempt_enable();
    CHECK_PANIC(interrupt_leave(cookie), "from 1 to 0");
    preempt_disable();
    interrupt_leave(cookie);
    CHECK(context.load<&Context::preempt_count>() == 1);
}
