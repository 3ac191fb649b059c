// The buddy system, compared with a plain list of the free frames.
#include "mm/frames/buddy.hpp"
#include "tests/host/booted.hpp"

#include <algorithm>
#include <map>
#include <memory>

using namespace loft;
using namespace loft::test;

namespace {

// A frame table and one zone; no machine is needed.
class Zone {
  public:
    Zone(u32 begin, u32 end) : pages_{new Page[end + (1u << kMaxOrder)]{}} {
        mem_map = pages_.get();
        mem_map_count = end + (1u << kMaxOrder);
        buddy.init(Pfn{begin}, Pfn{end});
    }
    ~Zone() {
        mem_map = before_;
        mem_map_count = count_before_;
    }
    Buddy buddy;

  private:
    Page* before_ = mem_map;
    u32 count_before_ = mem_map_count;
    std::unique_ptr<Page[]> pages_;
};

} // namespace

TEST_CASE("buddy: a new zone has nothing to give", "[buddy]") {
    Zone zone{0x400, 0x800};
    const unchecked::Held lock{zone.buddy.lock};
    CHECK(zone.buddy.free_frames() == 0);
    for (u32 order = 0; order <= kMaxOrder; ++order)
        CHECK(zone.buddy.take(order) == Pfn{});
    zone.buddy.verify();
}

TEST_CASE("buddy: a block is split to the size that is wanted, the upper halves stay free", "[buddy]") {
    Zone zone{0x400, 0x800};
    const unchecked::Held lock{zone.buddy.lock};
    zone.buddy.give(Pfn{0x400u}, kMaxOrder);
    CHECK(zone.buddy.take(3) == Pfn{0x400u});
    for (u32 order = 0; order <= kMaxOrder; ++order)
        CHECK(zone.buddy.blocks(order) == (order >= 3 && order < kMaxOrder ? 1 : 0));
    CHECK(zone.buddy.free_frames() == 0x400 - 8);
    zone.buddy.verify();
    // The smallest block that fits is used before a larger one is split.
    CHECK(zone.buddy.take(3) == Pfn{0x408u});
    CHECK(zone.buddy.take(4) == Pfn{0x410u});
    zone.buddy.verify();
}

TEST_CASE("buddy: freed halves merge up to the largest block", "[buddy]") {
    Zone zone{0x400, 0x800};
    const unchecked::Held lock{zone.buddy.lock};
    zone.buddy.give(Pfn{0x400u}, kMaxOrder);
    std::vector<Pfn> frames;
    while (true) {
        const Pfn pfn = zone.buddy.take(0);
        if (pfn == Pfn{}) break;
        frames.push_back(pfn);
    }
    CHECK(frames.size() == 0x400);
    CHECK(zone.buddy.free_frames() == 0);
    for (const Pfn pfn : frames) {
        zone.buddy.give(pfn, 0);
        zone.buddy.verify();
    }
    CHECK(zone.buddy.blocks(kMaxOrder) == 1);
    CHECK(zone.buddy.free_frames() == 0x400);
    for (u32 pfn = 0x401; pfn < 0x800; ++pfn)
        CHECK(pfn_to_page(Pfn{pfn})->type() == PageType::none);
}

TEST_CASE("buddy: blocks do not merge across the zone's ends", "[buddy]") {
    SECTION("the lower end cuts a pair") {
        Zone zone{0x401, 0x408};
        const unchecked::Held lock{zone.buddy.lock};
        pfn_to_page(Pfn{0x400u})->make_free(PageType::buddy, Pfn{}, Pfn{}, 0); // of the next zone
        zone.buddy.give(Pfn{0x401u}, 0);
        CHECK(zone.buddy.blocks(0) == 1);
        zone.buddy.verify();
    }
    SECTION("the upper end does") {
        Zone zone{0x400, 0x403};
        const unchecked::Held lock{zone.buddy.lock};
        pfn_to_page(Pfn{0x403u})->make_free(PageType::buddy, Pfn{}, Pfn{}, 0);
        zone.buddy.give(Pfn{0x402u}, 0);
        CHECK(zone.buddy.blocks(0) == 1);
        zone.buddy.verify();
    }
    SECTION("a pair that ends exactly there merges") {
        Zone zone{0x400, 0x404};
        const unchecked::Held lock{zone.buddy.lock};
        zone.buddy.give(Pfn{0x402u}, 0);
        zone.buddy.give(Pfn{0x403u}, 0);
        CHECK(zone.buddy.blocks(1) == 1);
        zone.buddy.give(Pfn{0x400u}, 1);
        CHECK(zone.buddy.blocks(2) == 1);
        zone.buddy.verify();
    }
}

TEST_CASE("buddy: a neighbour that is used, cached, or of another order does not merge", "[buddy]") {
    Zone zone{0x400, 0x800};
    const unchecked::Held lock{zone.buddy.lock};
    SECTION("used") {
        pfn_to_page(Pfn{0x401u})->make_used(PageType::used, 1);
        zone.buddy.give(Pfn{0x400u}, 0);
        CHECK(zone.buddy.blocks(0) == 1);
    }
    SECTION("in a CPU's list") {
        pfn_to_page(Pfn{0x401u})->make_free(PageType::cached, Pfn{}, Pfn{}, 0);
        zone.buddy.give(Pfn{0x400u}, 0);
        CHECK(zone.buddy.blocks(0) == 1);
    }
    SECTION("half as large") {
        zone.buddy.give(Pfn{0x402u}, 0);
        zone.buddy.give(Pfn{0x400u}, 1);
        CHECK(zone.buddy.blocks(0) == 1);
        CHECK(zone.buddy.blocks(1) == 1);
    }
    zone.buddy.verify();
}

