// vmap under every schedule: an address that is used again shows the new page only.
#include "tests/host/explorer/rig.hpp"

#include "mm/windows/vmap.hpp"

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kLeft = 4; // pages of addresses that stay free

// All addresses but a few are in use, so that new areas get the addresses of earlier ones.
struct Narrow {
    explicit Narrow(u32 cpus) : s{cpus, 4, 4} {
        const u32 pages = (layout::kVmapEnd - layout::boundaries.vmap_begin) >> kPageShift;
        const std::vector<Page*> same(pages - kLeft - 1, s.pages[3]);
        REQUIRE(vmap(same.data(), static_cast<u32>(same.size()), VmapProt::ro));
    }
    Scene s;
};

VirtAddr map_one(Page* page) {
    const Result<VirtAddr> area = vmap(&page, 1, VmapProt::rw);
    sim::expect(static_cast<bool>(area), "there are addresses left");
    return *area;
}

} // namespace

TEST_CASE("explorer: addresses of vmap come back clean", "[.explorer][explorer-vmap]") {
    Narrow n{2};
    for (u32 cpu = 0; cpu < 2; ++cpu)
        n.s.thread(cpu, [&n, cpu] {
            for (u32 i = 0; i < 2; ++i) {
                Page* const page = n.s.pages[cpu + i];
                const VirtAddr va = map_one(page);
                look(va, page);
                vunmap(va);
            }
        });
    n.s.explore(sim::reduced(schedules(10'000)));
}

TEST_CASE("explorer: an area that is handed over and released is not seen by who used it",
          "[.explorer][explorer-vmap]") {
    Narrow n{2};
    hal::Plain<u32> handed;
    hal::Atomic<u32> done;
    n.s.explored.reset = [&, next = n.s.explored.reset] {
        next();
        handed.store(0);
        done.store(0);
    };
    n.s.thread(0, [&] {
        for (u32 i = 0; i < 3; ++i) {
            const VirtAddr va = map_one(n.s.pages[i]);
            handed.store(va.value());
            while (done.load() != i + 1)
                hal::cpu_relax();
            vunmap(va);
        }
    });
    n.s.thread(1, [&] {
        for (u32 i = 0; i < 3; ++i) {
            u32 va = 0;
            while ((va = handed.load()) == 0)
                hal::cpu_relax();
            use(VirtAddr{va}, n.s.pages[i]);
            handed.store(0);
            done.store(i + 1);
        }
    });
    n.s.explore(sim::reduced(schedules(10'000)));
    n.s.explore(sim::random(schedules(2'000)));
}
