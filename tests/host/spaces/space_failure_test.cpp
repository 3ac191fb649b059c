// Each allocation of an address space fails in turn: the call returns an error, nothing leaks, and the space keeps its
// earlier contents.
#include "mm/spaces/address_space.hpp"
#include "mm/spaces/user_copy.hpp"
#include "tests/host/oracle.hpp"
#include "tests/host/spaces/program.hpp"

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kPages = 6;

// A space with areas of all kinds: pages on two tables, a read-only part, shared memory, a stack, a heap.
struct Furnished {
    Furnished() {
        run_in(space.get());
        map_pages(*space, kBase, kPages);
        map_pages(*space, kBase + paging::kLargeSize, 2);
        map_pages(*space, kBase + 0x10'0000, 4, kReadWrite, MapKind::shared);
        map_pages(*space, 0x4000'0000, 16, kReadWrite, MapKind::stack);
        space->set_brk_start(VirtAddr{0x2000'0000u});
        REQUIRE(space->brk(VirtAddr{0x2000'1000u}));
        for (u32 i = 0; i < kPages; ++i)
            user_store(page(i), i + 1);
        user_store(VirtAddr{kBase + paging::kLargeSize}, 50);
        user_store(VirtAddr{kBase + 0x10'0000}, 60);
    }
    static VirtAddr page(u32 i) { return VirtAddr{kBase + i * kPageSize}; }
    void is_as_it_was() {
        for (u32 i = 0; i < kPages; ++i)
            CHECK(user_load(page(i)) == i + 1);
        CHECK(user_load(VirtAddr{kBase + paging::kLargeSize}) == 50);
        CHECK(user_load(VirtAddr{kBase + 0x10'0000}) == 60);
    }
    Owned space;
};

// Runs `operation`, which returns true if it succeeded, with each of its allocations failing in turn.
u32 each_failing(const std::function<bool(Furnished&)>& operation, bool keeps_everything = true,
                 bool and_later = false) {
    return for_every_failure(
        [&](const std::function<void()>& arm) {
            Furnished f;
            const SpaceStats before = f.space->stats();
            arm();
            const bool worked = operation(f);
            const bool failed = one_failed();
            CHECK(worked == !failed);
            if (failed) {
                const SpaceStats now = f.space->stats();
                CHECK(now.areas == before.areas);
                CHECK(now.resident == before.resident);
                CHECK(now.tables == before.tables);
            }
            if (failed || keeps_everything) f.is_as_it_was();
            CHECK(page_table_stats().tables == f.space->stats().tables + (config::kPae ? 3 : 1));
        },
        and_later);
}

} // namespace

TEST_CASE("no memory: a new space", "[address_space][failure]") {
    Booted kernel;
    const u32 asked = for_every_failure([](const std::function<void()>& arm) {
        arm();
        AddressSpace* space = AddressSpace::create();
        CHECK((space == nullptr) == one_failed());
        if (space != nullptr) space->put();
        CHECK(page_table_stats().tables == 0);
    });
    CHECK(asked == (config::kPae ? 5 : 2));
}

TEST_CASE("no memory: map", "[address_space][failure]") {
    Booted kernel;
    const auto map = [](Furnished& f, u32 at, u32 pages, MapKind kind) {
        const Result<VirtAddr> result = f.space->map(VirtAddr{at}, pages * kPageSize, kRead, kind, at != 0);
        if (!result) CHECK(result.error() == Error::no_memory);
        return static_cast<bool>(result);
    };
    CHECK(each_failing([&](Furnished& f) { return map(f, 0, 3, MapKind::anonymous); }) == 1);
    CHECK(each_failing([&](Furnished& f) { return map(f, 0, 3, MapKind::shared); }) == 2);
    CHECK(each_failing([&](Furnished& f) { return map(f, 0, 3, MapKind::stack); }) == 1);
    // In the middle of an area: both ends are cut, and the new area is made before.
    CHECK(each_failing([&](Furnished& f) { return map(f, kBase + kPageSize, 2, MapKind::anonymous); }, false) == 3);
    CHECK(each_failing([&](Furnished& f) { return map(f, kBase + 0x10'0000 + kPageSize, 2, MapKind::shared); }) == 4);
}

TEST_CASE("no memory: unmap, protect and brk", "[address_space][failure]") {
    Booted kernel;
    const auto unmap = [](Furnished& f, u32 at, u32 pages) {
        const Status status = f.space->unmap(VirtAddr{at}, pages * kPageSize);
        if (!status) CHECK(status.error() == Error::no_memory);
        return static_cast<bool>(status);
    };
    CHECK(each_failing([&](Furnished& f) { return unmap(f, kBase, kPages); }, false) == 0);
    CHECK(each_failing([&](Furnished& f) { return unmap(f, kBase + kPageSize, 2); }, false) == 2);
    CHECK(each_failing([&](Furnished& f) { return unmap(f, kBase + 0x10'0000 + kPageSize, 2); }) == 2);
    const auto protect = [](Furnished& f, u32 at, u32 pages) {
        const Status status = f.space->protect(VirtAddr{at}, pages * kPageSize, kRead);
        if (!status) CHECK(status.error() == Error::no_memory);
        return static_cast<bool>(status);
    };
    CHECK(each_failing([&](Furnished& f) { return protect(f, kBase + kPageSize, 2); }) == 2);
    CHECK(each_failing([&](Furnished& f) { return protect(f, kBase + 0x10'0000 + kPageSize, 1); }) == 2);
    CHECK(each_failing([&](Furnished& f) { return static_cast<bool>(f.space->brk(VirtAddr{0x2000'5000u})); }) == 1);
    CHECK(each_failing([&](Furnished& f) { return static_cast<bool>(f.space->brk(VirtAddr{0x2000'0000u})); }) == 0);
}

TEST_CASE("no memory: part of the heap goes", "[address_space][failure]") {
    Booted kernel;
    const u32 asked = for_every_failure([](const std::function<void()>& arm) {
        Owned space;
        space->set_brk_start(VirtAddr{kBase});
        REQUIRE(space->brk(VirtAddr{kBase + 4 * kPageSize}));
        arm();
        const Result<VirtAddr> end = space->brk(VirtAddr{kBase + kPageSize});
        CHECK(static_cast<bool>(end) == !one_failed());
        CHECK(space->brk(VirtAddr{})->value() == (end ? kBase + kPageSize : kBase + 4 * kPageSize));
    });
    CHECK(asked == 1);
}

TEST_CASE("no memory: faults", "[address_space][failure]") {
    Booted kernel;
    const auto fault = [](Furnished& f, u32 at) {
        const FaultResult result = f.space->handle_fault(VirtAddr{at}, FaultAccess::write);
        CHECK((result == FaultResult::resolved || result == FaultResult::no_memory));
        return result == FaultResult::resolved;
    };
    CHECK(each_failing([&](Furnished& f) { return fault(f, kBase); }, true, true) == 0);
    CHECK(each_failing([&](Furnished& f) { return fault(f, kBase + paging::kLargeSize + kPageSize); }, true, true) ==
          1);
    CHECK(each_failing([&](Furnished& f) { return fault(f, 0x2000'0000); }, true, true) == 2); // and a table
    CHECK(each_failing([&](Furnished& f) { return fault(f, kBase + 0x10'1000); }, true, true) ==
          1); // the object has its index already
    CHECK(each_failing([&](Furnished& f) { return fault(f, 0x4000'0000 + 15 * kPageSize); }, true, true) == 2);
}

TEST_CASE("no memory: the first page of shared memory, small and large", "[address_space][failure]") {
    Booted kernel;
    for (const u32 pages : {1u, PageIndex::kPerFrame + 1}) {
        const u32 asked = for_every_failure(
            [pages](const std::function<void()>& arm) {
                Owned space;
                map_pages(*space, kBase, pages, kReadWrite, MapKind::shared);
                arm();
                const FaultResult result = space->handle_fault(VirtAddr{kBase}, FaultAccess::write);
                CHECK((result == FaultResult::no_memory) == one_failed());
                CHECK(space->handle_fault(VirtAddr{kBase}, FaultAccess::write) == FaultResult::resolved);
            },
            true);
        CHECK(asked == 3); // the page, its index, a page table
    }
}

TEST_CASE("no memory: copy on write", "[address_space][failure]") {
    Booted kernel;
    const u32 asked = for_every_failure(
        [](const std::function<void()>& arm) {
            Furnished f;
            Owned child = fork_of(*f.space);
            arm();
            const FaultResult result = f.space->handle_fault(f.page(2), FaultAccess::write);
            CHECK((result == FaultResult::no_memory) == one_failed());
            f.is_as_it_was();
            run_in(child.get());
            f.is_as_it_was();
        },
        true);
    CHECK(asked == 1);
}

TEST_CASE("no memory: fork, with a page that is pinned", "[address_space][failure][fork]") {
    Booted kernel;
    const u32 asked = for_every_failure(
        [](const std::function<void()>& arm) {
            Furnished f;
            const AddressSpace::Pinned pin = f.space->pin(f.page(3), FaultAccess::write);
            arm();
            const Result<AddressSpace*> child = f.space->fork();
            CHECK(static_cast<bool>(child) == !one_failed());
            if (!child) CHECK(child.error() == Error::no_memory);
            f.is_as_it_was();
            // Pages that a failed fork has write-protected are private to the parent again, without a copy.
            const u64 phys = oracle_walk(f.space->root().value(), f.page(0).value())->phys;
            user_store(f.page(0), 1);
            CHECK((oracle_walk(f.space->root().value(), f.page(0).value())->phys == phys) == !child);
            if (child) {
                run_in(*child);
                f.is_as_it_was();
                run_in(nullptr);
                (*child)->put();
            } else {
                // The child was put once: its object is free once.
                const Owned first, second, third;
            }
            put_page(pin.page);
        },
        true);
    // The space, five areas, two tables of its private pages, the copy of the pinned page.
    CHECK(asked == (config::kPae ? 5 : 2) + 5 + 2 + 1);
}

TEST_CASE("no memory: really none", "[address_space][failure]") {
    Booted kernel;
    warm_up();
    const Books before = books();
    for (u32 left = 0; left < 12; ++left) {
        Owned space;
        run_in(space.get());
        map_pages(*space, kBase, 64);
        {
            const Shortage shortage{left, 0};
            for (u32 i = 0; i < 64; ++i)
                static_cast<void>(space->handle_fault(VirtAddr{kBase + i * kPageSize}, FaultAccess::write));
            if (const Result<AddressSpace*> child = space->fork()) (*child)->put();
        }
        space.end();
        REQUIRE(books() == before);
    }
}

// Memory that the kernel allocates for system calls: areas, spaces, shared objects, page tables and their roots.
TEST_CASE("no memory: a program's calls leave the kernel its reserve", "[address_space][failure]") {
    Booted kernel;
    const Owned space;
    warm_up();
    const u32 reserve = zone_info(ZoneId::normal).user_reserve;
    REQUIRE(reserve != 0);
    const Shortage shortage{reserve + 200, config::kHighMem ? 64 : 0};
    const auto lowmem_is_left = [reserve] {
        CHECK(zone_info(ZoneId::normal).free >= reserve);
        Page* page = alloc_page(Gfp::kernel);
        CHECK(page != nullptr);
        if (page != nullptr) free_page(page);
    };
    SECTION("areas that cannot be joined") {
        for (u32 i = 0;; ++i) {
            const Result<VirtAddr> at =
                space->map(VirtAddr{}, kPageSize, i % 2 != 0 ? kRead : kReadWrite, MapKind::anonymous, false);
            if (at) continue;
            CHECK(at.error() == Error::no_memory);
            break;
        }
        lowmem_is_left();
    }
    SECTION("shared objects") {
        while (space->map(VirtAddr{}, kPageSize, kReadWrite, MapKind::shared, false)) {
        }
        lowmem_is_left();
    }
    SECTION("spaces") {
        std::vector<Owned> spaces;
        for (AddressSpace* space = AddressSpace::create(); space != nullptr; space = AddressSpace::create())
            spaces.emplace_back(space);
        lowmem_is_left();
    }
}
