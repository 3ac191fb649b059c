// Swap: pages without a source, private or of objects, that are on a disk and not in memory. Nothing is lost, nothing
// is shared that was not, and every slot is free in the end.
#include "mm/cache/swap_area.hpp"
#include "mm/frames/slab.hpp"
#include "mm/reclaim/reclaim.hpp"
#include "mm/spaces/user_copy.hpp"
#include "tests/host/cache/test_file.hpp"
#include "tests/host/disk_tools.hpp"

#include <cstring>
#include <optional>

using namespace loft;
using namespace loft::test;

namespace {

constexpr VirtAddr swap_at(u32 page, u32 offset = 0) { return VirtAddr{kBase + page * kPageSize + offset}; }

constexpr u32 kSwapMemory = 64 * MiB / kPageSize; // of small()

// A machine with one swap area. At its end nothing is held, and every slot is free.
class Swapping {
  public:
    explicit Swapping(u32 pages, SwapHeader header = {}) : disk{swap_disk(pages, std::move(header))} {
        REQUIRE(disk.ready());
        warm_up();
        ObjectCache::give_back_empty_slabs();
        before_.emplace(books());
        const Result<SwapArea*> opened = SwapArea::open(disk);
        REQUIRE(opened);
        area = *opened;
        free_slots_ = area->free_slots();
    }
    ~Swapping() {
        CHECK(area->free_slots() == free_slots_);
        area->remove();
        while (*write_back_one()) { // the list of dirty objects may have it still
        }
        CHECK(page_cache_stats().pages == 0);
        ObjectCache::give_back_empty_slabs();
        CHECK(books() == *before_);
    }
    // Until no page goes any more.
    void swap_everything_out() {
        for (u32 call = 0; call < 20; ++call)
            static_cast<void>(swap_out_pages(~0u));
    }
    // Of objects, until no page goes any more. What is clean in the cache is dropped.
    static void swap_objects_out() {
        for (u32 call = 0; call < 20; ++call)
            static_cast<void>(drop_pages(~0u));
    }
    // So that every page that comes back is read from the disk.
    void empty_the_cache() {
        swap_everything_out();
        swap_objects_out();
        CHECK(write_back_all());
        while (drop_pages(~0u) != 0) {
        }
    }
    u32 used() const { return free_slots_ - area->free_slots(); }

    Booted kernel;
    sim::SimDisk disk;
    SwapArea* area = nullptr;

  private:
    u32 free_slots_ = 0;
    std::optional<Books> before_;
};

} // namespace

TEST_CASE("swap: headers of disks that are none, or do not fit", "[swap]") {
    Booted kernel;
    ObjectCache::give_back_empty_slabs();
    const Books before = books();
    const auto error_of_header = [](SwapHeader header) -> std::optional<Error> {
        sim::SimDisk disk{swap_disk(64, std::move(header))};
        REQUIRE(disk.ready());
        const Result<SwapArea*> opened = SwapArea::open(disk);
        if (!opened) return opened.error();
        (*opened)->remove();
        return std::nullopt;
    };
    CHECK(error_of_header({}) == std::nullopt);
    CHECK(error_of_header({.last = 10}) == std::nullopt);
    CHECK(error_of_header({.bad_pages = {1, 63, 63}}) == std::nullopt);
    CHECK(error_of_header({.signature = "SWAP-SPACE"}) == Error::invalid);
    CHECK(error_of_header({.version = 2}) == Error::invalid);
    CHECK(error_of_header({.last = 64}) == Error::invalid);
    CHECK(error_of_header({.last = ~0u}) == Error::invalid);
    CHECK(error_of_header({.bad = 638}) == Error::invalid);
    CHECK(error_of_header({.bad = ~0u}) == Error::invalid);
    CHECK(error_of_header({.bad_pages = {0}}) == Error::invalid);
    CHECK(error_of_header({.bad_pages = {64}}) == Error::invalid);
    SwapHeader all_bad;
    for (u32 slot = 1; slot < 64; ++slot)
        all_bad.bad_pages.push_back(slot);
    CHECK(error_of_header(all_bad) == Error::invalid);
    { // a disk with more pages than an area can have: bad ones of the rest are not used anyway
        constexpr u32 kBeyond = SwapArea::kMostSlots + 5;
        sim::SimDisk disk{swap_disk(kBeyond + 1, {.bad_pages = {7, kBeyond}})};
        REQUIRE(disk.ready());
        SwapArea* const area = *SwapArea::open(disk);
        CHECK(area->slots() == SwapArea::kMostSlots - 2);
        area->remove();
    }
    {
        sim::SimDisk disk{swap_disk(64, {.bad_pages = {1, 63, 63}})};
        REQUIRE(disk.ready());
        SwapArea* const area = *SwapArea::open(disk);
        CHECK(area->slots() == 61);
        CHECK(area->free_slots() == 61);
        CHECK(SwapArea::open(disk).error() == Error::busy);
        std::vector<SwapSlot> slots;
        for (SwapSlot slot = SwapArea::take_slot(); !slot.empty(); slot = SwapArea::take_slot())
            slots.push_back(slot);
        CHECK(slots.size() == 61);
        for (const SwapSlot slot : slots) {
            CHECK(slot.slot != 1);
            CHECK(slot.slot < 63);
            area->put_user(slot.slot);
        }
        area->set_closed(true);
        CHECK(SwapArea::take_slot().empty());
        disk.fail(0);
        area->remove();
        CHECK(SwapArea::open(disk).error() == Error::io);
    }
    ObjectCache::give_back_empty_slabs();
    CHECK(books() == before);
}

