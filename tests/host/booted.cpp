// Booting mm on a simulated machine, resource sums, shortages, and code that runs at schedule points.
#include "tests/host/booted.hpp"

#include "mm/ground/context.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/interrupt_context.hpp"
#include "mm/windows/kmap_local.hpp"

#include <cstdio>
#include <ostream>
#include <sys/wait.h>
#include <unistd.h>

namespace loft::test {

Setup small(u32 cpus) {
    Setup setup;
    setup.machine.cpus = cpus;
    setup.machine.ram = 64 * MiB;
    setup.machine.patience = 2000;
    if (config::kHighMem) setup.highmem = 32 * MiB;
    return setup;
}

Booted::Booted(const Setup& setup) : machine{setup.machine}, info{machine.make_boot_info()} {
    info.highmem_bytes = setup.highmem;
    info.vmalloc_bytes = setup.vmalloc;
    info.userpte_nohigh = setup.userpte_nohigh;
    info.stored_end = setup.stored_end;
    pagetable_early(machine.boot_last_table());
    mm_init(info);
    machine.finish_boot(mm_init_cpu);
    machine.online().for_each([&](CpuId cpu) { machine.counters(cpu) = {}; });
}

Books books() {
    Books now;
    sim::machine().online().for_each([&](CpuId cpu) { now.irqs_off += !sim::machine().cpu(cpu).interrupts; });
    page_alloc_verify();
    for (u32 i = 0; i < kZones; ++i)
        now.free[i] = zone_info(static_cast<ZoneId>(i)).free;
    sim::machine().online().for_each([&](CpuId cpu) {
        sim::on_cpu(cpu, [&] { now.held_maps += local_depth(); });
        const Context& counts = context.of(cpu);
        now.atomic_counts += counts.preempt_count + counts.pagefaults_off;
    });
    return now;
}

std::ostream& operator<<(std::ostream& out, const Books& b) {
    return out << "free: DMA " << b.free[0] << ", Normal " << b.free[1] << ", HighMem " << b.free[2] << "; local maps "
               << b.held_maps << "; atomic counts " << b.atomic_counts << "; interrupts off on " << b.irqs_off
               << " CPUs";
}

Page* new_page(Gfp gfp) {
    Page* page = alloc_page(gfp);
    REQUIRE(page != nullptr);
    return page;
}

std::vector<Page*> new_pages(u32 count, Gfp gfp) {
    std::vector<Page*> pages;
    for (u32 i = 0; i < count; ++i)
        pages.push_back(new_page(gfp));
    return pages;
}

void free_all(std::vector<Page*>& pages) {
    for (Page* page : pages)
        free_page(page);
    pages.clear();
}

namespace {
constexpr u32 kLastWord = kPageSize - 4;
u32 stamp_of(Page* page) { return 0x57a3'0000u ^ (page_to_pfn(page).value() * 0x9e37'79b1u); }
} // namespace

void stamp(Page* page) {
    const PhysAddr at = page_to_pfn(page).phys();
    sim::poke(at, stamp_of(page));
    sim::poke(at + kLastWord, ~stamp_of(page));
}

std::vector<Page*> stamped(u32 count, Gfp gfp) {
    std::vector<Page*> pages = new_pages(count, gfp);
    for (Page* page : pages)
        stamp(page);
    return pages;
}

bool shows(VirtAddr va, Page* page) {
    return hal::load<u32>(va.page()) == stamp_of(page) && hal::load<u32>(va.page() + kLastWord) == ~stamp_of(page);
}

Shortage::Shortage(u32 low, u32 high) {
    // High memory first, then the kernel's reserve; the per-CPU lists are drained before.
    sim::machine().online().for_each([](CpuId cpu) { sim::on_cpu(cpu, [] { drain_local_pages(); }); });
    for (const Gfp gfp : {Gfp::high, Gfp::kernel})
        while (Page* page = alloc_page(gfp))
            taken_.push_back(page);
    std::erase_if(taken_, [&](Page* page) {
        u32& left = is_highmem(page) ? high : low;
        if (left == 0) return false;
        --left;
        free_page(page);
        return true;
    });
    REQUIRE(low == 0);
    REQUIRE(high == 0);
}

Shortage::~Shortage() { free_all(taken_); }

void as_interrupt(const std::function<void()>& handler) {
    sim::interrupt([&] {
        const InterruptCookie cookie = interrupt_enter();
        handler();
        interrupt_leave(cookie);
    });
}

void Intruder::operator()() {
    if (first_) return;
    ++runs_;
    try {
        what_();
    } catch (...) {
        first_ = std::current_exception();
    }
}

void Intruder::finish() {
    if (first_) std::rethrow_exception(std::exchange(first_, nullptr));
}

bool try_on_cpu(CpuId cpu, const std::function<void()>& what) {
    const bool interrupts = sim::machine().cpu(cpu).interrupts;
    try {
        sim::on_cpu(cpu, what);
        return true;
    } catch (const sim::BadAccess& wait) {
        if (!wait.says("waits in a loop")) throw;
        sim::machine().cpu(cpu).interrupts = interrupts;
        return false;
    }
}

u32 for_every_fill(const Setup& setup,
                   const std::function<void(Booted&, const std::function<void()>& from_here)>& body) {
    constexpr u32 kTooMany = 4096;
    std::vector<bool> answers;
    for (u32 rounds = 1; rounds <= kTooMany; ++rounds) {
        Booted kernel{setup};
        kernel.machine.set_fills(sim::Fills::never);
        u64 before = 0;
        body(kernel, [&] {
            before = kernel.machine.fills_asked();
            for (const bool answer : answers)
                kernel.machine.script_fills({answer});
        });
        // The next sequence, counted like a binary number. Questions beyond the end of the script were answered "no".
        answers.resize(kernel.machine.fills_asked() - before, false);
        while (!answers.empty() && answers.back())
            answers.pop_back();
        if (answers.empty()) return rounds;
        answers.back() = true;
    }
    throw std::logic_error{"for_every_fill: too many possibilities"};
}

bool terminates_with(const std::function<void()>& what, std::string_view text) {
    constexpr int kSaid = 70, kOther = 71, kLived = 72;
    static std::string expected;
    expected = text;
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        std::set_terminate([] {
            try {
                std::rethrow_exception(std::current_exception());
            } catch (const std::exception& error) {
                _exit(std::string_view{error.what()}.find(expected) != std::string_view::npos ? kSaid : kOther);
            }
        });
        try {
            what();
        } catch (...) {
            _exit(kOther);
        }
        _exit(kLived);
    }
    int status = 0;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == kSaid;
}

} // namespace loft::test
