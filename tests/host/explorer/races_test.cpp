// Races on plain memory: small programs that have one, and programs that look alike and have none. A report names both
// places and both agents.
#include "mm/frames/page_alloc.hpp"
#include "mm/frames/slab.hpp"
#include "mm/ground/mutex.hpp"
#include "tests/host/explorer/rig.hpp"
#include "tests/sim/races.hpp"

using namespace loft;
using namespace loft::test;

// The static objects of this namespace are plain memory, like those of mm; a schedule starts with their first values.
namespace loft::litmus {
namespace {

u32 counter;
u32 datum;
u32 flag;
u8 halves[2];
struct Lazy {
    u32 ready;
    u32 value;
} lazy;
SpinLock lock;
Mutex mutex;
hal::Plain<u32> word;
hal::Atomic<u32> cell;

struct Thing {
    u64 first = 1, second = 2;
};
Cache<Thing> things{"thing", Gfp::kernel};
hal::Plain<Thing*> shown;

[[gnu::noinline]] void count_here() { ++counter; }
[[gnu::noinline]] void count_there() { ++counter; }
[[gnu::noinline]] u64 look_at(const Thing* thing) { return thing->second; }

} // namespace
} // namespace loft::litmus

namespace {

using namespace loft::litmus;

// Two CPUs; the failure of a schedule, or nothing.
std::string failure(
    std::function<void()> first, std::function<void()> second,
    const std::function<void(Scene&)>& change = [](Scene&) {}) {
    Scene s{2};
    s.small_kernel.marks_idle = false;
    things.reset();
    s.loose_books = true; // the cache keeps a slab
    s.thread(0, std::move(first));
    if (second) s.thread(1, std::move(second));
    change(s);
    const sim::Report report = s.attempt(sim::reduced());
    if (report.failure.empty()) CHECK(report.complete);
    return report.failure;
}
bool has(const std::string& text, std::string_view part) {
    UNSCOPED_INFO(text);
    return text.find(part) != std::string::npos;
}
void wait_for(const hal::Plain<u32>& what, u32 value) {
    while (what.load() != value)
        hal::cpu_relax();
}

} // namespace

TEST_CASE("races: plain counting on two CPUs", "[.explorer][explorer-races]") {
    ONLY_WITH(sim::races::kOn);
    const std::string found = failure([] { count_here(); }, [] { count_there(); });
    CHECK(has(found, "race on litmus::counter: "));
    CHECK(has(found, "p0 thread 1 writes it at tests/host/explorer/races_test.cpp:"));
    CHECK(has(found, "p1 thread 2 reads it at tests/host/explorer/races_test.cpp:"));
    CHECK(has(found, "count_here()"));
    CHECK(has(found, "count_there()"));
    // Both only read: no race.
    CHECK(failure([] { sim::expect(counter == 0, "0"); }, [] { sim::expect(counter == 0, "0"); }).empty());
}

TEST_CASE("races: a lock orders those who hold it", "[.explorer][explorer-races]") {
    ONLY_WITH(sim::races::kOn);
    const auto spin = [] {
        SpinGuard guard{lock};
        ++counter;
    };
    CHECK(failure(spin, spin).empty());
    const auto sleep = [] {
        MutexGuard guard{mutex};
        ++counter;
    };
    CHECK(failure(sleep, sleep).empty());
    CHECK(has(failure(spin, sleep), "race on litmus::counter"));
}

TEST_CASE("races: a word of the HAL passes a message, a plain one does not", "[.explorer][explorer-races]") {
    ONLY_WITH(sim::races::kOn);
    const auto read_if = [](auto&& seen) {
        return [seen] {
            if (seen()) sim::expect(datum == 7, "the datum is there");
        };
    };
    CHECK(failure(
              [] {
                  datum = 7;
                  word.store(1);
              },
              read_if([] { return word.load() == 1; }))
              .empty());
    CHECK(failure(
              [] {
                  datum = 7;
                  cell.fetch_or(1);
              },
              read_if([] { return cell.load() == 1; }))
              .empty());
    CHECK(has(failure(
                  [] {
                      datum = 7;
                      flag = 1;
                  },
                  read_if([] { return flag == 1; })),
              "race on litmus::flag"));
    // The reader does not look at the word, or the writer sets it too early.
    CHECK(has(failure(
                  [] {
                      datum = 7;
                      word.store(1);
                  },
                  read_if([] { return word.load() <= 1; })),
              "race on litmus::datum"));
    CHECK(has(failure(
                  [] {
                      word.store(1);
                      datum = 7;
                  },
                  [] {
                      if (word.load() == 1) sim::expect(datum <= 7, "anything");
                  }),
              "race on litmus::datum"));
}

