// Address spaces: areas, pages that come by faults, and the release of all that a space has taken.
#include "mm/ground/context.hpp"
#include "mm/init.hpp"
#include "mm/spaces/address_space.hpp"
#include "tests/host/oracle.hpp"
#include "tests/host/spaces/program.hpp"

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kTable = paging::kLargeSize;

std::optional<Mapped> mapped(AddressSpace& space, u32 va) { return oracle_walk(space.root().value(), va); }
u32 tables_of(AddressSpace& space) {
    u32 tables = 0;
    for (u64 va = 0; va < layout::kUserEnd; va += kTable)
        tables += oracle_has_table(space.root().value(), static_cast<u32>(va));
    return tables;
}
// The space runs on CPU 0, on which the test runs.
struct Program {
    explicit Program(const Setup& setup = small()) : kernel{setup} {
        space.emplace();
        run_in(space->get());
    }
    AddressSpace* operator->() const { return space->get(); }
    AddressSpace& operator*() const { return **space; }
    Booted kernel;
    std::optional<Owned> space;
};

} // namespace

// --- the space as a whole

TEST_CASE("space: an empty one has the kernel's part and nothing else", "[address_space]") {
    Booted kernel;
    warm_up();
    const Books before = books();
    {
        Owned space;
        CHECK(space->root().value() < 4 * GiB);
        CHECK(space->root().value() % (config::kPae ? 32 : kPageSize) == 0);
        u32 wrong = 0;
        oracle_every_page(space->root().value(), [&](u32 va, const Mapped& page) {
            const auto same = oracle_walk(kernel_root().value(), va);
            wrong += va < layout::kUserEnd || !same || same->phys != page.phys || page.user;
        });
        CHECK(wrong == 0);
        u32 missing = 0;
        oracle_every_page(kernel_root().value(), [&](u32 va, const Mapped&) { missing += !mapped(*space, va); });
        CHECK(missing == 0);
        CHECK(space->stats().areas == 0);
        CHECK(space->cpus().empty());
        CHECK(page_table_stats().tables == (config::kPae ? 3 : 1));
        CHECK(page_table_stats().high == 0);
    }
    CHECK(page_table_stats().tables == 0);
    CHECK(books() == before);
}

TEST_CASE("space: what the kernel maps later is there in every space", "[address_space]") {
    Program p;
    Page* page = new_page();
    stamp(page);
    const VirtAddr va{layout::kVmapEnd - 2 * kPageSize};
    hal::pte_set(kernel_pte(va), Pte{page_to_pfn(page), kernel_prot.pool});
    CHECK(shows(va, page));
    CHECK_FALSE(user_can_read(va));
}

TEST_CASE("space: a program reaches no address of the kernel", "[address_space]") {
    Program p;
    for (u64 va = layout::kUserEnd; va < 4 * GiB; va += 16 * kPageSize) {
        REQUIRE_FALSE(user_can_read(VirtAddr{static_cast<u32>(va)}));
        REQUIRE_FALSE(user_can_write(VirtAddr{static_cast<u32>(va)}));
        REQUIRE(p->handle_fault(VirtAddr{static_cast<u32>(va)}, FaultAccess::read) == FaultResult::bad_address);
    }
}

TEST_CASE("space: references are counted, the last one ends it", "[address_space]") {
    Booted kernel;
    warm_up();
    const Books before = books();
    AddressSpace* space = AddressSpace::create();
    REQUIRE(space != nullptr);
    space->get();
    map_pages(*space, kBase, 1);
    space->put();
    CHECK(space->stats().areas == 1);
    CHECK(space_totals().spaces == 1);
    CHECK(page_table_stats().tables != 0);
    space->put();
    CHECK(books() == before);
}

TEST_CASE("space: only where one may sleep", "[address_space]") {
    Program p;
    const PreemptGuard guard;
    CHECK_PANIC(static_cast<void>(AddressSpace::create()), "may sleep");
    CHECK_PANIC(p->put(), "may sleep");
    CHECK_PANIC(static_cast<void>(p->map(VirtAddr{}, kPageSize, kReadWrite, MapKind::anonymous, false)),
                "map may sleep");
    CHECK_PANIC(static_cast<void>(p->unmap(VirtAddr{kBase}, kPageSize)), "unmap may sleep");
    CHECK_PANIC(static_cast<void>(p->protect(VirtAddr{kBase}, kPageSize, kRead)), "protect may sleep");
    CHECK_PANIC(static_cast<void>(p->brk(VirtAddr{})), "brk may sleep");
    CHECK_PANIC(static_cast<void>(p->fork()), "fork may sleep");
    CHECK_PANIC(p->handle_fault(VirtAddr{kBase}, FaultAccess::read), "fault of a program may sleep");
    CHECK_PANIC(static_cast<void>(p->pin(VirtAddr{kBase}, FaultAccess::read)), "pinning a page may sleep");
}

// --- demand-zero

TEST_CASE("space: pages come by faults, zeroed, from high memory", "[address_space][fault]") {
    Program p;
    map_pages(*p, kBase, 8);
    CHECK(p->stats().resident == 0);
    CHECK(p->stats().tables == 0);
    CHECK(user_load(VirtAddr{kBase + 4}) == 0);
    user_store(VirtAddr{kBase + 3 * kPageSize}, 77);
    CHECK(user_load(VirtAddr{kBase + 3 * kPageSize}) == 77);
    for (u32 i = 4; i < kPageSize; i += 4)
        REQUIRE(user_load(VirtAddr{kBase + 3 * kPageSize + i}) == 0);
    CHECK(p->stats().resident == 2);
    CHECK(p->stats().tables == 1);
    const auto page = mapped(*p, kBase + 3 * kPageSize);
    REQUIRE(page);
    CHECK(page->user);
    CHECK(page->write);
    CHECK_FALSE(page->global);
    CHECK(page->execute == !config::kPae);
    if (config::kHighMem) CHECK(is_highmem(PhysAddr{page->phys}.pfn()));
    CHECK_FALSE(mapped(*p, kBase + kPageSize));
}