TEST_CASE("buddy: any order of taking and giving keeps blocks whole, aligned and apart", "[buddy][random]") {
    for (u32 seed = 1; seed <= 20; ++seed) {
        INFO("seed " << seed);
        Random random{seed};
        const u32 begin = 1 + below(random, 0x900), end = begin + 1 + below(random, 0x1400);
        Zone zone{begin, end};
        const unchecked::Held lock{zone.buddy.lock};
        std::vector<bool> free(end, false);
        u32 free_count = 0;
        for (u32 pfn = begin; pfn < end; ++pfn) {
            if (below(random, 50) == 0) continue; // not RAM
            zone.buddy.give(Pfn{pfn}, 0);
            free[pfn] = true;
            ++free_count;
        }
        zone.buddy.verify();
        const u32 at_start = free_count;

        std::map<u32, u32> taken; // pfn -> order
        for (u32 step = 0; step < 1500; ++step) {
            if (below(random, 5) < 3 || taken.empty()) {
                const u32 order = below(random, 3) ? below(random, 3) : below(random, kMaxOrder + 1);
                const u32 pfn = zone.buddy.take(order).value();
                if (pfn == 0) continue;
                REQUIRE(pfn % (1u << order) == 0);
                for (u32 i = 0; i < 1u << order; ++i) {
                    REQUIRE(free[pfn + i]);
                    free[pfn + i] = false;
                }
                free_count -= 1u << order;
                taken[pfn] = order;
                pfn_to_page(Pfn{pfn})->make_used(PageType::used, 1);
            } else {
                auto it = taken.lower_bound(below(random, end));
                if (it == taken.end()) it = taken.begin();
                const auto [pfn, order] = *it;
                zone.buddy.give(Pfn{pfn}, order);
                for (u32 i = 0; i < 1u << order; ++i)
                    free[pfn + i] = true;
                free_count += 1u << order;
                taken.erase(it);
            }
            REQUIRE(zone.buddy.free_frames() == free_count);
            if (step % 16 == 0) zone.buddy.verify();
        }
        for (const auto& [pfn, order] : taken)
            zone.buddy.give(Pfn{pfn}, order);
        zone.buddy.verify();
        REQUIRE(zone.buddy.free_frames() == at_start);
    }
}

TEST_CASE("buddy: verify finds each kind of damage", "[buddy]") {
    Zone zone{0x400, 0x800};
    const unchecked::Held lock{zone.buddy.lock};
    zone.buddy.give(Pfn{0x400u}, 2);
    zone.buddy.give(Pfn{0x410u}, 2);
    zone.buddy.give(Pfn{0x500u}, 0);
    zone.buddy.verify();
    Page* first = pfn_to_page(Pfn{0x410u}); // the first of the list of order 2; 0x400 follows it
    SECTION("a frame that is used") {
        first->make_used(PageType::used, 1);
        CHECK_PANIC(zone.buddy.verify(), "in the list of order 2 says type 3");
    }
    SECTION("another order") {
        first->make_free(PageType::buddy, Pfn{0x400u}, Pfn{}, 3);
        CHECK_PANIC(zone.buddy.verify(), "order 3");
    }
    SECTION("a link back to somewhere else") {
        pfn_to_page(Pfn{0x400u})->set_prev(Pfn{0x500u});
        CHECK_PANIC(zone.buddy.verify(), "in the list of order 2");
    }
    SECTION("a block that is not aligned") {
        first->set_next(Pfn{0x402u});
        pfn_to_page(Pfn{0x402u})->make_free(PageType::buddy, Pfn{}, Pfn{0x410u}, 2);
        CHECK_PANIC(zone.buddy.verify(), "not aligned or not of this zone");
    }
    SECTION("a block of another zone") {
        first->set_next(Pfn{0x3fcu});
        pfn_to_page(Pfn{0x3fcu})->make_free(PageType::buddy, Pfn{}, Pfn{0x410u}, 2);
        CHECK_PANIC(zone.buddy.verify(), "not aligned or not of this zone");
    }
    SECTION("a pair that was not merged") {
        pfn_to_page(Pfn{0x501u})->make_free(PageType::buddy, Pfn{}, Pfn{}, 0);
        CHECK_PANIC(zone.buddy.verify(), "not merged");
    }
    SECTION("a list that lost a block") {
        first->set_next(Pfn{});
        CHECK_PANIC(zone.buddy.verify(), "has 1 blocks, counted 2");
    }
    SECTION("a sum that something has overwritten") {
        u32* const begin = reinterpret_cast<u32*>(&zone.buddy);
        u32* const sum = std::find(begin, begin + sizeof(Buddy) / sizeof(u32), 9);
        ++*sum;
        REQUIRE(zone.buddy.free_frames() == 10);
        CHECK_PANIC(zone.buddy.verify(), "9 frames in the lists, counted 10");
    }
}