TEST_CASE("swap: entries keep area and slot", "[swap]") {
    for (const u32 area : {0u, 1u, 15u})
        for (const u32 slot : {1u, 2u, SwapArea::kMostSlots - 1}) {
            const Pte entry = user_pte::swapped({area, slot});
            CHECK(user_pte::is_swapped(entry));
            CHECK_FALSE(entry.present());
            CHECK(user_pte::slot_of(entry) == SwapSlot{area, slot});
        }
    CHECK_FALSE(user_pte::is_swapped(Pte{}));
}

TEST_CASE("swap: a program has more memory than the machine", "[swap]") {
    constexpr u32 kPages = kSwapMemory + kSwapMemory / 2;
    Swapping machine{kPages};
    Owned space;
    map_pages(*space, kBase, kPages);
    run_in(space.get());
    for (u32 pass = 0; pass < 2; ++pass) {
        for (u32 page = 0; page < kPages; ++page) {
            if (pass == 1) REQUIRE(user_load(swap_at(page)) == page + 1);
            user_store(swap_at(page), page + 1 + pass);
        }
        CHECK(space->stats().resident < kSwapMemory);
        CHECK(machine.used() >= kPages - kSwapMemory);
    }
    for (u32 page = 0; page < kPages; page += 7)
        REQUIRE(user_load(swap_at(page)) == page + 2);
    run_in(nullptr);
}

// Pages that both have are free only when both have given them up.
TEST_CASE("swap: a program larger than memory forks, and both use all of it", "[swap][long]") {
    constexpr u32 kPages = kSwapMemory + kSwapMemory / 2;
    Swapping machine{2 * kPages};
    Owned parent;
    map_pages(*parent, kBase, kPages);
    run_in(parent.get());
    for (u32 page = 0; page < kPages; ++page)
        user_store(swap_at(page), page + 1);
    Owned child = fork_of(*parent);
    const auto is = [](u32 page, bool of_child) { return page + 1 + (of_child && page % 4 == 0 ? 7 : 0); };
    run_in(child.get());
    for (u32 page = 0; page < kPages; page += 4)
        user_store(swap_at(page), is(page, true));
    for (u32 page = 0; page < kPages; ++page)
        REQUIRE(user_load(swap_at(page)) == is(page, true));
    run_in(parent.get());
    for (u32 page = 0; page < kPages; ++page)
        REQUIRE(user_load(swap_at(page)) == is(page, false));
    CHECK(machine.used() <= kPages + kPages / 4);
    run_in(nullptr);
    child.end();
    run_in(parent.get());
    for (u32 page = 0; page < kPages; ++page)
        user_store(swap_at(page, 4), page);
    CHECK(machine.used() < kPages);
    run_in(nullptr);
}

TEST_CASE("swap: pages come back with their contents, rights and owner", "[swap][swap-slots]") {
    Swapping machine{256};
    constexpr u32 kPages = 8;
    Owned space;
    map_pages(*space, kBase, kPages);
    run_in(space.get());
    for (u32 page = 0; page < kPages; ++page)
        user_store(swap_at(page, page * 4), page + 100);
    for (const bool from_disk : {false, true}) {
        machine.swap_everything_out();
        CHECK(space->stats().resident == 0);
        CHECK(machine.used() == kPages);
        if (from_disk) machine.empty_the_cache();
        CHECK(page_cache_stats().pages == (from_disk ? 0 : kPages));
        for (u32 page = 0; page < kPages; ++page) {
            CHECK(user_load(swap_at(page, page * 4)) == page + 100);
            CHECK(user_load(swap_at(page, page * 4 + 4)) == 0);
        }
        CHECK(machine.used() == 0); // nobody else has the slots
        CHECK(page_cache_stats().pages == 0);
    }
    // Rights that change meanwhile.
    machine.empty_the_cache();
    REQUIRE(space->protect(swap_at(0), kPages * kPageSize, Prot::none));
    CHECK(space->handle_fault(swap_at(0), FaultAccess::read) == FaultResult::no_access);
    REQUIRE(space->protect(swap_at(0), kPages * kPageSize, kRead));
    CHECK(user_load(swap_at(1, 4)) == 101);
    CHECK(space->handle_fault(swap_at(1), FaultAccess::write) == FaultResult::no_access);
    REQUIRE(space->protect(swap_at(0), kPages * kPageSize, kReadWrite));
    user_store(swap_at(1, 8), 5);
    user_store(swap_at(2, 4), 6); // a page that comes back by a store
    CHECK(user_load(swap_at(1, 4)) == 101);
    CHECK(user_load(swap_at(2, 8)) == 102);
    // Unmapped pages give their slots back without being read.
    machine.empty_the_cache();
    const u32 reads = machine.disk.counts().starts;
    REQUIRE(space->unmap(swap_at(0), 4 * kPageSize));
    CHECK(machine.used() == kPages - 4);
    CHECK(machine.disk.counts().starts == reads);
    run_in(nullptr);
}