TEST_CASE("space: rights are those of the area", "[address_space][fault]") {
    Program p;
    map_pages(*p, kBase, 1, kRead);
    map_pages(*p, kBase + 0x10000, 1, Prot::none);
    map_pages(*p, kBase + 0x20000, 2, Prot::write);
    map_pages(*p, kBase + 0x30000, 1, kRead | Prot::exec);
    CHECK(user_load(VirtAddr{kBase}) == 0);
    CHECK_THROWS_MATCHES(user_store(VirtAddr{kBase}, 1), Killed, Says("no access"));
    CHECK_THROWS_MATCHES(user_load(VirtAddr{kBase + 0x10000}), Killed, Says("no access"));
    CHECK(user_load(VirtAddr{kBase + 0x21000}) == 0); // a page that can be written can be read
    user_store(VirtAddr{kBase + 0x20000}, 5);
    CHECK(user_load(VirtAddr{kBase + 0x20000}) == 5);
    CHECK_NOTHROW(user_exec(VirtAddr{kBase + 0x30000}));
    CHECK_THROWS_MATCHES(user_store(VirtAddr{kBase + 0x30000}, 1), Killed, Says("no access"));
    CHECK(p->handle_fault(VirtAddr{kBase}, FaultAccess::exec) == FaultResult::no_access);
    if (config::kPae) CHECK_THROWS_MATCHES(user_exec(VirtAddr{kBase}), Killed, Says("no access"));
    for (const u32 nowhere : {0u, 0x1000u, kBase - 1, kBase + kPageSize, layout::kUserEnd - 4})
        CHECK_THROWS_MATCHES(user_load(VirtAddr{nowhere & ~3u}), Killed, Says("bad address"));
}

TEST_CASE("space: without NX, whose bit is reserved then, what can be read can be executed", "[address_space][fault]") {
    Setup setup = small();
    setup.machine.features.no_execute = false;
    Program p{setup};
    map_pages(*p, kBase, 1);
    user_store(VirtAddr{kBase}, 5);
    CHECK(user_load(VirtAddr{kBase}) == 5);
    CHECK_NOTHROW(user_exec(VirtAddr{kBase}));
}

TEST_CASE("space: a fault that another thread has resolved meanwhile is resolved", "[address_space][fault]") {
    Program p;
    map_pages(*p, kBase, 1);
    user_store(VirtAddr{kBase}, 9);
    const u32 resident = p->stats().resident;
    for (const FaultAccess access : {FaultAccess::read, FaultAccess::write})
        CHECK(p->handle_fault(VirtAddr{kBase}, access) == FaultResult::resolved);
    CHECK(p->stats().resident == resident);
    CHECK(user_load(VirtAddr{kBase}) == 9);
}

TEST_CASE("space: no memory is what a fault says, and the program's own end", "[address_space][fault]") {
    Program p;
    map_pages(*p, kBase, 4);
    user_store(VirtAddr{kBase}, 1);
    {
        const Shortage shortage{0, 0};
        CHECK(p->handle_fault(VirtAddr{kBase + kPageSize}, FaultAccess::write) == FaultResult::no_memory);
        CHECK(user_load(VirtAddr{kBase}) == 1);
    }
    CHECK(p->handle_fault(VirtAddr{kBase + kPageSize}, FaultAccess::write) == FaultResult::resolved);
}

// --- map and unmap

TEST_CASE("space: fixed mappings go where they are asked for, in place of what is there", "[address_space][map]") {
    Program p;
    map_pages(*p, kBase, 4);
    for (u32 i = 0; i < 4; ++i)
        user_store(VirtAddr{kBase + i * kPageSize}, i + 1);
    map_pages(*p, kBase + kPageSize, 2, kRead);
    CHECK(user_load(VirtAddr{kBase}) == 1);
    CHECK(user_load(VirtAddr{kBase + kPageSize}) == 0);
    CHECK(user_load(VirtAddr{kBase + 2 * kPageSize}) == 0);
    CHECK(user_load(VirtAddr{kBase + 3 * kPageSize}) == 4);
    CHECK_THROWS_AS(user_store(VirtAddr{kBase + kPageSize}, 1), Killed);
    CHECK(p->stats().areas == 3);
}

TEST_CASE("space: arguments that no state could make right", "[address_space][map]") {
    Program p;
    const auto map = [&](u32 where, u32 bytes, bool fixed) {
        return p->map(VirtAddr{where}, bytes, kReadWrite, MapKind::anonymous, fixed);
    };
    CHECK(map(kBase, 0, true).error() == Error::invalid);
    CHECK(map(kBase + 1, kPageSize, true).error() == Error::invalid);
    CHECK(map(layout::kUserEnd, kPageSize, true).error() == Error::invalid);
    CHECK(map(layout::kUserEnd - kPageSize, 2 * kPageSize, true).error() == Error::invalid);
    CHECK(map(kBase, ~0u, true).error() == Error::invalid);
    CHECK(map(0, kPageSize, true).error() == Error::no_access);
    CHECK(map(layout::kUserBegin - kPageSize, kPageSize, true).error() == Error::no_access);
    CHECK(map(0, layout::kUserEnd, false).error() == Error::no_space);
    CHECK(map(0, ~0u, false).error() == Error::invalid);
    CHECK(p->unmap(VirtAddr{kBase + 8}, kPageSize).error() == Error::invalid);
    CHECK(p->unmap(VirtAddr{kBase}, 0).error() == Error::invalid);
    CHECK(p->unmap(VirtAddr{layout::kUserEnd - kPageSize}, 2 * kPageSize).error() == Error::invalid);
    CHECK(p->protect(VirtAddr{kBase + 8}, kPageSize, kRead).error() == Error::invalid);
    CHECK(p->stats().areas == 0);
    CHECK(map(layout::kUserBegin, kPageSize, true));
    CHECK(map(layout::kUserEnd - kPageSize, 1, true));
    CHECK(p->unmap(VirtAddr{layout::kUserEnd - kPageSize}, 1));
    CHECK(p->stats().areas == 1);
}

