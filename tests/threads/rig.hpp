// The kernel's threads and programs under the explorer: mm booted on a small machine, scheduler, files and processes
// above it, and threads and programs that exist when a schedule begins.
#pragma once

#include "arch/i386/irq/ipi.hpp"
#include "arch/i386/irq/timer.hpp"
#include "kernel/files/bytes_file.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "kernel/threads/sleep.hpp"
#include "kernel/threads/sync.hpp"
#include "tests/host/booted.hpp"
#include "tests/sim/explorer.hpp"
#include "tests/threads/ring3.hpp"

#include <deque>
#include <optional>

namespace loft::test {

inline constexpr CpuSet cpus_of(std::initializer_list<u32> numbers) {
    u32 bits = 0;
    for (const u32 number : numbers)
        bits |= 1u << number;
    return CpuSet::from_bits(bits);
}

// An interrupt enters the kernel by trap_dispatch, as all traps do.
class ThreadKernel final : public sim::Kernel {
  public:
    void interrupt(const std::function<void()>& handler) override;
    void reschedule_asked() override { reschedule_interrupt(); }
    void tick() override;
    void nmi() override;
    std::string_view changed_by_nmi() override { return "nmis"; } // kernel/report/nmi.cpp
    bool done() override { return done_ == bodies; }
    std::string threads() override;

    void forget() { done_ = 0; }
    void one_is_done() { ++done_; }
    u32 bodies = 0;                             // the functions of threads that have to end
    std::function<void()> in_interrupt = [] {}; // runs in every interrupt, before its handler

    // For kernels without threads.
    void switch_out(u32) override {}
    void switch_in(u32) override {}
    bool may_preempt() override { return false; }
    void ask_to_reschedule() override {}
    bool may_migrate(u32) override { return false; }
    void enter_idle() override {}

  private:
    u32 done_ = 0;
};

// Each schedule begins with thread "main" on CPU 0, the first steps of the other CPUs, the threads of thread(), and
// those of the programs, which are about to enter ring 3. When all that main does is done, it waits until each process
// is reaped.
struct Scene {
    // The last `off` CPUs are off, until main starts them.
    explicit Scene(u32 cpus, u32 off = 0);
    // The kernel takes CPUs away, and starts them again: the set of online CPUs is its own.
    void cpus_come_and_go();
    ~Scene();

    // A thread that is ready on `cpu`, and may run on `where`. It ends when `body` returns.
    Thread* thread(u32 cpu, std::function<void()> body, CpuSet where);
    Thread* thread(u32 cpu, std::function<void()> body) { return thread(cpu, std::move(body), kEveryCpu); }
    void main(std::function<void()> body) { main_ = std::move(body); }

    // A function that programs can begin with; returns its number. Ring 3 ends when it returns, with exit(0).
    u32 function(ProgramFunction body);
    // A process started by the kernel, whose first thread is ready on CPU 0, and may run on `where`; further threads.
    // The process may be gone when an exploration has ended: the next one begins with it again.
    Process* program(u32 function, CpuSet where = kEveryCpu);
    // The program has so many private pages in memory, too.
    void more_pages(Process& process, u32 pages);
    void sibling(Process& process, u32 function, CpuSet where = kEveryCpu);
    // Before an exploration: a word of the program's page, and a page that all programs share at kSharedPage.
    void set_word(Process& process, u32 address, u32 value);
    void share_page(std::initializer_list<Process*> processes);
    static constexpr u32 kSharedPage = 0x2000'0000;
    // What `make` allocates belongs to programs, and is freed when they are reaped.
    void of_programs(const std::function<void()>& make);
    Thread* thread_of_program(Process& process); // its newest one
    // By main: waits for one of the programs, which is reaped.
    void reap(u32 program);
    WaitStatus status(u32 program) const {
        return statuses_.at(program).value();
    } // for check: in the order of program()

    // Explores, prints the number of schedules, and fails the test if one of them fails. LOFT_EXPLORE: as for the
    // other explorations (tests/sim/README.md).
    sim::Report explore(sim::Plan plan);
    sim::Report attempt(const sim::Plan& plan); // without a verdict

    static constexpr u32 kWords = 4;
    hal::Plain<u32> word[kWords]; // 0 at the begin of each schedule
    hal::Atomic<u32> count[kWords];
    std::function<void()> reset = [] {}, check = [] {};
    u32 leaks = 0; // that threads leave behind on purpose

    struct Pristine {
        Pristine();
    } pristine; // first: the static objects as they were at the begin of the program
    Booted kernel;
    ThreadKernel thread_kernel;
    sim::Case explored;
    Thread* main_thread = nullptr;
    ThreadId main_id{};

  private:
    std::function<void()> main_ = [] {};
    void reap_all();

    std::deque<std::function<void()>> bodies_; // at fixed addresses
    std::vector<Thread*> threads_;
    std::deque<ProgramFunction> functions_;
    std::function<const ProgramFunction&(u32)> find_ = [this](u32 number) -> const ProgramFunction& {
        return functions_.at(number);
    };
    std::vector<Process*> programs_;
    std::vector<std::optional<WaitStatus>> statuses_;
    u32 frames_of_programs_ = 0;
};

// The calling thread is on a CPU where it may run.
void expect_allowed();
// The current thread parks until the word is not 0; who stores to it unparks the thread afterwards.
void wait_for(hal::Plain<u32>& word);

// The number of schedules that this build runs if `wanted` are wanted: under a sanitizer a fraction.
constexpr u64 schedules(u64 wanted) {
#if defined(__SANITIZE_ADDRESS__)
    return wanted / 20 + 1;
#else
    return wanted;
#endif
}

} // namespace loft::test
