// The frame descriptor: the two layouts of its words, and that writing a field leaves all others unchanged.
#include "mm/frames/page.hpp"
#include "tests/host/booted.hpp"
#include "tests/sim/schedule.hpp"

using namespace loft;
using namespace loft::test;

namespace {

constexpr PageType kTypes[] = {PageType::none, PageType::buddy, PageType::cached, PageType::used,
                               PageType::tail, PageType::slab,  PageType::table};
constexpr u32 kLastSlot = layout::kPkmapSlots - 1;

} // namespace

TEST_CASE("page: a used frame has type, count, slot and payload, each by itself", "[page]") {
    Page page{};
    for (const PageType type : kTypes) {
        for (const u32 refs : {0u, 1u, 0x7fffu, Page::kMaxRefs}) {
            page.make_used(type, refs);
            page.set_payload(0xdead'beef);
            CHECK(page.slot() == Page::kNoSlot);
            for (const u32 slot : {kLastSlot, 1u, 0x155u, Page::kNoSlot}) {
                page.clear_slot();
                CHECK(page.slot() == Page::kNoSlot);
                CHECK(page.try_set_slot(slot));
                CHECK(page.slot() == slot);
                CHECK(page.type() == type);
                CHECK(page.refs() == refs);
                CHECK(page.payload() == 0xdead'beef);
            }
            CHECK(page.try_set_slot(kLastSlot));
            page.set_type(PageType::slab);
            CHECK(page.type() == PageType::slab);
            CHECK(page.slot() == kLastSlot);
            CHECK(page.refs() == refs);
        }
    }
}

TEST_CASE("page: a plain page is used, on its own, and without a slot", "[page]") {
    Page page{};
    for (const u32 refs : {0u, 1u, 0x7fffu, Page::kMaxRefs}) {
        page.make_used(PageType::used, refs);
        CHECK(page.is_plain());
        for (const u32 slot : {1u, kLastSlot}) {
            CHECK(page.try_set_slot(slot));
            CHECK_FALSE(page.is_plain());
            page.clear_slot();
            CHECK(page.is_plain());
        }
        for (const PageType type :
             {PageType::none, PageType::buddy, PageType::cached, PageType::tail, PageType::slab, PageType::table}) {
            page.make_used(type, refs);
            CHECK_FALSE(page.is_plain());
        }
    }
}

TEST_CASE("page: making a frame used forgets what it was linked to", "[page]") {
    Page page{};
    page.make_free(PageType::buddy, Pfn{0xff'ffffu}, Pfn{0xff'fffeu}, 10);
    page.make_used(PageType::used, 1);
    CHECK(page.slot() == Page::kNoSlot);
    CHECK(page.refs() == 1);
    page.make_none();
    CHECK(page.type() == PageType::none);
}

TEST_CASE("page: a free frame has type, order and two links of 24 bits, each by itself", "[page]") {
    Page page{};
    const Pfn links[] = {Pfn{0u}, Pfn{1u}, Pfn{0x80'0000u}, Pfn{0xff'ffffu}};
    for (const PageType type : {PageType::buddy, PageType::cached}) {
        for (const Pfn next : links) {
            for (const Pfn prev : links) {
                for (const u32 order : {0u, 5u, 10u}) {
                    page.make_free(type, next, prev, order);
                    CHECK(page.type() == type);
                    CHECK(page.next() == next);
                    CHECK(page.prev() == prev);
                    CHECK(page.order() == order);
                    page.set_next(Pfn{0x12'3456u});
                    CHECK(page.prev() == prev);
                    page.set_prev(Pfn{0x65'4321u});
                    CHECK(page.next() == Pfn{0x12'3456u});
                    CHECK(page.prev() == Pfn{0x65'4321u});
                    CHECK(page.order() == order);
                    CHECK(page.type() == type);
                }
            }
        }
    }
}

TEST_CASE("page: only the last put says so, and no count goes below zero", "[page]") {
    Page page{};
    page.make_used(PageType::used, 1);
    page.get();
    CHECK(page.refs() == 2);
    CHECK_FALSE(page.put());
    CHECK(page.put());
    CHECK(page.refs() == 0);
    CHECK_PANIC((void)page.put(), "below zero");
}

TEST_CASE("page: a saturated count stays for ever", "[page]") {
    Page page{};
    page.make_used(PageType::used, Page::kMaxRefs - 1);
    CHECK(page.try_set_slot(kLastSlot));
    page.get();
    CHECK(page.refs() == Page::kMaxRefs);
    page.get();
    CHECK(page.refs() == Page::kMaxRefs);
    CHECK(page.slot() == kLastSlot);
    CHECK_FALSE(page.put());
    CHECK(page.refs() == Page::kMaxRefs);
}

TEST_CASE("page: a page that has a slot gets no other", "[page]") {
    Page page{};
    page.make_used(PageType::used, 5);
    CHECK(page.try_set_slot(1));
    CHECK_FALSE(page.try_set_slot(2));
    CHECK_FALSE(page.try_set_slot(1));
    CHECK(page.slot() == 1);
    CHECK(page.refs() == 5);
    page.clear_slot();
    CHECK(page.try_set_slot(2));
    CHECK(page.slot() == 2);
}

// CPUs share the first word: a write of another CPU between the load and the store of this one must not be lost.
TEST_CASE("page: changes of two CPUs at the same time are both kept", "[page]") {
    Page page{};
    const auto race = [&](const std::function<void()>& operation, const std::function<void()>& other,
                          const std::function<void()>& check) {
        const u32 points = sim::at_every_point({.operation = operation,
                                                .intruder = other,
                                                .prepare = [&] { page.make_used(PageType::used, 5); },
                                                .check = check});
        CHECK(points >= 1);
    };
    SECTION("clear_slot and get") {
        u32 gets = 0;
        race(
            [&] {
                CHECK(page.try_set_slot(7));
                page.clear_slot();
            },
            [&] { page.get(), ++gets; },
            [&] {
                CHECK(page.slot() == Page::kNoSlot);
                CHECK(page.refs() == 5 + gets);
                gets = 0;
            });
    }
    SECTION("try_set_slot and get") {
        u32 gets = 0;
        race([&] { CHECK(page.try_set_slot(7)); }, [&] { page.get(), ++gets; },
             [&] {
                 CHECK(page.slot() == 7);
                 CHECK(page.refs() == 5 + gets);
                 gets = 0;
             });
    }
    SECTION("try_set_slot and try_set_slot") {
        bool first = false, second = false;
        race([&] { first = page.try_set_slot(7); }, [&] { second = page.try_set_slot(8); },
             [&] {
                 CHECK(first != second);
                 CHECK(page.slot() == (first ? 7 : 8));
                 CHECK(page.refs() == 5);
                 first = second = false;
             });
    }
    SECTION("get and put") {
        u32 puts = 0;
        race([&] { page.get(); }, [&] { (void)page.put(), ++puts; },
             [&] {
                 CHECK(page.refs() == 6 - puts);
                 puts = 0;
             });
    }
    SECTION("set_type and try_set_slot") {
        u32 slots = 0;
        race([&] { page.set_type(PageType::slab); }, [&] { slots += page.try_set_slot(3); },
             [&] {
                 CHECK(page.type() == PageType::slab);
                 CHECK(page.slot() == (slots ? 3 : Page::kNoSlot));
                 slots = 0;
             });
    }
    SECTION("put and try_set_slot") {
        u32 slots = 0;
        race([&] { CHECK_FALSE(page.put()); }, [&] { slots += page.try_set_slot(9); },
             [&] {
                 CHECK(page.refs() == 4);
                 CHECK(page.slot() == (slots ? 9 : Page::kNoSlot));
                 slots = 0;
             });
    }
}

TEST_CASE("page: numbers, descriptors and addresses of frames belong together", "[page]") {
    Booted kernel;
    const Pfn low{0x500u};
    CHECK(page_to_pfn(pfn_to_page(low)) == low);
    CHECK_FALSE(is_highmem(low));
    CHECK(direct_addr(low).value() == 0xc050'0000);
    CHECK(direct_phys(direct_addr(low)) == low.phys());
    CHECK(in_direct_map(direct_addr(low)));
    CHECK_FALSE(in_direct_map(VirtAddr{layout::kPageOffset - 1}));
    CHECK(in_direct_map(layout::direct_map_end() - 1));
    CHECK_FALSE(in_direct_map(layout::direct_map_end()));
    CHECK(pfn_valid(Pfn{mem_map_count - 1}));
    CHECK_FALSE(pfn_valid(Pfn{mem_map_count}));
    if (config::kHighMem) {
        CHECK(is_highmem(layout::lowmem_end()));
        CHECK(is_highmem(pfn_to_page(layout::lowmem_end())));
    }
}