TEST_CASE("space: without an address it goes below what is there; a hint is taken where it is free",
          "[address_space][map]") {
    Program p;
    const u32 first = map_pages(*p, 0, 3).value();
    CHECK(first == layout::kUserEnd - 3 * kPageSize);
    CHECK(map_pages(*p, 0, 2, kRead).value() == first - 2 * kPageSize);
    const Result<VirtAddr> hint = p->map(VirtAddr{kBase}, kPageSize, kReadWrite, MapKind::anonymous, false);
    REQUIRE(hint);
    CHECK(hint->value() == kBase);
    const Result<VirtAddr> taken = p->map(VirtAddr{kBase}, kPageSize, kRead, MapKind::anonymous, false);
    REQUIRE(taken);
    CHECK(taken->value() == first - 3 * kPageSize);
    const Result<VirtAddr> null = p->map(VirtAddr{kPageSize}, kPageSize, kReadWrite, MapKind::anonymous, false);
    REQUIRE(null);
    CHECK(null->value() == first - 4 * kPageSize);
}

TEST_CASE("space: a fixed range that must be free replaces nothing", "[address_space][map]") {
    Program p;
    const auto map = [&](u32 where, u32 pages, bool replace) {
        return p->map(VirtAddr{where}, pages * kPageSize, kReadWrite, MapKind::anonymous, true, replace);
    };
    REQUIRE(map(kBase, 3, false));
    user_store(VirtAddr{kBase + kPageSize}, 7);
    CHECK(map(kBase + kPageSize, 1, false).error() == Error::busy);
    CHECK(map(kBase + 2 * kPageSize, 8, false).error() == Error::busy);
    CHECK(map(kBase - 8 * kPageSize, 64, false).error() == Error::busy);
    CHECK(p->stats().areas == 1);
    CHECK(user_load(VirtAddr{kBase + kPageSize}) == 7);
    REQUIRE(p->unmap(VirtAddr{kBase + kPageSize}, kPageSize));
    REQUIRE(map(kBase + kPageSize, 1, false));
    CHECK(user_load(VirtAddr{kBase + kPageSize}) == 0);
    REQUIRE(map(kBase, 1, true));
}

TEST_CASE("space: an area that grows is there as a whole, and has a limit", "[address_space][map]") {
    Program p;
    const u32 end = kBase + 2 * kPageSize, limit = end - kGrowth;
    REQUIRE(p->map(VirtAddr{kBase}, 2 * kPageSize, kReadWrite, MapKind::grows, true));
    user_store(VirtAddr{kBase + kPageSize}, 1);
    user_store(VirtAddr{kBase}, 2);
    user_store(VirtAddr{kBase - 3 * kPageSize}, 3);
    CHECK(user_load(VirtAddr{kBase - kPageSize}) == 0);
    user_store(VirtAddr{limit}, 4);
    CHECK_THROWS_AS(user_store(VirtAddr{limit - kPageSize}, 5), Killed);
    CHECK(p->stats().areas == 1);
    // Below it there may be less room than its limit.
    REQUIRE(p->map(VirtAddr{layout::kUserBegin + kPageSize}, kPageSize, kReadWrite, MapKind::grows, true));
    user_store(VirtAddr{layout::kUserBegin}, 6);
    // An area that is larger than the limit does not grow.
    REQUIRE(p->map(VirtAddr{2 * kBase}, kGrowth + kPageSize, kReadWrite, MapKind::grows, true));
    user_store(VirtAddr{2 * kBase}, 7);
    CHECK_THROWS_AS(user_store(VirtAddr{2 * kBase - kPageSize}, 8), Killed);
}

TEST_CASE("space: rights from the lower end of what grows down", "[address_space][protect]") {
    Program p;
    REQUIRE(p->map(VirtAddr{kBase}, 64 * kPageSize, kReadWrite, MapKind::stack, true));
    const u32 top = kBase + 63 * kPageSize;
    user_store(VirtAddr{top - 5 * kPageSize}, 1);
    map_pages(*p, 2 * kBase, 1);
    CHECK(p->protect(VirtAddr{2 * kBase}, kPageSize, kRead, true).error() == Error::invalid);
    CHECK(p->protect(VirtAddr{3 * kBase}, kPageSize, kRead, true).error() == Error::not_found);
    user_store(VirtAddr{2 * kBase}, 2);
    // Below its current begin nothing is mapped yet, and protect does not make it grow.
    CHECK(p->protect(VirtAddr{top - 9 * kPageSize}, 2 * kPageSize, kRead, true).error() == Error::not_found);
    CHECK(p->protect(VirtAddr{top - 6 * kPageSize}, kPageSize, kRead).error() == Error::not_found);
    // A range that begins below the area and ends in it: changes all from the lower end of the area to its own end.
    REQUIRE(p->protect(VirtAddr{top - 9 * kPageSize}, 6 * kPageSize, kRead, true));
    CHECK_THROWS_AS(user_store(VirtAddr{top - 4 * kPageSize}, 3), Killed);
    user_store(VirtAddr{top - 3 * kPageSize}, 3);
    REQUIRE(p->protect(VirtAddr{top - 5 * kPageSize}, 2 * kPageSize, kReadWrite));
    REQUIRE(p->protect(VirtAddr{top}, kPageSize, kRead, true));
    CHECK(user_load(VirtAddr{top - 5 * kPageSize}) == 1);
    CHECK_THROWS_AS(user_store(VirtAddr{top - 5 * kPageSize}, 3), Killed);
    CHECK_THROWS_AS(user_store(VirtAddr{top}, 3), Killed);
}

