// Copies from and to programs: bad addresses, memory that is unmapped during a copy, frames that are pinned.
#include "mm/ground/context.hpp"
#include "mm/spaces/user_copy.hpp"
#include "tests/host/oracle.hpp"
#include "tests/host/spaces/program.hpp"

#include <numeric>

using namespace loft;
using namespace loft::test;

namespace {

constexpr CpuId k1{1};

// A program with four pages at kBase, a hole, and a read-only page at kBase + 5 pages.
struct PagesAndHole {
    PagesAndHole() {
        warm_up();
        before = books();
        space.emplace();
        run_in(space->get());
        map_pages(**space, kBase, 4);
        map_pages(**space, kBase + 5 * kPageSize, 1, kRead);
    }
    ~PagesAndHole() noexcept(false) {
        space->end();
        CHECK(books() == before);
    }
    AddressSpace* operator->() const { return space->get(); }
    AddressSpace& operator*() const { return **space; }
    u64 phys(u32 va) const { return oracle_walk(space->get()->root().value(), va)->phys; }

    Booted kernel{small(2)};
    Books before;
    std::optional<Owned> space;
};

std::vector<u8> pattern(u32 bytes) {
    std::vector<u8> data(bytes);
    std::iota(data.begin(), data.end(), static_cast<u8>(17));
    return data;
}
constexpr UserAddr user(u32 at) { return UserAddr{at}; }

} // namespace

TEST_CASE("user copy: there and back, over pages, at any alignment", "[user_copy]") {
    PagesAndHole p;
    for (const u32 offset : {0u, 1u, 3u, kPageSize - 2, kPageSize})
        for (const u32 bytes : {0u, 1u, 2u, 5u, 100u, kPageSize, 2 * kPageSize + 7}) {
            const std::vector<u8> out = pattern(bytes);
            std::vector<u8> in(bytes);
            CHECK(copy_to_user(user(kBase + offset), out.data(), bytes) == 0);
            CHECK(copy_from_user(in.data(), user(kBase + offset), bytes) == 0);
            CHECK(in == out);
            CHECK(clear_user(user(kBase + offset), bytes) == 0);
            CHECK(copy_from_user(in.data(), user(kBase + offset), bytes) == 0);
            CHECK(std::all_of(in.begin(), in.end(), [](u8 byte) { return byte == 0; }));
        }
    CHECK(p->stats().resident == 4);
}

TEST_CASE("user copy: what has not been touched yet is zeros", "[user_copy]") {
    PagesAndHole p;
    std::vector<u8> in(4 * kPageSize, 1);
    CHECK(copy_from_user(in.data(), user(kBase), 4 * kPageSize) == 0);
    CHECK(std::count(in.begin(), in.end(), 0) == 4 * kPageSize);
    CHECK(p->stats().resident == 4);
}

TEST_CASE("user copy: ends where the memory ends, and says how much is missing", "[user_copy]") {
    PagesAndHole p;
    std::vector<u8> data = pattern(3 * kPageSize);
    CHECK(copy_to_user(user(kBase + 3 * kPageSize), data.data(), 2 * kPageSize) == kPageSize);
    CHECK(copy_from_user(data.data(), user(kBase + 3 * kPageSize + 100), kPageSize) == 100);
    CHECK(clear_user(user(kBase + 3 * kPageSize), 3 * kPageSize) == 2 * kPageSize);
    CHECK(copy_from_user(data.data(), user(kBase + 4 * kPageSize), 8) == 8);
    // Reading is allowed there, writing is not.
    CHECK(copy_from_user(data.data(), user(kBase + 5 * kPageSize), 8) == 0);
    CHECK(copy_to_user(user(kBase + 5 * kPageSize), data.data(), 8) == 8);
    CHECK(clear_user(user(kBase + 5 * kPageSize), kPageSize) == kPageSize);
    REQUIRE(p->protect(VirtAddr{kBase}, kPageSize, Prot::none));
    CHECK(copy_from_user(data.data(), user(kBase), 8) == 8);
    CHECK(copy_from_user(data.data(), user(kBase + kPageSize), 8) == 0);
}

