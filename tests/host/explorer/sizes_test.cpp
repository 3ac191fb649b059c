// How large a case is complete: families of cases that grow, each explored without a bound until one is not complete.
// The table in tests/sim/README.md comes from here. Only on request: build/host-64g/host-tests '[sizes]'.
#include "mm/ground/credits.hpp"
#include "mm/ground/mutex.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/host/explorer/rig.hpp"
#include "tests/host/spaces/program.hpp"

#include <chrono>
#include <cstdio>

using namespace loft;
using namespace loft::test;

// As for mm's own static objects, a schedule begins with its first value.
namespace loft::litmus {
namespace {

Credits sized_credits;
Mutex sized_mutex;

} // namespace
} // namespace loft::litmus

namespace {

using loft::litmus::sized_credits, loft::litmus::sized_mutex;

constexpr u64 kMost = 200'000; // schedules

// Runs the cases of a family, the smaller ones first, up to the first one that is not complete.
template <typename Size> void grow(const char* family, std::initializer_list<Size> sizes, auto&& run) {
    for (const Size& size : sizes) {
        const auto begin = std::chrono::steady_clock::now();
        const sim::Report report = run(size);
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        INFO(report.failure);
        CHECK(report.failure.empty());
        std::printf("%s | %s | %llu | %s | %llu | %.1f s\n", family, size.text,
                    static_cast<unsigned long long>(report.schedules), report.complete ? "complete" : "not complete",
                    static_cast<unsigned long long>(report.longest), seconds);
        std::fflush(stdout);
        if (!report.complete) return;
    }
}

struct Pool {
    const char* text;
    u32 slots;
    std::vector<std::vector<u32>> pages; // of each CPU, in turn
};

struct Calls {
    const char* text;
    u32 nested, calls;
};

struct Rounds {
    const char* text;
    u32 cpus, rounds;
};

} // namespace

TEST_CASE("sizes: kmap", "[.sizes]") {
    if constexpr (config::kHighMem) {
        const auto run = [](const Pool& size) {
            Scene s{static_cast<u32>(size.pages.size()), size.slots, 8};
            for (u32 cpu = 0; cpu < size.pages.size(); ++cpu)
                s.thread(cpu, [&s, pages = size.pages[cpu]] {
                    for (const u32 i : pages) {
                        use(kmap(s.pages[i]), s.pages[i]);
                        kunmap(s.pages[i]);
                    }
                });
            return s.attempt(sim::reduced(kMost));
        };
        grow<Pool>("kmap, different pages, 2 CPUs",
                   {{"2 slots, 1 + 1 pages", 2, {{0}, {1}}},
                    {"2 slots, 2 + 1 pages", 2, {{0, 2}, {1}}},
                    {"2 slots, 2 + 2 pages", 2, {{0, 2}, {1, 3}}}},
                   run);
        grow<Pool>("kmap, different pages, 2 CPUs, more slots",
                   {{"4 slots, 1 + 1 pages", 4, {{0}, {1}}},
                    {"4 slots, 2 + 1 pages", 4, {{0, 2}, {1}}},
                    {"4 slots, 2 + 2 pages", 4, {{0, 2}, {1, 3}}},
                    {"4 slots, 3 + 2 pages", 4, {{0, 2, 4}, {1, 3}}}},
                   run);
        grow<Pool>("kmap, the same page, 2 CPUs",
                   {{"4 slots, 1 + 1 pages", 4, {{0}, {0}}},
                    {"4 slots, 2 + 1 pages", 4, {{0, 0}, {0}}},
                    {"4 slots, 2 + 2 pages", 4, {{0, 0}, {0, 0}}}},
                   run);
        grow<Pool>("kmap, different pages, 3 CPUs",
                   {{"6 slots, 1 + 1 + 1 pages", 6, {{0}, {1}, {2}}},
                    {"6 slots, 2 + 1 + 1 pages", 6, {{0, 3}, {1}, {2}}},
                    {"6 slots, 2 + 2 + 1 pages", 6, {{0, 3}, {1, 4}, {2}}}},
                   run);
    }
}

TEST_CASE("sizes: kmap_local and interrupts", "[.sizes]") {
    grow<Calls>("kmap_local, interrupts that map",
                {{"1 mapping, 1 call", 1, 1},
                 {"2 mappings, 1 call", 2, 1},
                 {"2 mappings, 2 calls", 2, 2},
                 {"4 mappings, 2 calls", 4, 2},
                 {"4 mappings, 3 calls", 4, 3},
                 {"4 mappings, 4 calls", 4, 4},
                 {"4 mappings, 6 calls", 4, 6}},
                [](const Calls& size) {
                    Scene s{2, 4, 8};
                    s.small_kernel.marks_idle = false;
                    s.explored.percpu_points = true;
                    s.small_kernel.in_interrupt = [&s] {
                        const LocalAddr a = kmap_local_page(s.pages[6]);
                        use(a, s.pages[6]);
                        kunmap_local(a);
                    };
                    s.thread(0, [&s, size] {
                        std::vector<LocalAddr> held;
                        for (u32 i = 0; i < size.nested; ++i) {
                            held.push_back(kmap_local_page(s.pages[i]));
                            use(held.back(), s.pages[i]);
                        }
                        for (; !held.empty(); held.pop_back())
                            kunmap_local(held.back());
                    });
                    s.thread(1, [size] {
                        for (u32 i = 0; i < size.calls; ++i)
                            run_on(
                                CpuSet::only(CpuId{0}), [](void*) {}, nullptr);
                    });
                    return s.attempt(sim::reduced(kMost));
                });
}