TEST_CASE("space: where a word is", "[address_space][shared]") {
    Program p;
    map_pages(*p, kBase, 2);
    map_pages(*p, 2 * kBase, 4, kReadWrite, MapKind::shared);
    const auto own = p->place_of(VirtAddr{kBase + 8});
    REQUIRE(own);
    CHECK(own->object == nullptr);
    REQUIRE(p->protect(VirtAddr{kBase}, kPageSize, kRead));
    CHECK(p->place_of(VirtAddr{kBase + 8}).error() == Error::no_access);
    for (const u32 nowhere : {0u, kBase - 1, kBase + 2 * kPageSize, layout::kUserEnd, 0xffff'fffcu})
        CHECK(p->place_of(VirtAddr{nowhere}).error() == Error::bad_address);
    // Shared memory: the same page of the same object, whatever the rights are; the page need not exist yet.
    REQUIRE(p->protect(VirtAddr{2 * kBase + kPageSize}, kPageSize, kRead));
    const Result<AddressSpace*> child = p->fork();
    REQUIRE(child);
    const auto here = p->place_of(VirtAddr{2 * kBase + kPageSize + 12});
    const auto there = (*child)->place_of(VirtAddr{2 * kBase + kPageSize});
    REQUIRE((here && there));
    CHECK(here->object != nullptr);
    CHECK(here->object == there->object);
    CHECK(here->page == 1);
    CHECK(there->page == 1);
    here->object->put();
    there->object->put();
    REQUIRE(p->protect(VirtAddr{2 * kBase}, kPageSize, Prot::none));
    CHECK(p->place_of(VirtAddr{2 * kBase}).error() == Error::no_access);
    CHECK(p->stats().resident == 0);
    (*child)->put();
}

TEST_CASE("space: where a word is, with one reference to its object", "[address_space][shared]") {
    Program p;
    map_pages(*p, kBase, 1, kReadWrite, MapKind::shared);
    user_store(VirtAddr{kBase}, 1);
    const auto place = p->place_of(VirtAddr{kBase});
    REQUIRE(place);
    REQUIRE(p->unmap(VirtAddr{kBase}, kPageSize));
    const auto free = [] {
        const Books now = books();
        return now.free[0] + now.free[1] + now.free[2];
    };
    const u32 before = free();
    place->object->put(); // the last one: the page goes with it
    CHECK(free() > before);
}

TEST_CASE("space: holes are found again, the highest that is large enough first", "[address_space][map]") {
    Program p;
    const u32 top = layout::kUserEnd;
    // Areas of one page that cannot be joined.
    for (u32 i = 0; i < 64; ++i)
        REQUIRE(map_pages(*p, 0, 1, i % 2 != 0 ? kRead : kReadWrite).value() == top - (i + 1) * kPageSize);
    CHECK(p->stats().areas == 64);
    REQUIRE(p->unmap(VirtAddr{top - 10 * kPageSize}, kPageSize));
    REQUIRE(p->unmap(VirtAddr{top - 30 * kPageSize}, 2 * kPageSize));
    CHECK(map_pages(*p, 0, 3).value() == top - 67 * kPageSize);
    CHECK(map_pages(*p, 0, 2).value() == top - 30 * kPageSize);
    CHECK(map_pages(*p, 0, 1).value() == top - 10 * kPageSize);
    CHECK(map_pages(*p, 0, 1).value() == top - 68 * kPageSize);
    REQUIRE(p->unmap(VirtAddr{top - 68 * kPageSize}, 68 * kPageSize));
    CHECK(p->stats().areas == 0);
    CHECK(map_pages(*p, 0, 68).value() == top - 68 * kPageSize);
}

TEST_CASE("space: all of the addresses can be used, and then there are no more", "[address_space][map]") {
    Program p;
    const u32 all = layout::kUserEnd - layout::kUserBegin;
    const VirtAddr whole = map_pages(*p, 0, all / kPageSize);
    CHECK(whole.value() == layout::kUserBegin);
    CHECK(p->map(VirtAddr{}, kPageSize, kReadWrite, MapKind::anonymous, false).error() == Error::no_space);
    REQUIRE(p->unmap(VirtAddr{layout::kUserBegin}, kPageSize));
    CHECK(map_pages(*p, 0, 1).value() == layout::kUserBegin);
    CHECK(p->stats().areas == 1);
    user_store(VirtAddr{layout::kUserBegin}, 1);
    user_store(VirtAddr{layout::kUserEnd - 4}, 2);
    CHECK(p->stats().tables == 2);
}

TEST_CASE("space: neighbours that say the same are one area", "[address_space][map]") {
    Program p;
    for (u32 i = 0; i < 32; ++i)
        map_pages(*p, 0, 1);
    CHECK(p->stats().areas == 1);
    map_pages(*p, kBase, 1);
    map_pages(*p, kBase + 2 * kPageSize, 1);
    CHECK(p->stats().areas == 3);
    map_pages(*p, kBase + kPageSize, 1);
    CHECK(p->stats().areas == 2);
    // Shared memory joins only itself.
    map_pages(*p, kBase + 0x10'0000, 1, kReadWrite, MapKind::shared);
    map_pages(*p, kBase + 0x10'1000, 1, kReadWrite, MapKind::shared);
    CHECK(p->stats().areas == 4);
    map_pages(*p, kBase + 0x20'0000, 4, kReadWrite, MapKind::shared);
    CHECK(p->stats().areas == 5);
    REQUIRE(p->protect(VirtAddr{kBase + 0x20'1000}, kPageSize, kRead));
    CHECK(p->stats().areas == 7);
    REQUIRE(p->protect(VirtAddr{kBase + 0x20'1000}, kPageSize, kReadWrite));
    CHECK(p->stats().areas == 5);
    // An area of another object is not joined to it.
    REQUIRE(p->unmap(VirtAddr{kBase + 0x20'1000}, kPageSize));
    map_pages(*p, kBase + 0x20'1000, 1, kReadWrite, MapKind::shared);
    CHECK(p->stats().areas == 7);
}

TEST_CASE("space: unmap takes what is in the range, and cuts what reaches beyond", "[address_space][map]") {
    Program p;
    map_pages(*p, kBase, 10);
    map_pages(*p, kBase + 12 * kPageSize, 4);
    for (u32 i = 0; i < 16; ++i)
        if (i < 10 || i >= 12) user_store(VirtAddr{kBase + i * kPageSize}, i + 100);
    REQUIRE(p->unmap(VirtAddr{kBase + 8 * kPageSize}, 5 * kPageSize));
    for (u32 i = 0; i < 16; ++i) {
        if (i >= 8 && i < 13)
            CHECK_THROWS_MATCHES(user_load(VirtAddr{kBase + i * kPageSize}), Killed, Says("bad address"));
        else
            CHECK(user_load(VirtAddr{kBase + i * kPageSize}) == i + 100);
    }
    CHECK(p->stats().resident == 11);
    CHECK(p->stats().areas == 2);
    REQUIRE(p->unmap(VirtAddr{kBase + 3 * kPageSize}, kPageSize));
    CHECK(p->stats().areas == 3);
    REQUIRE(p->unmap(VirtAddr{layout::kUserBegin}, layout::kUserEnd - layout::kUserBegin));
    CHECK(p->stats().areas == 0);
    CHECK(p->stats().resident == 0);
    CHECK(p->unmap(VirtAddr{kBase}, kPageSize)); // a hole is no error
}

TEST_CASE("space: page tables go when their last entry goes", "[address_space][map]") {
    Program p;
    const Books empty = books();
    const u32 at[] = {kBase, kBase + kTable - kPageSize, kBase + kTable, kBase + 5 * kTable};
    for (const u32 va : at) {
        map_pages(*p, va, 1);
        user_store(VirtAddr{va}, va);
    }
    CHECK(p->stats().tables == 3);
    CHECK(tables_of(*p) == 3);
    CHECK(page_table_stats().tables == 3 + (config::kPae ? 3 : 1));
    CHECK(page_table_stats().high == (config::kHighPte ? 3 : 0));
    REQUIRE(p->unmap(VirtAddr{at[0]}, kPageSize));
    CHECK(tables_of(*p) == 3);
    CHECK(user_load(VirtAddr{at[1]}) == at[1]);
    REQUIRE(p->unmap(VirtAddr{at[1]}, 2 * kPageSize));
    CHECK(tables_of(*p) == 1);
    CHECK(p->stats().tables == 1);
    REQUIRE(p->unmap(VirtAddr{at[3]}, kPageSize));
    CHECK(tables_of(*p) == 0);
    CHECK(page_table_stats().tables == (config::kPae ? 3 : 1));
    CHECK(books().free[2] == empty.free[2]);
}

// --- protect

TEST_CASE("space: protect takes rights and gives them back, contents stay", "[address_space][protect]") {
    Program p;
    map_pages(*p, kBase, 3);
    for (u32 i = 0; i < 3; ++i)
        user_store(VirtAddr{kBase + i * kPageSize}, i + 1);
    const VirtAddr middle{kBase + kPageSize};
    REQUIRE(p->protect(middle, kPageSize, kRead));
    CHECK(user_load(middle) == 2);
    CHECK_THROWS_MATCHES(user_store(middle, 9), Killed, Says("no access"));
    user_store(VirtAddr{kBase}, 11);
    CHECK(p->stats().areas == 3);
    REQUIRE(p->protect(middle, kPageSize, Prot::none));
    CHECK_THROWS_MATCHES(user_load(middle), Killed, Says("no access"));
    CHECK_FALSE(mapped(*p, middle.value()));
    CHECK(p->stats().resident == 3);
    REQUIRE(p->protect(middle, kPageSize, kReadWrite));
    CHECK(p->stats().areas == 1);
    CHECK(user_load(middle) == 2);
    user_store(middle, 22);
    CHECK(user_load(middle) == 22);
    if (config::kPae) {
        CHECK_THROWS_AS(user_exec(middle), Killed);
        REQUIRE(p->protect(middle, kPageSize, kAll));
        CHECK_NOTHROW(user_exec(middle));
        REQUIRE(p->protect(middle, kPageSize, kReadWrite));
        CHECK_THROWS_AS(user_exec(middle), Killed);
    }
    REQUIRE(p->unmap(VirtAddr{kBase}, 3 * kPageSize));
    CHECK(p->stats().resident == 0);
}

TEST_CASE("space: pages without rights go back like others", "[address_space][protect]") {
    Booted kernel;
    warm_up();
    const Books before = books();
    {
        Owned space;
        run_in(space.get());
        map_pages(*space, kBase, 4);
        for (u32 i = 0; i < 4; ++i)
            user_store(VirtAddr{kBase + i * kPageSize}, i);
        REQUIRE(space->protect(VirtAddr{kBase}, 4 * kPageSize, Prot::none));
        REQUIRE(space->unmap(VirtAddr{kBase}, 2 * kPageSize));
        CHECK(space->stats().resident == 2);
        Owned child = fork_of(*space);
        run_in(child.get());
        REQUIRE(child->protect(VirtAddr{kBase + 2 * kPageSize}, 2 * kPageSize, kRead));
        CHECK(user_load(VirtAddr{kBase + 3 * kPageSize}) == 3);
    }
    CHECK(books() == before);
}

TEST_CASE("space: protect of what is not mapped changes nothing", "[address_space][protect]") {
    Program p;
    map_pages(*p, kBase, 2);
    map_pages(*p, kBase + 3 * kPageSize, 2);
    map_pages(*p, kBase + 5 * kPageSize, 1, kReadWrite, MapKind::guard);
    user_store(VirtAddr{kBase}, 1);
    CHECK(p->protect(VirtAddr{kBase}, 4 * kPageSize, kRead).error() == Error::not_found);
    CHECK(p->protect(VirtAddr{kBase - kPageSize}, 2 * kPageSize, kRead).error() == Error::not_found);
    CHECK(p->protect(VirtAddr{kBase + 4 * kPageSize}, 2 * kPageSize, kRead).error() == Error::no_access);
    CHECK(p->protect(VirtAddr{kBase + 0x100'0000}, kPageSize, kRead).error() == Error::not_found);
    CHECK(p->stats().areas == 3);
    CHECK_NOTHROW(user_store(VirtAddr{kBase}, 2));
}

// --- stacks, guards and brk

TEST_CASE("space: a stack grows down by faults, to its limit", "[address_space][stack]") {
    Program p;
    const u32 top = 0x4000'0000, limit = top - 64 * kPageSize;
    map_pages(*p, limit, 64, kReadWrite, MapKind::stack);
    CHECK(p->stats().resident == 0);
    user_store(VirtAddr{top - 4}, 1);
    user_store(VirtAddr{top - 10 * kPageSize}, 2);
    CHECK(user_load(VirtAddr{top - 4}) == 1);
    CHECK(p->stats().resident == 2);
    CHECK(p->stats().areas == 1);
    user_store(VirtAddr{limit}, 3);
    CHECK_THROWS_MATCHES(user_store(VirtAddr{limit - 4}, 4), Killed, Says("bad address"));
    CHECK_THROWS_MATCHES(user_load(VirtAddr{top}), Killed, Says("bad address"));
}

TEST_CASE("space: nothing comes close to a stack by chance, and it comes close to nothing", "[address_space][stack]") {
    Program p;
    const u32 limit = layout::kUserEnd - 65 * kPageSize;
    map_pages(*p, limit, 64, kReadWrite, MapKind::stack);
    // No other area is placed between its limit and its current begin, nor in the gap below.
    CHECK(map_pages(*p, 0, 1).value() == layout::kUserEnd - kPageSize);
    CHECK(map_pages(*p, 0, 1, kRead).value() == limit - kStackGap - kPageSize);
    const Result<VirtAddr> hint = p->map(VirtAddr{limit + kPageSize}, kPageSize, kReadWrite, MapKind::anonymous, false);
    REQUIRE(hint);
    CHECK(hint->value() < limit - kStackGap);
    // A fixed mapping is allowed there; the stack keeps its distance from it.
    const u32 inside = limit + 20 * kPageSize;
    map_pages(*p, inside, 1);
    CHECK_THROWS_AS(user_store(VirtAddr{inside + kPageSize + kStackGap - 4}, 1), Killed);
    CHECK_NOTHROW(user_store(VirtAddr{inside + kPageSize + kStackGap}, 1));
    CHECK_THROWS_AS(user_store(VirtAddr{inside - 4}, 1), Killed);
}

TEST_CASE("space: a stack may be cut, and each part lives on", "[address_space][stack]") {
    Program p;
    const u32 top = 0x4000'0000, limit = top - 64 * kPageSize;
    map_pages(*p, limit, 64, kReadWrite, MapKind::stack);
    user_store(VirtAddr{top - 40 * kPageSize}, 1);
    REQUIRE(p->unmap(VirtAddr{top - 30 * kPageSize}, kPageSize));
    CHECK(p->stats().areas == 2);
    CHECK_NOTHROW(user_store(VirtAddr{top - 41 * kPageSize}, 1));
    CHECK_NOTHROW(user_store(VirtAddr{top - 29 * kPageSize}, 1));
    CHECK_THROWS_AS(user_store(VirtAddr{top - 30 * kPageSize}, 1), Killed); // too close to the lower part
}

TEST_CASE("space: a guard area is never anything", "[address_space][guard]") {
    Program p;
    map_pages(*p, kBase, 2, kReadWrite, MapKind::guard);
    CHECK_THROWS_MATCHES(user_load(VirtAddr{kBase}), Killed, Says("bad address"));
    CHECK(p->handle_fault(VirtAddr{kBase + kPageSize}, FaultAccess::write) == FaultResult::bad_address);
    CHECK(p->protect(VirtAddr{kBase}, kPageSize, kReadWrite).error() == Error::no_access);
    const Result<VirtAddr> other = p->map(VirtAddr{kBase}, kPageSize, kReadWrite, MapKind::anonymous, false);
    REQUIRE(other);
    CHECK(other->value() != kBase); // its addresses are in use
    REQUIRE(p->unmap(VirtAddr{kBase}, kPageSize));
    map_pages(*p, kBase, 1);
    CHECK_NOTHROW(user_store(VirtAddr{kBase}, 1));
}

TEST_CASE("space: brk moves the end of the heap", "[address_space][brk]") {
    Program p;
    const auto brk = [&](u32 at) { return p->brk(VirtAddr{at}); };
    CHECK(brk(kBase)->value() == 0); // no heap yet
    p->set_brk_start(VirtAddr{kBase - 100});
    CHECK(brk(0)->value() == kBase);
    CHECK(brk(kBase - 1)->value() == kBase);
    CHECK_THROWS_AS(user_load(VirtAddr{kBase}), Killed);
    CHECK(brk(kBase + 10)->value() == kBase + 10);
    user_store(VirtAddr{kBase + 0xffc}, 1);
    CHECK(brk(kBase + 5 * kPageSize)->value() == kBase + 5 * kPageSize);
    user_store(VirtAddr{kBase + 4 * kPageSize}, 2);
    CHECK(p->stats().areas == 1);
    CHECK(brk(kBase + 4 * kPageSize + 1)->value() == kBase + 4 * kPageSize + 1);
    CHECK(user_load(VirtAddr{kBase + 4 * kPageSize}) == 2);
    CHECK(brk(kBase + kPageSize)->value() == kBase + kPageSize);
    CHECK_THROWS_AS(user_load(VirtAddr{kBase + 4 * kPageSize}), Killed);
    CHECK(brk(kBase + 5 * kPageSize));
    CHECK(user_load(VirtAddr{kBase + 4 * kPageSize}) == 0); // a new page
    CHECK(user_load(VirtAddr{kBase + 0xffc}) == 1);
    map_pages(*p, kBase + 8 * kPageSize, 1);
    CHECK(brk(kBase + 9 * kPageSize).error() == Error::no_space);
    CHECK(brk(layout::kUserEnd + 1).error() == Error::no_space);
    CHECK(brk(0)->value() == kBase + 5 * kPageSize);
    CHECK(brk(kBase)->value() == kBase);
    CHECK(p->stats().areas == 1);
}

// --- fork

TEST_CASE("fork: both sides have the same memory, until one of them writes", "[address_space][fork]") {
    Program p;
    map_pages(*p, kBase, 3);
    map_pages(*p, kBase + 0x10000, 1, kRead | Prot::exec);
    for (u32 i = 0; i < 3; ++i)
        user_store(VirtAddr{kBase + i * kPageSize}, i + 1);
    user_store(VirtAddr{kBase + kPageSize - 4}, 7);
    Owned child = fork_of(*p);
    CHECK(child->stats().areas == 2);
    CHECK(child->stats().resident == 3);
    for (u32 i = 0; i < 3; ++i)
        CHECK(mapped(*p, kBase + i * kPageSize)->phys == mapped(*child, kBase + i * kPageSize)->phys);
    CHECK_FALSE(user_can_write(VirtAddr{kBase}));

    user_store(VirtAddr{kBase}, 100);
    CHECK(mapped(*p, kBase)->phys != mapped(*child, kBase)->phys);
    CHECK(user_load(VirtAddr{kBase}) == 100);
    CHECK(user_load(VirtAddr{kBase + kPageSize - 4}) == 7);
    run_in(child.get());
    CHECK(user_load(VirtAddr{kBase}) == 1);
    // The other space has released the page: no copy is needed.
    const u64 phys = mapped(*child, kBase)->phys;
    user_store(VirtAddr{kBase}, 200);
    CHECK(mapped(*child, kBase)->phys == phys);
    user_store(VirtAddr{kBase + kPageSize}, 201);
    run_in(p.space->get());
    CHECK(user_load(VirtAddr{kBase}) == 100);
    CHECK(user_load(VirtAddr{kBase + kPageSize}) == 2);
    CHECK(user_load(VirtAddr{kBase + 2 * kPageSize}) == 3);
    CHECK_THROWS_AS(user_store(VirtAddr{kBase + 0x10000}, 1), Killed);
}

TEST_CASE("fork: what comes after it belongs to one side", "[address_space][fork]") {
    Program p;
    map_pages(*p, kBase, 4);
    p->set_brk_start(VirtAddr{kBase + 0x10'0000});
    REQUIRE(p->brk(VirtAddr{kBase + 0x10'1000}));
    Owned child = fork_of(*p);
    CHECK(child->brk(VirtAddr{})->value() == kBase + 0x10'1000);
    user_store(VirtAddr{kBase}, 1);
    REQUIRE(p->unmap(VirtAddr{kBase + kPageSize}, kPageSize));
    run_in(child.get());
    CHECK(user_load(VirtAddr{kBase}) == 0);
    CHECK(user_load(VirtAddr{kBase + kPageSize}) == 0);
    REQUIRE(child->brk(VirtAddr{kBase + 0x10'0000}));
    run_in(p.space->get());
    CHECK(user_load(VirtAddr{kBase + 0x10'0000}) == 0);
}

TEST_CASE("fork: pages wander through generations", "[address_space][fork]") {
    Booted kernel;
    warm_up();
    const Books before = books();
    {
        std::vector<Owned> family;
        family.emplace_back();
        run_in(family[0].get());
        map_pages(*family[0], kBase, 6);
        for (u32 i = 0; i < 6; ++i)
            user_store(VirtAddr{kBase + i * kPageSize}, i);
        for (u32 i = 1; i < 6; ++i) {
            family.push_back(fork_of(*family[i - 1]));
            run_in(family[i].get());
            user_store(VirtAddr{kBase + i * kPageSize}, 1000 + i);
        }
        for (u32 i = 0; i < 6; ++i) {
            run_in(family[i].get());
            for (u32 k = 0; k < 6; ++k)
                CHECK(user_load(VirtAddr{kBase + k * kPageSize}) == (k != 0 && k <= i ? 1000 + k : k));
        }
        // A middle generation ends first, then the oldest, the youngest, and the rest.
        for (const u32 i : {2u, 0u, 5u, 3u, 1u, 4u})
            family[i].end();
    }
    CHECK(books() == before);
}

TEST_CASE("fork: a page that is pinned stays the parent's own", "[address_space][fork]") {
    Program p;
    map_pages(*p, kBase, 2);
    user_store(VirtAddr{kBase}, 1);
    user_store(VirtAddr{kBase + kPageSize}, 2);
    const AddressSpace::Pinned pin = p->pin(VirtAddr{kBase}, FaultAccess::write);
    REQUIRE(pin.result == FaultResult::resolved);
    Owned child = fork_of(*p);
    CHECK(mapped(*p, kBase)->phys == page_to_pfn(pin.page).phys().value());
    CHECK(mapped(*child, kBase)->phys != mapped(*p, kBase)->phys);
    CHECK(mapped(*child, kBase + kPageSize)->phys == mapped(*p, kBase + kPageSize)->phys);
    user_store(VirtAddr{kBase}, 3);
    CHECK(mapped(*p, kBase)->phys == page_to_pfn(pin.page).phys().value());
    put_page(pin.page);
    run_in(child.get());
    CHECK(user_load(VirtAddr{kBase}) == 1);
    CHECK(user_can_write(VirtAddr{kBase}));
}

// --- shared memory

TEST_CASE("shared memory: what one space writes, the other reads", "[address_space][shared]") {
    Booted kernel;
    warm_up();
    const Books before = books();
    {
        Owned parent;
        run_in(parent.get());
        map_pages(*parent, kBase, 4, kReadWrite, MapKind::shared);
        user_store(VirtAddr{kBase}, 1);
        Owned child = fork_of(*parent);
        user_store(VirtAddr{kBase}, 2);
        user_store(VirtAddr{kBase + kPageSize}, 3);
        run_in(child.get());
        CHECK(child->stats().resident == 0);
        CHECK(user_load(VirtAddr{kBase}) == 2);
        CHECK(user_load(VirtAddr{kBase + kPageSize}) == 3);
        user_store(VirtAddr{kBase + 3 * kPageSize}, 4);
        // A page that no space maps any more still belongs to the object.
        REQUIRE(child->unmap(VirtAddr{kBase + 3 * kPageSize}, kPageSize));
        run_in(parent.get());
        CHECK(user_load(VirtAddr{kBase + 3 * kPageSize}) == 4);
        // Cut in two: each part still maps its own pages.
        REQUIRE(parent->unmap(VirtAddr{kBase + kPageSize}, kPageSize));
        user_store(VirtAddr{kBase + 2 * kPageSize}, 5);
        run_in(child.get());
        CHECK(user_load(VirtAddr{kBase + 2 * kPageSize}) == 5);
        CHECK(user_load(VirtAddr{kBase + kPageSize}) == 3);
        // The parent ends first.
        parent.end();
        CHECK(space_totals() == SpaceTotals{1, 1, 1});
        CHECK(user_load(VirtAddr{kBase + 2 * kPageSize}) == 5);
    }
    CHECK(books() == before);
}

TEST_CASE("shared memory: rights are each space's own", "[address_space][shared]") {
    Program p;
    map_pages(*p, kBase, 1, kReadWrite, MapKind::shared);
    user_store(VirtAddr{kBase}, 1);
    Owned child = fork_of(*p);
    REQUIRE(p->protect(VirtAddr{kBase}, kPageSize, kRead));
    CHECK_THROWS_AS(user_store(VirtAddr{kBase}, 2), Killed);
    run_in(child.get());
    user_store(VirtAddr{kBase}, 3);
    run_in(p.space->get());
    CHECK(user_load(VirtAddr{kBase}) == 3);
    REQUIRE(p->protect(VirtAddr{kBase}, kPageSize, kReadWrite));
    CHECK_NOTHROW(user_store(VirtAddr{kBase}, 4));
}

TEST_CASE("shared memory: large objects have an index of two levels", "[address_space][shared]") {
    Booted kernel;
    warm_up();
    const Books before = books();
    {
        Owned space;
        run_in(space.get());
        const u32 pages = 3 * PageIndex::kPerFrame;
        map_pages(*space, kBase, pages, kReadWrite, MapKind::shared);
        for (const u32 i : {0u, 1u, PageIndex::kPerFrame - 1, PageIndex::kPerFrame, pages - 1})
            user_store(VirtAddr{kBase + i * kPageSize}, i + 1);
        Owned child = fork_of(*space);
        run_in(child.get());
        for (const u32 i : {0u, 1u, PageIndex::kPerFrame - 1, PageIndex::kPerFrame, pages - 1})
            CHECK(user_load(VirtAddr{kBase + i * kPageSize}) == i + 1);
        CHECK(user_load(VirtAddr{kBase + 2 * kPageSize}) == 0);
    }
    CHECK(books() == before);
}
