// What CPUs share: pages that one of them pins, references, the caches of objects, the zones.
#include "mm/cache/memory_object.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/frames/slab.hpp"
#include "mm/spaces/highpte.hpp"
#include "mm/spaces/user_copy.hpp"
#include "tests/host/explorer/rig.hpp"
#include "tests/host/spaces/program.hpp"

using namespace loft;
using namespace loft::test;

// As for mm's own static objects, a schedule begins with its first value.
namespace loft::litmus {
namespace {

struct Node {
    u32 number = 0;
    u32 words[15]{};
};
Cache<Node> nodes{"node", Gfp::kernel};

} // namespace
} // namespace loft::litmus

namespace {

using loft::litmus::Node, loft::litmus::nodes;

} // namespace

TEST_CASE("explorer: a page is read by a pin while it is unmapped", "[.explorer][explorer-shared]") {
    Scene s{2, 2, 0};
    warm_up();
    AddressSpace* const space = AddressSpace::create();
    REQUIRE(space != nullptr);
    map_pages(*space, kBase, 1);
    run_in(space);
    user_store(VirtAddr{kBase}, 7);
    run_in(nullptr);
    s.thread(0, [space] {
        u32 value = 0;
        if (read_space(*space, &value, UserAddr{kBase}, sizeof value) == 0)
            sim::expect(value == 7, "the pinned page is that of the space");
    });
    s.thread(1, [space] {
        sim::expect(static_cast<bool>(space->unmap(VirtAddr{kBase}, kPageSize)), "unmap works");
        Page* const next = alloc_page(Gfp::high); // the next owner of the frame
        memset_page(next, 0, 0x5a, kPageSize);
        free_page(next);
    });
    s.loose_books = true;
    s.explore(sim::reduced(schedules(4'000)));
    s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("explorer: two CPUs put the last references", "[.explorer][explorer-shared]") {
    Scene s{2, 2, 0};
    warm_up();
    s.loose_books = true;
    const SpaceTotals before = space_totals();
    SECTION("of an object") {
        ZeroObject* const object = ZeroObject::create(1);
        REQUIRE(object != nullptr);
        const Result<Page*> page = object->page(0);
        REQUIRE(page);
        put_page(*page);
        object->get();
        for (u32 cpu = 0; cpu < 2; ++cpu)
            s.thread(cpu, [object] { object->put(); });
    }
    SECTION("of a space") {
        AddressSpace* const space = AddressSpace::create();
        REQUIRE(space != nullptr);
        map_pages(*space, kBase, 1);
        space->get();
        for (u32 cpu = 0; cpu < 2; ++cpu)
            s.thread(cpu, [space] { space->put(); });
    }
    s.explored.check = [before] { sim::expect(space_totals() == before, "it is destroyed, once"); };
    CHECK((s.explore(sim::reduced(schedules(4'000))).complete || !kWhole));
}

TEST_CASE("explorer: two CPUs take and put references at the same time", "[.explorer][explorer-shared]") {
    Scene s{2, 2, 0};
    warm_up();
    ZeroObject* const object = ZeroObject::create(1);
    AddressSpace* const space = AddressSpace::create();
    REQUIRE(object != nullptr);
    REQUIRE(space != nullptr);
    SECTION("of an object") {
        for (u32 cpu = 0; cpu < 2; ++cpu)
            s.thread(cpu, [object] {
                object->get();
                object->put();
            });
    }
    SECTION("of an object that may have ended") {
        for (u32 cpu = 0; cpu < 2; ++cpu)
            s.thread(cpu, [object] {
                sim::expect(object->get_if_used(), "the object is used");
                object->put();
            });
    }
    SECTION("of a space") {
        for (u32 cpu = 0; cpu < 2; ++cpu)
            s.thread(cpu, [space] {
                space->get();
                space->put();
            });
    }
    const SpaceTotals before = space_totals();
    s.explored.check = [=] {
        sim::expect(space_totals() == before, "the first reference keeps it");
        object->put();
        space->put();
        sim::expect(space_totals() != before, "the last one ends it");
    };
    s.loose_books = true;
    CHECK(s.explore(sim::reduced()).complete);
    object->put();
    space->put();
}

TEST_CASE("explorer: two CPUs count their page tables", "[.explorer][explorer-shared]") {
    Scene s{2, 2, 0};
    const PageTableStats before = page_table_stats();
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [] {
            Page* const table = alloc_table();
            sim::expect(table != nullptr && is_highmem(table) == config::kHighPte, "there is a table");
            sim::expect(page_table_stats().tables != 0, "it counts");
            free_table(table);
        });
    s.explored.check = [before] {
        const PageTableStats now = page_table_stats();
        sim::expect(now.tables == before.tables && now.high == before.high, "each table is counted once");
    };
    s.explore(sim::reduced(schedules(4'000)));
}

TEST_CASE("explorer: two CPUs take and return objects of a cache", "[.explorer][explorer-shared]") {
    Scene s{2, 2, 0};
    nodes.reset();
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [cpu] {
            Node* const first = nodes.make(cpu);
            Node* const second = nodes.make(cpu + 10);
            sim::expect(first != nullptr && second != nullptr, "there is memory");
            sim::expect(first->number == cpu && second->number == cpu + 10, "each object has one owner");
            nodes.destroy(first);
            nodes.destroy(second);
        });
    s.loose_books = true;
    s.explored.check = [] {
        sim::expect(nodes.stats().objects == 0 && nodes.stats().slabs <= 1, "all objects are back");
    };
    s.explore(sim::reduced(schedules(4'000)));
    s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("explorer: two CPUs take and return blocks of a zone", "[.explorer][explorer-shared]") {
    Scene s{2, 2, 0};
    for (u32 cpu = 0; cpu < 2; ++cpu)
        s.thread(cpu, [] {
            Page* const pair = alloc_pages(Gfp::kernel, 1);
            Page* const single = alloc_page(Gfp::kernel); // fills the list of the CPU
            sim::expect(pair != nullptr && single != nullptr, "there is memory");
            free_pages(pair, 1);
            free_page(single);
            drain_local_pages();
        });
    s.explored.check = [] { page_alloc_verify(); };
    s.explore(sim::reduced(schedules(4'000)));
    s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("explorer: an interrupt allocates while its CPU's list is drained", "[.explorer][explorer-shared]") {
    Scene s{2, 2, 0};
    s.small_kernel.marks_idle = false;
    s.small_kernel.in_interrupt = [] {
        Page* const page = alloc_page(Gfp::dma);
        if (page != nullptr) free_page(page);
    };
    s.thread(0, [] {
        free_page(alloc_page(Gfp::dma));
        drain_local_pages();
    });
    s.thread(1, [] {
        run_on(
            CpuSet::only(CpuId{0}), [](void*) {}, nullptr);
    });
    s.loose_books = true;
    s.explored.check = [] { page_alloc_verify(); };
    s.explore(sim::reduced(schedules(4'000)));
}
