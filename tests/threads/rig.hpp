// The kernel's threads under the explorer: mm booted on a small machine, the scheduler above it, and threads that exist
// when a schedule begins.
#pragma once

#include "arch/i386/irq/ipi.hpp"
#include "arch/i386/irq/timer.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "kernel/threads/sleep.hpp"
#include "kernel/threads/sync.hpp"
#include "tests/host/booted.hpp"
#include "tests/sim/explorer.hpp"

#include <deque>
#include <optional>

namespace loft::test {

inline constexpr CpuSet cpus_of(std::initializer_list<u32> numbers) {
    u32 bits = 0;
    for (const u32 number : numbers)
        bits |= 1u << number;
    return CpuSet::from_bits(bits);
}

// What kernel/programs does around the handler of an interrupt (faults.cpp).
class ThreadKernel final : public sim::Kernel {
  public:
    void interrupt(const std::function<void()>& handler) override;
    void reschedule_asked() override { reschedule_interrupt(); }
    void tick() override;
    void after_interrupt() override;
    bool done() override { return done_ == bodies; }
    std::string threads() override;

    void forget() { done_ = 0; }
    void one_is_done() { ++done_; }
    u32 bodies = 0;                             // the functions of threads that have to end
    std::function<void()> in_interrupt = [] {}; // runs in every interrupt

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

// Each schedule begins with thread "main" on CPU 0, the first steps of the other CPUs, and the threads of thread().
struct Scene {
    explicit Scene(u32 cpus);
    ~Scene();

    // A thread that is ready on `cpu`, and may run on `where`. It ends when `body` returns.
    Thread* thread(u32 cpu, std::function<void()> body, CpuSet where);
    Thread* thread(u32 cpu, std::function<void()> body) { return thread(cpu, std::move(body), kEveryCpu); }
    void main(std::function<void()> body) { main_ = std::move(body); }

    // Explores, prints the number of schedules, and fails the test if one of them fails. LOFT_EXPLORE: as for the
    // other explorations (tests/sim/README.md).
    sim::Report explore(sim::Plan plan);
    sim::Report attempt(const sim::Plan& plan); // without a verdict

    static constexpr u32 kWords = 4;
    hal::Plain<u32> word[kWords]; // 0 at the begin of each schedule
    hal::Atomic<u32> count[kWords];
    std::function<void()> reset = [] {}, check = [] {};

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
    std::deque<std::function<void()>> bodies_; // at fixed addresses
    std::vector<Thread*> threads_;
};

// The calling thread is on a CPU where it may run.
void expect_allowed();

// The number of schedules that this build runs if `wanted` are wanted: under a sanitizer a fraction.
constexpr u64 schedules(u64 wanted) {
#if defined(__SANITIZE_ADDRESS__)
    return wanted / 20 + 1;
#else
    return wanted;
#endif
}

} // namespace loft::test