TEST_CASE("races: only the store whose value is read orders", "[.explorer][explorer-races]") {
    ONLY_WITH(sim::races::kOn);
    // Another CPU overwrites the word. With a locked operation its value depends on what was there.
    const auto third = [](bool locked) {
        return [locked](Scene& s) {
            s.explored.threads.clear();
            s.thread(0, [] {
                datum = 7;
                word.store(1);
                cell.fetch_add(1);
            });
            s.thread(1, [locked] {
                if (locked)
                    cell.fetch_add(2);
                else
                    word.store(2);
            });
            s.thread(1, [locked] {
                const bool later = locked ? cell.load() == 3 : word.load() == 2;
                if (later) sim::expect(datum == 0 || datum == 7, "anything");
            });
        };
    };
    CHECK(failure([] {}, nullptr, third(true)).empty());
    CHECK(has(failure([] {}, nullptr, third(false)), "race on litmus::datum"));
}

TEST_CASE("races: bytes beside each other are not the same memory", "[.explorer][explorer-races]") {
    ONLY_WITH(sim::races::kOn);
    CHECK(failure([] { halves[0] = 1; }, [] { halves[1] = 1; }).empty());
    CHECK(has(failure([] { halves[1] = 1; }, [] { halves[1] = 1; }), "race on litmus::halves + 1"));
}

TEST_CASE("races: an object that is made before it is shown, and after it", "[.explorer][explorer-races]") {
    ONLY_WITH(sim::races::kOn);
    const auto look = [] {
        if (const Thing* thing = shown.load()) sim::expect(look_at(thing) == 2, "it is complete");
    };
    CHECK(failure([] { shown.store(things.make()); }, look).empty());
    CHECK(has(failure(
                  [] {
                      Thing* const thing = things.make();
                      shown.store(thing);
                      thing->second = 2;
                  },
                  look),
              "race on physical "));
}

TEST_CASE("races: who initialises first", "[.explorer][explorer-races]") {
    ONLY_WITH(sim::races::kOn);
    const auto use = [] {
        if (lazy.ready == 0) {
            lazy.value = 5;
            lazy.ready = 1;
        }
        sim::expect(lazy.value == 5, "it is there");
    };
    CHECK(has(failure(use, use), "race on litmus::lazy"));
    CHECK(failure(
              [use] {
                  SpinGuard guard{lock};
                  use();
              },
              [use] {
                  SpinGuard guard{lock};
                  use();
              })
              .empty());
}

TEST_CASE("races: a thread and an interrupt of its CPU", "[.explorer][explorer-races]") {
    ONLY_WITH(sim::races::kOn);
    // CPU 1 interrupts CPU 0, whose thread counts.
    const auto ask = [] {
        run_on(
            CpuSet::only(CpuId{0}), [](void*) {}, nullptr);
    };
    const auto handler = [](Scene& s) { s.small_kernel.in_interrupt = [] { count_there(); }; };
    const std::string found = failure([] { count_here(); }, ask, handler);
    CHECK(has(found, "race on litmus::counter"));
    CHECK(has(found, "p0 thread 1 "));
    CHECK(has(found, "i0 "));
    CHECK(failure(
              [] {
                  IrqGuard guard;
                  count_here();
              },
              ask, handler)
              .empty());
    // The sender is ordered before the handler that it causes; not after it.
    CHECK(failure([] {},
                  [ask] {
                      ++counter;
                      ask();
                  },
                  handler)
              .empty());
    CHECK(has(failure([] {},
                      [] {
                          hal::interrupt_cpu(CpuId{0});
                          ++counter;
                      },
                      handler),
              "race on litmus::counter"));
}

TEST_CASE("races: who is woken comes after who wakes it", "[.explorer][explorer-races]") {
    ONLY_WITH(sim::races::kOn);
    CHECK(failure(
              [] {
                  hal::park();
                  sim::expect(datum == 7, "it is there");
              },
              [] {
                  datum = 7;
                  hal::unpark(ThreadId{1});
              })
              .empty());
    CHECK(has(failure(
                  [] {
                      hal::park();
                      ++datum;
                  },
                  [] {
                      hal::unpark(ThreadId{1});
                      ++datum;
                  }),
              "race on litmus::datum"));
}

