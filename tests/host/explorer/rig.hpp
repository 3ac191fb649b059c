// A small kernel under the explorer: mm booted on a small machine, a pool of a few slots, pages with signatures,
// threads.
#pragma once

#include "mm/ground/context.hpp"
#include "mm/ground/remote.hpp"
#include "mm/ground/spinlock.hpp"
#include "mm/spaces/address_space.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/pkmap.hpp"
#include "tests/host/booted.hpp"
#include "tests/host/slow.hpp"
#include "tests/host/spaces/program_memory.hpp"
#include "tests/sim/explorer.hpp"

namespace loft::test {

// The actions of kernel/ at thread switches and interrupts, without its locks. Interrupts are off where kernel/ has
// them off.
class SmallKernel final : public sim::Kernel {
  public:
    void interrupt(const std::function<void()>& handler) override;
    void switch_out(u32 thread) override;
    void switch_in(u32 thread) override;
    bool may_preempt() override;
    void ask_to_reschedule() override;
    bool may_migrate(u32 thread) override;
    void enter_idle() override;

    std::function<void()> in_interrupt = [] {}; // runs in every interrupt
    bool marks_idle = true;                     // else an idle CPU waits with interrupts on and is not marked idle
    void forget_threads() { saved_.clear(); }
    // Called by the thread itself: it runs in this space, or in none, until its next call.
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
    // `slots`: the size of the pool; `pages`: the number of high pages, each with its signature in all of its words.
    explicit Scene(u32 cpus, u32 slots = 4, u32 pages = 4);

    // Explores, prints the number of schedules, and fails the test if one of them fails. With LOFT_EXPLORE=full in the
    // environment a systematic exploration has no limit; with LOFT_EXPLORE=N the limit is N times as high.
    sim::Report explore(sim::Plan plan);
    // For tests of the explorer: the same without a verdict.
    sim::Report attempt(const sim::Plan& plan);

    void thread(u32 cpu, std::function<void()> body) { explored.threads.push_back({cpu, std::move(body)}); }

    Booted kernel;
    SmallKernel small_kernel;
    ProgramMemory memory; // knows the pages
    std::vector<Page*> pages;
    u32 frees = 0;            // lowmem frames that a schedule frees beyond those that it allocates
    bool loose_books = false; // free frames are not compared: a schedule frees more than it allocates
    hal::Atomic<u32> done;    // for threads that wait for each other; 0 at the start
    sim::Case explored;
};

// Reads through the CPU's TLB and expects this frame at `va`. Writes to it, too. In an exploration Scene::memory judges
// both accesses.
void use(VirtAddr va, Page* page);
// The same, without the write.
void look(VirtAddr va, Page* page);

// The number of schedules that this build runs if `wanted` are wanted.
u64 schedules(u64 wanted);

} // namespace loft::test
