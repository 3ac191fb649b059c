// Windows of the kernel, judged by what an access gives: a load through kmap, kmap_local or vmap gives the newest value
// of its page, a store changes that page. Here the processor may use an old translation if it has one, as on a real
// machine, and nothing but the model of memory (program_memory.hpp) reports it. Everywhere else the access itself is
// reported: StaleAccess.
#include "tests/host/explorer/rig.hpp"

#include "mm/windows/vmap.hpp"

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kWord = 0x40; // a word that only the model knows

struct Windows {
    Windows(u32 cpus, u32 slots, u32 pages = 4) : s{cpus, slots, pages} { s.kernel.machine.choose_translations(); }
    // Stores to the page at `va`, and loads what is there.
    void use_word(VirtAddr va, Page* page) {
        s.memory.store(page, va + kWord, s.memory.new_value());
        static_cast<void>(s.memory.load(page, va + kWord));
    }
    // CPU 0 maps pages in turn and unmaps each when CPU 1 has used it. Both store and load.
    void hand_over(u32 turns, const std::function<VirtAddr(Page*)>& map,
                   const std::function<void(Page*, VirtAddr)>& unmap) {
        s.explored.reset = [this, next = s.explored.reset] {
            next();
            address.store(0);
        };
        s.thread(0, [this, turns, map, unmap] {
            for (u32 i = 0; i < turns; ++i) {
                const VirtAddr va = map(s.pages[i]);
                s.memory.store(s.pages[i], va + kWord, s.memory.new_value());
                address.store(va.value());
                while (s.done.load() != i + 1)
                    hal::cpu_relax();
                unmap(s.pages[i], va);
            }
        });
        s.thread(1, [this, turns] {
            for (u32 i = 0; i < turns; ++i) {
                u32 va = 0;
                while ((va = address.load()) == 0)
                    hal::cpu_relax();
                static_cast<void>(s.memory.load(s.pages[i], VirtAddr{va} + kWord));
                use_word(VirtAddr{va}, s.pages[i]);
                address.store(0);
                s.done.store(i + 1);
            }
        });
    }

    Scene s;
    hal::Plain<u32> address;
};

} // namespace

TEST_CASE("explorer: a window of kmap shows its page to every CPU", "[.explorer][explorer-windows]") {
    ONLY_WITH(config::kHighMem);
    Windows w{2, 2};
    w.hand_over(
        3, [](Page* page) { return kmap(page); }, [](Page* page, VirtAddr) { kunmap(page); });
    w.s.explore(sim::reduced(schedules(4'000), 1));
    w.s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("explorer: two CPUs that map pages by kmap store to them", "[.explorer][explorer-windows]") {
    ONLY_WITH(config::kHighMem);
    Windows w{2, 2};
    for (u32 cpu = 0; cpu < 2; ++cpu)
        w.s.thread(cpu, [&w, cpu] {
            for (const u32 i : {0u, 1u + cpu}) {
                w.use_word(kmap(w.s.pages[i]), w.s.pages[i]);
                kunmap(w.s.pages[i]);
            }
        });
    w.s.explore(sim::reduced(schedules(4'000), 2));
    w.s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("explorer: a window of vmap shows its page to every CPU", "[.explorer][explorer-windows]") {
    Windows w{2, 4};
    // All addresses but a few are in use, so that a new area gets the address of an earlier one.
    constexpr u32 kLeft = 4;
    const u32 pages = (layout::kVmapEnd - layout::boundaries.vmap_begin) >> kPageShift;
    const std::vector<Page*> same(pages - kLeft - 1, w.s.pages[3]);
    REQUIRE(vmap(same.data(), static_cast<u32>(same.size()), VmapProt::ro));
    w.hand_over(
        3,
        [](Page* page) {
            const Result<VirtAddr> area = vmap(&page, 1, VmapProt::rw);
            sim::expect(static_cast<bool>(area), "there are addresses left");
            return *area;
        },
        [](Page*, VirtAddr va) { vunmap(va); });
    w.s.explore(sim::reduced(schedules(4'000), 1));
    w.s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("explorer: a local window shows its page, whoever used the slot before", "[.explorer][explorer-windows]") {
    Windows w{1, 4};
    w.s.small_kernel.marks_idle = false;
    w.s.explored.percpu_points = true;
    w.s.explored.preemptions = 1;
    for (u32 thread = 0; thread < 2; ++thread)
        w.s.thread(0, [&w, thread] {
            for (u32 i = 0; i < 2; ++i) {
                Page* const page = w.s.pages[(thread + i) % 4];
                const LocalAddr va = kmap_local_page(page);
                w.use_word(va, page);
                kunmap_local(va);
            }
        });
    w.s.explore(sim::reduced(schedules(8'000)));
}

TEST_CASE("explorer: a copy to a page while interrupts use the same local slots", "[.explorer][explorer-windows]") {
    Windows w{2, 4};
    w.s.small_kernel.marks_idle = false;
    w.s.explored.percpu_points = true;
    w.s.small_kernel.in_interrupt = [&w] {
        const LocalAddr va = kmap_local_page(w.s.pages[1]);
        w.use_word(va, w.s.pages[1]);
        kunmap_local(va);
    };
    w.s.thread(0, [&w] {
        w.s.memory.copy_to(w.s.pages[0], kWord, {0x1'0001, 0x2'0002});
        static_cast<void>(w.s.memory.copy_from(w.s.pages[0], kWord, 2));
    });
    w.s.thread(1, [] {
        for (u32 i = 0; i < 2; ++i)
            run_on(
                CpuSet::only(CpuId{0}), [](void*) {}, nullptr);
    });
    CHECK((w.s.explore(sim::reduced(schedules(8'000))).complete || !kWhole));
}

// The model itself.
TEST_CASE("explorer: the model of a page rejects what a wrong window shows", "[.explorer][explorer-windows]") {
    ONLY_WITH(config::kHighMem);
    Windows w{1, 4};
    Page *const first = w.s.pages[0], *const second = w.s.pages[1];
    const auto failure_of = [&w](std::function<void()> body) {
        w.s.explored.threads.clear();
        w.s.thread(0, std::move(body));
        return w.s.attempt(sim::reduced(1)).failure;
    };
    const auto says = [&](std::function<void()> body, const char* text) {
        const std::string failure = failure_of(std::move(body));
        INFO(failure);
        CHECK(failure.find(text) != std::string::npos);
    };
    const auto mapped = [](Page* page, const std::function<void(VirtAddr)>& use_it) {
        use_it(kmap(page));
        kunmap(page);
    };
    CHECK(failure_of([&] { mapped(first, [&](VirtAddr va) { w.use_word(va, first); }); }).empty());
    says([&] { mapped(second, [&](VirtAddr va) { static_cast<void>(w.s.memory.load(first, va)); }); },
         "; the memory of its page has");
    says([&] { mapped(second, [&](VirtAddr va) { w.s.memory.store(first, va + kWord, 7); }); }, ", of a page ");
    says([&] { mapped(second, [&](VirtAddr va) { hal::store<u32>(va + kWord, 7); }); }, ", of a page where nobody did");
}