TEST_CASE("races: an object on a stack is read after its function has ended", "[.explorer][explorer-races]") {
    ONLY_WITH(sim::races::kOn);
    static hal::Plain<u32*> place;
    const auto reset = [](Scene& s) {
        s.explored.reset = [next = s.explored.reset] {
            next();
            place.store(nullptr);
        };
    };
    struct Own {
        [[gnu::noinline]] static void show(bool waits) {
            u32 own = 1;
            place.store(&own);
            if (waits) wait_for(word, 1);
        }
    };
    // Read, and then said so; the function waits for that. The other way round, the read may come too late.
    for (const bool in_order : {true, false}) {
        const std::string found = failure([] { Own::show(true); },
                                          [in_order] {
                                              const u32* at = nullptr;
                                              while ((at = place.load()) == nullptr)
                                                  hal::cpu_relax();
                                              if (!in_order) word.store(1);
                                              sim::expect(*at <= 1, "the value");
                                              if (in_order) word.store(1);
                                          },
                                          reset);
        INFO(found);
        CHECK(found.empty() == in_order);
        if (!in_order) CHECK(found.starts_with("race on the stack of thread 1: p1 thread 2 reads it at "));
    }
    // The function does not wait: its frame is gone.
    const std::string found = failure(
        [] {
            Own::show(false);
            word.store(1);
        },
        [] {
            wait_for(word, 1);
            sim::expect(*place.load() <= 1, "anything");
        },
        reset);
    CHECK(has(found, "use after free of the stack of thread 1: p0 thread 1 frees it at "));
    // Changed after it was shown.
    CHECK(has(failure(
                  [] {
                      volatile u32 own = 1;
                      place.store(const_cast<u32*>(&own));
                      own = 2;
                      wait_for(word, 1);
                  },
                  [] {
                      if (const u32* at = place.load()) sim::expect(*at <= 2, "one of the values");
                      word.store(1);
                  },
                  reset),
              "race on the stack of thread 1"));
}

TEST_CASE("races: an object is used after it was freed", "[.explorer][explorer-races]") {
    ONLY_WITH(sim::races::kOn);
    const std::string found = failure(
        [] {
            Thing* const thing = things.make();
            shown.store(thing);
            things.destroy(thing);
            word.store(1);
        },
        [] {
            wait_for(word, 1);
            static_cast<void>(look_at(shown.load()));
        });
    CHECK(has(found, "use after free of physical "));
    CHECK(has(found, "p0 thread 1 frees it at mm/frames/slab.cpp:"));
    CHECK(has(found, "p1 thread 2 reads it at tests/host/explorer/races_test.cpp:"));
    // Freed while somebody reads: in no order.
    CHECK(has(failure(
                  [] {
                      Thing* const thing = things.make();
                      shown.store(thing);
                      things.destroy(thing);
                  },
                  [] {
                      if (const Thing* thing = shown.load()) static_cast<void>(look_at(thing));
                  }),
              " physical "));
    // Freed, and allocated again by somebody else.
    CHECK(has(failure(
                  [] {
                      Thing* const thing = things.make();
                      shown.store(thing);
                      wait_for(word, 1);
                      things.destroy(thing);
                      static_cast<void>(things.make());
                  },
                  [] {
                      Thing* thing = nullptr;
                      while ((thing = shown.load()) == nullptr)
                          hal::cpu_relax();
                      static_cast<void>(look_at(thing));
                      word.store(1);
                      static_cast<void>(look_at(thing));
                  }),
              " physical "));
}

TEST_CASE("races: a frame is used by pointer after it was freed", "[.explorer][explorer-races]") {
    ONLY_WITH(sim::races::kOn);
    const std::string found = failure(
        [] {
            Page* const page = alloc_page(Gfp::kernel);
            auto* const thing = ::new (hal::lowmem_ptr<std::byte>(direct_addr(page_to_pfn(page)))) Thing{};
            free_page(page);
            static_cast<void>(look_at(thing));
        },
        nullptr);
    CHECK(has(found, "use after free of physical "));
    CHECK(has(found, "p0 thread 1 frees it at "));
    CHECK(has(found, "look_at"));
}

TEST_CASE("races: with plain points a thread is preempted between two accesses", "[.explorer][explorer-races]") {
    ONLY_WITH(sim::races::kOn);
    for (const bool points : {false, true}) {
        const std::string found = failure([] { count_here(); }, nullptr,
                                          [points](Scene& s) {
                                              s.thread(0, [] { count_there(); });
                                              s.explored.preemptions = 1;
                                              s.explored.plain_points = points;
                                              s.explored.check = [] { sim::expect(counter == 2, "no count is lost"); };
                                          });
        CHECK(found == (points ? "not as expected: no count is lost" : ""));
    }
}