TEST_CASE("swap: parents and children share slots until one of them stores", "[swap][swap-slots]") {
    for (const bool before_fork : {true, false})
        for (const bool from_disk : {true, false}) {
            Swapping machine{256};
            constexpr u32 kPages = 4;
            Owned parent;
            map_pages(*parent, kBase, kPages);
            run_in(parent.get());
            for (u32 page = 0; page < kPages; ++page)
                user_store(swap_at(page), page + 1);
            const auto out = [&] { from_disk ? machine.empty_the_cache() : machine.swap_everything_out(); };
            if (before_fork) out();
            Owned child = fork_of(*parent), grandchild = fork_of(*child);
            out();
            CHECK(parent->stats().resident == 0);
            CHECK(child->stats().resident == 0);
            CHECK(machine.used() == kPages); // one slot for each page, whoever has it
            run_in(child.get());
            user_store(swap_at(1), 20);
            CHECK(user_load(swap_at(0)) == 1);
            run_in(parent.get());
            CHECK(user_load(swap_at(1)) == 2);
            user_store(swap_at(2), 30);
            out();
            run_in(grandchild.get());
            for (u32 page = 0; page < kPages; ++page)
                CHECK(user_load(swap_at(page)) == page + 1);
            user_store(swap_at(3), 40);
            run_in(child.get());
            CHECK(user_load(swap_at(1)) == 20);
            CHECK(user_load(swap_at(2)) == 3);
            CHECK(user_load(swap_at(3)) == 4);
            run_in(parent.get());
            CHECK(user_load(swap_at(1)) == 2);
            CHECK(user_load(swap_at(2)) == 30);
            CHECK(user_load(swap_at(3)) == 4);
            run_in(nullptr);
        }
}

TEST_CASE("swap: a pinned page stays, and fork copies it", "[swap]") {
    Swapping machine{256};
    Owned space;
    map_pages(*space, kBase, 2);
    run_in(space.get());
    user_store(swap_at(0), 1);
    user_store(swap_at(1), 2);
    machine.empty_the_cache();
    Page* pinned = nullptr;
    REQUIRE(get_user_pages(*space, UserAddr{kBase}, 1, true, &pinned)); // brings it in
    machine.empty_the_cache();
    CHECK(space->stats().resident == 1);
    Owned child = fork_of(*space);
    const u32 word = 77;
    memcpy_to_page(pinned, 0, &word, sizeof word);
    CHECK(user_load(swap_at(0)) == 77);
    user_store(swap_at(0, 4), 78);
    u32 seen = 0;
    memcpy_from_page(&seen, pinned, 4, sizeof seen);
    CHECK(seen == 78);
    put_page(pinned);
    run_in(child.get());
    CHECK(user_load(swap_at(0)) == 1);
    CHECK(user_load(swap_at(1)) == 2);
    run_in(nullptr);
}

TEST_CASE("swap: pages of files, shared memory and private copies", "[swap]") {
    Swapping machine{256};
    {
        TestFile file{2 * kPageSize};
        Owned space;
        map_pages(*space, kBase, 1, kReadWrite, MapKind::shared);
        map_pages(*space, swap_at(1).value(), 1);
        map_file(*space, file, 2, 2, MapKind::anonymous);
        run_in(space.get());
        user_store(swap_at(0), 1);
        user_store(swap_at(1), 2);
        CHECK(user_load(swap_at(2)) == TestFile::word(0, 0));
        user_store(swap_at(3), 4);
        machine.empty_the_cache();
        CHECK(machine.used() == 3); // the shared page, the private one, and the copy of the second page of the file
        CHECK(space->stats().resident == 1);
        CHECK(user_load(swap_at(0)) == 1);
        CHECK(user_load(swap_at(1)) == 2);
        CHECK(user_load(swap_at(2)) == TestFile::word(0, 0));
        CHECK(user_load(swap_at(3)) == 4);
        CHECK(user_load(swap_at(3, 4)) == TestFile::word(1, 4));
        run_in(nullptr);
        space.end();
        ObjectCache::give_back_empty_slabs();
    }
}

TEST_CASE("swap: errors of the disk", "[swap]") {
    Swapping machine{64};
    Owned space;
    map_pages(*space, kBase, 4);
    run_in(space.get());
    for (u32 page = 0; page < 4; ++page)
        user_store(swap_at(page), page + 1);
    // What cannot be written stays in memory.
    for (u32 slot = 1; slot < 64; ++slot)
        machine.disk.fail(slot * kPageSectors);
    machine.swap_everything_out();
    CHECK_FALSE(write_back_all());
    while (drop_pages(~0u) != 0) {
    }
    CHECK(page_cache_stats().pages == 4);
    CHECK(user_load(swap_at(0)) == 1);
    // What cannot be read is lost to its program, and to no other.
    for (u32 slot = 1; slot < 64; ++slot)
        machine.disk.repair(slot * kPageSectors);
    machine.empty_the_cache();
    for (u32 slot = 1; slot < 64; ++slot)
        machine.disk.fail(slot * kPageSectors);
    CHECK(space->handle_fault(swap_at(1), FaultAccess::read) == FaultResult::lost);
    for (u32 slot = 1; slot < 64; ++slot)
        machine.disk.repair(slot * kPageSectors);
    CHECK(user_load(swap_at(1)) == 2);
    run_in(nullptr);
}

TEST_CASE("swap: when memory and swap are full, the fault fails", "[swap]") {
    constexpr u32 kSlots = 64;
    Swapping machine{kSlots + 1};
    Owned space;
    map_pages(*space, kBase, 2 * kSwapMemory);
    run_in(space.get());
    u32 page = 0;
    try {
        for (;; ++page)
            user_store(swap_at(page), page);
    } catch (const Killed&) {
    }
    CHECK(page > kSwapMemory / 2);
    CHECK(machine.area->free_slots() == 0);
    // With a few pages less, the others come back: every load swaps one page for another.
    REQUIRE(space->unmap(swap_at(0), kSlots * kPageSize));
    for (u32 i = kSlots; i < page; ++i)
        REQUIRE(user_load(swap_at(i)) == i);
    run_in(nullptr);
}

