// An interrupt between any two instructions of a map, an access and an unmap.
//
// The main context maps and unmaps its own pages, one instruction at a time. After each one a debug exception does what
// an interrupt handler may do: it maps other pages, writes them, reads them back, unmaps them. A few words of each page
// hold its frame number. So if either context gets a mapping of a wrong frame, the error is found: by a read of a wrong
// number, or by the check of the page that was overwritten.
#include "arch/i386/isa/control.hpp"
#include "mm/windows/page_walk.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/guest/stepper.hpp"
#include "tests/guest/support.hpp"

namespace loft::guest::stepping_test {
namespace {

constexpr u32 kTheirs = 24; // pages of the interrupts

u32 top_of_stack() { return local_maps.load<&LocalMaps::top>(); }

// The handler that runs between two instructions.
class Intruder {
  public:
    explicit Intruder(u32 seed) : rng_{seed} {
        for (Page* page : pages_)
            if (page != nullptr) sign(page, kSalt);
    }
    bool ready() const { return pages_.complete(); }

    // One page, or several nested; by kmap_local_page or kmap_atomic.
    void map_something() {
        const u32 found = local_depth();
        const u32 kind = rng_.below(4);
        const u32 i = rng_.below(kTheirs), k = rng_.below(kTheirs);
        if (kind == 0) {
            const AtomicMap map{pages_[i]};
            touch(map.addr(), i);
        } else if (kind == 1) {
            const LocalMap first{pages_[i]};
            const AtomicMap second{pages_[k]};
            touch(second.addr(), k);
            touch(first.addr(), i);
        } else {
            const LocalMap map{pages_[i]};
            touch(map.addr(), i);
        }
        errors_ += local_depth() != found;
    }

    // The number of pages without their frame numbers or without the last written word.
    u32 errors() {
        u32 spoilt = errors_;
        for (u32 i = 0; i < kTheirs; ++i)
            spoilt += !signed_by(pages_[i], kSalt);
        return spoilt;
    }
    // How often an interrupt came when a slot was taken and its entry was not present.
    u32 saw_half_made() const { return half_made_; }
    void watch_slot(u32 base) { watched_ = base; }
    void look() {
        if (watched_ == 0 || top_of_stack() <= watched_) return;
        const u32 low = hal::pte_low(kernel_pte(VirtAddr{watched_}));
        half_made_ += (low & 1) == 0;
    }

  private:
    static constexpr u32 kSalt = 77, kOffset = 1200;

    void touch(VirtAddr at, u32 i) {
        errors_ += hal::load<u32>(at) != mark(pages_.pfn(i), 0, kSalt);
        const u32 value = rng_.next();
        hal::store<u32>(at + kOffset, value);
        errors_ += hal::load<u32>(at + kOffset) != value;
    }

    selftest::Rng rng_;
    Pages<kTheirs> pages_;
    u32 errors_ = 0;
    u32 half_made_ = 0;
    u32 watched_ = 0;
};

constexpr u32 kMine = 6;

// The pages of the main context. No CHECK inside: only the calls under test should be stepped.
struct Mine {
    Pages<kMine> pages;
    u32 errors = 0;

