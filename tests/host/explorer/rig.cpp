// The small kernel under the explorer. Contract: rig.hpp.
#include "tests/host/explorer/rig.hpp"

#include "mm/tables/flush_clock.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/interrupt_context.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace loft::test {
namespace {

constexpr u32 kSecondWord = 8;

Setup tiny(u32 cpus) {
    Setup setup;
    setup.machine.cpus = cpus;
    setup.machine.ram = 24 * MiB;
    if (config::kHighMem) setup.highmem = 4 * MiB;
    return setup;
}

u32 signature_of(Page* page) { return 0x5160'0000u ^ (page_to_pfn(page).value() * 0x9e37'79b1u); }

} // namespace

void SmallKernel::interrupt(const std::function<void()>& handler) {
    const InterruptCookie cookie = interrupt_enter();
    in_interrupt();
    handler();
    interrupt_leave(cookie);
}

void SmallKernel::switch_out(u32 thread) {
    if (saved_.size() <= thread) saved_.resize(thread + 1);
    Context& mine = context.mine();
    saved_[thread].context = mine;
    mine.minus_kmaps = mine.preempt_count = mine.pagefaults_off = 0;
    mine.reschedule = 0;
    local_switch_out(saved_[thread].local);
    space_switch(nullptr); // the next thread switches to its own space
}

void SmallKernel::switch_in(u32 thread) {
    if (saved_.size() <= thread) saved_.resize(thread + 1); // its first time
    Context& mine = context.mine();
    mine.minus_kmaps = saved_[thread].context.minus_kmaps;
    mine.preempt_count = saved_[thread].context.preempt_count;
    mine.pagefaults_off = saved_[thread].context.pagefaults_off;
    local_switch_in(saved_[thread].local);
    space_switch(saved_[thread].space);
}

void SmallKernel::run_in(u32 thread, AddressSpace* space) {
    if (saved_.size() <= thread) saved_.resize(thread + 1);
    IrqGuard guard;
    saved_[thread].space = space;
    space_switch(space);
}

bool SmallKernel::may_preempt() { return context.load<&Context::preempt_count>() == 0; }
void SmallKernel::ask_to_reschedule() { context.store<&Context::reschedule>(1); }
bool SmallKernel::may_migrate(u32 thread) { return thread >= saved_.size() || saved_[thread].local.depth == 0; }
void SmallKernel::enter_idle() {
    if (marks_idle) tlb_enter_idle();
}

Scene::Scene(u32 cpus, u32 slots, u32 count) : kernel{tiny(cpus)} {
    if constexpr (config::kHighMem) pkmap_set_slots(slots);
    pages = new_pages(count);
    for (Page* page : pages) {
        const PhysAddr at = page_to_pfn(page).phys();
        sim::poke(at, signature_of(page));
        sim::poke(at + kSecondWord, signature_of(page));
        memory.adopt(page);
    }
    // No debt of boot is left: every TLB is flushed, and every clock is set.
    kernel.machine.online().for_each([](CpuId cpu) {
        sim::on_cpu(cpu, [] {
            tlb_flush_local_non_global();
            hal::flush_all();
        });
    });
    explored.kernel = &small_kernel;
    explored.reset = [this] {
        small_kernel.forget_threads();
        done.store(0);
    };
}

sim::Report Scene::attempt(const sim::Plan& plan) {
    const auto reset = explored.reset, check = explored.check;
    Books before = books();
    before.free[static_cast<u32>(ZoneId::normal)] += frees;
    explored.check = [&, check] {
        memory.check_end();
        if (check) check();
        Books now = books();
        if (loose_books) std::copy_n(before.free, kZones, now.free);
        sim::expect(now == before, "nothing is held at the end");
        if constexpr (config::kHighMem) sim::expect(pkmap_use().used == 0, "no slot is used at the end");
    };
    explored.reset = [&] {
        memory.restart();
        reset();
    };
    sim::Report report = sim::explore(explored, plan);
    explored.reset = reset;
    explored.check = check;
    sim::count_in_total(report);
    return report;
}

sim::Report Scene::explore(sim::Plan plan) {
    const auto begin = std::chrono::steady_clock::now();
    plan = sim::as_wished(plan);
    const sim::Report report = attempt(plan);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const std::string name = Catch::getResultCapture().getCurrentTestName();
    std::printf("%s: %llu schedules, %s; %llu more given up half-way, up to %llu steps, %.1f s (%.0f/s)\n",
                name.c_str(), static_cast<unsigned long long>(report.schedules), sim::extent(plan, report).c_str(),
                static_cast<unsigned long long>(report.pruned), static_cast<unsigned long long>(report.longest),
                seconds, static_cast<double>(report.schedules + report.pruned) / (seconds > 0 ? seconds : 1));
    INFO(report.trace);
    INFO("LOFT_SCHEDULE='" << report.schedule << "'");
    INFO(report.failure);
    CHECK(report.failure.empty());
    return report;
}

u64 schedules(u64 wanted) { return kWhole ? wanted : wanted / (kSlow ? 20 : 4) + 1; }

void look(VirtAddr va, Page* page) {
    ProgramMemory* const memory = ProgramMemory::current();
    const u32 value = memory != nullptr && memory->knows(page) ? memory->load(page, va) : hal::load<u32>(va);
    sim::expect(value == signature_of(page), "a mapping shows its own page");
}

void use(VirtAddr va, Page* page) {
    look(va, page);
    ProgramMemory* const memory = ProgramMemory::current();
    if (memory != nullptr && memory->knows(page))
        memory->store(page, va + kSecondWord, memory->new_value());
    else
        hal::store<u32>(va + kSecondWord, signature_of(page));
}

} // namespace loft::test