// Every page has a slot and is in the cache, because one of the spaces that share it has swapped it out.
struct SharedPages {
    static constexpr u32 kSlots = 64, kSpaces = 100;
    SharedPages() {
        map_pages(*parent, kBase, kSlots);
        run_in(parent.get());
        for (u32 page = 0; page < kSlots; ++page)
            user_store(swap_at(page), page + 1);
        run_in(nullptr);
        for (u32 child = 0; child < kSpaces; ++child)
            children.push_back(fork_of(*parent));
        while (parent->stats().resident != 0) {
            bool passed = false;
            HandLimit none;
            CHECK(parent->swap_out(kSlots, passed, none) == 0); // the children have them
        }
        CHECK(swap_stats().free == 0);
        CHECK(swap_cache_is_mapped());
    }
    void check() const {
        CHECK_FALSE(swap_cache_is_mapped());
        for (const Owned& child : children)
            CHECK(child->stats().resident == 0);
    }
    Owned parent;
    std::vector<Owned> children;
};

TEST_CASE("swap: without a free slot, pages go that have one", "[swap]") {
    Swapping machine{SharedPages::kSlots + 1};
    SharedPages shared;
    CHECK(swap_out_pages(SharedPages::kSlots) == SharedPages::kSlots);
    shared.check();
    // Nothing can go now, and the hand looks at a part of the pages only.
    Owned other;
    map_pages(*other, kBase, 2048);
    run_in(other.get());
    for (u32 page = 0; page < 2048; ++page)
        user_store(swap_at(page), page);
    HandLimit limit;
    CHECK(swap_out_pages(1, limit) == 0);
    CHECK(~0u - limit.looks <= 1024);
    run_in(nullptr);
}

TEST_CASE("swap: no program is ended while pages can go that have a slot", "[swap]") {
    Swapping machine{SharedPages::kSlots + 1};
    SharedPages shared;
    Owned other;
    other->set_use(SpaceUse::program);
    map_pages(*other, kBase, 1);
    u32 ended = 0;
    const OnProgramEnd hook{[&](AddressSpace&, const SpaceStats&) {
        ++ended;
        return ProgramEnd::own;
    }};
    std::vector<Page*> taken;
    while (Page* const page = alloc_page(Gfp::user))
        taken.push_back(page);
    CHECK(other->handle_fault(swap_at(0), FaultAccess::write) == FaultResult::resolved);
    CHECK(ended == 0);
    for (Page* const page : taken)
        free_page(page);
    run_in(shared.children.back().get());
    for (u32 page = 0; page < SharedPages::kSlots; ++page)
        CHECK(user_load(swap_at(page)) == page + 1);
    run_in(nullptr);
}

// The thread that works at the list stores a file, and wants a frame for that. The only pages that can be freed are
// those that have gone out, and other threads cannot write them by the list.
TEST_CASE("swap: pages that are out are written while a file is stored", "[swap]") {
    for (const Reclaimer who : {Reclaimer::server, Reclaimer::transfer}) {
        Swapping machine{65};
        Owned space;
        map_pages(*space, kBase, 64);
        run_in(space.get());
        for (u32 page = 0; page < 64; ++page)
            user_store(swap_at(page), page);
        run_in(nullptr);
        TestFile file{kPageSize, true};
        put_page(*file.page(0));
        file.stored_to(0);
        u32 freed = 0;
        file.in_store = [&] {
            machine.swap_everything_out();
            freed = reclaim(1, who);
        };
        CHECK(write_back_all());
        CHECK(freed == 64);
        file.in_store = [] {};
    }
}

// The hand goes over the entries of pages that are out; its limit is one of pages in memory.
TEST_CASE("swap: entries of pages that are out are no pages for the hand", "[swap]") {
    Swapping machine{513};
    Owned space;
    map_pages(*space, kBase, 600);
    run_in(space.get());
    for (u32 page = 0; page < 500; ++page)
        user_store(swap_at(page), page);
    machine.empty_the_cache();
    REQUIRE(space->stats().swapped == 500);
    for (u32 page = 500; page < 504; ++page)
        user_store(swap_at(page), page);
    run_in(nullptr);
    // Four looks take the A bits, and a CPU may set one again meanwhile.
    HandLimit limit{.looks = 16};
    CHECK(swap_out_pages(4, limit) == 4);
}

TEST_CASE("swap: an area is emptied", "[swap]") {
    Swapping machine{256};
    Owned space;
    map_pages(*space, kBase, 8);
    run_in(space.get());
    for (u32 page = 0; page < 8; ++page)
        user_store(swap_at(page), page + 1);
    machine.empty_the_cache();
    Owned child = fork_of(*space);
    REQUIRE(space->protect(swap_at(3), kPageSize, Prot::none));
    REQUIRE(empty_swap_area(*machine.area));
    CHECK(machine.used() == 0);
    machine.swap_everything_out();
    CHECK(machine.used() == 0); // it is closed
    for (u32 page = 0; page < 8; ++page)
        if (page != 3) CHECK(user_load(swap_at(page)) == page + 1);
    run_in(child.get());
    CHECK(user_load(swap_at(3)) == 4);
    run_in(nullptr);
}