    bool ready() const { return pages.complete(); }
    void sign_all() {
        for (Page* page : pages)
            sign(page, 5);
    }
    void look(VirtAddr at, u32 i) { errors += hal::load<u32>(at) != mark(pages.pfn(i), 0, 5); }
    void write(VirtAddr at, u32 value) {
        hal::store<u32>(at + 800, value);
        errors += hal::load<u32>(at + 800) != value;
    }
    u32 all_errors() {
        u32 sum = errors;
        for (Page* page : pages)
            sum += !signed_by(page, 5);
        return sum;
    }
};

u32 rounds(u32 quick) { return selftest::full() ? quick * 10 : quick; }

} // namespace

// The frame of most tests: the pages of both contexts, and at the end the check for errors of either.
#define LOFT_STEPPING_SETUP(mine, intruder)                                                                            \
    const KeepsFreeCounts counts;                                                                                      \
    Mine mine;                                                                                                         \
    REQUIRE(mine.ready());                                                                                             \
    Intruder intruder{selftest::rng().next()};                                                                         \
    REQUIRE(intruder.ready());                                                                                         \
    mine.sign_all()

#define LOFT_STEPPING_VERDICT(mine, intruder, steps, least)                                                            \
    selftest::note("{} interrupts", steps);                                                                            \
    CHECK_GT(steps, least);                                                                                            \
    CHECK_EQ(mine.all_errors(), 0u);                                                                                   \
    CHECK_EQ(intruder.errors(), 0u)

// The machine single-steps, and the handler runs in interrupt context.
SELFTEST(stepping, debug_exceptions_come_after_every_instruction) {
    u32 in_context = 0;
    const u32 steps = step_through(
        [] {
            asm volatile("nop; nop; nop; nop; nop; nop; nop; nop; nop; nop" ::: "memory");
        },
        [&] { in_context += in_interrupt() && !hal::irqs_enabled(); });
    CHECK_GE(steps, 10u);
    CHECK_LT(steps, 100u);
    CHECK_EQ(in_context, steps);
    CHECK(!in_interrupt());
}

SELFTEST(stepping, kmap_local) {
    if (const char* why = no_slots_for(kTheirs + 16)) SKIP(why);
    LOFT_STEPPING_SETUP(mine, intruder);
    intruder.watch_slot(top_of_stack());
    const u32 n = rounds(60);
    const u32 steps = step_through(
        [&] {
            for (u32 i = 0; i < n; ++i) {
                const LocalAddr at = kmap_local_page(mine.pages[i % kMine]);
                mine.look(at, i % kMine);
                mine.write(at, i);
                kunmap_local(at);
            }
        },
        [&] {
            intruder.look();
            intruder.map_something();
        });
    LOFT_STEPPING_VERDICT(mine, intruder, steps, n * 30);
    // It also came after the slot was taken and before its entry was written.
    CHECK_GT(intruder.saw_half_made(), n / 2);
}

// The same page repeatedly: the slot is a hit unless an interrupt has used it since.
SELFTEST(stepping, kmap_local_same_page) {
    if (const char* why = no_slots_for(kTheirs + 16)) SKIP(why);
    LOFT_STEPPING_SETUP(mine, intruder);
    const u32 n = rounds(40);
    u32 turn = 0;
    const u32 steps = step_through(
        [&] {
            for (u32 i = 0; i < n; ++i) {
                const LocalAddr at = kmap_local_page(mine.pages[0]);
                mine.look(at, 0);
                mine.write(at, i);
                kunmap_local(at);
            }
        },
        [&] {
            if (++turn % 7 == 0) intruder.map_something(); // not each time, so that there are hits, too
        });
    LOFT_STEPPING_VERDICT(mine, intruder, steps, n * 20);
}

SELFTEST(stepping, kmap_local_nested) {
    if (const char* why = no_slots_for(kTheirs + 16)) SKIP(why);
    LOFT_STEPPING_SETUP(mine, intruder);
    const u32 n = rounds(15);
    const u32 steps = step_through(
        [&] {
            for (u32 i = 0; i < n; ++i) {
                LocalAddr at[4];
                for (u32 k = 0; k < 4; ++k) {
                    at[k] = kmap_local_page(mine.pages[(i + k) % kMine]);
                    mine.look(at[k], (i + k) % kMine);
                }
                for (u32 k = 4; k-- > 0;) {
                    mine.look(at[k], (i + k) % kMine);
                    kunmap_local(at[k]);
                }
            }
        },
        [&] { intruder.map_something(); });
    LOFT_STEPPING_VERDICT(mine, intruder, steps, n * 100);
}

SELFTEST(stepping, kmap_atomic) {
    if (const char* why = no_slots_for(kTheirs + 16)) SKIP(why);
    LOFT_STEPPING_SETUP(mine, intruder);
    const u32 n = rounds(40);
    u32 wrong_counts = 0;
    const u32 steps = step_through(
        [&] {
            for (u32 i = 0; i < n; ++i) {
                const AtomicAddr at = kmap_atomic(mine.pages[i % kMine]);
                mine.look(at, i % kMine);
                mine.write(at, i);
                kunmap_atomic(at);
            }
        },
        [&] {
            const Context before = context.mine();
            intruder.map_something();
            const Context after = context.mine();
            wrong_counts +=
                before.preempt_count != after.preempt_count || before.pagefaults_off != after.pagefaults_off;
        });
    LOFT_STEPPING_VERDICT(mine, intruder, steps, n * 35);
    CHECK_EQ(wrong_counts, 0u);
    CHECK(preemptible());
}

// kmap, also where interrupts are off and a lock is held: debug exceptions come there, too, and use the local windows.
SELFTEST(stepping, kmap) {
    if (const char* why = no_slots_for(kTheirs + 16)) SKIP(why);
    LOFT_STEPPING_SETUP(mine, intruder);
    const u32 n = rounds(25);
    const u32 steps = step_through(
        [&] {
            for (u32 i = 0; i < n; ++i) {
                Page* page = mine.pages[i % kMine];
                const GlobalAddr at = kmap(page);
                mine.look(at, i % kMine);
                mine.write(at, i);
                kunmap(page);
            }
        },
        [&] { intruder.map_something(); });
    LOFT_STEPPING_VERDICT(mine, intruder, steps, n * 20);
}

// A turn of the hand: all idle slots are reclaimed, one instruction at a time, while two slots are in use.
SELFTEST(stepping, kmap_goes_round_the_pool) {
    constexpr u32 kEnough = layout::kPkmapSlots + 8;
    if (const char* why = no_slots_for(kTheirs + 16 + kEnough)) SKIP(why);
    LOFT_STEPPING_SETUP(mine, intruder);
    FrameChain others;
    REQUIRE_EQ(others.take(Gfp::high, 0, kEnough), kEnough);
    const KMap used{mine.pages[0]};
    const u32 wraps = pkmap_stats().wraps;
    // Runs at full speed up to the last slot: the next map turns the hand.
    u32 last = 0;
    for (Page* page : others) {
        const KMap map{page};
        hal::store<u32>(map.addr(), mark(page_to_pfn(page), 0, 5));
        last = page->slot();
        if (last == layout::kPkmapSlots - 1) break;
    }
    if (!CHECK_EQ(last, layout::kPkmapSlots - 1)) return;
    const u32 before = pkmap_stats().wraps;
    const u32 steps = step_through(
        [&] {
            const GlobalAddr at = kmap(mine.pages[1]);
            mine.look(at, 1);
            mine.write(at, 17);
            kunmap(mine.pages[1]);
        },
        [&] { intruder.map_something(); });
    CHECK_EQ(pkmap_stats().wraps, before + 1);
    CHECK_GE(before, wraps);
    mine.look(used.addr(), 0);
    LOFT_STEPPING_VERDICT(mine, intruder, steps, layout::kPkmapSlots * 4);
}

// vmap, an access, vunmap and the deferred flush, while interrupts map other pages.
SELFTEST(stepping, vmap) {
    LOFT_STEPPING_SETUP(mine, intruder);
    const u32 n = rounds(5);
    u32 failed = 0;
    const u32 steps = step_through(
        [&] {
            for (u32 i = 0; i < n; ++i) {
                const Result<VirtAddr> area = vmap(mine.pages.begin(), kMine, VmapProt::rw);
                failed += !area;
                if (!area) return;
                for (u32 k = 0; k < kMine; ++k) {
                    mine.look(*area + k * kPageSize, k);
                    mine.write(*area + k * kPageSize, i);
                }
                vunmap(*area);
                vmap_flush();
            }
        },
        [&] { intruder.map_something(); });
    LOFT_STEPPING_VERDICT(mine, intruder, steps, n * 200);
    CHECK_EQ(failed, 0u);
}

// A copy holds two slots for a thousand instructions (bug 6: a handler used the slot of the copy that it interrupted).
SELFTEST(stepping, copy_highpage) {
    LOFT_STEPPING_SETUP(mine, intruder);
    const Pages<2> pages;
    REQUIRE(pages.complete());
    {
        const LocalMap map{pages[0]};
        write_all_words(map.addr(), pages.pfn(0), 9);
    }
    const u32 steps = step_through([&] { copy_highpage(pages[1], pages[0]); }, [&] { intruder.map_something(); });
    LOFT_STEPPING_VERDICT(mine, intruder, steps, 1024u);
    {
        const LocalMap map{pages[1]};
        CHECK(all_words_hold(map.addr(), pages.pfn(0), 9));
    }
    {
        const LocalMap map{pages[0]};
        CHECK(all_words_hold(map.addr(), pages.pfn(0), 9));
    }
}

SELFTEST(stepping, clear_and_partial_copies) {
    LOFT_STEPPING_SETUP(mine, intruder);
    const Pages<1> pages;
    REQUIRE(pages.complete());
    u32 words[3] = {1, 2, 3};
    const u32 steps = step_through(
        [&] {
            clear_highpage(pages[0]);
            memcpy_to_page(pages[0], 100, words, sizeof(words));
            zero_user(pages[0], 104, 108);
            memcpy_from_page(words, pages[0], 100, sizeof(words));
        },
        [&] { intruder.map_something(); });
    LOFT_STEPPING_VERDICT(mine, intruder, steps, 1024u);
    CHECK_EQ(words[0], 1u);
    CHECK_EQ(words[1], 0u);
    CHECK_EQ(words[2], 3u);
}

// The allocator and its lists; blocks that split and merge.
SELFTEST(stepping, alloc_and_free) {
    LOFT_STEPPING_SETUP(mine, intruder);
    const u32 n = rounds(config::kDebug ? 1 : 10); // DEBUG writes to every frame that is freed
    u32 failed = 0;
    const u32 steps = step_through(
        [&] {
            for (u32 i = 0; i < n; ++i) {
                Page* one = alloc_page(Gfp::high);
                Page* block = alloc_pages(Gfp::kernel, 2);
                failed += one == nullptr || block == nullptr;
                if (one != nullptr) free_page(one);
                if (block != nullptr) free_pages(block, 2);
            }
        },
        [&] { intruder.map_something(); });
    LOFT_STEPPING_VERDICT(mine, intruder, steps, n * 80);
    CHECK_EQ(failed, 0u);
    drain_local_pages();
    page_alloc_verify();
}

// Change, flush, and only then free (bug 22): at no instruction is the frame free while the flush is still owed.
SELFTEST(stepping, batch_frees_after_the_flush) {
    const KeepsFreeCounts counts;
    Page* page = alloc_page(Gfp::high);
    REQUIRE(page != nullptr);
    const VirtAddr va = layout::fix_addr(layout::Fix::boot_first);
    u32 free_and_not_flushed = 0, seen_free = 0;
    TlbBatch batch{TlbBatch::Kind::non_global};
    batch.add(va);
    batch.free_after(page);
    CHECK(page->type() == PageType::used);
    const FlushCounter flushes;
    const u32 steps = step_through([&] { batch.flush(); },
                                   [&] {
                                       if (page->type() == PageType::used) return;
                                       ++seen_free;
                                       free_and_not_flushed += flushes.invlpg() == 0;
                                   });
    CHECK_GT(steps, 40u);
    CHECK_GT(seen_free, 0u);
    CHECK_EQ(free_and_not_flushed, 0u);
    CHECK(page->type() != PageType::used);
    CHECK(batch.empty());
}

// Bugs 10 and 11: an entry is read while it changes. The two halves that are read always belong together.
SELFTEST(stepping, pte_reads_do_not_tear) {
    if (!config::kPae) SKIP("entries of this kernel have one half");
    alignas(8) static u32 memory[2];
    auto* cell = reinterpret_cast<hal::PteCell*>(memory);
    const Pte one{Pfn{0x00'1111u}, pte::present}, other{Pfn{0xff'2222u}, pte::present | pte::write};
    hal::pte_exchange(cell, one);
    bool flip = false;
    u32 torn = 0, changed = 0;
    const u32 steps = step_through(
        [&] {
            for (u32 i = 0; i < 40; ++i) {
                const Pte seen = hal::pte_read(cell);
                torn += seen != one && seen != other;
            }
        },
        [&] {
            flip = !flip;
            ++changed;
            hal::pte_exchange(cell, flip ? other : one);
        });
    CHECK_GT(steps, 100u);
    CHECK_EQ(changed, steps);
    CHECK_EQ(torn, 0u);
}

namespace {

struct PteChange {
    const char* operation;
    PteHalves before, after;
    void (*change)(hal::PteCell* cell);
};

// Frames and flags that differ in both halves. An entry that pte_set fills has a low half of 0, and any high half.
constexpr u32 high_half(u32 bits) { return config::kPae ? bits : 0; }
constexpr PteHalves kMapped{0x0123'4063, high_half(0x8000'0005)}, kOther{0x0fed'c027, high_half(0x0000'000a)},
    kNothing{0, 0}, kLeftOver{0, kMapped.high};
