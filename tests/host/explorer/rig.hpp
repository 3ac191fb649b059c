// A small kernel under the explorer: mm booted on a small machine, a pool of a few slots, signed pages, threads.
#pragma once

#include "mm/ground/context.hpp"
#include "mm/ground/remote.hpp"
#include "mm/ground/spinlock.hpp"
#include "mm/spaces/address_space.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/pkmap.hpp"
#include "tests/host/booted.hpp"
#include "tests/sim/explorer.hpp"

namespace loft::test {

// What kernel/ does around threads and interrupts, without its locks: interrupts are off where it has them off.
class SmallKernel final : public sim::Kernel {
  public:
    void interrupt(const std::function<void()>& handler) override;
    void switch_out(u32 thread) override;
    void switch_in(u32 thread) override;
    bool may_preempt() override;
    void ask_to_reschedule() override;
    bool may_migrate(u32 thread) override;
    void enter_idle() override;

    std::function<void()> in_interrupt = [] {}; // every interrupt does this too
    bool marks_idle = true; // else an idle CPU is one that waits with interrupts on, and nobody knows
    void forget_threads() { saved_.clear(); }
    // By the thread itself: it goes on in this space, or in none, until it says something else.
    void run_in(u32 thread, AddressSpace* space);

  private:
    struct Saved {
        Context context;
        LocalSaved local;
        AddressSpace* space = nullptr;
    };
    std::vector<Saved> saved_;
};

struct Scene {
    // `slots`: of the pool; `pages`: how many highmem pages there are, each with its signature in every word it has.
    explicit Scene(u32 cpus, u32 slots = 4, u32 pages = 4);

    // Runs it, prints how many schedules there were, and fails the test if one of them ends badly. With
    // LOFT_EXPLORE=full in the environment an exploration that is not by chance has no limit; with LOFT_EXPLORE=N it
    // has N times as many.
    sim::Report explore(sim::Plan plan);
    // For tests of the explorer: the same without a verdict.
    sim::Report attempt(const sim::Plan& plan);

    void thread(u32 cpu, std::function<void()> body) { explored.threads.push_back({cpu, std::move(body)}); }

    Booted kernel;
    SmallKernel small_kernel;
    std::vector<Page*> pages;
    u32 frees = 0;            // frames of lowmem that a schedule gives back
    bool loose_books = false; // a schedule gives back more than it takes: frames are not compared
    hal::Atomic<u32> done;    // for threads that wait for each other; 0 at the begin
    sim::Case explored;
};

// Through the CPU's own TLB: does `va` show this frame? Writes to it too.
void use(VirtAddr va, Page* page);
// The same, without the write.
void look(VirtAddr va, Page* page);

inline constexpr bool kSlow = // under a sanitizer a fraction has to do
#if defined(__SANITIZE_ADDRESS__)
    true;
#else
    false;
#endif
// How many schedules this build runs where so many are wanted.
u64 schedules(u64 wanted);

} // namespace loft::test