// The page may be stored to by its old translation until the flush: what is written must not miss such a store.
TEST_CASE("swap: a CPU with an old translation cannot store to a page that is swapped out", "[swap]") {
    Swapping machine{256};
    Owned space;
    map_pages(*space, kBase, 2);
    const auto on_other_cpu = [&](const std::function<void()>& what) { sim::on_cpu(CpuId{1}, what); };
    on_other_cpu([&] {
        run_in(space.get());
        user_store(swap_at(0), 1);
        user_store(swap_at(1), 2);
    });
    machine.empty_the_cache();
    on_other_cpu([&] {
        CHECK(user_load(swap_at(0)) == 1);
        user_store(swap_at(0), 3);
    });
    machine.empty_the_cache();
    on_other_cpu([&] {
        CHECK(user_load(swap_at(0)) == 3);
        CHECK(user_load(swap_at(1)) == 2);
        run_in(nullptr);
    });
}

TEST_CASE("swap: pages that are used stay, and others go", "[swap]") {
    Swapping machine{256};
    constexpr u32 kPages = 8;
    Owned space;
    map_pages(*space, kBase, kPages);
    run_in(space.get());
    for (u32 page = 0; page < kPages; ++page)
        user_store(swap_at(page), page);
    // The hand takes the A bits, which a CPU may set again by speculation.
    for (u32 pass = 0; pass < 20; ++pass) {
        for (const Prot prot : {kRead, kReadWrite}) // so that the processor looks at the entry again
            REQUIRE(space->protect(swap_at(3), kPageSize, prot));
        CHECK(user_load(swap_at(3)) == 3);
        bool passed = false;
        HandLimit none;
        static_cast<void>(space->swap_out(~0u, passed, none));
        CHECK(passed);
    }
    CHECK(space->stats().resident == 1);
    CHECK(machine.used() == kPages - 1);
    run_in(nullptr);
}

// All pages lie behind the hand, and all were accessed: the hand has to pass them twice after the end of the space.
TEST_CASE("swap: a hand at the end of a space comes to its pages again", "[swap]") {
    Swapping machine{256};
    constexpr u32 kPages = 64;
    Owned space, other;
    map_pages(*space, kBase, kPages);
    run_in(space.get());
    for (u32 page = 0; page < kPages; ++page)
        user_store(swap_at(page), page);
    run_in(other.get()); // no CPU sets A by speculation
    bool passed = false;
    HandLimit none;
    CHECK(space->swap_out(kPages, passed, none) == 0);
    CHECK(passed);
    CHECK(space->swap_out(kPages, passed = false, none) == kPages);
    CHECK_FALSE(passed);
    run_in(space.get());
    for (u32 page = 0; page < kPages; ++page)
        CHECK(user_load(swap_at(page)) == page);
    run_in(other.get());
    CHECK(swap_out_pages(1) != 0);
    run_in(nullptr);
}

TEST_CASE("swap: locked memory stays, and a child does not inherit the lock", "[swap]") {
    Swapping machine{256};
    Owned space;
    map_pages(*space, kBase, 1);
    REQUIRE(space->map(swap_at(1), 2 * kPageSize, kReadWrite, MapKind::anonymous, true, true, {.locked = true}));
    map_pages(*space, swap_at(3).value(), 1);
    CHECK(space->stats().areas == 3);
    run_in(space.get());
    for (u32 page = 0; page < 4; ++page)
        user_store(swap_at(page), page + 1);
    machine.swap_everything_out();
    CHECK(space->stats().resident == 2);
    CHECK(space->stats().swapped == 2);
    REQUIRE(space->protect(swap_at(1), kPageSize, kRead)); // cuts the area
    machine.swap_everything_out();
    CHECK(space->stats().resident == 2);
    {
        Owned child = fork_of(*space);
        machine.empty_the_cache();
        CHECK(space->stats().resident == 2);
        CHECK(child->stats().resident == 0);
        CHECK(child->stats().swapped == 4);
        CHECK(machine.used() == 4);
        run_in(child.get());
        for (u32 page = 0; page < 4; ++page)
            CHECK(user_load(swap_at(page)) == page + 1);
        run_in(nullptr);
    }
    run_in(space.get());
    for (u32 page = 0; page < 4; ++page)
        CHECK(user_load(swap_at(page)) == page + 1);
    run_in(nullptr);
}

TEST_CASE("swap: a page that several spaces share is read once", "[swap][swap-slots]") {
    Swapping machine{256};
    Owned parent;
    map_pages(*parent, kBase, 2);
    run_in(parent.get());
    user_store(swap_at(0), 1);
    user_store(swap_at(1), 2);
    Owned child = fork_of(*parent), other = fork_of(*parent);
    machine.empty_the_cache();
    // The frames that will be filled do not know by chance which slots they had.
    std::vector<Page*> frames = new_pages(64);
    for (Page* const frame : frames)
        frame->set_payload(0);
    free_all(frames);
    const u32 in = swap_stats().in, out = swap_stats().out;
    // While others have the slot, the page goes out to it again, and is not written again.
    CHECK(user_load(swap_at(0)) == 1);
    CHECK(user_load(swap_at(1)) == 2);
    machine.swap_everything_out();
    CHECK(machine.used() == 2);
    CHECK(page_cache_stats().pages == 2);
    CHECK(page_cache_stats().dirty == 0);
    for (AddressSpace* const space : {parent.get(), child.get(), other.get()}) {
        run_in(space);
        CHECK(user_load(swap_at(0)) == 1);
        CHECK(user_load(swap_at(1)) == 2);
        CHECK(space->stats().resident == 2);
    }
    CHECK(swap_stats().in - in == 2);
    CHECK(machine.used() == 0);
    CHECK(page_cache_stats().pages == 0);
    // It has one frame, and is written once: the second time it is swapped out, too.
    machine.empty_the_cache();
    CHECK(swap_stats().out - out == 2);
    CHECK(machine.used() == 2);
    run_in(nullptr);
}

