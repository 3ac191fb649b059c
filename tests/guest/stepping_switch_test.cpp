// Another thread, or another CPU, between any two instructions of a map, an access and an unmap.
//
// One thread maps and unmaps, one instruction at a time. The debug exception after each instruction asks the scheduler
// to switch the thread out and, if it holds no local mapping, to migrate it to the next CPU. It also wakes the
// companion thread of the old CPU, which uses the same slots before the stepped thread runs again. Where the stepped
// code has interrupts or preemption off, no switch may happen.
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "kernel/threads/thread.hpp"
#include "tests/guest/stepper.hpp"
#include "tests/guest/support.hpp"

#include <array>

namespace loft::guest::stepping_switch_test {
namespace {

constexpr u32 kTheirs = 8; // pages of each companion
constexpr u32 kMine = 5;
constexpr u32 kSalt = 31;

// A thread that is bound to one CPU and makes a round of mappings each time it is woken.
class Companion {
  public:
    bool start(CpuId cpu, u32 seed, bool pool, const hal::Atomic<u32>& stop) {
        rng_ = selftest::Rng{seed};
        stop_ = &stop;
        pool_ = pool;
        for (Page*& page : page_) {
            page = alloc_page(Gfp::high);
            if (page == nullptr) return false;
            sign(page, kSalt);
        }
        thread_ = thread_create("companion", *this, CpuSet::only(cpu));
        return thread_ != nullptr;
    }
    void wake() { hal::unpark(ThreadId{thread_->id.load()}); }
    // Called after `stop` is set.
    void finish() {
        if (thread_ != nullptr) {
            wake();
            thread_join(thread_);
        }
        for (Page* page : page_) {
            if (page == nullptr) continue;
            errors_ += !signed_by(page, kSalt);
            free_page(page);
        }
    }
    u32 rounds() const { return rounds_; }
    u32 errors() const { return errors_; }

    void operator()() {
        for (;;) {
            ++rounds_;
            nest(1 + rng_.below(3));
            if (pool_) {
                Page* page = any();
                const KMap map{page};
                touch(map.addr(), page);
            }
            // Checked right before park: kmap may have consumed a wake-up that came during the round.
            if (stop_->load() != 0) return;
            hal::park();
        }
    }

  private:
    Page* any() { return page_[rng_.below(kTheirs)]; }
    void touch(VirtAddr at, Page* page) {
        errors_ += !marks_hold(at, page_to_pfn(page), kSalt);
        write_marks(at, page_to_pfn(page), kSalt);
    }
    void nest(u32 depth) {
        Page* page = any();
        const LocalMap map{page};
        touch(map.addr(), page);
        if (depth > 1) nest(depth - 1);
        if (rng_.below(2) == 0) yield(); // the stepped thread runs while this one's slots are saved
        touch(map.addr(), page);
    }