TEST_CASE("sizes: vmap", "[.sizes]") {
    for (const u32 cpus : {2u, 3u})
        grow<Rounds>(cpus == 2 ? "vmap, vunmap, 2 CPUs" : "vmap, vunmap, 3 CPUs",
                     {{"1 area each", cpus, 1}, {"2 areas each", cpus, 2}, {"3 areas each", cpus, 3}},
                     [](const Rounds& size) {
                         Scene s{size.cpus, 4, 4};
                         const u32 pages = (layout::kVmapEnd - layout::boundaries.vmap_begin) >> kPageShift;
                         const std::vector<Page*> same(pages - 5, s.pages[3]);
                         REQUIRE(vmap(same.data(), static_cast<u32>(same.size()), VmapProt::ro));
                         for (u32 cpu = 0; cpu < size.cpus; ++cpu)
                             s.thread(cpu, [&s, cpu, size] {
                                 for (u32 i = 0; i < size.rounds; ++i) {
                                     Page* const page = s.pages[(cpu + i) % 4];
                                     const Result<VirtAddr> area = vmap(&s.pages[(cpu + i) % 4], 1, VmapProt::rw);
                                     sim::expect(static_cast<bool>(area), "there are addresses left");
                                     look(*area, page);
                                     vunmap(*area);
                                 }
                             });
                         return s.attempt(sim::reduced(kMost));
                     });
}

namespace {

// Programs in one space, as in space_test.cpp, without idle CPUs that are marked.
struct Programs {
    Programs(u32 cpus, u32 pages) : s{cpus, 2, 0} {
        warm_up();
        space = space_with_pages(pages);
        map_pages(*space, page(8).value(), 2);
        s.small_kernel.marks_idle = false;
        s.loose_books = true;
        s.memory.adopt(*space, page(0), pages, kReadWrite);
        s.memory.adopt(*space, page(8), 2, kReadWrite);
    }
    void unmap(u32 at) { static_cast<void>(s.memory.unmap(*space, page(at), 1)); }
    void fork() { s.memory.put(s.memory.fork(*space)); }
    static void load(VirtAddr va) {
        try {
            static_cast<void>(user_load(va));
        } catch (const Killed&) {
        }
    }
    Scene s;
    AddressSpace* space = nullptr;
};

struct Actions {
    const char* text;
    std::vector<std::vector<std::function<void(Programs&)>>> cpus;
};
void grow_programs(const char* family, std::initializer_list<Actions> sizes) {
    grow<Actions>(family, sizes, [](const Actions& size) {
        Programs p{static_cast<u32>(size.cpus.size()), 2};
        for (u32 cpu = 0; cpu < size.cpus.size(); ++cpu)
            p.s.thread(cpu, [&p, cpu, &actions = size.cpus[cpu]] {
                p.s.small_kernel.run_in(cpu, p.space);
                for (const auto& action : actions)
                    action(p);
                p.s.small_kernel.run_in(cpu, nullptr);
            });
        return p.s.attempt(sim::reduced(kMost));
    });
}

} // namespace

TEST_CASE("sizes: address spaces", "[.sizes]") {
    const auto load = [](u32 i) { return [i](Programs&) { Programs::load(page(i)); }; };
    const auto store = [](u32 i) { return [i](Programs&) { user_store(page(i), 7); }; };
    const auto unmap = [](u32 i) { return [i](Programs& p) { p.unmap(i); }; };
    const auto fork = [](Programs& p) { p.fork(); };
    grow_programs("fault against fault", {{"2 CPUs, the same page", {{store(8)}, {store(8)}}},
                                          {"2 CPUs, two pages", {{store(8), store(9)}, {store(9)}}},
                                          {"3 CPUs, the same page", {{store(8)}, {store(8)}, {store(8)}}}});
    grow_programs("access against unmap", {{"1 load, 1 unmap", {{load(0)}, {unmap(0)}}},
                                           {"2 loads, 1 unmap", {{load(0), load(0)}, {unmap(0)}}},
                                           {"2 loads, 2 unmaps", {{load(0), load(1)}, {unmap(0), unmap(1)}}},
                                           {"3 CPUs, 1 load each, 1 unmap", {{load(0)}, {load(0)}, {unmap(0)}}}});
    grow_programs("fork against store", {{"1 store, 1 fork", {{store(0)}, {fork}}},
                                         {"2 stores, 1 fork", {{store(0), store(0)}, {fork}}},
                                         {"3 CPUs, 1 store each, 1 fork", {{store(0)}, {store(0)}, {fork}}}});
}

TEST_CASE("sizes: credits and the mutex", "[.sizes]") {
    const auto family = [](const char* name, std::initializer_list<Rounds> sizes, auto hold) {
        grow<Rounds>(name, sizes, [&](const Rounds& size) {
            Scene s{size.cpus};
            s.small_kernel.marks_idle = false;
            s.explored.reset = [next = s.explored.reset] {
                next();
                sized_credits.reset(1);
            };
            for (u32 cpu = 0; cpu < size.cpus; ++cpu)
                s.thread(cpu, [size, hold] {
                    for (u32 i = 0; i < size.rounds; ++i)
                        hold();
                });
            return s.attempt(sim::reduced(kMost));
        });
    };
    const auto credit = [] {
        sized_credits.acquire();
        sized_credits.release();
    };
    const auto lock = [] { MutexGuard guard{sized_mutex}; };
    const std::initializer_list<Rounds> two{{"once each", 2, 1}, {"twice each", 2, 2}, {"three times each", 2, 3}},
        three{{"once each", 3, 1}, {"twice each", 3, 2}};
    family("credits, 2 CPUs", two, credit);
    family("credits, 3 CPUs", three, credit);
    family("mutex, 2 CPUs", two, lock);
    family("mutex, 3 CPUs", three, lock);
}