// The slots behind it may be free, and get other pages meanwhile.
TEST_CASE("swap: no page is read but the one that is wanted", "[swap][swap-slots]") {
    Swapping machine{256};
    constexpr u32 kSlots = 8;
    for (u32 i = 0; i < kSlots; ++i) {
        const SwapSlot slot = SwapArea::take_slot();
        CHECK(slot.slot == i + 1);
        Page* const page = alloc_anonymous();
        CHECK(machine.area->keep(slot.slot, page));
        put_page(page);
    }
    machine.empty_the_cache();
    CHECK(page_cache_stats().pages == 0);
    for (u32 slot = 1; slot <= kSlots; ++slot) {
        put_page(*machine.area->page(slot));
        CHECK(page_cache_stats().pages == slot);
    }
    for (u32 slot = 1; slot <= kSlots; ++slot)
        machine.area->put_user(slot);
}

TEST_CASE("swap: without memory for the cache a page stays", "[swap]") {
    Swapping machine{256};
    Owned space;
    map_pages(*space, kBase, 1);
    run_in(space.get());
    user_store(swap_at(0), 1);
    {
        const Shortage none{0, 0};
        machine.swap_everything_out();
        CHECK(machine.used() == 0);
        CHECK(space->stats().resident == 1);
        CHECK(user_load(swap_at(0)) == 1);
        user_store(swap_at(0), 2);
    }
    machine.empty_the_cache();
    CHECK(machine.used() == 1);
    CHECK(user_load(swap_at(0)) == 2);
    run_in(nullptr);
}

TEST_CASE("swap: a disk that is taken away", "[swap]") {
    Swapping machine{256};
    Owned space;
    map_pages(*space, kBase, 4);
    run_in(space.get());
    user_store(swap_at(0), 1);
    user_store(swap_at(1), 2);
    machine.empty_the_cache();
    user_store(swap_at(2), 3);
    machine.swap_everything_out();
    machine.disk.take_away();
    // What was not written stays in memory, and nothing more goes out.
    CHECK_FALSE(write_back_all());
    while (drop_pages(~0u) != 0) {
    }
    CHECK(user_load(swap_at(2)) == 3);
    user_store(swap_at(3), 4);
    machine.swap_everything_out();
    CHECK(user_load(swap_at(3)) == 4);
    CHECK(space->stats().resident == 2);
    CHECK(machine.area->free_slots() != 0);
    CHECK(swap_stats().free == 0); // no room: a hand that finds nothing advances by a batch only
    // What was written is lost, and its slot is free when its program ends.
    CHECK(space->handle_fault(swap_at(0), FaultAccess::read) == FaultResult::lost);
    CHECK(machine.used() == 2);
    CHECK(empty_swap_area(*machine.area).error() == Error::io);
    // The disk does not come back when swapoff has failed.
    machine.area->set_closed(false);
    CHECK(SwapArea::take_slot().empty());
    run_in(nullptr);
}

TEST_CASE("swap: an area that cannot be emptied loses nothing", "[swap][long]") {
    constexpr u32 kPages = kSwapMemory + 256;
    Swapping machine{kPages};
    Owned space;
    map_pages(*space, kBase, kPages);
    run_in(space.get());
    for (u32 page = 0; page < kPages; ++page)
        user_store(swap_at(page), page + 1);
    CHECK(empty_swap_area(*machine.area).error() == Error::no_memory);
    machine.area->set_closed(false);
    for (u32 page = 0; page < kPages; ++page)
        REQUIRE(user_load(swap_at(page)) == page + 1);
    REQUIRE(space->unmap(swap_at(512), (kPages - 512) * kPageSize));
    // A page that cannot be read: the others come in when it is gone.
    machine.empty_the_cache();
    CHECK(machine.used() == 512);
    for (u32 slot = 1; slot < kPages; ++slot)
        machine.disk.fail(slot * kPageSectors);
    CHECK(empty_swap_area(*machine.area).error() == Error::io);
    for (u32 slot = 1; slot < kPages; ++slot)
        machine.disk.repair(slot * kPageSectors);
    REQUIRE(empty_swap_area(*machine.area));
    CHECK(machine.used() == 0);
    for (u32 page = 0; page < 512; ++page)
        REQUIRE(user_load(swap_at(page)) == page + 1);
    run_in(nullptr);
}

// --- Pages of objects without a source.

namespace {

// A file in memory whose pages are mapped from page 0 on, shared.
struct SharedFile {
    explicit SharedFile(AddressSpace& space, u32 pages) : file{u64{pages} * kPageSize, ObjectKind::swapped} {
        map_file(space, file, 0, pages, MapKind::shared);
    }
    TestFile file;
};

} // namespace

TEST_CASE("swap: programs have more shared memory than the machine", "[swap][swap-object]") {
    constexpr u32 kPages = kSwapMemory + kSwapMemory / 2;
    Swapping machine{kPages};
    Owned parent;
    map_pages(*parent, kBase, kPages, kReadWrite, MapKind::shared);
    Owned child = fork_of(*parent);
    for (u32 pass = 0; pass < 2; ++pass) {
        run_in(pass == 0 ? parent.get() : child.get());
        for (u32 page = 0; page < kPages; ++page) {
            if (pass == 1) REQUIRE(user_load(swap_at(page)) == page + 1);
            user_store(swap_at(page), page + 1 + pass);
        }
        CHECK(machine.used() >= kPages - kSwapMemory);
    }
    run_in(parent.get());
    for (u32 page = 0; page < kPages; page += 7)
        REQUIRE(user_load(swap_at(page)) == page + 2);
    run_in(nullptr);
}