    selftest::Rng rng_{0};
    const hal::Atomic<u32>* stop_ = nullptr;
    Thread* thread_ = nullptr;
    bool pool_ = false;
    std::array<Page*, kTheirs> page_{};
    u32 rounds_ = 0;
    u32 errors_ = 0;
};

struct Outcome {
    u32 steps = 0;
    u32 switches = 0;
    u32 migrations = 0;
    u32 unbound = 0;     // the CPU changed while a local mapping was held
    u32 rounds = 0;      // of the companions
    u32 errors = 0;      // of all threads
    u32 bound_steps = 0; // instructions at which a local mapping was held
    u32 free_steps = 0;  // instructions at which the thread could be switched out
    u32 loose_steps = 0; // of these, instructions at which it could also migrate
    bool complete = false;
};

// The pages of the stepped thread.
struct Mine {
    Pages<kMine> pages;
    u32 errors = 0;
    // Not a function of support.hpp: only the calls under test should be stepped.
    void touch(VirtAddr at, u32 i) {
        const u32 want = mark(pages.pfn(i), 0, kSalt);
        errors += hal::load<u32>(at) != want;
        hal::store<u32>(at, want);
    }
};

// Steps body(mine) in its own thread, with companions on all CPUs.
template <typename F> Outcome step_among_others(bool pool, F&& body) {
    Outcome outcome;
    static std::array<Companion, config::kMaxCpus> companions;
    const CpuSet online = hal::online_cpus();
    hal::Atomic<u32> stop;
    Mine mine;
    bool complete = mine.pages.complete();
    for (Page* page : mine.pages)
        if (page != nullptr) sign(page, kSalt);
    online.for_each([&](CpuId cpu) {
        companions[cpu.value()] = Companion{};
        complete = companions[cpu.value()].start(cpu, selftest::rng().next(), pool, stop) && complete;
    });

    CpuId last{};
    bool was_held = false;
    auto between = [&] {
        const CpuId here = hal::this_cpu();
        outcome.unbound += was_held && here != last;
        was_held = local_held();
        outcome.bound_steps += was_held;
        last = here;
        const bool may_leave = step_may_wake() && context.mine().preempt_depth() == 0;
        outcome.free_steps += may_leave;
        outcome.loose_steps += may_leave && !was_held;
        if (step_may_wake()) companions[here.value()].wake();
        u32 next = (here.value() + 1) % config::kMaxCpus;
        while (!online.has(CpuId{next}))
            next = (next + 1) % config::kMaxCpus;
        request_move(CpuId{next});
    };
    auto stepped = [&] {
        const Thread* me = thread_self();
        outcome.steps = step_through([&] { body(mine); }, between);
        outcome.switches = since_start(me->switches);
        outcome.migrations = since_start(me->migrations);
    };
    if (complete) {
        Thread* thread = thread_create("stepped", stepped);
        complete = thread != nullptr;
        if (complete) thread_join(thread);
    }
    stop.store(1);
    online.for_each([&](CpuId cpu) {
        Companion& one = companions[cpu.value()];
        one.finish();
        outcome.rounds += one.rounds();
        outcome.errors += one.errors();
    });
    outcome.errors += mine.errors;
    for (Page* page : mine.pages)
        if (page != nullptr) outcome.errors += !signed_by(page, kSalt);
    outcome.complete = complete;
    return outcome;
}

// The total number of instructions is not checked: a CPU that waits for another one with interrupts off may wait long.
void judge(const Outcome& outcome, u32 least_free) {
    selftest::note(
        "{} instructions, {} of them with interrupts on, {} with a slot held: {} switches, {} migrations, {} "
        "rounds of others",
        outcome.steps, outcome.free_steps, outcome.bound_steps, outcome.switches, outcome.migrations, outcome.rounds);
    CHECK(outcome.complete);
    CHECK_GT(outcome.free_steps, least_free);
    CHECK_GT(outcome.switches, outcome.free_steps / 2);
    if (hal::online_cpus().count() > 1) CHECK_GT(outcome.migrations, outcome.loose_steps / 4);
    CHECK_EQ(outcome.unbound, 0u);
    CHECK_EQ(outcome.errors, 0u);
}

const char* cannot_step() {
    if (!config::kPreempt) return "this kernel is not preemptible";
    return no_slots_for(config::kMaxCpus * kTheirs + 16);
}

void prepare() {
    warm_up_threads(hal::online_cpus().count() + 1);
    drain_all_cpus();
}

u32 rounds(u32 quick) { return selftest::full() ? quick * 10 : quick; }

// body(mine, i) for i below n, stepped with companions; at `least` instructions of each the thread can be switched out.
// With a pool that is large enough that no thread waits.
template <typename Body> void step_rounds(bool pool, u32 n, u32 least, const Body& body) {
    if (const char* why = cannot_step()) SKIP(why);
    prepare();
    const KeepsFreeCounts counts;
    const PoolOf small{pool ? 2 * hal::online_cpus().count() + 4 : pkmap_slots()};
    judge(step_among_others(pool,
                            [&](Mine& mine) {
                                for (u32 i = 0; i < n; ++i)
                                    body(mine, i);
                            }),
          n * least);
}

} // namespace

SELFTEST(stepping_switch, kmap_local) {
    step_rounds(false, rounds(6), 20, [](Mine& mine, u32 i) {
        const LocalAddr at = kmap_local_page(mine.pages[i % kMine]);
        mine.touch(at, i % kMine);
        kunmap_local(at);
    });
}

// The slot maps the page already, unless another thread has used it since.
SELFTEST(stepping_switch, kmap_local_same_page) {
    step_rounds(false, rounds(3), 15, [](Mine& mine, u32) {
        const LocalAddr at = kmap_local_page(mine.pages[0]);
        mine.touch(at, 0);
        kunmap_local(at);
    });
}

SELFTEST(stepping_switch, kmap_local_nested) {
    step_rounds(false, rounds(3), 80, [](Mine& mine, u32 i) {
        std::array<LocalAddr, 4> at;
        for (u32 k = 0; k < 4; ++k) {
            at[k] = kmap_local_page(mine.pages[(i + k) % kMine]);
            mine.touch(at[k], (i + k) % kMine);
        }
        for (u32 k = 4; k-- > 0;) {
            mine.touch(at[k], (i + k) % kMine);
            kunmap_local(at[k]);
        }
    });
}

// One switch, after each instruction in turn, to a thread that maps the same page. It treats an equal entry in the slot
// as a hit, so the entry must not be written before the old translation is flushed.
SELFTEST(stepping_switch, a_hit_is_never_stale) {
    if (const char* why = cannot_step()) SKIP(why);
    prepare();
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    sign(pages[0], kSalt);
    sign(pages[1], kSalt);
    const CpuSet here = CpuSet::only(hal::this_cpu());
    hal::Atomic<u32> stop;
    u32 wrong = 0, looks = 0;
    auto look = [&] {
        for (; stop.load() == 0; hal::park()) {
            const LocalMap map{pages[0]};
            wrong += !marks_hold(map.addr(), pages.pfn(0), kSalt);
            ++looks;
        }
    };
    Thread* other = thread_create("other", look, here);
    REQUIRE(other != nullptr);
    const auto wake = [other] { hal::unpark(ThreadId{other->id.load()}); };
    constexpr u32 kInstructions = 60; // more than a map has
    auto stepped = [&] {
        for (u32 at = 0; at < kInstructions; ++at) {
            wrong += !signed_by(pages[1], kSalt); // fills the TLB with the slot's old translation
            u32 step = 0;
            step_through([&] { kunmap_local(kmap_local_page(pages[0])); },
                         [&] {
                             if (step++ != at || !step_may_wake()) return;
                             wake();
                             request_move(hal::this_cpu());
                         });
        }
    };
    Thread* thread = thread_create("stepped", stepped, here);
    if (CHECK(thread != nullptr)) thread_join(thread);
    stop.store(1);
    wake();
    thread_join(other);
    CHECK_GT(looks, 10u);
    CHECK_EQ(wrong, 0u);
}

// No switch happens between the two calls, but as soon as preemption is on again.
SELFTEST(stepping_switch, kmap_atomic) {
    if (const char* why = cannot_step()) SKIP(why);
    prepare();
    const KeepsFreeCounts counts;
    const u32 n = rounds(6);
    u32 moved = 0;
    const Outcome outcome = step_among_others(false, [n, &moved](Mine& mine) {
        for (u32 i = 0; i < n; ++i) {
            const AtomicAddr at = kmap_atomic(mine.pages[i % kMine]);
            const u32 switches = thread_self()->switches;
            mine.touch(at, i % kMine);
            moved += thread_self()->switches != switches;
            kunmap_atomic(at);
        }
    });
    selftest::note("{} instructions: {} switches, {} migrations", outcome.steps, outcome.switches, outcome.migrations);
    CHECK(outcome.complete);
    CHECK_GT(outcome.switches, n);
    CHECK_EQ(moved, 0u);
    CHECK_EQ(outcome.unbound, 0u);
    CHECK_EQ(outcome.errors, 0u);
}

// The pool is so small that slots are reused all the time.
SELFTEST(stepping_switch, kmap_and_kunmap) {
    step_rounds(true, rounds(6), 20, [](Mine& mine, u32 i) {
        Page* page = mine.pages[i % kMine];
        const GlobalAddr at = kmap(page);
        mine.touch(at, i % kMine);
        kunmap(page);
    });
}

// Two mappings at once, with pages of other threads in between, and a local mapping on top.
SELFTEST(stepping_switch, kmap_of_two) {
    step_rounds(true, rounds(3), 60, [](Mine& mine, u32 i) {
        const u32 a = i % kMine, b = (i + 1) % kMine, c = (i + 2) % kMine;
        const GlobalAddr first = kmap(mine.pages[a]);
        const GlobalAddr second = kmap(mine.pages[b]);
        const LocalAddr local = kmap_local_page(mine.pages[c]);
        mine.touch(second, b);
        mine.touch(local, c);
        mine.touch(first, a);
        kunmap_local(local);
        kunmap(mine.pages[a]);
        mine.touch(second, b);
        kunmap(mine.pages[b]);
    });
}

// One credit, so that the thread also sleeps and is woken in the middle of being stepped.
SELFTEST(stepping_switch, kmap_that_waits) {
    if (const char* why = cannot_step()) SKIP(why);
    prepare();
    const KeepsFreeCounts counts;
    const u32 waits = pkmap_stats().waits, n = rounds(3);
    const PoolOf pool{2};
    const Outcome outcome = step_among_others(true, [n](Mine& mine) {
        for (u32 i = 0; i < n; ++i) {
            Page* page = mine.pages[i % kMine];
            const GlobalAddr at = kmap(page);
            step_on();
            mine.touch(at, i % kMine);
            kunmap(page);
        }
    });
    selftest::note("{} instructions: {} switches, {} migrations, {} waits", outcome.steps, outcome.switches,
                   outcome.migrations, pkmap_stats().waits - waits);
    CHECK(outcome.complete);
    CHECK_GT(pkmap_stats().waits - waits, 0u);
    CHECK_EQ(outcome.unbound, 0u);
    CHECK_EQ(outcome.errors, 0u);
}

} // namespace loft::guest::stepping_switch_test
