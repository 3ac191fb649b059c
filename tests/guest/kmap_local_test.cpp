// Local mappings: the stack of slots, its cost, and the panics on misuse.
#include "tests/guest/support.hpp"
#include "tests/guest/walker.hpp"

namespace loft::guest::kmap_local_test {
namespace {

using selftest::contains;

constexpr u32 kThreadSlots = 16, kAllSlots = 32; // semantics.md

u32 misses() { return local_maps.mine().misses; }

} // namespace

SELFTEST(kmap_local, shows_the_page) {
    if (const char* why = no_slots_for(8)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<8> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages) {
        const LocalMap map{page};
        CHECK_EQ(walk_naively(map.addr().value()).phys, page_to_pfn(page).phys().value());
        write_all_words(map.addr(), page_to_pfn(page));
    }
    for (Page* page : pages) {
        const LocalMap map{page};
        CHECK(all_words_hold(map.addr(), page_to_pfn(page)));
    }
    // Other mappings of the page show the same memory.
    for (Page* page : pages) {
        const KMap map{page};
        CHECK(all_words_hold(map.addr(), page_to_pfn(page)));
    }
}

// The entry is complete before the first access: global, writable, not executable, A and D preset.
SELFTEST(kmap_local, entry_is_what_it_should_be) {
    if (const char* why = no_slots_for(1)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    const LocalMap map{pages[0]};
    const Mapping m = walk_naively(map.addr().value());
    CHECK(m.present() && m.writable && !m.user);
    CHECK_EQ(m.global, hal::cpu_features().global);
    CHECK_EQ(m.executable, !hal::cpu_features().no_execute);
    CHECK((hal::pte_low(kernel_pte(map.addr())) & 0x60) == 0x60);
}

SELFTEST(kmap_local, lowmem_is_arithmetic) {
    if (config::kDebug && config::kHighMem) SKIP("a DEBUG kernel sends lowmem through slots");
    const KeepsFreeCounts counts;
    const Pages<2> pages{Gfp::kernel};
    REQUIRE(pages.complete());
    const FlushCounter flushes;
    const u32 missed = misses();
    const LocalAddr a = kmap_local_page(pages[0]), b = kmap_local_page(pages[1]), again = kmap_local_page(pages[0]);
    CHECK_EQ(VirtAddr{a}, direct_addr(pages.pfn(0)));
    CHECK_EQ(VirtAddr{b}, direct_addr(pages.pfn(1)));
    CHECK_EQ(VirtAddr{again}, VirtAddr{a});
    CHECK_EQ(local_depth(), 0u);
    // Lowmem pages use no slot, so any order is right.
    kunmap_local(a);
    kunmap_local(b + 100);
    kunmap_local(again);
    CHECK_EQ(flushes.all(), 0u);
    CHECK_EQ(misses(), missed);
}

SELFTEST(kmap_local, nests_sixteen_deep) {
    if (const char* why = no_slots_for(kThreadSlots)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<kThreadSlots> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages)
        sign(page);
    LocalAddr at[kThreadSlots];
    for (u32 i = 0; i < kThreadSlots; ++i) {
        CHECK_EQ(local_depth(), i);
        at[i] = kmap_local_page(pages[i]);
        CHECK(marks_hold(at[i], pages.pfn(i)));
    }
    CHECK_EQ(local_depth(), kThreadSlots);
    for (u32 i = 0; i < kThreadSlots; ++i) {
        CHECK(marks_hold(at[i], pages.pfn(i))); // all are mapped at the same time
        for (u32 k = 0; k < i; ++k)
            CHECK_NE(at[i].value(), at[k].value());
    }
    for (u32 i = kThreadSlots; i-- > 0;) {
        kunmap_local(at[i]);
        CHECK_EQ(local_depth(), i);
        if (i != 0) CHECK(marks_hold(at[i - 1], pages.pfn(i - 1)));
    }
}

// The same page may be mapped several times by one context; each is a mapping of its own.
SELFTEST(kmap_local, same_page_twice) {
    if (const char* why = no_slots_for(1)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    const LocalMap first{pages[0]};
    const LocalMap second{pages[0]};
    CHECK_NE(first.addr().value(), second.addr().value());
    hal::store<u32>(first.addr() + 64, 0x1234'5678u);
    CHECK_EQ(hal::load<u32>(second.addr() + 64), 0x1234'5678u);
}

SELFTEST(kmap_local, seventeenth_panics) {
    if (const char* why = no_slots_for(2)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    u32 made = 0;
    const std::string_view text = selftest::catch_panic([&] {
        for (; made < kThreadSlots + 1; ++made)
            static_cast<void>(kmap_local_page(pages[made % 2]));
    });
    CHECK_EQ(made, kThreadSlots);
    CHECK(contains(text, "number 17"));
    CHECK_EQ(local_depth(), 0u);
    sign(pages[1], 5); // the stack works again
    CHECK(signed_by(pages[1], 5));
}

// All sixteen slots of the thread are in use: an interrupt has sixteen more on top, and does not change the thread's.
SELFTEST(kmap_local, sixteen_more_in_interrupts) {
    if (const char* why = no_slots_for(kAllSlots)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<kAllSlots> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages)
        sign(page);
    LocalAddr at[kAllSlots];
    for (u32 i = 0; i < kThreadSlots; ++i)
        at[i] = kmap_local_page(pages[i]);
    u32 wrong = 0, most = 0;
    in_interrupt_do([&] {
        for (u32 i = kThreadSlots; i < kAllSlots; ++i)
            at[i] = kmap_local_page(pages[i]);
        most = local_depth();
        for (u32 i = 0; i < kAllSlots; ++i)
            wrong += !marks_hold(at[i], pages.pfn(i));
        for (u32 i = kAllSlots; i-- > kThreadSlots;)
            kunmap_local(at[i]);
    });
    CHECK_EQ(most, kAllSlots);
    CHECK_EQ(wrong, 0u);
    CHECK_EQ(local_depth(), kThreadSlots);
    for (u32 i = 0; i < kThreadSlots; ++i)
        CHECK(marks_hold(at[i], pages.pfn(i)));
    // The thread's own limit holds again.
    const auto one_more = [&] { static_cast<void>(kmap_local_page(pages[16])); };
    CHECK(contains(selftest::catch_panic(one_more), "number 17"));
    for (u32 i = kThreadSlots; i-- > 0;)
        kunmap_local(at[i]);
}

SELFTEST(kmap_local, thirty_third_panics) {
    if (const char* why = no_slots_for(2)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    u32 made = 0;
    const std::string_view text = selftest::catch_panic([&] {
        in_interrupt_do([&] {
            for (; made < kAllSlots + 1; ++made)
                static_cast<void>(kmap_local_page(pages[made % 2]));
        });
    });
    CHECK_EQ(made, kAllSlots);
    CHECK(contains(text, "number 33"));
    CHECK_EQ(local_depth(), 0u);
}

// Interrupts that nest share the sixteen.
SELFTEST(kmap_local, nested_interrupts_map) {
    if (const char* why = no_slots_for(3)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<3> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages)
        sign(page);
    u32 wrong = 0;
    const LocalMap thread{pages[0]};
    in_interrupt_do([&] {
        const LocalMap outer{pages[1]};
        in_interrupt_do<test_vector::inner>([&] {
            const LocalMap inner{pages[2]};
            wrong += local_depth() != 3;
            wrong += !marks_hold(inner.addr(), pages.pfn(2));
            wrong += !marks_hold(outer.addr(), pages.pfn(1));
        });
        wrong += local_depth() != 2;
        wrong += !marks_hold(outer.addr(), pages.pfn(1));
    });
    CHECK_EQ(wrong, 0u);
    CHECK(marks_hold(thread.addr(), pages.pfn(0)));
}

SELFTEST(kmap_local, interrupt_that_leaves_a_mapping_panics) {
    if (const char* why = no_slots_for(1)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    const std::string_view text =
        selftest::catch_panic([&] { in_interrupt_do([&] { static_cast<void>(kmap_local_page(pages[0])); }); });
    CHECK(contains(text, "left 1 local mappings behind"));
    CHECK_EQ(local_depth(), 0u);
}

// The same page again: no entry is written, nothing is flushed.
SELFTEST(kmap_local, hit_costs_nothing) {
    if (config::kDebug) SKIP("a DEBUG kernel empties a slot when it is released: there are no hits");
    if (const char* why = no_slots_for(2)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    sign(pages[0]);
    const FlushCounter flushes;
    const u32 missed = misses();
    for (u32 i = 0; i < 100; ++i) {
        const LocalMap map{pages[0]};
        CHECK(marks_hold(map.addr(), pages.pfn(0)));
    }
    CHECK_EQ(flushes.all(), 0u);
    CHECK_EQ(misses(), missed);
}

// At the map; or at the unmap before it, in a DEBUG kernel.
SELFTEST(kmap_local, another_page_costs_one_invlpg) {
    if (const char* why = no_slots_for(2)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    sign(pages[0]);
    sign(pages[1]);
    const FlushCounter flushes;
    const u32 missed = misses();
    for (u32 i = 0; i < 100; ++i)
        CHECK(signed_by(pages[i % 2]));
    CHECK_EQ(flushes.invlpg(), 100u);
    CHECK_EQ(flushes.all(), flushes.invlpg());
    CHECK_EQ(misses() - missed, 100u);
}

// A slot at any depth that maps another page than before shows the new page, not a stale translation.
SELFTEST(kmap_local, reused_slots_are_not_stale) {
    if (const char* why = no_slots_for(64)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<48> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages)
        sign(page, 11);
    u32 wrong = 0;
    for (u32 round = 0; round < 200; ++round) {
        const u32 depth = 1 + selftest::rng().below(kThreadSlots);
        LocalAddr at[kThreadSlots];
        u32 which[kThreadSlots];
        for (u32 i = 0; i < depth; ++i) {
            which[i] = selftest::rng().below(48);
            at[i] = kmap_local_page(pages[which[i]]);
            wrong += !marks_hold(at[i], pages.pfn(which[i]), 11);
            // A write goes there, too.
            hal::store<u32>(at[i] + 400, mark(pages.pfn(which[i]), 100, round));
        }
        for (u32 i = depth; i-- > 0;) {
            wrong += hal::load<u32>(at[i] + 400) != mark(pages.pfn(which[i]), 100, round);
            kunmap_local(at[i]);
        }
    }
    CHECK_EQ(wrong, 0u);
}

SELFTEST(kmap_local, wrong_order_panics) {
    if (const char* why = no_slots_for(2)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    const LocalAddr first = kmap_local_page(pages[0]), second = kmap_local_page(pages[1]);
    const std::string_view text = selftest::catch_panic([&] { kunmap_local(first); });
    // The panic names both addresses.
    BufferSink<32> first_text, second_text;
    format(first_text, "{:08x}", first.value());
    format(second_text, "{:08x}", second.value());
    CHECK(contains(text, first_text.view()));
    CHECK(contains(text, second_text.view()));
    CHECK(contains(text, "not the youngest"));
    CHECK_EQ(local_depth(), 2u);
    kunmap_local(second);
    kunmap_local(first);
}

SELFTEST(kmap_local, foreign_addresses_panic) {
    if (const char* why = no_slots_for(2)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    const LocalAddr mine = kmap_local_page(pages[0]);
    const auto refused = [](VirtAddr va) {
        return contains(selftest::catch_panic([&] { kunmap_local(LocalAddr{va}); }), "kunmap_local");
    };
    CHECK(refused(layout::pkmap_addr(1)));
    CHECK(refused(mine + layout::kLocalStride));           // a slot that is not held yet
    CHECK(refused(VirtAddr{mine} - layout::kLocalStride)); // the private slot
    CHECK(refused(VirtAddr{0x1000u}));
    CHECK(refused(layout::fix_addr(layout::Fix::boot_first)));
    if constexpr (config::kMaxCpus > 1) CHECK(refused(layout::local_first_slot(CpuId{1})));
    CHECK_EQ(local_depth(), 1u);
    kunmap_local(mine);
}

SELFTEST(kmap_local, unmap_of_nothing_panics) {
    if (const char* why = no_slots_for(1)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    const LocalAddr at = kmap_local_page(pages[0]);
    kunmap_local(at);
    CHECK(contains(selftest::catch_panic([&] { kunmap_local(at); }), "nothing is mapped"));
    // One below the empty stack.
    CHECK(contains(selftest::catch_panic([&] { kunmap_local(LocalAddr{VirtAddr{at} - layout::kLocalStride}); }),
                   "nothing is mapped"));
    CHECK_EQ(local_depth(), 0u);
}

// An interrupt must not release a slot of the context that it interrupted.
SELFTEST(kmap_local, interrupt_cannot_release_what_it_found) {
    if (const char* why = no_slots_for(1)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    const LocalAddr at = kmap_local_page(pages[0]);
    const std::string_view text = selftest::catch_panic([&] { in_interrupt_do([&] { kunmap_local(at); }); });
    CHECK(contains(text, "interrupt left"));
    // The panic came after the release, which the harness cannot undo.
    if (local_depth() == 1) kunmap_local(at);
}

SELFTEST(kmap_local, any_address_inside_the_page_unmaps) {
    if (const char* why = no_slots_for(1)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    for (const u32 offset : {0u, 1u, 2048u, kPageSize - 1}) {
        const LocalAddr at = kmap_local_page(pages[0]);
        kunmap_local(at + offset);
        CHECK_EQ(local_depth(), 0u);
    }
    const LocalAddr at = kmap_local_page(pages[0]);
    const auto one_past = [&] { kunmap_local(at + kPageSize); };
    CHECK(contains(selftest::catch_panic(one_past), "kunmap_local"));
    kunmap_local(at);
}

// DEBUG: an access faults right after the unmap, and so does an access past the end of a mapped page.
SELFTEST(kmap_local, debug_guards_and_empties_slots) {
    if (!config::kDebug) SKIP("only a DEBUG=1 kernel has guards");
    if (const char* why = no_slots_for(2)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    const LocalAddr first = kmap_local_page(pages[0]);
    const LocalAddr second = kmap_local_page(pages[1]);
    CHECK_EQ(second.value() - first.value(), 2 * kPageSize);
    CHECK(readable(first + (kPageSize - 4)));
    CHECK(!readable(first + kPageSize));
    CHECK(!readable(second + kPageSize));
    CHECK(!readable(VirtAddr{first} - 4));
    CHECK(local_fault(first + kPageSize).kind == LocalFault::Kind::guard);
    kunmap_local(second);
    CHECK(!readable(second));
    CHECK(local_fault(second).kind == LocalFault::Kind::released);
    CHECK(local_fault(second).last == pages.pfn(1));
    kunmap_local(first);
    CHECK(!readable(first));
}

// DEBUG: lowmem pages use the same slots, with all of their checks.
SELFTEST(kmap_local, debug_forces_lowmem_through_slots) {
    if (!config::kDebug || !config::kHighMem) SKIP("only a DEBUG=1 kernel with high memory does that");
    const KeepsFreeCounts counts;
    const Pages<1> pages{Gfp::kernel};
    REQUIRE(pages.complete());
    const LocalMap map{pages[0]};
    CHECK(!in_direct_map(map.addr()));
    CHECK_EQ(local_depth(), 1u);
    write_marks(map.addr(), pages.pfn(0), 2);
    CHECK(marks_hold(direct_addr(pages.pfn(0)), pages.pfn(0), 2));
}

// The list of held slots and their frames, for panics and debuggers.
SELFTEST(kmap_local, held_slots_can_be_listed) {
    if (const char* why = no_slots_for(3)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<3> pages;
    REQUIRE(pages.complete());
    const LocalMap a{pages[0]};
    const LocalMap b{pages[1]};
    CHECK_EQ(local_depth(), 2u);
    CHECK_EQ(local_slot(0).address, VirtAddr{a.addr()});
    CHECK(local_slot(1).entry.pfn() == pages.pfn(1));
    Pfn found;
    CHECK(local_to_pfn(a.addr() + 5, found) && found == pages.pfn(0));
    CHECK(!local_to_pfn(b.addr() + layout::kLocalStride, found));
    CHECK(local_maps_frame(pages.pfn(1)));
    CHECK(!local_maps_frame(pages.pfn(2)));
}

// The private slot: usable while all slots of the stack are held, and not part of the stack.
SELFTEST(kmap_local, private_slot_works_when_all_are_held) {
    if (const char* why = no_slots_for(kThreadSlots + 2)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<kThreadSlots> pages;
    const Pages<2> extra;
    REQUIRE(pages.complete() && extra.complete());
    for (Page* page : extra)
        sign(page, 21);
    LocalAddr at[kThreadSlots];
    for (u32 i = 0; i < kThreadSlots; ++i)
        at[i] = kmap_local_page(pages[i]);
    u32 wrong = 0;
    for (u32 i = 0; i < 4; ++i) {
        const IrqGuard off;
        with_private_slot(extra.pfn(i % 2), [&](VirtAddr va) { wrong += !marks_hold(va, extra.pfn(i % 2), 21); });
    }
    CHECK_EQ(wrong, 0u);
    CHECK_EQ(local_depth(), kThreadSlots);
    for (u32 i = kThreadSlots; i-- > 0;)
        kunmap_local(at[i]);
}

} // namespace loft::guest::kmap_local_test
