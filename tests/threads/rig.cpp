// The kernel's threads under the explorer. Contract: rig.hpp.
#include "tests/threads/rig.hpp"

#include "arch/base/near_wrap.hpp"
#include "arch/i386/isa/control.hpp"
#include "arch/i386/isa/selectors.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/interrupt_context.hpp"
#include "tests/sim/kernel/arch.hpp"
#include "tests/sim/stacks.hpp"
#include "tests/sim/statics.hpp"

#include <cstdio>
#include <cstdlib>

namespace loft::test {
namespace {

Setup tiny(u32 cpus) {
    Setup setup;
    setup.machine.cpus = cpus;
    setup.machine.ram = 24 * MiB;
    if (config::kHighMem) setup.highmem = 4 * MiB;
    return setup;
}

TrapFrame kernel_frame() {
    TrapFrame frame{};
    frame.cs = selector::kernel_code;
    frame.eflags = eflags::interrupt;
    return frame;
}

// Totals of the whole test program.
struct Total {
    ~Total() {
        if (schedules != 0)
            std::fprintf(stderr, "explorer: %llu schedules explored in all\n",
                         static_cast<unsigned long long>(schedules));
    }
    u64 schedules = 0;
} total;

} // namespace

void ThreadKernel::interrupt(const std::function<void()>& handler) {
    const InterruptCookie cookie = interrupt_enter();
    handler();
    in_interrupt();
    interrupt_leave(cookie);
}
void ThreadKernel::tick() {
    TrapFrame frame = kernel_frame();
    sim::call_tick_handler(frame);
}
void ThreadKernel::after_interrupt() { preempt_after_trap(kernel_frame()); }

std::string ThreadKernel::threads() {
    std::string all;
    for_each_thread(
        [](const Thread& thread, void* to) {
            std::string& text = *static_cast<std::string*>(to);
            text += sim::text("{}{} is {} on CPU {}", text.empty() ? "" : ", ", thread.name_view(),
                              thread_state_name(thread.state), thread.cpu);
        },
        &all);
    return all;
}

// The kernel initialises its static objects once; every scene boots it again.
Scene::Pristine::Pristine() {
    static const std::vector<u8> first = [] {
        std::vector<u8> bytes;
        for (const sim::StaticObject& object : sim::kernel_statics())
            bytes.insert(bytes.end(), object.at, object.at + object.size);
        return bytes;
    }();
    const u8* from = first.data();
    for (const sim::StaticObject& object : sim::kernel_statics()) {
        std::copy_n(from, object.size, object.at);
        from += object.size;
    }
    sim::forget_stacks();
}

Scene::Scene(u32 cpus) : kernel{tiny(cpus)} {
    scheduler_init();
    main_thread = thread_self();
    main_id = ThreadId{main_thread->id.load()};
    explored.kernel = &thread_kernel;
    explored.cpus.push_back({0, [this] {
                                 main_();
                                 thread_kernel.one_is_done();
                                 for (;;)
                                     hal::park();
                             }});
    for (u32 cpu = 1; cpu < cpus; ++cpu) {
        const KernelStack stack = scheduler_prepare_cpu(CpuId{cpu});
        REQUIRE(stack.exists());
        explored.cpus.push_back({stack.end.value(), [cpu] { scheduler_run(CpuId{cpu}); }});
    }
    thread_kernel.bodies = 1;
}
Scene::~Scene() { sim::forget_stacks(); }

Thread* Scene::thread(u32 cpu, std::function<void()> body, CpuSet where) {
    bodies_.emplace_back([this, body = std::move(body)] {
        body();
        thread_kernel.one_is_done();
    });
    ++thread_kernel.bodies;
    const std::string name = sim::text("t{}", threads_.size() + 1);
    Thread* made = thread_create(name, bodies_.back(), CpuSet::only(CpuId{cpu}));
    REQUIRE(made != nullptr);
    made->affinity = where;
    threads_.push_back(made);
    return made;
}

sim::Report Scene::attempt(const sim::Plan& plan) {
    // No debt of boot is left: every TLB is flushed, and every clock is set.
    kernel.machine.online().for_each([](CpuId cpu) {
        sim::on_cpu(cpu, [] {
            tlb_flush_local_non_global();
            hal::flush_all();
        });
    });
    explored.reset = [this] {
        thread_kernel.forget();
        for (u32 i = 0; i < kWords; ++i) {
            word[i].store(0);
            count[i].store(0);
        }
        reset();
    };
    explored.check = [this] {
        for (const Thread* thread : threads_)
            sim::expect(thread->ended.load() != 0 || thread->state == ThreadState::unused,
                        "every thread has ended, and has left its stack");
        kernel.machine.online().for_each(
            [](CpuId cpu) { sim::expect(ready_threads(cpu) == 0, "no thread waits in a queue at the end"); });
        sim::expect(since_start(thread_leaks()) == 0, "no thread leaves anything behind");
        check();
    };
    const sim::Report report = sim::explore(explored, plan);
    total.schedules += report.schedules;
    return report;
}

sim::Report Scene::explore(sim::Plan plan) {
    if (const char* const wish = std::getenv("LOFT_EXPLORE")) {
        const bool full = std::string_view{wish} == "full";
        if (full && plan.kind == sim::Plan::Kind::reduced)
            plan.limit = ~u64{0};
        else if (!full && plan.limit != ~u64{0})
            plan.limit *= std::strtoull(wish, nullptr, 10);
    }
    const sim::Report report = attempt(plan);
    const std::string name = Catch::getResultCapture().getCurrentTestName();
    std::printf("%s: %llu schedules%s, %llu more given up half-way, %llu steps, up to %llu\n", name.c_str(),
                static_cast<unsigned long long>(report.schedules),
                plan.kind == sim::Plan::Kind::random ? " by chance"
                : !report.complete                   ? ", not all"
                : plan.preemptions == ~0u            ? ", all there are"
                                                     : ", all within the bound",
                static_cast<unsigned long long>(report.pruned), static_cast<unsigned long long>(report.steps),
                static_cast<unsigned long long>(report.longest));
    INFO(report.trace);
    INFO("LOFT_SCHEDULE='" << report.schedule << "'");
    INFO(report.failure);
    CHECK(report.failure.empty());
    return report;
}

void expect_allowed() {
    const Thread& me = *thread_self();
    sim::expect(me.affinity.has(hal::this_cpu()), "a thread runs only where it may");
}

} // namespace loft::test
