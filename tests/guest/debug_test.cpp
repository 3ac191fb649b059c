// What DEBUG=1 adds: freed frames are poisoned, a frame must not be mapped when it is freed, a slot's entry must be the
// one that was written, and counters start shortly before their wrap.
#include "arch/i386/irq/timer.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/windows/fixmap.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/guest/support.hpp"

namespace loft::guest::debug_test {
namespace {

using selftest::contains;

const char* needs_debug() { return config::kDebug ? nullptr : "only a DEBUG=1 kernel checks this"; }

} // namespace

// docs/counters.md: counters wrap where tests look.
SELFTEST(debug, counters_start_near_their_wrap) {
    if (const char* why = needs_debug()) SKIP(why);
    warm_up_threads(1);
    const KeepsFreeCounts counts;
    auto body = [] {};
    Thread* const thread = thread_create("new", body);
    REQUIRE(thread != nullptr);
    while (thread->ended.load() == 0)
        yield();
    CHECK_GT(thread->switches, 0x8000'0000u); // a few switches are counted
    CHECK_LT(since_start(thread->switches), 8u);
    thread_join(thread);
    CHECK_GE(now_us(), kFirstUs);
    // These start so near that they have wrapped: the boot owes more than five flushes, two seconds have 200 ticks.
    CHECK_EQ(tlb_new_debt() >> 32, 1u);
    for (Patience patience{Patience::kSleeping}; ticks() > 0x8000'0000 && !patience.over();)
        sleep_ms(10);
    CHECK_LT(ticks(), 0x8000'0000u);
}

SELFTEST(debug, freed_frames_are_poisoned) {
    if (const char* why = needs_debug()) SKIP(why);
    const KeepsFreeCounts counts;
    for (const Gfp gfp : {Gfp::kernel, Gfp::high}) {
        Page* page = alloc_page(gfp);
        REQUIRE(page != nullptr);
        memset_page(page, 0, 0x11, kPageSize);
        free_page(page);
        const BootWindow window{page_to_pfn(page).phys(), kPageSize};
        u32 others = 0;
        for (u32 offset = 4; offset < kPageSize - 4; offset += 4)
            others += hal::load<u32>(window.at() + offset) != kPoison;
        CHECK_EQ(others, 0u);
    }
}

// A write to a freed frame is found when the frame is allocated again.
SELFTEST(debug, write_after_free_panics) {
    if (const char* why = needs_debug()) SKIP(why);
    const KeepsFreeCounts counts;
    for (const Gfp gfp : {Gfp::kernel, Gfp::high}) {
        for (const u32 offset : {0u, 4u, 2048u, kPageSize - 4}) {
            Page* page = alloc_page(gfp);
            REQUIRE(page != nullptr);
            free_page(page);
            {
                const BootWindow window{page_to_pfn(page).phys(), kPageSize};
                hal::store<u32>(window.at() + offset, 0xbad0'bad0u);
            }
            const std::string_view text = selftest::catch_panic([&] { static_cast<void>(alloc_page(gfp)); });
            CHECK(contains(text, "was written after it was freed"));
            // The list returns the frame that was freed last: this one, which the panic has left allocated.
            if (CHECK(page->type() == PageType::used)) free_page(page);
            Page* again = alloc_page(gfp);
            CHECK(again == page);
            free_page(again);
        }
    }
}

SELFTEST(debug, freeing_a_mapped_frame_panics) {
    if (const char* why = needs_debug()) SKIP(why);
    if (const char* why = no_slots_for(2)) SKIP(why);
    const KeepsFreeCounts counts;
    Page* page = alloc_page(Gfp::high);
    REQUIRE(page != nullptr);
    {
        const LocalMap map{page};
        CHECK(contains(selftest::catch_panic([&] { free_page(page); }), "a local mapping still shows it"));
    }
    const Result<VirtAddr> area = vmap(&page, 1, VmapProt::rw);
    REQUIRE(area);
    CHECK(contains(selftest::catch_panic([&] { free_page(page); }), "a vmap area still shows it"));
    vunmap(*area);
    free_page(page); // not mapped any more
}

// The entry of a held slot was changed.
SELFTEST(debug, changed_entries_panic) {
    if (const char* why = needs_debug()) SKIP(why);
    if (const char* why = no_slots_for(2)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    const LocalAddr at = kmap_local_page(pages[0]);
    const Pte mine = hal::pte_exchange(kernel_pte(at), Pte{pages.pfn(1), kernel_prot.data});
    CHECK(contains(selftest::catch_panic([&] { kunmap_local(at); }), "that was mapped there"));
    hal::pte_exchange(kernel_pte(at), mine);
    tlb_flush_local_page(at);
    CHECK_EQ(local_depth(), 1u);
    kunmap_local(at);
    // The entry of a free slot was changed.
    hal::pte_set(kernel_pte(at), mine);
    CHECK(contains(selftest::catch_panic([&] { static_cast<void>(kmap_local_page(pages[1])); }), "is not empty"));
    CHECK_EQ(local_depth(), 0u);
    CHECK(!readable(at));
}

} // namespace loft::guest::debug_test