TEST_CASE("swap: pages of an object come back with their contents, to all who map it", "[swap][swap-object]") {
    Swapping machine{256};
    constexpr u32 kPages = 8;
    Owned one, two;
    {
        SharedFile shared{*one, kPages};
        TestFile& file = shared.file;
        map_file(*two, file, 0, kPages, MapKind::anonymous);
        run_in(one.get());
        for (u32 page = 0; page < kPages; ++page)
            user_store(swap_at(page), page + 100);
        run_in(two.get());
        user_store(swap_at(5), 50); // its own from here on
        CHECK(user_load(swap_at(6)) == 106);
        const u32 fills = file.fills;
        for (const bool from_disk : {false, true}) {
            if (from_disk)
                machine.empty_the_cache();
            else
                Swapping::swap_objects_out();
            CHECK(machine.used() == kPages + from_disk); // and the private copy
            CHECK(one->stats().resident == 0);
            CHECK(two->stats().resident == !from_disk);
            CHECK(page_cache_stats().pages == (from_disk ? 0 : kPages));
            CHECK(file.pages() == kPages); // that it has
            const u32 in = swap_stats().in;
            for (u32 page = 0; page < kPages; ++page) {
                run_in(two.get());
                CHECK(user_load(swap_at(page)) == (page == 5 ? 50 : page + 100));
                run_in(one.get());
                CHECK(user_load(swap_at(page)) == page + 100);
                CHECK(user_load(swap_at(page, 4)) == TestFile::word(page, 4));
                CHECK(word_of(file, page) == page + 100);
            }
            CHECK(swap_stats().in - in == (from_disk ? kPages + 1 : 0));
            CHECK(machine.used() == 0); // no page is in two places
            CHECK(page_cache_stats().pages == kPages);
        }
        CHECK(file.fills == fills);
        CHECK(file.stored.empty());
        run_in(nullptr);
        one.end();
        two.end();
        machine.empty_the_cache();
        CHECK(machine.used() == kPages); // nobody maps it
        CHECK(word_of(file, 3) == 103);
    }
    CHECK(machine.used() == 0); // what was out when it went
}

TEST_CASE("swap: a smaller size gives slots back", "[swap][swap-object]") {
    Swapping machine{256};
    Owned space;
    {
        SharedFile shared{*space, 8};
        TestFile& file = shared.file;
        run_in(space.get());
        for (u32 page = 0; page < 8; ++page)
            user_store(swap_at(page, 16), page + 100);
        machine.empty_the_cache();
        CHECK(machine.used() == 8);
        CHECK(user_load(swap_at(6, 16)) == 106);
        const u32 reads = swap_stats().in;
        REQUIRE(file.resize(4 * kPageSize));
        CHECK(machine.used() == 4);
        CHECK(file.pages() == 4);
        CHECK(swap_stats().in == reads); // nothing is read
        REQUIRE(file.resize(2 * kPageSize + 16));
        CHECK(machine.used() == 2);
        CHECK(swap_stats().in == reads + 1); // but the page in which the end is
        CHECK(user_load(swap_at(2, 12)) == TestFile::word(2, 12));
        CHECK(user_load(swap_at(2, 16)) == 0);
        CHECK(space->handle_fault(swap_at(3), FaultAccess::read) == FaultResult::no_page);
        REQUIRE(file.resize(8 * kPageSize));
        CHECK(user_load(swap_at(6, 16)) == TestFile::word(6, 16)); // filled anew
        CHECK(user_load(swap_at(1, 16)) == 101);
        run_in(nullptr);
        space.end();
    }
    CHECK(machine.used() == 0);
}

TEST_CASE("swap: pages of an object that are in use stay", "[swap][swap-object]") {
    Swapping machine{256};
    Owned space;
    {
        SharedFile shared{*space, 4};
        TestFile& file = shared.file;
        REQUIRE(space->map(swap_at(4), kPageSize, kReadWrite, MapKind::shared, true, true,
                           {.object = &file, .first = 3, .locked = true}));
        run_in(space.get());
        for (const u32 page : {0u, 1u, 2u, 4u})
            user_store(swap_at(page), page + 100);
        Page* pinned = nullptr;
        REQUIRE(get_user_pages(*space, UserAddr{kBase}, 1, true, &pinned));
        Page* const found = *file.page(1);
        machine.empty_the_cache();
        CHECK(machine.used() == 1); // page 2
        const u32 words[2]{7, 8};
        memcpy_to_page(pinned, 0, &words[0], sizeof words[0]);
        memcpy_to_page(found, 0, &words[1], sizeof words[1]);
        put_page(pinned);
        put_page(found);
        machine.empty_the_cache();
        CHECK(machine.used() == 3); // all but the locked one
        CHECK(user_load(swap_at(0)) == 7);
        CHECK(user_load(swap_at(1)) == 8);
        CHECK(user_load(swap_at(2)) == 102);
        CHECK(user_load(swap_at(3)) == 104);
        run_in(nullptr);
        space.end();
    }
}