constexpr PteChange kPteChanges[] = {
    {"pte_set", kNothing, kOther, [](hal::PteCell* cell) { hal::pte_set(cell, Pte::from(kOther)); }},
    {"pte_set", kLeftOver, kOther, [](hal::PteCell* cell) { hal::pte_set(cell, Pte::from(kOther)); }},
    {"pte_set of halves", kNothing, kOther, [](hal::PteCell* cell) { hal::pte_set(cell, kOther); }},
    {"pte_set of halves", kLeftOver, kOther, [](hal::PteCell* cell) { hal::pte_set(cell, kOther); }},
    {"pte_clear", kMapped, kNothing, [](hal::PteCell* cell) { hal::pte_clear(cell); }},
    {"pte_clear_low", kMapped, kLeftOver, [](hal::PteCell* cell) { hal::pte_clear_low(cell); }},
    {"pte_take", kMapped, kNothing, [](hal::PteCell* cell) { static_cast<void>(hal::pte_take(cell)); }},
    {"pte_take_low", kMapped, kLeftOver, [](hal::PteCell* cell) { static_cast<void>(hal::pte_take_low(cell)); }},
    {"pte_exchange", kMapped, kOther,
     [](hal::PteCell* cell) { static_cast<void>(hal::pte_exchange(cell, Pte::from(kOther))); }},
    {"pte_exchange", kNothing, kOther,
     [](hal::PteCell* cell) { static_cast<void>(hal::pte_exchange(cell, Pte::from(kOther))); }},
    {"pte_exchange", kMapped, kNothing, [](hal::PteCell* cell) { static_cast<void>(hal::pte_exchange(cell, Pte{})); }},
    {"pte_read", kMapped, kMapped, [](hal::PteCell* cell) { static_cast<void>(hal::pte_read(cell)); }},
};

} // namespace