TEST_CASE("user copy: the kernel's addresses, and ranges that reach them or wrap, are not touched", "[user_copy]") {
    PagesAndHole p;
    map_pages(*p, layout::kUserEnd - kPageSize, 1);
    Page* page = new_page();
    u32 word = 0x1234;
    u32 touched = 0;
    sim::ScopedHook hook{[&](sim::Point point) { touched += point == sim::Point::memory; }};
    const auto refused = [&](u32 at, u32 bytes) {
        touched = 0;
        std::vector<u8> data(std::min(bytes, kPageSize));
        CHECK(copy_from_user(data.data(), user(at), bytes) == bytes);
        CHECK(copy_to_user(user(at), data.data(), bytes) == bytes);
        CHECK(clear_user(user(at), bytes) == bytes);
        CHECK(copy_from_user_inatomic(data.data(), user(at), bytes) == bytes);
        CHECK(copy_to_user_inatomic(user(at), data.data(), bytes) == bytes);
        CHECK(fault_in_readable(user(at), bytes) == bytes);
        CHECK(fault_in_writeable(user(at), bytes) == bytes);
        if (bytes <= kPageSize) {
            CHECK(copy_user_to_page(page, 0, user(at), bytes) == bytes);
            CHECK(copy_page_to_user(user(at), page, 0, bytes) == bytes);
            CHECK(read_space(*p, &word, user(at), bytes) == bytes);
            CHECK(write_space(*p, user(at), &word, bytes) == bytes);
        }
        CHECK(touched == 0);
    };
    refused(layout::kUserEnd, 4);
    refused(layout::kUserEnd - 2, 4);
    refused(layout::kUserEnd - kPageSize, kPageSize + 1);
    refused(0xffff'fffc, 4);
    refused(0xffff'fffc, 8);
    refused(kBase, ~0u);
    refused(layout::boundaries.vmap_begin, 4);
    CHECK(word == 0x1234);
    free_page(page);
}

TEST_CASE("user copy: a kernel thread has no program, whatever root is loaded", "[user_copy]") {
    PagesAndHole p;
    user_store(VirtAddr{kBase}, 7);
    run_in(nullptr);
    u32 word = 0;
    CHECK(copy_from_user(&word, user(kBase), 4) == 4);
    CHECK(copy_from_user_inatomic(&word, user(kBase), 4) == 4);
    CHECK(copy_to_user(user(kBase), &word, 4) == 4);
    CHECK(fault_in_readable(user(kBase), 4) == 4);
    CHECK(resolve_user_fault(VirtAddr{kBase}, FaultAccess::read) == FaultResult::bad_address);
    CHECK(word == 0);
}

TEST_CASE("user copy: the kernel obeys a program's write protection", "[user_copy][fork]") {
    PagesAndHole p;
    user_store(VirtAddr{kBase}, 1);
    Owned child = fork_of(*p);
    const u32 value = 2;
    CHECK(copy_to_user(user(kBase), &value, 4) == 0);
    CHECK(user_load(VirtAddr{kBase}) == 2);
    run_in(child.get());
    CHECK(user_load(VirtAddr{kBase}) == 1);
    run_in(p.space->get());
}

TEST_CASE("user copy: only where one may sleep; the inatomic forms anywhere", "[user_copy]") {
    PagesAndHole p;
    user_store(VirtAddr{kBase}, 5);
    u32 word = 0;
    Page* page = new_page();
    {
        PreemptGuard guard;
        CHECK_PANIC(static_cast<void>(copy_from_user(&word, user(kBase), 4)), "may sleep");
        CHECK_PANIC(static_cast<void>(copy_to_user(user(kBase), &word, 4)), "may sleep");
        CHECK_PANIC(static_cast<void>(clear_user(user(kBase), 4)), "may sleep");
        CHECK_PANIC(static_cast<void>(copy_user_to_page(page, 0, user(kBase), 4)), "may sleep");
        CHECK_PANIC(static_cast<void>(fault_in_readable(user(kBase), 4)), "may sleep");
        CHECK_PANIC(static_cast<void>(strncpy_from_user(nullptr, user(kBase), 4)), "may sleep");
        CHECK_PANIC(static_cast<void>(get_user_pages(*p, user(kBase), 1, false, &page)), "get_user_pages may sleep");
        CHECK_PANIC(static_cast<void>(read_space(*p, &word, user(kBase), 4)), "may sleep");
        CHECK(copy_from_user_inatomic(&word, user(kBase), 4) == 0);
        CHECK(word == 5);
    }
    as_interrupt([&] {
        word = 6;
        CHECK(copy_to_user_inatomic(user(kBase), &word, 4) == 0);
        CHECK(copy_to_user_inatomic(user(kBase + kPageSize), &word, 4) == 4);
    });
    CHECK(user_load(VirtAddr{kBase}) == 6);
    CHECK(p->stats().resident == 1);
    {
        AtomicMap map{page};
        CHECK(copy_from_user_inatomic(&word, user(kBase + kPageSize), 4) == 4);
    }
    free_page(page);
}

TEST_CASE("user copy: single values", "[user_copy]") {
    PagesAndHole p;
    CHECK(put_user<u32>(user(kBase + 2), 0xdead'beef));
    CHECK(*get_user<u32>(user(kBase + 2)) == 0xdead'beef);
    CHECK(*get_user<u16>(user(kBase + 2)) == 0xbeef);
    CHECK(*get_user<u8>(user(kBase + 5)) == 0xde);
    CHECK(put_user<u32>(user(kBase + kPageSize - 2), 0x0102'0304));
    CHECK(*get_user<u32>(user(kBase + kPageSize - 2)) == 0x0102'0304);
    CHECK(get_user<u32>(user(kBase + 4 * kPageSize)).error() == Error::bad_address);
    CHECK(put_user<u32>(user(kBase + 5 * kPageSize), 1).error() == Error::bad_address);
    CHECK(put_user<u32>(user(0xc010'0000), 1).error() == Error::bad_address);
}

TEST_CASE("user copy: strings", "[user_copy]") {
    PagesAndHole p;
    char text[3 * kPageSize];
    const auto put = [&](u32 at, const std::string& what) {
        REQUIRE(copy_to_user(user(at), what.data(), static_cast<u32>(what.size() + 1)) == 0);
    };
    put(kBase + 10, "hello");
    CHECK(*strncpy_from_user(text, user(kBase + 10), 64) == 5);
    CHECK(std::string{text} == "hello");
    CHECK(*strncpy_from_user(text, user(kBase + 10), 6) == 5);
    CHECK(*strncpy_from_user(text, user(kBase + 10), 5) == 5); // no room for the terminating 0
    CHECK(*strncpy_from_user(text, user(kBase + 10), 0) == 0);
    put(kBase + kPageSize - 3, "over the edge");
    CHECK(*strncpy_from_user(text, user(kBase + kPageSize - 3), 64) == 13);
    CHECK(std::string{text} == "over the edge");
    // The terminating 0 is the last byte of the program's memory.
    put(kBase + 4 * kPageSize - 6, "brink");
    CHECK(*strncpy_from_user(text, user(kBase + 4 * kPageSize - 6), 64) == 5);
    REQUIRE(put_user<u8>(user(kBase + 4 * kPageSize - 1), 'x'));
    CHECK(strncpy_from_user(text, user(kBase + 4 * kPageSize - 6), 64).error() == Error::bad_address);
    CHECK(*strncpy_from_user(text, user(kBase + 4 * kPageSize - 6), 6) == 6);
    map_pages(*p, layout::kUserEnd - kPageSize, 1);
    put(layout::kUserEnd - 4, "end");
    CHECK(*strncpy_from_user(text, user(layout::kUserEnd - 4), 64) == 3);
    REQUIRE(put_user<u8>(user(layout::kUserEnd - 1), 'x'));
    CHECK(strncpy_from_user(text, user(layout::kUserEnd - 4), 64).error() == Error::bad_address);
    CHECK(strncpy_from_user(text, user(0xffff'ffff), 64).error() == Error::bad_address);
}

TEST_CASE("user copy: fault-in makes the pages be there", "[user_copy]") {
    PagesAndHole p;
    CHECK(fault_in_readable(user(kBase + 5), 2 * kPageSize) == 0);
    CHECK(p->stats().resident == 3);
    CHECK(fault_in_writeable(user(kBase), 4 * kPageSize) == 0);
    CHECK(user_can_write(VirtAddr{kBase + 3 * kPageSize}));
    CHECK(fault_in_readable(user(kBase + 3 * kPageSize + 8), 2 * kPageSize) == kPageSize + 8);
    CHECK(fault_in_readable(user(kBase + 5 * kPageSize), 8) == 0);
    CHECK(fault_in_writeable(user(kBase + 5 * kPageSize), 8) == 8);
    CHECK(fault_in_readable(user(kBase), 0) == 0);
}

TEST_CASE("user copy: between a page and a program", "[user_copy]") {
    PagesAndHole p;
    for (const Gfp gfp : {Gfp::high, Gfp::kernel}) {
        Page* page = new_page(gfp);
        const std::vector<u8> data = pattern(kPageSize);
        for (const auto& [offset, at, bytes] : {std::tuple{0u, 0u, kPageSize}, std::tuple{5u, kPageSize - 9, 100u},
                                                std::tuple{kPageSize - 1, 77u, 1u}, std::tuple{kPageSize, 0u, 0u}}) {
            memset_page(page, 0, 0, kPageSize);
            REQUIRE(copy_to_user(user(kBase + at), data.data(), bytes) == 0);
            CHECK(copy_user_to_page(page, offset, user(kBase + at), bytes) == 0);
            std::vector<u8> in(bytes);
            memcpy_from_page(in.data(), page, offset, bytes);
            CHECK(std::equal(in.begin(), in.end(), data.begin()));
            REQUIRE(clear_user(user(kBase + at), bytes) == 0);
            CHECK(copy_page_to_user(user(kBase + at), page, offset, bytes) == 0);
            REQUIRE(copy_from_user(in.data(), user(kBase + at), bytes) == 0);
            CHECK(std::equal(in.begin(), in.end(), data.begin()));
        }
        CHECK(copy_user_to_page(page, 0, user(kBase + 4 * kPageSize - 10), 20) == 10);
        // The second page of the program is not there yet: a second attempt goes on where the first one ended.
        REQUIRE(p->unmap(VirtAddr{kBase + kPageSize}, kPageSize));
        map_pages(*p, kBase + kPageSize, 1);
        REQUIRE(copy_to_user(user(kBase + kPageSize - 8), data.data(), 8) == 0);
        memset_page(page, 0, 1, kPageSize);
        CHECK(copy_user_to_page(page, 4, user(kBase + kPageSize - 8), 16) == 0);
        std::vector<u8> both(24);
        memcpy_from_page(both.data(), page, 0, 24);
        CHECK(std::equal(data.begin(), data.begin() + 8, both.begin() + 4));
        CHECK(std::count(both.begin() + 12, both.begin() + 20, 0) == 8);
        CHECK(std::count(both.begin(), both.end(), 1) == 8);
        CHECK(copy_page_to_user(user(kBase + 5 * kPageSize), page, 0, 20) == 20);
        REQUIRE_PANIC(static_cast<void>(copy_user_to_page(page, 1, user(kBase), kPageSize)), "do not lie in one page");
        REQUIRE_PANIC(static_cast<void>(copy_page_to_user(user(kBase), page, kPageSize + 1, 0)),
                      "do not lie in one page");
        free_page(page);
    }
}

// --- another thread changes the memory meanwhile

namespace {

// Another thread, on CPU 1, that unmaps the page and maps a new one whenever a copy is in the middle of an attempt.
struct Hostile {
    explicit Hostile(AddressSpace& space, u32 begin, u32 pages) : space_{space}, begin_{begin}, pages_{pages} {}
    void operator()() {
        if (sim::machine().current() != CpuId{0} || !pagefaults_disabled()) return;
        intruder_();
    }
    void finish() { intruder_.finish(); }
    u32 times() const { return intruder_.runs(); }

  private:
    static constexpr u32 kTooOften = 400;
    AddressSpace& space_;
    u32 begin_, pages_;
    Intruder intruder_{[this] {
        if (intruder_.runs() > kTooOften) throw std::logic_error{"the copy does not come to an end"};
        sim::on_cpu(k1, [this] {
            sim::machine().here().interrupts = true;
            REQUIRE(space_.unmap(VirtAddr{begin_}, pages_ * kPageSize));
            map_pages(space_, begin_, pages_);
        });
    }};
};

} // namespace

TEST_CASE("user copy: comes to an end though its pages go away at every step", "[user_copy][race]") {
    PagesAndHole p;
    run_in(p.space->get());
    sim::on_cpu(k1, [&] { run_in(p.space->get()); });
    const std::vector<u8> data = pattern(3 * kPageSize);
    std::vector<u8> in(3 * kPageSize);
    Page* page = new_page();
    const std::function<u32()> copies[] = {
        [&] { return copy_to_user(user(kBase + 100), data.data(), 3 * kPageSize); },
        [&] { return copy_from_user(in.data(), user(kBase + 100), 3 * kPageSize); },
        [&] { return clear_user(user(kBase + 100), 3 * kPageSize); },
        [&] { return copy_user_to_page(page, 0, user(kBase + 100), kPageSize); },
        [&] { return copy_page_to_user(user(kBase + 100), page, 0, kPageSize); },
    };
    for (const auto& copy : copies) {
        Hostile hostile{*p, kBase, 4};
        u32 left = 0;
        {
            sim::ScopedHook hook{[&](sim::Point) { hostile(); }};
            left = copy();
        }
        hostile.finish();
        CHECK(left == 0);
        CHECK(hostile.times() > 0);
    }
    free_page(page);
}

TEST_CASE("user copy: what is copied is what was there, pinned or not", "[user_copy][race]") {
    PagesAndHole p;
    constexpr u32 kPages = 3;
    const std::vector<u8> data = pattern(kPages * kPageSize);
    // Unmaps once, at each step in turn: the copy is complete, or it ends at the page that is not mapped.
    const u32 steps = sim::at_every_point({
        .operation =
            [&] {
                const u32 left = copy_to_user(user(kBase), data.data(), kPages * kPageSize);
                CHECK(left == 0);
            },
        .intruder =
            [&] {
                if (pagefaults_disabled() && local_depth() == 0)
                    sim::on_cpu(k1, [&] {
                        REQUIRE(p->unmap(VirtAddr{kBase}, kPageSize));
                        map_pages(*p, kBase, 1);
                    });
            },
        .check =
            [&] {
                std::vector<u8> rest((kPages - 1) * kPageSize); // all pages except the unmapped one
                CHECK(copy_from_user(rest.data(), user(kBase + kPageSize), rest.size()) == 0);
                CHECK(std::equal(rest.begin(), rest.end(), data.begin() + kPageSize));
            },
    });
    CHECK(steps > 10);
}

TEST_CASE("get_user_pages: frames stay what they are when the program maps something else", "[user_copy][pin]") {
    PagesAndHole p;
    user_store(VirtAddr{kBase}, 1);
    Page* pages[2];
    REQUIRE(*get_user_pages(*p, user(kBase + 12), 2, true, pages) == 2);
    CHECK(page_to_pfn(pages[0]).phys().value() == p.phys(kBase));
    CHECK(pages[0]->refs() == 2);
    REQUIRE(p->unmap(VirtAddr{kBase}, 2 * kPageSize));
    map_pages(*p, kBase, 2);
    CHECK(user_load(VirtAddr{kBase}) == 0);
    CHECK(page_to_pfn(pages[0]).phys().value() != p.phys(kBase));
    CHECK(pages[0]->refs() == 1);
    const u32 value = 99;
    memcpy_to_page(pages[0], 0, &value, 4);
    CHECK(user_load(VirtAddr{kBase}) == 0);
    put_page(pages[0]);
    put_page(pages[1]);
}

TEST_CASE("get_user_pages: as many as there are, and why not the first", "[user_copy][pin]") {
    PagesAndHole p;
    Page* pages[8];
    CHECK(*get_user_pages(*p, user(kBase + 2 * kPageSize + 5), 8, false, pages) == 2);
    put_page(pages[0]);
    put_page(pages[1]);
    CHECK(get_user_pages(*p, user(kBase + 4 * kPageSize), 1, false, pages).error() == Error::bad_address);
    CHECK(get_user_pages(*p, user(kBase + 5 * kPageSize), 1, true, pages).error() == Error::no_access);
    CHECK(get_user_pages(*p, user(0xffff'f000), 2, false, pages).error() == Error::bad_address);
    CHECK(get_user_pages(*p, user(layout::kUserEnd), 1, false, pages).error() == Error::bad_address);
    CHECK(*get_user_pages(*p, user(kBase), 0, false, pages) == 0);
    {
        const Shortage shortage{0, 0};
        CHECK(get_user_pages(*p, user(kBase), 1, true, pages).error() == Error::no_memory);
    }
}

TEST_CASE("get_user_pages: pinning to write makes the copy first", "[user_copy][pin][fork]") {
    PagesAndHole p;
    user_store(VirtAddr{kBase}, 1);
    Owned child = fork_of(*p);
    Page* page = nullptr;
    REQUIRE(*get_user_pages(*p, user(kBase), 1, true, &page) == 1);
    CHECK(page_to_pfn(page).phys().value() == p.phys(kBase));
    const u32 value = 5;
    memcpy_to_page(page, 0, &value, 4);
    put_page(page);
    CHECK(user_load(VirtAddr{kBase}) == 5);
    run_in(child.get());
    CHECK(user_load(VirtAddr{kBase}) == 1);
    run_in(p.space->get());
}

TEST_CASE("another space's memory is read and written by its frames", "[user_copy][pin]") {
    PagesAndHole p;
    user_store(VirtAddr{kBase + kPageSize - 4}, 0x0403'0201);
    Owned child = fork_of(*p);
    run_in(nullptr);
    const std::vector<u8> data = pattern(kPageSize + 10);
    std::vector<u8> in(kPageSize + 10);
    CHECK(write_space(*p, user(kBase + kPageSize - 5), data.data(), kPageSize + 10) == 0);
    CHECK(read_space(*p, in.data(), user(kBase + kPageSize - 5), kPageSize + 10) == 0);
    CHECK(in == data);
    u32 word = 0;
    CHECK(read_space(*child, &word, user(kBase + kPageSize - 4), 4) == 0);
    CHECK(word == 0x0403'0201);
    CHECK(read_space(*p, in.data(), user(kBase + 3 * kPageSize + 1), kPageSize) == 1);
    CHECK(write_space(*p, user(kBase + 5 * kPageSize), data.data(), 4) == 4);
    run_in(p.space->get());
}

TEST_CASE("user copy: the up-call resolves what the context allows", "[user_copy]") {
    PagesAndHole p;
    u32 word = 1;
    // With page faults on, the machine makes the up-call, and the access continues.
    CHECK(hal::user_copy_in(&word, VirtAddr{kBase}, 4) == 0);
    CHECK(word == 0);
    CHECK(hal::user_copy_out(VirtAddr{kBase + kPageSize}, &word, 4) == 0);
    CHECK(hal::user_clear(VirtAddr{kBase + 5 * kPageSize}, 4) == 4);
    CHECK(resolve_user_fault(VirtAddr{kBase + 2 * kPageSize}, FaultAccess::write) == FaultResult::resolved);
    CHECK(resolve_user_fault(VirtAddr{kBase + 4 * kPageSize}, FaultAccess::read) == FaultResult::bad_address);
    CHECK(resolve_user_fault(VirtAddr{layout::kUserEnd}, FaultAccess::read) == FaultResult::bad_address);
    pagefault_disable();
    CHECK(resolve_user_fault(VirtAddr{kBase + 3 * kPageSize}, FaultAccess::read) == FaultResult::bad_address);
    CHECK(hal::user_copy_in(&word, VirtAddr{kBase + 3 * kPageSize}, 4) == 4);
    pagefault_enable();
    const IrqGuard guard;
    CHECK(resolve_user_fault(VirtAddr{kBase + 3 * kPageSize}, FaultAccess::read) == FaultResult::bad_address);
}

TEST_CASE("user copy: no memory ends a copy short and leaks nothing", "[user_copy]") {
    Booted kernel;
    const std::vector<u8> data = pattern(3 * kPageSize);
    const u32 asked = for_every_failure(
        [&](const std::function<void()>& arm) {
            Owned space;
            run_in(space.get());
            map_pages(*space, kBase, 3);
            arm();
            const u32 left = copy_to_user(user(kBase), data.data(), 3 * kPageSize);
            CHECK((left != 0) == one_failed());
            CHECK(left % kPageSize == 0);
        },
        true);
    CHECK(asked == 4); // three pages and their table
}