// A page that is found between two passes of the hand stays, as that of a file does.
TEST_CASE("swap: pages of an object that are read stay", "[swap][swap-object]") {
    Swapping machine{256};
    TestFile file{8 * kPageSize, ObjectKind::swapped};
    for (u32 page = 0; page < 8; ++page)
        put_page(*file.page(page));
    bool passed = false;
    HandLimit none;
    for (u32 pass = 0; pass < 5; ++pass) {
        CHECK(word_of(file, 3) == TestFile::word(3, 0));
        CHECK(file.sweep(passed, none) == 0);
        CHECK(passed);
    }
    CHECK(machine.used() == 7);
    HandLimit two{.swaps = 2};
    machine.empty_the_cache();
    for (u32 page = 0; page < 8; ++page)
        put_page(*file.page(page));
    CHECK(file.sweep(passed, two) == 0); // the marks
    CHECK(file.sweep(passed, two) == 0);
    CHECK(machine.used() == 2);
    CHECK(two.swaps == 0);
}

// As for private pages: the page may be stored to by its old translation until the flush.
TEST_CASE("swap: a CPU with an old translation cannot store to a page of an object that goes", "[swap][swap-object]") {
    Swapping machine{256};
    Owned space;
    {
        SharedFile shared{*space, 2};
        const auto on_other_cpu = [&](const std::function<void()>& what) { sim::on_cpu(CpuId{1}, what); };
        on_other_cpu([&] {
            run_in(space.get());
            user_store(swap_at(0), 1);
        });
        for (u32 pass = 0; pass < 2; ++pass) {
            machine.empty_the_cache();
            CHECK(machine.used() == 1);
            on_other_cpu([&] {
                CHECK(user_load(swap_at(0)) == pass + 1);
                user_store(swap_at(0), pass + 2);
            });
        }
        on_other_cpu([&] { run_in(nullptr); });
        space.end();
    }
}

TEST_CASE("swap: full swap, or no memory for the cache, leaves the pages of an object", "[swap][swap-object]") {
    Swapping machine{4}; // three slots
    Owned space;
    {
        SharedFile shared{*space, 8};
        // Its page table stays: that would be memory for the cache.
        REQUIRE(space->map(swap_at(8), kPageSize, kReadWrite, MapKind::anonymous, true, true, {.locked = true}));
        run_in(space.get());
        for (u32 page = 0; page < 9; ++page)
            user_store(swap_at(page), page + 100);
        {
            const Shortage none{0, 0};
            Swapping::swap_objects_out();
            CHECK(machine.used() == 0);
        }
        machine.empty_the_cache();
        CHECK(machine.used() == 3);
        CHECK(page_cache_stats().pages == 5);
        for (u32 page = 0; page < 8; ++page)
            CHECK(user_load(swap_at(page)) == page + 100);
        // No mapping goes for nothing.
        for (u32 slot = 1; slot <= 3; ++slot)
            CHECK(SwapArea::take_slot().slot != 0);
        Swapping::swap_objects_out();
        CHECK(space->stats().resident == 9);
        for (u32 slot = 1; slot <= 3; ++slot)
            machine.area->put_user(slot);
        run_in(nullptr);
        space.end();
    }
}

TEST_CASE("swap: errors of the disk, for pages of objects", "[swap][swap-object]") {
    Swapping machine{64};
    Owned space;
    {
        SharedFile shared{*space, 4};
        TestFile& file = shared.file;
        run_in(space.get());
        for (u32 page = 0; page < 4; ++page)
            user_store(swap_at(page), page + 100);
        const auto disk = [&](bool works) {
            for (u32 slot = 1; slot < 64; ++slot)
                works ? machine.disk.repair(slot * kPageSectors) : machine.disk.fail(slot * kPageSectors);
        };
        disk(false);
        Swapping::swap_objects_out();
        CHECK_FALSE(write_back_all());
        CHECK(page_cache_stats().pages == 4); // in the cache of the area
        CHECK(user_load(swap_at(0)) == 100);
        disk(true);
        machine.empty_the_cache();
        disk(false);
        u32 word = 0;
        CHECK(space->handle_fault(swap_at(1), FaultAccess::read) == FaultResult::no_page);
        CHECK(file.read(kPageSize, &word, sizeof word).error() == Error::io);
        CHECK(empty_swap_area(*machine.area).error() == Error::io);
        CHECK(machine.used() == 4);
        disk(true);
        machine.area->set_closed(false);
        CHECK(user_load(swap_at(1)) == 101);
        CHECK(word_of(file, 2) == 102);
        run_in(nullptr);
        space.end();
    }
}

TEST_CASE("swap: an area that has pages of objects is emptied", "[swap][swap-object]") {
    Swapping machine{256};
    Owned space;
    {
        SharedFile shared{*space, 8};
        TestFile other{2 * kPageSize, ObjectKind::swapped};
        run_in(space.get());
        for (u32 page = 0; page < 8; ++page)
            if (page != 4) user_store(swap_at(page), page + 100);
        put_page(*other.page(1));
        machine.empty_the_cache();
        CHECK(machine.used() == 8);
        CHECK(user_load(swap_at(2)) == 102);
        REQUIRE(empty_swap_area(*machine.area));
        CHECK(machine.used() == 0);
        machine.empty_the_cache();
        CHECK(machine.used() == 0); // it is closed
        CHECK(page_cache_stats().pages == 8);
        for (u32 page = 0; page < 8; ++page)
            if (page != 4) CHECK(user_load(swap_at(page)) == page + 100);
        CHECK(word_of(other, 1) == TestFile::word(1, 0));
        CHECK(other.fills == 1);
        run_in(nullptr);
        space.end();
    }
}