// A page walker that looks at any moment finds the old entry, none, or the new one: never halves of two entries.
SELFTEST(stepping, a_changing_entry_is_never_a_mix) {
    alignas(8) static volatile u32 memory[2];
    auto* cell = reinterpret_cast<hal::PteCell*>(const_cast<u32*>(memory));
    const auto holds = [](PteHalves entry) {
        return memory[0] == entry.low && (!config::kPae || memory[1] == entry.high);
    };
    for (const PteChange& one : kPteChanges) {
        memory[0] = one.before.low;
        memory[1] = one.before.high;
        u32 mixed = 0, changed = 0;
        const u32 steps = step_through([&] { one.change(cell); },
                                       [&] {
                                           mixed += (memory[0] & 1) != 0 && !holds(one.before) && !holds(one.after);
                                           changed += !holds(one.before);
                                       });
        bool right = CHECK_EQ(mixed, 0u);
        right &= CHECK(holds(one.after));
        right &= CHECK_GT(steps, 2u);
        // The change itself was stepped: interrupts came before and after it.
        right &= CHECK_EQ(changed > 0 && changed < steps, !holds(one.before));
        if (!right) selftest::note("this was {}", one.operation);
    }
}

// The CPU may set A at any moment. pte_take and pte_exchange return an entry with A set, or the entry was not present
// any more when A would have been set.
SELFTEST(stepping, accessed_bit_is_never_lost) {
    alignas(8) static u32 memory[2];
    auto* cell = reinterpret_cast<hal::PteCell*>(memory);
    const Pte entry{Pfn{0x1234u}, pte::present | pte::write};
    const Pte next{Pfn{0x4321u}, pte::present};
    bool set = false;
    u32 lost = 0, late = 0, with_bit = 0;
    // Like a page walk: sets A only in a present entry, in one atomic step.
    const auto access = [&] {
        const u32 low = memory[0];
        if ((low & 1) == 0 || (low & 0x20) != 0 || (low & 0xffff'f000u) != 0x0123'4000u) return;
        memory[0] = low | 0x20;
        set = true;
    };
    for (u32 delay = 0; delay < 60; ++delay) {
        for (const bool take : {true, false}) {
            hal::pte_exchange(cell, entry);
            set = false;
            u32 step = 0;
            Pte old{};
            step_through([&] { old = take ? hal::pte_take(cell) : hal::pte_exchange(cell, next); },
                         [&] {
                             if (step++ == delay) access();
                         });
            with_bit += set;
            lost += set && !old.has(pte::accessed);
            const Pte left = hal::pte_exchange(cell, Pte{});
            late += left.pfn() != (take ? Pfn{} : next.pfn()) || left.present() == take;
        }
    }
    CHECK_GT(with_bit, 4u); // in some rounds the bit was set before the exchange
    CHECK_LT(with_bit, 120u);
    CHECK_EQ(lost, 0u);
    CHECK_EQ(late, 0u);
}

// A page walk while an interrupt changes the tables.
SELFTEST(stepping, page_walk) {
    LOFT_STEPPING_SETUP(mine, intruder);
    const LocalMap map{mine.pages[0]};
    u32 wrong = 0;
    const u32 steps = step_through(
        [&] {
            for (u32 i = 0; i < 10; ++i) {
                const Walk walk = page_walk(kernel_root(), map.addr());
                wrong += !walk.present || walk.pfn != mine.pages.pfn(0);
            }
        },
        [&] { intruder.map_something(); });
    CHECK_EQ(wrong, 0u);
    LOFT_STEPPING_VERDICT(mine, intruder, steps, 300u);
}

} // namespace loft::guest::stepping_test
