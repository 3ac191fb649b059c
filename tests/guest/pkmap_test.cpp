// kmap: the pool of global mappings, its states, and the cost of a round.
#include "tests/guest/support.hpp"
#include "tests/guest/walker.hpp"

namespace loft::guest::pkmap_test {
namespace {

using selftest::contains;

constexpr u32 kSlots = config::kPae ? 512 : 1024; // one page table; slot 0 is never used
constexpr u32 kUsable = kSlots - 1;
constexpr u32 kFree = 0, kIdle = 1, kOneUser = 2;         // semantics.md, "States of a pkmap slot"
constexpr u32 kReleased = config::kDebug ? kFree : kIdle; // DEBUG clears a slot at once

u32 slot_of(VirtAddr va) { return (va.value() - layout::kPkmapBase) / kPageSize; }

// The reason why there are not enough pages to fill the pool; null if there are.
const char* cannot_fill() { return no_slots_for(kUsable + 65); }

// Maps the pages in turn, without accessing them, until the hand has made a round: all idle slots become free; those
// that were accessed before are flushed.
void go_round(const FrameChain& pages) {
    const u32 wraps = pkmap_stats().wraps;
    for (;;) {
        for (Page* page : pages) {
            const KMap map{page};
            if (pkmap_stats().wraps != wraps) return;
        }
    }
}

} // namespace

SELFTEST(pkmap, shows_the_page) {
    if (const char* why = no_slots_for(8)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<8> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages) {
        const KMap map{page};
        CHECK_GE(map.addr().value(), layout::kPkmapBase);
        CHECK_LT(map.addr().value() - layout::kPkmapBase, kSlots * kPageSize);
        CHECK_EQ(walk_naively(map.addr().value()).phys, page_to_pfn(page).phys().value());
        write_all_words(map.addr(), page_to_pfn(page));
    }
    for (Page* page : pages) {
        const LocalMap map{page};
        CHECK(all_words_hold(map.addr(), page_to_pfn(page)));
    }
}

// A CR3 load must pay the debt of a pool entry, so the entry is not global; and it is not executable.
SELFTEST(pkmap, entry_is_what_it_should_be) {
    if (const char* why = no_slots_for(1)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    const KMap map{pages[0]};
    const Mapping m = walk_naively(map.addr().value());
    CHECK(m.present() && m.writable && !m.user && !m.global);
    CHECK_EQ(m.executable, !hal::cpu_features().no_execute);
}

SELFTEST(pkmap, lowmem_is_arithmetic) {
    if (config::kDebug && config::kHighMem) SKIP("a DEBUG kernel sends lowmem through slots");
    const KeepsFreeCounts counts;
    const Pages<1> pages{Gfp::kernel};
    REQUIRE(pages.complete());
    const FlushCounter flushes;
    const PkmapUse before = pkmap_use();
    const GlobalAddr at = kmap(pages[0]);
    CHECK_EQ(VirtAddr{at}, direct_addr(pages.pfn(0)));
    CHECK_EQ(pkmap_use().used, before.used);
    kunmap(pages[0]);
    CHECK_EQ(flushes.all(), 0u);
}

SELFTEST(pkmap, counts_users) {
    if (const char* why = no_slots_for(2)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    VirtAddr at;
    CHECK(!page_address(pages[0], at) || !is_highmem(pages[0]));

    const PkmapUse before = pkmap_use();
    const GlobalAddr first = kmap(pages[0]);
    const u32 slot = slot_of(first);
    CHECK_NE(slot, 0u);
    CHECK_EQ(pkmap_count(slot), kOneUser);
    CHECK_EQ(pkmap_use().used, before.used + 1);
    const GlobalAddr again = kmap(pages[0]); // the same address for every caller
    CHECK_EQ(again.value(), first.value());
    CHECK_EQ(pkmap_count(slot), kOneUser + 1);
    const GlobalAddr other = kmap(pages[1]);
    CHECK_NE(other.value(), first.value());
    Pfn found;
    CHECK(pkmap_to_pfn(first, found) && found == pages.pfn(0));
    CHECK(pkmap_address(pages[0], at) && at == VirtAddr{first});

    kunmap(pages[0]);
    CHECK_EQ(pkmap_count(slot), kOneUser);
    CHECK(pkmap_address(pages[0], at));
    kunmap(pages[0]);
    CHECK_EQ(pkmap_count(slot), kReleased);
    // The slot is idle: the page has no valid address.
    CHECK(!pkmap_address(pages[0], at));
    CHECK(!pkmap_to_pfn(first, found));
    kunmap(pages[1]);
    CHECK_EQ(pkmap_use().used, before.used);
    CHECK_EQ(pkmap_use().free + pkmap_use().idle + pkmap_use().used, kUsable);
}

// A page that is mapped again while its slot is idle gets the same slot: no entry is written, nothing is flushed.
SELFTEST(pkmap, idle_slot_is_a_hit) {
    if (config::kDebug) SKIP("a DEBUG kernel empties a slot when it is released: there are no hits");
    if (const char* why = no_slots_for(1)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    const GlobalAddr first = kmap(pages[0]);
    write_marks(first, pages.pfn(0));
    kunmap(pages[0]);
    const PkmapStats before = pkmap_stats();
    const FlushCounter flushes;
    for (u32 i = 0; i < 100; ++i) {
        const KMap map{pages[0]};
        CHECK_EQ(map.addr().value(), first.value());
        CHECK(marks_hold(map.addr(), pages.pfn(0)));
    }
    CHECK_EQ(flushes.all(), 0u);
    CHECK_EQ(pkmap_stats().maps, before.maps);
}

SELFTEST(pkmap, kunmap_of_what_is_not_mapped_panics) {
    if (const char* why = no_slots_for(2)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    CHECK(contains(selftest::catch_panic([&] { kunmap(pages[0]); }), "not mapped"));
    const GlobalAddr at = kmap(pages[0]);
    kunmap(pages[0]);
    CHECK(contains(selftest::catch_panic([&] { kunmap(pages[0]); }), "not mapped"));
    CHECK_EQ(pkmap_count(slot_of(at)), kReleased);
    // The panic also comes if the thread holds another mapping.
    const KMap other{pages[1]};
    CHECK(contains(selftest::catch_panic([&] { kunmap(pages[0]); }), "not mapped"));
}

SELFTEST(pkmap, freeing_a_mapped_page_panics) {
    if (const char* why = no_slots_for(1)) SKIP(why);
    const KeepsFreeCounts counts;
    Page* page = alloc_page(Gfp::high);
    REQUIRE(page != nullptr);
    {
        const KMap map{page};
        CHECK(contains(selftest::catch_panic([&] { free_page(page); }), "kmap still shows it"));
        write_marks(map.addr(), page_to_pfn(page));
        CHECK(marks_hold(map.addr(), page_to_pfn(page)));
    }
    free_page(page);
}

// A frame is freed while its slot is idle: the pool forgets the page, but the flush stays owed, so the slot is not free
// yet.
SELFTEST(pkmap, freed_pages_are_forgotten) {
    if (config::kDebug) SKIP("a DEBUG kernel has no idle slots");
    if (const char* why = no_slots_for(2)) SKIP(why);
    const KeepsFreeCounts counts;
    Page* page = alloc_page(Gfp::high);
    REQUIRE(page != nullptr);
    const GlobalAddr at = kmap(page);
    write_marks(at, page_to_pfn(page));
    kunmap(page);
    CHECK_EQ(page->slot(), slot_of(at));
    const PkmapUse before = pkmap_use();
    free_page(page);
    CHECK_EQ(pkmap_count(slot_of(at)), kPkmapOwed);
    CHECK_EQ(pkmap_use().idle, before.idle);
    CHECK(!walk_naively(at.value()).present());

    // The frame's next owner starts without a slot, and gets one that shows the frame.
    Page* next = alloc_page(Gfp::high);
    REQUIRE(next != nullptr);
    CHECK(next == page);
    CHECK_EQ(next->slot(), Page::kNoSlot);
    CHECK_EQ(next->refs(), 1u);
    {
        const KMap map{next};
        CHECK_NE(map.addr().value(), at.value());
        write_marks(map.addr(), page_to_pfn(next), 1);
        CHECK(marks_hold(map.addr(), page_to_pfn(next), 1));
    }
    free_page(next);
}

// Several rounds with more pages than slots: each page shows its own words whenever it is mapped.
SELFTEST(pkmap, wraps_without_stale_reads) {
    if (const char* why = cannot_fill()) SKIP(why);
    const KeepsFreeCounts counts;
    FrameChain pages;
    REQUIRE_EQ(pages.take(Gfp::high, 0, kUsable + 64), kUsable + 64);
    for (Page* page : pages)
        sign(page, 1);
    const PkmapStats before = pkmap_stats();
    u32 wrong = 0;
    for (u32 round = 1; round <= 4; ++round) {
        for (Page* page : pages) {
            const KMap map{page};
            wrong += !marks_hold(map.addr(), page_to_pfn(page), round);
            write_marks(map.addr(), page_to_pfn(page), round + 1);
        }
    }
    CHECK_EQ(wrong, 0u);
    for (Page* page : pages)
        wrong += !signed_by(page, 5);
    CHECK_EQ(wrong, 0u);
    if (!config::kDebug) CHECK_GE(pkmap_stats().wraps - before.wraps, 4u);
}

// One flush for each round of the pool, not one for each page.
SELFTEST(pkmap, one_flush_a_wrap) {
    if (config::kDebug) SKIP("a DEBUG kernel flushes at each kunmap");
    if (const char* why = cannot_fill()) SKIP(why);
    const KeepsFreeCounts counts;
    FrameChain pages;
    REQUIRE_EQ(pages.take(Gfp::high, 0, kUsable + 64), kUsable + 64);
    go_round(pages);
    const PkmapStats before = pkmap_stats();
    const FlushCounter flushes;
    while (pkmap_stats().wraps - before.wraps < 3) {
        for (Page* page : pages) {
            const KMap map{page};
            hal::store<u32>(map.addr(), 1u);
        }
    }
    const PkmapStats after = pkmap_stats();
    const u32 wraps = after.wraps - before.wraps;
    // Each round has two turns of the hand with a debt, and one flush pays for both halves.
    CHECK_EQ(flushes.all(), flushes.cr3_loads());
    CHECK_LE(flushes.cr3_loads(), wraps + 1);
    CHECK_GE(flushes.cr3_loads(), wraps - 1);
    CHECK_LE(after.flushes - before.flushes, 2 * wraps + 1);
    CHECK_GE(after.flushes - before.flushes, 2 * wraps - 1);
    CHECK_GE(after.reclaimed - before.reclaimed, (wraps - 1) * (kUsable - 1));
}

// A slot with a clear accessed bit was never accessed: no TLB can hold it, and it needs no flush.
SELFTEST(pkmap, untouched_slots_need_no_flush) {
    if (config::kDebug) SKIP("a DEBUG kernel has no idle slots");
    if (const char* why = cannot_fill()) SKIP(why);
    if (!pkmap_accessed_bit_works()) SKIP("the accessed bit of this machine does not work");
    const KeepsFreeCounts counts;
    FrameChain pages;
    REQUIRE_EQ(pages.take(Gfp::high, 0, kUsable + 64), kUsable + 64);
    go_round(pages); // pays for earlier accesses
    go_round(pages);
    const PkmapStats before = pkmap_stats();
    const FlushCounter flushes;
    go_round(pages);
    go_round(pages);
    PkmapStats after = pkmap_stats();
    CHECK_EQ(after.wraps, before.wraps + 2);
    CHECK_EQ(after.flushes, before.flushes);
    CHECK_EQ(flushes.all(), 0u);
    CHECK_GE(after.unused - before.unused, 2 * (kUsable - 2));
    CHECK_EQ(after.unused - before.unused, after.reclaimed - before.reclaimed);

    // One access, a read: one flush, which pays for all debts.
    go_round(pages);
    {
        const KMap map{*pages.begin()};
        static_cast<void>(hal::load<u32>(map.addr()));
    }
    const PkmapStats untouched = pkmap_stats();
    flushes.all();
    FlushCounter one;
    go_round(pages);
    after = pkmap_stats();
    CHECK_EQ(one.cr3_loads(), 1u);
    CHECK_EQ(one.all(), 1u);
    CHECK_EQ(after.flushes, untouched.flushes + 1);
    CHECK_EQ(after.reclaimed - untouched.reclaimed, after.unused - untouched.unused + 1);
}

// With the elision off every idle slot is flushed.
SELFTEST(pkmap, elision_can_be_switched_off) {
    if (config::kDebug) SKIP("a DEBUG kernel has no idle slots");
    if (const char* why = cannot_fill()) SKIP(why);
    const KeepsFreeCounts counts;
    FrameChain pages;
    REQUIRE_EQ(pages.take(Gfp::high, 0, kUsable + 64), kUsable + 64);
    const bool trusted = pkmap_accessed_bit_works();
    pkmap_trust_accessed_bit(false);
    go_round(pages);
    const PkmapStats before = pkmap_stats();
    go_round(pages);
    const PkmapStats after = pkmap_stats();
    pkmap_trust_accessed_bit(trusted);
    CHECK_EQ(after.unused, before.unused);
    CHECK_EQ(after.flushes, before.flushes + 2); // once for each half
}

// Used slots do not change while the slots around them are reclaimed (bug 17).
SELFTEST(pkmap, wrap_leaves_used_slots_alone) {
    if (const char* why = cannot_fill()) SKIP(why);
    const KeepsFreeCounts counts;
    FrameChain pages;
    REQUIRE_EQ(pages.take(Gfp::high, 0, kUsable + 64), kUsable + 64);
    const Pages<8> held;
    REQUIRE(held.complete());
    GlobalAddr at[8];
    for (u32 i = 0; i < 8; ++i) {
        at[i] = kmap(held[i]);
        write_marks(at[i], held.pfn(i), 6);
        for (u32 k = 0; Page * page : pages) { // spread them over the pool
            if (++k > 40) break;
            const KMap map{page};
        }
    }
    u32 wrong = 0;
    for (u32 round = 0; round < 3; ++round) {
        for (Page* page : pages) {
            const KMap map{page};
            hal::store<u32>(map.addr(), 0u);
            for (u32 i = 0; i < 8; ++i)
                wrong += map.addr() == at[i];
        }
        for (u32 i = 0; i < 8; ++i) {
            wrong += !marks_hold(at[i], held.pfn(i), 6);
            wrong += pkmap_count(slot_of(at[i])) != kOneUser;
        }
    }
    CHECK_EQ(wrong, 0u);
    for (Page* page : held)
        kunmap(page);
}

// All slots are used by this thread, so waiting would not help.
SELFTEST(pkmap, full_pool_panics) {
    if (const char* why = cannot_fill()) SKIP(why);
    const KeepsFreeCounts counts;
    FrameChain pages;
    REQUIRE_EQ(pages.take(Gfp::high, 0, kUsable), kUsable);
    const Pages<1> one_more;
    REQUIRE(one_more.complete());
    u32 wrong = 0;
    for (Page* page : pages)
        write_marks(kmap(page), page_to_pfn(page));
    CHECK_EQ(pkmap_use().used, kUsable);
    CHECK_EQ(pkmap_use().free + pkmap_use().idle, 0u);
    const auto map_another = [&] { static_cast<void>(kmap(one_more[0])); };
    CHECK(contains(selftest::catch_panic(map_another), "slots of the pool are in use"));
    // A page that has a slot can still be mapped.
    CHECK_EQ(kmap(*pages.begin()).value() - layout::kPkmapBase < kSlots * kPageSize, true);
    kunmap(*pages.begin());
    for (Page* page : pages) {
        VirtAddr at;
        wrong += !pkmap_address(page, at) || !marks_hold(at, page_to_pfn(page));
        kunmap(page);
    }
    CHECK_EQ(wrong, 0u);
    // With a free slot kmap works again.
    sign(one_more[0], 4);
    const KMap map{one_more[0]};
    CHECK(marks_hold(map.addr(), one_more.pfn(0), 4));
}

// The only slots that are not in use are idle, and the hand has passed them before they become idle.
SELFTEST(pkmap, idle_slots_before_the_end_are_found) {
    if (const char* why = cannot_fill()) SKIP(why);
    const KeepsFreeCounts counts;
    FrameChain pages;
    REQUIRE_EQ(pages.take(Gfp::high, 0, kUsable), kUsable);
    const Pages<2> late;
    REQUIRE(late.complete());
    for (Page* page : pages)
        static_cast<void>(kmap(page));
    // Moves the hand to a slot in the middle: the only one that is not in use.
    constexpr u32 kMiddle = kSlots / 2;
    Page* gone = nullptr;
    for (Page* page : pages)
        if (page->slot() == kMiddle) gone = page;
    REQUIRE(gone != nullptr);
    kunmap(gone);
    CHECK_EQ(slot_of(kmap(late[0])), kMiddle);
    // All slots after it become idle; all slots before it stay in use.
    for (Page* page : pages)
        if (page != gone && page->slot() > kMiddle) kunmap(page);
    const std::string_view text = selftest::catch_panic([&] { static_cast<void>(kmap(late[1])); });
    CHECK_EQ(text, std::string_view{});
    if (text.empty()) kunmap(late[1]);
    kunmap(late[0]);
    for (Page* page : pages) {
        const u32 slot = page->slot();
        if (slot != Page::kNoSlot && pkmap_count(slot) >= kOneUser) kunmap(page);
    }
    CHECK_EQ(pkmap_use().used, 0u);
}

// DEBUG: an access after kunmap faults.
SELFTEST(pkmap, debug_empties_slots) {
    if (!config::kDebug) SKIP("only a DEBUG=1 kernel does that");
    if (const char* why = no_slots_for(1)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    const GlobalAddr at = kmap(pages[0]);
    CHECK(readable(at));
    kunmap(pages[0]);
    CHECK(!readable(at));
}

} // namespace loft::guest::pkmap_test
