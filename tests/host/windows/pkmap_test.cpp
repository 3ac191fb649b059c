// kmap: the states of a slot, the cost of reuse, and that no CPU ever sees the previous page of a slot.
#include "arch/base/not_copyable.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/ground/counters.hpp"
#include "mm/ground/spinlock.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/pkmap.hpp"
#include "tests/host/booted.hpp"
#include "tests/host/oracle.hpp"

#include <map>

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kSlots = layout::kPkmapSlots - 1; // slot 0 is never used
constexpr u32 kFree = 0, kIdle = 1, kOwed = kPkmapOwed;

u32 slot_at(GlobalAddr addr) { return (addr.value() - layout::kPkmapBase) >> kPageShift; }
u32 count_of(GlobalAddr addr) { return pkmap_count(slot_at(addr)); }

bool every_cpu_sees(VirtAddr va, Page* page) {
    bool all = true;
    sim::machine().online().for_each([&](CpuId cpu) { sim::on_cpu(cpu, [&] { all &= shows(va, page); }); });
    return all;
}

// Maps pages, which stay mapped, until only `left` of the free slots are left.
std::vector<Page*> occupy(u32 left = 0) {
    const u32 count = pkmap_use().free - left;
    auto pages = stamped(count);
    for (Page* page : pages)
        (void)kmap(page);
    return pages;
}

// Another thread runs on this CPU for a while; the kmap count of the thread that is switched out is saved.
class OtherThread : NotCopyable<OtherThread> {
  public:
    OtherThread() { context.store<&Context::minus_kmaps>(0u); }
    ~OtherThread() { context.store<&Context::minus_kmaps>(outer_); }

  private:
    u32 outer_ = context.load<&Context::minus_kmaps>();
};

// Corrects the thread's kmap count after a panic that a test expects.
void forgive(u32 maps = 1) { context.add<&Context::minus_kmaps>(maps); }

// A machine with the hand near the end of its second round. Slots 2 and up are idle: `idle` pages, in order. Slot 1 is
// free, all others are in use. The next slow kmap gets slot 1 without a flush. The one after it reclaims the idle slots
// when the hand enters the upper half, and pays for them when the hand enters the lower half.
struct EndOfRound {
    explicit EndOfRound(u32 idle_pages, u32 cpus = 2, const std::function<void(u32, GlobalAddr)>& use = {})
        : kernel{small(cpus)}, idle{stamped(idle_pages)} {
        for (u32 i = 0; i < idle_pages; ++i) {
            addr.push_back(kmap(idle[i]));
            if (use) use(i, addr[i]);
        }
        held = occupy(1);
        for (Page* page : idle)
            kunmap(page);
        kernel.machine.online().for_each([&](CpuId cpu) {
            kernel.machine.counters(cpu) = {};
            tlb_stats.of(cpu) = {};
        });
    }
    // From now on a thread on that CPU holds the mapping of the page.
    static void hand_over(Page* page, CpuId cpu = CpuId{1}) {
        sim::on_cpu(cpu, [&] { (void)kmap(page); });
        kunmap(page);
    }
    // Uses the free slot.
    Page* fill() {
        Page* page = stamped(1)[0];
        CHECK(slot_at(kmap(page)) == 1);
        return page;
    }
    Booted kernel;
    std::vector<Page*> idle, held;
    std::vector<GlobalAddr> addr;
};

} // namespace

TEST_CASE("kmap: a page of lowmem is its place in the direct map", "[pkmap]") {
    ONLY_WITH(!kDebug || !kHigh);
    Booted kernel;
    Page* page = stamped(1, Gfp::kernel)[0];
    const GlobalAddr addr = kmap(page);
    CHECK(VirtAddr{addr} == direct_addr(page_to_pfn(page)));
    CHECK(every_cpu_sees(addr, page));
    kunmap(page);
    kunmap(page); // lowmem mappings are not counted
    CHECK(pkmap_use().used == 0);
}

TEST_CASE("kmap: DEBUG sends pages of lowmem through the pool too", "[pkmap]") {
    ONLY_WITH(kDebug && kHigh);
    Booted kernel;
    Page* page = stamped(1, Gfp::kernel)[0];
    const GlobalAddr addr = kmap(page);
    CHECK(slot_at(addr) < layout::kPkmapSlots);
    CHECK(every_cpu_sees(addr, page));
    kunmap(page);
    CHECK_PANIC(kunmap(page), "is not mapped");
}

TEST_CASE("kmap: every caller on every CPU gets the same address, and all of them are counted", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(3)};
    Page* page = stamped(1)[0];
    const GlobalAddr addr = kmap(page);
    CHECK(count_of(addr) == 2);
    for (u32 cpu = 0; cpu < 3; ++cpu)
        sim::on_cpu(CpuId{cpu}, [&] { CHECK(kmap(page) == addr); });
    CHECK(count_of(addr) == 5);
    CHECK(every_cpu_sees(addr, page));
    CHECK(pkmap_use().used == 1);
    CHECK(since_start(pkmap_stats()).maps == 1);
    u32 left = 5;
    for (const u32 cpu : {2u, 0u, 1u, 0u}) {
        sim::on_cpu(CpuId{cpu}, [&] { kunmap(page); });
        if (--left == 1) break;
        CHECK(count_of(addr) == left);
        CHECK(every_cpu_sees(addr, page));
    }
    CHECK(count_of(addr) == (kDebug ? kFree : kIdle));
    CHECK(pkmap_use().used == 0);
}

TEST_CASE("kmap: entries are neither global nor executable, and start unaccessed", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    Page* page = stamped(1)[0];
    kernel.machine.set_fills(sim::Fills::never);
    const GlobalAddr addr = kmap(page);
    const auto mapped = oracle_walk(kernel_root().value(), addr.value());
    REQUIRE(mapped);
    CHECK(*mapped == Mapped{.phys = page_to_pfn(page).phys().value(), .write = true, .execute = !config::kPae});
}

TEST_CASE("kmap: an idle page that is mapped again is a hit: no flush, no new slot", "[pkmap]") {
    ONLY_WITH(kHigh && !kDebug);
    Booted kernel;
    Page* page = stamped(1)[0];
    const GlobalAddr addr = kmap(page);
    CHECK(every_cpu_sees(addr, page));
    kunmap(page);
    CHECK(count_of(addr) == kIdle);
    CHECK(pkmap_use().idle == 1);
    CHECK(kmap(page) == addr);
    CHECK(count_of(addr) == 2);
    CHECK(every_cpu_sees(addr, page));
    kunmap(page);
    CHECK(since_start(pkmap_stats()).maps == 1);
    const sim::Counters cost = kernel.machine.total();
    CHECK(cost.invlpg + cost.flush_non_global + cost.flush_all + cost.ipis_sent == 0);
}

TEST_CASE("kmap: DEBUG empties an unused slot at once, so that a use after kunmap faults on every CPU", "[pkmap]") {
    ONLY_WITH(kHigh && kDebug);
    Booted kernel{small(3)};
    auto pages = stamped(2);
    const GlobalAddr addr = kmap(pages[0]);
    (void)kmap(pages[0]);
    CHECK(every_cpu_sees(addr, pages[0]));
    kunmap(pages[0]);
    CHECK(every_cpu_sees(addr, pages[0]));
    kunmap(pages[0]);
    CHECK(count_of(addr) == kFree);
    for (u32 cpu = 0; cpu < 3; ++cpu)
        sim::on_cpu(CpuId{cpu}, [&] { CHECK_THROWS_AS(hal::load<u32>(addr), sim::PageFault); });
}

TEST_CASE("kmap: neighbours in time get different slots until the pool wraps", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(1)};
    auto pages = stamped(kSlots);
    std::map<u32, Page*> by_slot;
    for (Page* page : pages) {
        const GlobalAddr addr = kmap(page);
        CHECK(slot_at(addr) != 0);
        REQUIRE(by_slot.emplace(slot_at(addr), page).second);
    }
    CHECK(by_slot.size() == kSlots);
    for (const auto& [slot, page] : by_slot)
        REQUIRE(shows(layout::pkmap_addr(slot), page));
    CHECK(pkmap_use().free == 0);
    for (Page* page : pages)
        kunmap(page);
    CHECK(pkmap_use().used == 0);
}

TEST_CASE("kmap: a full pool is the fault of those who hold three: a panic that counts the slots and them", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(1)};
    auto held = occupy();
    CHECK(pkmap_use().used == kSlots);
    CHECK(since_start(pkmap_stats()).thirds == kSlots - 2);
    Page* page = stamped(1)[0];
    CHECK_PANIC(
        (void)kmap(page),
        sim::text("kmap: all {} slots of the pool are in use; {} mappings were a thread's third", kSlots, kSlots - 1));
    forgive();
    CHECK(since_start(pkmap_stats()).waits == 0);
    // A mapped page can still be mapped again, and one released slot is enough for another page.
    (void)kmap(held[7]);
    kunmap(held[7]);
    kunmap(held[7]);
    CHECK(shows(kmap(page), page));
}

TEST_CASE("kmap: whichever slot is the only one that is not used, it is found", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(2)};
    occupy(0);
    for (const u32 slot : {kSlots, 1u, kSlots / 2, 2u, kSlots - 1, kSlots}) {
        INFO("slot " << slot);
        Pfn old;
        REQUIRE(pkmap_to_pfn(layout::pkmap_addr(slot), old));
        (void)hal::load<u32>(layout::pkmap_addr(slot));
        kunmap(pfn_to_page(old));
        Page* page = stamped(1)[0];
        REQUIRE(slot_at(kmap(page)) == slot);
        CHECK(every_cpu_sees(layout::pkmap_addr(slot), page));
    }
}

TEST_CASE("kmap: the pool wraps again and again, and every CPU always sees the right page", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(3)};
    auto pages = stamped(kSlots * 2 + 37);
    for (u32 round = 0; round < 2; ++round) {
        for (Page* page : pages) {
            const GlobalAddr addr = kmap(page);
            REQUIRE(every_cpu_sees(addr, page));
            kunmap(page);
        }
    }
    CHECK(since_start(pkmap_stats()).wraps >= 4);
    CHECK(pkmap_use().used == 0);
}

TEST_CASE("kmap: the address of a page that is reused is stale nowhere, whoever touched it before", "[pkmap]") {
    ONLY_WITH(kHigh);
    // The CPUs that have accessed the slot's old page: every subset of three.
    for (u32 touched = 0; touched < 8; ++touched) {
        INFO("touched by CPUs " << touched);
        EndOfRound pool{1, 3, [&](u32, GlobalAddr addr) {
                            for (u32 cpu = 0; cpu < 3; ++cpu)
                                if (touched >> cpu & 1) sim::on_cpu(CpuId{cpu}, [&] { (void)hal::load<u32>(addr); });
                        }};
        auto pages = stamped(2);
        const GlobalAddr first = kmap(pages[0]), second = kmap(pages[1]);
        CHECK(pkmap_use().used == kSlots);
        CHECK(second == pool.addr[0]);
        CHECK(every_cpu_sees(first, pages[0]));
        CHECK(every_cpu_sees(second, pages[1]));
    }
}

TEST_CASE("kmap: the slot in which boot tried the accessed bit is as clean as any other", "[pkmap]") {
    ONLY_WITH(kHigh);
    // No slot is idle, so no wrap flushes: a translation that boot has left in a TLB would still be there.
    EndOfRound pool{0};
    Page* page = stamped(1)[0];
    const GlobalAddr addr = kmap(page);
    CHECK(slot_at(addr) == 1);
    CHECK(since_start(pkmap_stats()).flushes == 0);
    CHECK(shows(addr, page));
}

TEST_CASE("kmap: an address that was handed to another CPU is right there, and right again after reuse", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(2)};
    auto pages = stamped(2);
    // CPU 1 never calls kmap: it only gets the address.
    const GlobalAddr addr = kmap(pages[0]);
    sim::on_cpu(CpuId{1}, [&] { CHECK(shows(addr, pages[0])); });
    kunmap(pages[0]);
    auto held = occupy(kDebug ? 1 : 0); // all slots but one, which is idle, or with DEBUG free
    const GlobalAddr next = kmap(pages[1]);
    CHECK(next == addr);
    sim::on_cpu(CpuId{1}, [&] { CHECK(shows(next, pages[1])); });
}

TEST_CASE("kmap: a round flushes once for all idle slots, and only if A was set anywhere", "[pkmap]") {
    ONLY_WITH(kHigh && !kDebug);
    struct Cost {
        u64 invlpg, non_global, ipis;
        u32 unused, reclaimed, flushes;
        bool operator==(const Cost&) const = default;
    };
    const auto wrap = [](u32 idle, u32 touched, bool trust, sim::Fills fills) {
        EndOfRound pool{idle, 2};
        pkmap_trust_accessed_bit(trust);
        pool.kernel.machine.set_fills(sim::Fills::never);
        for (u32 i = 0; i < touched; ++i)
            sim::on_cpu(CpuId{i % 2}, [&] { (void)hal::load<u32>(pool.addr[i]); });
        pool.kernel.machine.set_fills(fills);
        const u32 wraps = since_start(pkmap_stats()).wraps;
        Page* first = pool.fill();
        CHECK(since_start(pkmap_stats()).reclaimed == 0);
        CHECK(pkmap_use().idle == idle);
        Page* page = idle != 0 ? stamped(1)[0] : first;
        (void)kmap(page);
        const sim::Counters c = pool.kernel.machine.total();
        const PkmapStats stats = since_start(pkmap_stats());
        CHECK(stats.wraps == wraps + (idle != 0 ? 2 : 1));
        CHECK(pkmap_use().free == (idle != 0 ? idle - 1 : 0));
        CHECK(pkmap_use().idle == 0);
        return Cost{c.invlpg, c.flush_non_global, c.ipis_sent, stats.unused, stats.reclaimed, stats.flushes};
    };
    using enum sim::Fills;
    SECTION("nothing was touched: nothing is flushed") {
        CHECK((wrap(30, 0, true, never) == Cost{0, 0, 0, 30, 30, 0}));
    }
    SECTION("a few were: one full flush on each CPU") { CHECK((wrap(30, 3, true, never) == Cost{0, 2, 1, 27, 30, 1})); }
    SECTION("many were: the same") { CHECK((wrap(30, 17, true, never) == Cost{0, 2, 1, 13, 30, 1})); }
    SECTION("a CPU may have filled its TLB although nobody touched anything") {
        CHECK((wrap(5, 0, true, always) == Cost{0, 2, 1, 0, 5, 1}));
    }
    SECTION("where A cannot be trusted, all are flushed") {
        CHECK((wrap(5, 0, false, never) == Cost{0, 2, 1, 0, 5, 1}));
    }
    SECTION("nothing is idle: nothing to do") { CHECK((wrap(0, 0, true, never) == Cost{0, 0, 0, 0, 0, 0})); }
}

// For each idle entry that was not accessed, the CPU may or may not have filled its TLB speculatively just before. All
// combinations, with entries accessed by CPU 0, by CPU 1 or by no CPU, and with a page that was freed while idle.
TEST_CASE("kmap: reuse is right for every possible speculative fill", "[pkmap][chooser]") {
    ONLY_WITH(kHigh);
    for (const bool trust : {true, false}) {
        const u32 runs = for_every_fill(small(2), [&](Booted& kernel, const auto& from_here) {
            pkmap_trust_accessed_bit(trust);
            auto pages = stamped(6);
            std::vector<GlobalAddr> addr;
            for (Page* page : pages)
                addr.push_back(kmap(page));
            (void)hal::load<u32>(addr[0]);
            sim::on_cpu(CpuId{1}, [&] { (void)hal::load<u32>(addr[1]); });
            auto held = occupy(1);

            from_here();
            for (Page* page : pages)
                kunmap(page);
            // Frees a page that was accessed and one that was not.
            free_page(pages[1]);
            free_page(pages[2]);
            auto next = stamped(7);
            std::vector<GlobalAddr> seen;
            for (Page* page : next)
                seen.push_back(kmap(page));
            for (u32 i = 0; i < next.size(); ++i)
                REQUIRE(every_cpu_sees(seen[i], next[i]));
            CHECK(kernel.machine.online().count() == 2);
        });
        if (!kDebug) CHECK(runs >= 16);
    }
}

TEST_CASE("kmap: what the stores and flushes of a wrap leave is right for every fill of a single slot",
          "[pkmap][chooser]") {
    ONLY_WITH(kHigh);
    const u32 runs = for_every_fill(small(2), [&](Booted&, const auto& from_here) {
        Page* page = stamped(1)[0];
        const GlobalAddr addr = kmap(page);
        auto held = occupy(0);
        from_here();
        kunmap(page);
        // The hand makes several rounds, and the slot belongs to another page each time.
        for (u32 round = 0; round < 3; ++round) {
            Page* next = stamped(1)[0];
            REQUIRE(kmap(next) == addr);
            if (round == 1) REQUIRE(every_cpu_sees(addr, next));
            kunmap(next);
        }
        Page* last = stamped(1)[0];
        REQUIRE(kmap(last) == addr);
        REQUIRE(every_cpu_sees(addr, last));
    });
    CHECK(runs >= 4);
}

TEST_CASE("kmap: an idle page that is freed is forgotten, its flush stays owed", "[pkmap]") {
    ONLY_WITH(kHigh && !kDebug);
    Booted kernel{small(2)};
    kernel.machine.set_fills(sim::Fills::never);
    auto pages = stamped(2);
    const GlobalAddr touched = kmap(pages[0]), untouched = kmap(pages[1]);
    CHECK(every_cpu_sees(touched, pages[0]));
    for (Page* page : pages)
        kunmap(page);
    for (Page* page : pages)
        free_page(page);
    CHECK(count_of(touched) == kOwed);
    CHECK(count_of(untouched) == kFree);
    CHECK(pkmap_use().idle == 1);
    CHECK(kernel.machine.total().invlpg + kernel.machine.total().flush_non_global == 0);
    Pfn pfn;
    VirtAddr va;
    CHECK_FALSE(pkmap_to_pfn(touched, pfn));
    CHECK_FALSE(pkmap_address(pages[0], va));
    CHECK_FALSE(oracle_walk(kernel_root().value(), touched.value()));
    // The debt is paid when the hand enters this half again, before the slot maps another page.
    for (GlobalAddr addr; addr != touched;) {
        Page* page = stamped(1)[0];
        addr = kmap(page);
        REQUIRE(every_cpu_sees(addr, page));
    }
    CHECK(since_start(pkmap_stats()).wraps == 1);
    CHECK(since_start(pkmap_stats()).flushes == 1);
    CHECK(kernel.machine.total().flush_non_global == 2);
}

TEST_CASE("kmap: a frame that was freed while idle and is allocated again gets a slot of its own", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    Page* page = stamped(1)[0];
    const GlobalAddr before = kmap(page);
    CHECK(every_cpu_sees(before, page));
    kunmap(page);
    free_page(page);
    REQUIRE(alloc_page(Gfp::high) == page);
    stamp(page);
    const GlobalAddr after = kmap(page);
    CHECK(after != before);
    CHECK(every_cpu_sees(after, page));
    // The slot of its first allocation is reclaimed; this does not affect the slot of the second one.
    while (since_start(pkmap_stats()).wraps == 0) {
        Page* next = new_page();
        (void)kmap(next);
        kunmap(next);
    }
    CHECK(every_cpu_sees(after, page));
    CHECK(kmap(page) == after);
    kunmap(page);
    kunmap(page);
    CHECK(pkmap_use().used == 0);
}

TEST_CASE("kmap: a frame that is still mapped cannot be freed", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    Page* page = stamped(1)[0];
    const GlobalAddr addr = kmap(page);
    (void)kmap(page);
    CHECK_PANIC(free_page(page),
                sim::text("free of frame {}: kmap still shows it at {} to 2 users", page_to_pfn(page), VirtAddr{addr}));
    CHECK(shows(addr, page));
    kunmap(page);
    CHECK_PANIC(free_page(page), "to 1 users");
    kunmap(page);
    free_page(page);
}

TEST_CASE("pkmap_forget: a page without a slot has nothing to be forgotten", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    Page* page = new_page();
    CHECK_NOTHROW(pkmap_forget(page));
    free_page(page);
}

TEST_CASE("kunmap: of a page that is not mapped is a panic", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    auto pages = stamped(2);
    CHECK_PANIC(kunmap(pages[0]), "is not mapped");
    (void)kmap(pages[0]);
    CHECK_PANIC(kunmap(pages[1]), sim::text("kunmap: frame {} is not mapped", page_to_pfn(pages[1])));
    kunmap(pages[0]);
    CHECK_PANIC(kunmap(pages[0]), "is not mapped");
    // The count did not change: the page can be used as before.
    CHECK(shows(kmap(pages[0]), pages[0]));
    kunmap(pages[0]);
}

TEST_CASE("kunmap: of a page whose idle slot another page gets meanwhile is a panic, too", "[pkmap]") {
    ONLY_WITH(kHigh && !kDebug);
    Booted kernel;
    pkmap_set_slots(4);
    auto pages = stamped(5);
    for (u32 i = 0; i < 4; ++i)
        (void)kmap(pages[i]);
    kunmap(pages[0]);
    GlobalAddr other{};
    bool was_there = false;
    {
        // The slot of the page has been read, and not yet the word of the slot.
        sim::ScopedHook hook{[&](sim::Point point) {
            if (point != sim::Point::atomic || std::exchange(was_there, true)) return;
            REQUIRE(try_on_cpu(CpuId{1}, [&] { other = kmap(pages[4]); }));
        }};
        CHECK_PANIC(kunmap(pages[0]), sim::text("kunmap: frame {} is not mapped", page_to_pfn(pages[0])));
    }
    CHECK(count_of(other) == 2);
    CHECK(every_cpu_sees(other, pages[4]));
}

TEST_CASE("kmap: a slot that was taken in vain is used again after the flush that it owes", "[pkmap]") {
    ONLY_WITH(kHigh && !kDebug);
    Booted kernel;
    pkmap_set_slots(4);
    pkmap_trust_accessed_bit(false);
    auto pages = stamped(4);
    bool was_there = false;
    {
        // This CPU has a slot for the page, and another one gives the page a slot before.
        sim::ScopedHook hook{[&](sim::Point point) {
            if (point != sim::Point::pte_store || std::exchange(was_there, true)) return;
            REQUIRE(try_on_cpu(CpuId{1}, [&] { (void)kmap(pages[0]); }));
        }};
        (void)kmap(pages[0]);
    }
    sim::on_cpu(CpuId{1}, [&] { (void)kmap(pages[1]); });
    (void)kmap(pages[2]);
    CHECK(pkmap_use().used == 3);
    CHECK(pkmap_use().idle == 1);
    CHECK(every_cpu_sees(kmap(pages[3]), pages[3]));
}

TEST_CASE("kmap: a page that another thread has mapped is mapped without a lock", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    Page* const page = stamped(1)[0];
    const GlobalAddr addr = kmap(page);
    u32 locks = 0;
    {
        sim::ScopedHook hook{[&](sim::Point point) { locks += point == sim::Point::irq; }};
        CHECK(kmap(page) == addr);
    }
    CHECK(locks == 0);
    CHECK(count_of(addr) == 3);
    kunmap(page);
    kunmap(page);
}

TEST_CASE("kunmap: of a page whose slot is idle is a panic for who has others mapped, too", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    auto pages = stamped(2);
    (void)kmap(pages[1]);
    kunmap(pages[1]);
    const GlobalAddr held = kmap(pages[0]);
    const PkmapUse before = pkmap_use();
    CHECK_PANIC(kunmap(pages[1]), sim::text("kunmap: frame {} is not mapped", page_to_pfn(pages[1])));
    CHECK(pkmap_use().idle == before.idle);
    CHECK(pkmap_use().used == 1);
    CHECK(shows(kmap(pages[1]), pages[1]));
    kunmap(pages[1]);
    CHECK(shows(held, pages[0]));
    kunmap(pages[0]);
    CHECK(pkmap_use().used == 0);
}

TEST_CASE("kmap: is caught in every context that must not sleep; kunmap is not", "[pkmap]") {
    Booted kernel;
    Page* page = stamped(1)[0];
    {
        PreemptGuard guard;
        CHECK_PANIC((void)kmap(page), "kmap may sleep");
    }
    {
        IrqGuard guard;
        CHECK_PANIC((void)kmap(page), "kmap may sleep");
    }
    as_interrupt([&] { CHECK_PANIC((void)kmap(page), "kmap may sleep"); });
    (void)kmap(page);
    as_interrupt([&] { CHECK_NOTHROW(kunmap(page)); });
    CHECK(pkmap_use().used == 0);
}

TEST_CASE("pkmap: address and frame of a mapping can be asked for while it is used", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    Page* page = stamped(1)[0];
    Pfn pfn;
    VirtAddr va;
    CHECK_FALSE(pkmap_address(page, va));
    const GlobalAddr addr = kmap(page);
    REQUIRE(pkmap_to_pfn(VirtAddr{addr} + 4095, pfn));
    CHECK(pfn == page_to_pfn(page));
    REQUIRE(pkmap_address(page, va));
    CHECK(va == VirtAddr{addr});
    CHECK_FALSE(pkmap_to_pfn(VirtAddr{addr} + kPageSize, pfn));
    CHECK_FALSE(pkmap_to_pfn(VirtAddr{layout::kPkmapBase}, pfn));
    CHECK_FALSE(pkmap_to_pfn(VirtAddr{layout::kPkmapBase - 1}, pfn));
    CHECK_FALSE(pkmap_to_pfn(VirtAddr{layout::kPkmapBase + layout::kPkmapSize}, pfn));
    kunmap(page);
    CHECK_FALSE(pkmap_to_pfn(addr, pfn));
    CHECK_FALSE(pkmap_address(page, va));
}

TEST_CASE("pkmap: without high memory there is no pool", "[pkmap]") {
    ONLY_WITH(!kHigh);
    Booted kernel;
    Page* page = stamped(1)[0];
    Pfn pfn;
    CHECK_FALSE(pkmap_accessed_bit_works());
    CHECK_FALSE(pkmap_to_pfn(kmap(page), pfn));
    CHECK(pkmap_use().free + pkmap_use().idle + pkmap_use().used == 0);
}

TEST_CASE("pkmap: the test of the accessed bit needs a frame and a slot, and leaves both as they were", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    CHECK(kernel.machine.logged("accessed bit works"));
    const Books before = books();
    const PkmapUse use = pkmap_use();
    CHECK(pkmap_accessed_bit_works());
    CHECK(books() == before);
    CHECK(pkmap_use().free == use.free);
    {
        Shortage shortage{0, 0};
        CHECK_FALSE(pkmap_accessed_bit_works());
    }
    auto held = occupy(0);
    CHECK_FALSE(pkmap_accessed_bit_works());
}

TEST_CASE("pkmap: init forgets the pool of a machine that is gone", "[pkmap]") {
    ONLY_WITH(kHigh);
    {
        Booted kernel{small(1)};
        auto held = occupy(3);
    }
    Booted kernel{small(1)};
    CHECK(pkmap_use().used == 0);
    CHECK(pkmap_use().free == kSlots);
    CHECK(since_start(pkmap_stats()).maps == 0);
    CHECK(occupy(0).size() == kSlots);
}

// --- two CPUs at the same time

namespace {

// Runs `what` on CPU 1 at a schedule point of CPU 0, but not while CPU 1 answers CPU 0's flush request. False if CPU 1
// would wait for CPU 0.
bool meanwhile(const std::function<void()>& what) {
    return !sim::machine().cpu(CpuId{1}).interrupts || try_on_cpu(CpuId{1}, what);
}

} // namespace

TEST_CASE("kmap: another CPU that maps, touches and unmaps the same page between any two steps", "[pkmap][race]") {
    ONLY_WITH(kHigh);
    enum class Start { unmapped, idle, mapped };
    for (const Start start : {Start::unmapped, Start::idle, Start::mapped}) {
        INFO("start " << static_cast<int>(start));
        Booted kernel{small(2)};
        Page* page = nullptr;
        bool waiting = false;
        const auto other = [&] {
            const GlobalAddr addr = kmap(page);
            REQUIRE(shows(addr, page));
            kunmap(page);
        };
        Intruder intruder{[&] { waiting = !meanwhile(other); }};
        const u32 points = sim::at_every_point({
            .operation =
                [&] {
                    const GlobalAddr addr = kmap(page);
                    REQUIRE(every_cpu_sees(addr, page));
                    kunmap(page);
                },
            .intruder = std::ref(intruder),
            .prepare =
                [&] {
                    page = stamped(1)[0];
                    if (start == Start::unmapped) return;
                    (void)hal::load<u32>(kmap(page));
                    if (start == Start::idle) kunmap(page);
                },
            .check =
                [&] {
                    intruder.finish();
                    if (waiting) sim::on_cpu(CpuId{1}, other);
                    waiting = false;
                    if (start == Start::mapped) {
                        VirtAddr va;
                        REQUIRE(pkmap_address(page, va));
                        REQUIRE(pkmap_count((va.value() - layout::kPkmapBase) >> kPageShift) == 2);
                        REQUIRE(every_cpu_sees(va, page));
                        kunmap(page);
                    }
                    REQUIRE(pkmap_use().used == 0);
                    free_page(page);
                },
        });
        CHECK(points >= 8);
    }
}

TEST_CASE("kmap: the last kunmap against a kmap of the same page on another CPU, between any two steps",
          "[pkmap][race]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(2)};
    Page* page = nullptr;
    GlobalAddr theirs{};
    bool waiting = false;
    const auto other = [&] {
        theirs = kmap(page);
        REQUIRE(shows(theirs, page));
    };
    Intruder intruder{[&] { waiting = !meanwhile(other); }};
    const u32 points = sim::at_every_point({
        .operation = [&] { kunmap(page); },
        .intruder = std::ref(intruder),
        .prepare =
            [&] {
                page = stamped(1)[0];
                const GlobalAddr addr = kmap(page);
                REQUIRE(every_cpu_sees(addr, page));
                theirs = {};
            },
        .check =
            [&] {
                intruder.finish();
                if (waiting) sim::on_cpu(CpuId{1}, other);
                waiting = false;
                if (theirs.value() != 0) {
                    REQUIRE(every_cpu_sees(theirs, page));
                    REQUIRE(count_of(theirs) == 2);
                    sim::on_cpu(CpuId{1}, [&] { kunmap(page); });
                }
                REQUIRE(pkmap_use().used == 0);
                free_page(page);
            },
    });
    CHECK(points >= 3);
}

// The fast path reads the page's slot and then claims it. In between the hand may have made a whole round.
TEST_CASE("kmap: a page whose slot is given away between any two steps of the fast path gets another one",
          "[pkmap][race]") {
    ONLY_WITH(kHigh && !kDebug);
    u32 stolen = 0;
    for (u32 at = 0;; ++at) {
        INFO("step " << at);
        EndOfRound pool{1};
        EndOfRound::hand_over(pool.held[0]);
        Page* page = pool.idle[0];
        auto others = stamped(2);
        GlobalAddr theirs[2], addr;
        Intruder intruder{[&] {
            sim::on_cpu(CpuId{1}, [&] {
                kunmap(pool.held[0]);
                for (u32 i = 0; i < 2; ++i)
                    theirs[i] = kmap(others[i]);
            });
        }};
        {
            u32 seen = 0;
            sim::ScopedHook hook{[&](sim::Point) {
                if (seen++ == at) intruder();
            }};
            addr = kmap(page);
        }
        intruder.finish();
        if (intruder.runs() == 0) break;
        stolen += addr != pool.addr[0];
        REQUIRE(every_cpu_sees(addr, page));
        REQUIRE(count_of(addr) == 2);
        for (u32 i = 0; i < 2; ++i) {
            REQUIRE(theirs[i] != addr);
            REQUIRE(every_cpu_sees(theirs[i], others[i]));
            REQUIRE(count_of(theirs[i]) == 2);
        }
    }
    CHECK(stolen >= 3);
}

// Twice: the slot is reclaimed between the read of the slot and the claim, and again before the second read.
TEST_CASE("kmap: two wraps between any two pairs of steps of the fast path confuse no count", "[pkmap][race]") {
    ONLY_WITH(kHigh && !kDebug);
    bool more = true;
    u32 stolen = 0;
    for (u32 first = 0; more; ++first) {
        more = false;
        for (u32 second = first + 1; second < first + 12; ++second) {
            INFO("steps " << first << " and " << second);
            EndOfRound pool{1};
            pool.fill();
            Page* page = pool.idle[0];
            auto others = stamped(2);
            for (u32 i = 0; i < 2; ++i)
                EndOfRound::hand_over(pool.held[i]);
            GlobalAddr theirs[2], addr;
            bool given_back[2]{};
            const auto wrap = [&](u32 i) {
                if (!given_back[i]) kunmap(pool.held[i]);
                given_back[i] = true;
                if (theirs[i].value() == 0) theirs[i] = kmap(others[i]);
            };
            Intruder one{[&] { (void)meanwhile([&] { wrap(0); }); }}, two{[&] { (void)meanwhile([&] { wrap(1); }); }};
            {
                u32 seen = 0;
                sim::ScopedHook hook{[&](sim::Point) {
                    if (seen == first) one();
                    if (seen == second) two();
                    ++seen;
                }};
                addr = kmap(page);
            }
            one.finish();
            two.finish();
            more |= one.runs() != 0;
            sim::on_cpu(CpuId{1}, [&] {
                wrap(0);
                wrap(1);
            });
            stolen += addr != pool.addr[0];
            REQUIRE(every_cpu_sees(addr, page));
            REQUIRE(count_of(addr) == 2);
            for (u32 i = 0; i < 2; ++i) {
                REQUIRE(theirs[i] != addr);
                REQUIRE(every_cpu_sees(theirs[i], others[i]));
                REQUIRE(count_of(theirs[i]) == 2);
            }
            for (u32 slot = 1; slot <= kSlots; ++slot)
                REQUIRE(pkmap_count(slot) <= 2);
        }
    }
    CHECK(stolen >= 10);
}

// The last user calls kunmap: from one of its steps on, before kunmap returns, the slot may be reclaimed.
TEST_CASE("kunmap: another CPU that wraps the pool between any two steps sees and leaves nothing stale",
          "[pkmap][race]") {
    ONLY_WITH(kHigh);
    u32 taken_over = 0;
    for (u32 at = 0;; ++at) {
        INFO("step " << at);
        EndOfRound pool{0};
        EndOfRound::hand_over(pool.held[5]);
        // One slot that both CPUs have accessed; one slot that becomes free for the CPU that wraps the pool.
        Page* page = pool.held[0];
        VirtAddr va;
        REQUIRE(pkmap_address(page, va));
        REQUIRE(every_cpu_sees(va, page));
        auto others = stamped(3);
        GlobalAddr theirs[2];
        bool waiting = false;
        const auto other = [&] {
            kunmap(pool.held[5]);
            for (u32 i = 0; i < 2; ++i)
                theirs[i] = kmap(others[i]);
        };
        Intruder intruder{[&] { waiting = !meanwhile(other); }};
        {
            u32 seen = 0;
            sim::ScopedHook hook{[&](sim::Point) {
                if (seen++ == at) intruder();
            }};
            kunmap(page);
        }
        intruder.finish();
        if (intruder.runs() == 0) break;
        if (waiting || theirs[0].value() == 0) continue; // the other CPU had to wait: there is no result
        for (u32 i = 0; i < 2; ++i) {
            taken_over += VirtAddr{theirs[i]} == va;
            REQUIRE(every_cpu_sees(theirs[i], others[i]));
            REQUIRE(count_of(theirs[i]) == 2);
        }
        const GlobalAddr last = kmap(others[2]);
        REQUIRE(every_cpu_sees(last, others[2]));
        REQUIRE(pkmap_use().used == kSlots);
    }
    if (kDebug) CHECK(taken_over >= 1); // without DEBUG the last step of kunmap releases the slot
}

// A round takes hundreds of steps; only those around a change that is visible to other CPUs are tested.
TEST_CASE("kmap: another CPU maps an idle page, unmaps a used one or frees an idle one, during a wrap",
          "[pkmap][race]") {
    ONLY_WITH(kHigh && !kDebug);
    enum class Other { map_idle, unmap_used, free_idle };
    constexpr u32 kIdlePages = 4, kNext = 3;
    const auto visible = [](const EndOfRound& pool) {
        std::vector<u32> now;
        for (u32 slot = 1; slot <= kIdlePages + 2; ++slot)
            now.push_back(pkmap_count(slot));
        for (Page* page : pool.idle)
            now.push_back(page->slot());
        return now;
    };
    const auto touched = [](u32 i, GlobalAddr addr) {
        if (i == 1) return;
        sim::on_cpu(CpuId{i % 2}, [&] { (void)hal::load<u32>(addr); });
    };
    std::vector<u32> moments;
    {
        EndOfRound pool{kIdlePages, 2, touched};
        pool.fill();
        Page* page = stamped(1)[0];
        auto last = visible(pool);
        u32 at = 0;
        sim::ScopedHook hook{[&](sim::Point) {
            if (auto now = visible(pool); now != last) {
                moments.insert(moments.end(), {at - 1, at, at + 1});
                last = std::move(now);
            }
            ++at;
        }};
        (void)kmap(page);
        moments.push_back(0);
        moments.push_back(1);
        moments.push_back(at - 1);
    }
    CHECK(moments.size() > 20);
    std::sort(moments.begin(), moments.end());
    moments.erase(std::unique(moments.begin(), moments.end()), moments.end());

    for (const Other kind : {Other::map_idle, Other::unmap_used, Other::free_idle}) {
        for (const u32 moment : moments) {
            INFO("what " << static_cast<int>(kind) << ", at step " << moment);
            EndOfRound pool{kIdlePages, 2, touched};
            EndOfRound::hand_over(pool.held[0]);
            pool.fill();
            auto next = stamped(kNext);
            GlobalAddr theirs{};
            bool waiting = false;
            const auto other = [&] {
                switch (kind) {
                case Other::map_idle:
                    theirs = kmap(pool.idle[1]);
                    REQUIRE(shows(theirs, pool.idle[1]));
                    break;
                case Other::unmap_used:
                    kunmap(pool.held[0]);
                    break;
                case Other::free_idle:
                    free_page(pool.idle[0]);
                    break;
                }
            };
            Intruder intruder{[&] { waiting = !meanwhile(other); }};
            std::vector<GlobalAddr> addr;
            {
                u32 seen = 0;
                sim::ScopedHook hook{[&](sim::Point) {
                    if (seen++ == moment) intruder();
                }};
                addr.push_back(kmap(next[0]));
            }
            intruder.finish();
            if (waiting) sim::on_cpu(CpuId{1}, other);
            for (u32 i = 1; i < kNext; ++i)
                addr.push_back(kmap(next[i]));
            for (u32 i = 0; i < kNext; ++i)
                REQUIRE(every_cpu_sees(addr[i], next[i]));
            if (theirs.value() != 0) REQUIRE(every_cpu_sees(theirs, pool.idle[1]));
            for (u32 i = kind == Other::unmap_used ? 1 : 0; i < pool.held.size(); i += 37) {
                VirtAddr va;
                REQUIRE(pkmap_address(pool.held[i], va));
                REQUIRE(every_cpu_sees(va, pool.held[i]));
            }
        }
    }
}

TEST_CASE("kmap: random use on three CPUs against counts, with frees in between", "[pkmap][random]") {
    ONLY_WITH(kHigh);
    for (u32 seed = 1; seed <= 5; ++seed) {
        INFO("seed " << seed);
        Random random{seed};
        Setup setup = small(3);
        setup.machine.seed = seed;
        Booted kernel{setup};
        pkmap_trust_accessed_bit(seed != 5);
        // Most slots stay in use, so that the pool wraps often.
        auto held = occupy(40);
        struct Entry {
            Page* page;
            u32 users = 0, of_cpu[3]{};
            GlobalAddr addr{};
        };
        std::vector<Entry> entries;
        for (Page* page : stamped(90))
            entries.push_back({page});
        u32 mapped = 0;
        for (u32 step = 0; step < 12'000; ++step) {
            Entry& entry = entries[below(random, 90)];
            const u32 cpu = below(random, 3);
            sim::on_cpu(CpuId{cpu}, [&] {
                switch (below(random, 7)) {
                case 0:
                case 1: {
                    if (entry.users == 0 && mapped == 38) break;
                    const GlobalAddr addr = kmap(entry.page);
                    if (entry.users != 0) REQUIRE(addr == entry.addr);
                    entry.addr = addr;
                    mapped += entry.users++ == 0;
                    ++entry.of_cpu[cpu];
                    break;
                }
                case 2:
                case 3:
                case 6:
                    if (entry.of_cpu[cpu] == 0) break;
                    kunmap(entry.page);
                    --entry.of_cpu[cpu];
                    mapped -= --entry.users == 0;
                    break;
                case 4:
                    if (entry.users == 0) break;
                    REQUIRE(shows(entry.addr, entry.page));
                    REQUIRE(count_of(entry.addr) == entry.users + 1);
                    break;
                case 5:
                    if (entry.users != 0) break;
                    free_page(entry.page);
                    entry.page = new_page();
                    stamp(entry.page);
                    break;
                }
                // A CPU flushes now and then, as when it switches to another process.
                if (below(random, 50) == 0) tlb_flush_local_non_global();
            });
            REQUIRE(pkmap_use().used == mapped + held.size());
        }
        REQUIRE(since_start(pkmap_stats()).wraps > 5);
    }
}

// --- the halves, and the CPUs that are interrupted for them

namespace {

// 4 slots: 1 and 2 are the lower half, 3 and 4 the upper one.
struct SmallPool {
    explicit SmallPool(u32 cpus = 2, u32 slots = 4) : kernel{small(cpus)} {
        pkmap_set_slots(slots);
        pkmap_trust_accessed_bit(false);
        kernel.machine.online().for_each([&](CpuId cpu) {
            kernel.machine.counters(cpu) = {};
            tlb_stats.of(cpu) = {};
        });
    }
    std::vector<u32> counts() const {
        std::vector<u32> all;
        for (u32 slot = 1; slot <= pkmap_slots(); ++slot)
            all.push_back(pkmap_count(slot));
        return all;
    }
    // kmap, a check on this CPU, kunmap; returns the address.
    GlobalAddr pass(Page* page) const {
        const GlobalAddr addr = kmap(page);
        REQUIRE(shows(addr, page));
        kunmap(page);
        return addr;
    }
    // Passes new pages until the hand has made `times` more rounds.
    void go_round(u32 times, const std::function<void(GlobalAddr, Page*)>& each = {}) const {
        for (const u32 before = pkmap_stats().wraps; pkmap_stats().wraps - before < times;) {
            Page* page = stamped(1)[0];
            const GlobalAddr addr = kmap(page);
            REQUIRE(shows(addr, page));
            if (each) each(addr, page);
            kunmap(page); // not freed, so each address maps a different frame every time
        }
    }
    Booted kernel;
};

} // namespace

TEST_CASE("pkmap: the debts of a half age while the hand is in the other", "[pkmap]") {
    ONLY_WITH(kHigh && !kDebug);
    SmallPool pool{2};
    auto pages = stamped(9);
    const auto flushes = [&] { return pool.kernel.machine.total().flush_non_global; };
    using Counts = std::vector<u32>;
    CHECK(pool.counts() == Counts{kFree, kFree, kFree, kFree});
    CHECK(slot_at(pool.pass(pages[0])) == 1);
    CHECK(slot_at(pool.pass(pages[1])) == 2);
    CHECK(pool.counts() == Counts{kIdle, kIdle, kFree, kFree});
    // The hand enters the upper half: the lower one's idle slots are reclaimed, and no CPU is asked yet.
    CHECK(slot_at(pool.pass(pages[2])) == 3);
    CHECK(pool.counts() == Counts{kOwed, kOwed, kIdle, kFree});
    CHECK(pages[0]->slot() == Page::kNoSlot);
    CHECK_FALSE(oracle_walk(kernel_root().value(), layout::pkmap_addr(1).value()));
    CHECK(pkmap_use().idle == 3);
    CHECK(slot_at(pool.pass(pages[3])) == 4);
    CHECK(flushes() == 0);
    CHECK(since_start(pkmap_stats()).wraps == 0);
    // The hand enters the lower half: the upper one's idle slots are reclaimed, the lower one's debt is paid. This
    // flush also pays for the upper half, ...
    CHECK(slot_at(pool.pass(pages[4])) == 1);
    CHECK(pool.counts() == Counts{kIdle, kFree, kOwed, kOwed});
    CHECK(flushes() == 2);
    CHECK(since_start(pkmap_stats()).wraps == 1);
    CHECK(since_start(pkmap_stats()).flushes == 1);
    CHECK(slot_at(pool.pass(pages[5])) == 2);
    // ... so that entering the upper half costs nothing.
    CHECK(slot_at(pool.pass(pages[6])) == 3);
    CHECK(pool.counts() == Counts{kOwed, kOwed, kIdle, kFree});
    CHECK(flushes() == 2);
    CHECK(since_start(pkmap_stats()).flushes == 2);
    CHECK(since_start(pkmap_stats()).reclaimed == 6);
    // A used slot keeps its page, and an idle one can be mapped again until the hand reclaims it.
    const GlobalAddr used = kmap(pages[7]);
    CHECK(slot_at(used) == 4);
    CHECK(kmap(pages[6]) == GlobalAddr{layout::pkmap_addr(3)});
    CHECK(slot_at(pool.pass(pages[8])) == 1);
    CHECK(pool.counts() == Counts{kIdle, kFree, 2, 2});
    CHECK(flushes() == 4);
    CHECK(every_cpu_sees(used, pages[7]));
}

TEST_CASE("pkmap: a CPU that is busy and never flushes is interrupted once in a round", "[pkmap]") {
    ONLY_WITH(kHigh && !kDebug);
    for (const u32 slots : {2u, 3u, 4u, 5u, 16u, 17u}) {
        INFO("slots " << slots);
        SmallPool pool{3, slots};
        pool.go_round(1); // the first round finds all slots free
        for (u32 cpu = 0; cpu < 3; ++cpu) {
            pool.kernel.machine.counters(CpuId{cpu}) = {};
            tlb_stats.of(CpuId{cpu}) = {};
        }
        constexpr u32 kRounds = 10;
        // CPU 1 reads each address, but never calls kmap; CPU 2 reads none.
        pool.go_round(kRounds,
                      [](GlobalAddr addr, Page* page) { sim::on_cpu(CpuId{1}, [&] { REQUIRE(shows(addr, page)); }); });
        for (const u32 cpu : {1u, 2u}) {
            CHECK(pool.kernel.machine.counters(CpuId{cpu}).ipis_received <= kRounds);
            CHECK(pool.kernel.machine.counters(CpuId{cpu}).ipis_received >= kRounds - 1);
        }
        CHECK(since_start(tlb_stats_sum(), 3).rounds <= kRounds);
        CHECK(pool.kernel.machine.counters(CpuId{0}).flush_non_global <= kRounds);
    }
}

TEST_CASE("pkmap: a CPU that is idle, or has flushed since, is never interrupted", "[pkmap]") {
    ONLY_WITH(kHigh && !kDebug);
    SmallPool pool{4, 8};
    constexpr CpuId kIdleCpu{1}, kSwitching{2}, kBusy{3};
    const auto read_on = [](CpuId cpu, GlobalAddr addr, Page* page) {
        sim::on_cpu(cpu, [&] { REQUIRE(shows(addr, page)); });
    };
    // All CPUs have read every address.
    pool.go_round(2, [&](GlobalAddr addr, Page* page) {
        for (const CpuId cpu : {kIdleCpu, kSwitching, kBusy})
            read_on(cpu, addr, page);
    });
    sim::on_cpu(kIdleCpu, [] { tlb_enter_idle(); });
    for (const CpuId cpu : {kIdleCpu, kSwitching, kBusy})
        pool.kernel.machine.counters(cpu) = {};
    const TlbStats before = tlb_stats_sum();
    constexpr u32 kRounds = 6;
    u32 passed = 0;
    pool.go_round(kRounds, [&](GlobalAddr addr, Page* page) {
        read_on(kSwitching, addr, page);
        read_on(kBusy, addr, page);
        // It loads a root once in each half of the pool.
        if (++passed % 4 == 2) sim::on_cpu(kSwitching, [] { tlb_flush_local_non_global(); });
    });
    CHECK(pool.kernel.machine.counters(kIdleCpu).ipis_received == 0);
    CHECK(pool.kernel.machine.counters(kSwitching).ipis_received == 0);
    CHECK(pool.kernel.machine.counters(kBusy).ipis_received >= kRounds - 1);
    CHECK(pool.kernel.machine.counters(kBusy).ipis_received <= kRounds);
    const TlbStats now = tlb_stats_sum();
    CHECK(now.skipped_idle - before.skipped_idle >= 2 * kRounds - 1);
    CHECK(now.skipped_clean - before.skipped_clean >= 2 * kRounds - 1);
    // The idle CPU wakes up, flushes once, and sees the same pages as all others.
    Page* page = stamped(1)[0];
    const GlobalAddr addr = kmap(page);
    sim::on_cpu(kIdleCpu, [&] { as_interrupt([&] { CHECK(shows(addr, page)); }); });
    CHECK(pool.kernel.machine.counters(kIdleCpu).flush_non_global == 1);
    CHECK(every_cpu_sees(addr, page));
}

TEST_CASE("pkmap: a half that owes nothing costs nothing, also after it has owed once", "[pkmap]") {
    ONLY_WITH(kHigh && !kDebug);
    SmallPool pool{2};
    pkmap_trust_accessed_bit(true);
    pool.kernel.machine.set_fills(sim::Fills::never);
    pool.go_round(2); // reads every page
    const auto unread = [] {
        for (const u32 before = pkmap_stats().wraps; pkmap_stats().wraps - before < 2;) {
            Page* page = stamped(1)[0];
            (void)kmap(page);
            kunmap(page);
        }
    };
    unread(); // the last debts are paid
    const u32 flushes = since_start(pkmap_stats()).flushes;
    const u64 cost = pool.kernel.machine.total().flush_non_global;
    CHECK(flushes > 0);
    unread();
    unread();
    CHECK(since_start(pkmap_stats()).flushes == flushes);
    CHECK(pool.kernel.machine.total().flush_non_global == cost);
}

// The half has a debt already, and every CPU has flushed since that debt, but not since this page was used.
TEST_CASE("pkmap: a page that is freed late in its half is owed from then on", "[pkmap]") {
    ONLY_WITH(kHigh && !kDebug);
    SmallPool pool{2};
    auto pages = stamped(3), others = stamped(9);
    pool.pass(pages[0]);
    const GlobalAddr late = kmap(pages[1]);
    CHECK(slot_at(late) == 2);
    CHECK(slot_at(pool.pass(pages[2])) == 3);
    CHECK(pkmap_count(1) == kOwed);
    for (u32 cpu = 0; cpu < 2; ++cpu)
        sim::on_cpu(CpuId{cpu}, [] { tlb_flush_local_non_global(); });
    CHECK(every_cpu_sees(late, pages[1]));
    kunmap(pages[1]);
    free_page(pages[1]);
    CHECK(count_of(late) == kOwed);
    for (Page* page : others) {
        const GlobalAddr addr = kmap(page);
        REQUIRE(every_cpu_sees(addr, page));
        kunmap(page);
    }
}

// A thread that claims a slot relies on this: if the word is in state `used`, the page's slot field names the slot. In
// the state `making` the page may have no slot yet.
TEST_CASE("pkmap: at every step a word that counts users is that of a page which says so", "[pkmap][race]") {
    ONLY_WITH(kHigh);
    SmallPool pool{1};
    auto pages = stamped(8);
    u32 used = 0;
    bool inside = false;
    {
        sim::ScopedHook hook{[&](sim::Point) {
            if (std::exchange(inside, true)) return;
            for (u32 slot = 1; slot <= pkmap_slots(); ++slot) {
                Pfn pfn{};
                if (!pkmap_to_pfn(layout::pkmap_addr(slot), pfn)) continue;
                ++used;
                REQUIRE(pfn_to_page(pfn)->slot() == slot);
            }
            inside = false;
        }};
        for (Page* page : pages)
            pool.pass(page);
    }
    CHECK(used > 10);
}

TEST_CASE("kmap: while its half has free slots, nobody takes the lock", "[pkmap]") {
    ONLY_WITH(kHigh && !kDebug);
    Booted kernel{small(1)};
    const u32 free = layout::kPkmapSlots / 2 - slot_at(kmap(stamped(1)[0])) - 1;
    REQUIRE(free > 100);
    auto pages = stamped(free + 1);
    const u32 before = lock_stats_sum().taken;
    for (u32 i = 0; i < free; ++i) {
        (void)kmap(pages[i]);
        kunmap(pages[i]);
    }
    CHECK(lock_stats_sum().taken == before);
    (void)kmap(pages[free]);
    CHECK(lock_stats_sum().taken == before + 1);
}

// The fast path reads a slot, which then becomes free, and tries to claim it; before its second read the slot is used
// again.
TEST_CASE("pkmap: a claim of a slot that is free by now, or owed, confuses nobody", "[pkmap][race]") {
    ONLY_WITH(kHigh && !kDebug);
    SmallPool pool{2};
    u32 stolen = 0;
    // Interrupts may be off during a claim, too. The slow path holds the lock from the step on in which a HeldLock
    // exists.
    const auto locked = [] { return HeldLock::newest() != nullptr; };
    for (u32 first = 0; first < 10; ++first) {
        for (u32 second = first + 1; second < first + 8; ++second) {
            for (u32 many = 0; many < 36; ++many) {
                INFO("at step " << first << ": " << many % 6 << " pages, at step " << second << ": " << many / 6);
                pkmap_set_slots(4);
                auto pages = stamped(12);
                pool.pass(pages[0]);
                pool.pass(pages[1]);
                const u32 before = pages[0]->slot();
                u32 next = 2;
                const auto pass = [&](u32 count) {
                    (void)meanwhile([&] {
                        for (; count > 0; --count)
                            pool.pass(pages[next++]);
                    });
                };
                GlobalAddr addr;
                Intruder one{[&] { pass(many % 6); }}, two{[&] { pass(many / 6); }};
                {
                    u32 seen = 0;
                    sim::ScopedHook hook{[&](sim::Point) {
                        const u32 now = seen++;
                        if (locked()) return; // the other CPU would wait for the lock
                        if (now == first) one();
                        if (now == second) two();
                    }};
                    addr = kmap(pages[0]);
                }
                one.finish();
                two.finish();
                stolen += slot_at(addr) != before;
                REQUIRE(every_cpu_sees(addr, pages[0]));
                REQUIRE(count_of(addr) == 2);
                REQUIRE(pkmap_use().used == 1);
                kunmap(pages[0]);
                free_all(pages);
                REQUIRE(pkmap_use().used == 0);
            }
        }
    }
    CHECK(stolen >= 100);
}

TEST_CASE("pkmap: no remote request at all while the other CPUs idle", "[pkmap]") {
    ONLY_WITH(kHigh);
    SmallPool pool{4, 8};
    for (u32 cpu = 1; cpu < 4; ++cpu)
        sim::on_cpu(CpuId{cpu}, [] { tlb_enter_idle(); });
    if (kDebug) {
        for (u32 i = 0; i < 50; ++i)
            pool.pass(stamped(1)[0]);
    } else {
        pool.go_round(10);
    }
    CHECK(pool.kernel.machine.total().ipis_sent == 0);
    const TlbStats sum = since_start(tlb_stats_sum(), 4);
    CHECK(sum.rounds == 0);
    CHECK(sum.skipped_idle > 0);
}

// An address can reach another CPU through memory or with a thread. CPU 1 uses addresses here without calling kmap.
TEST_CASE("pkmap: an address that was only handed over is flushed there before its slot is used again", "[pkmap]") {
    ONLY_WITH(kHigh);
    for (const u32 flushed : {0u, 1u, 2u}) {
        INFO("CPU 1 has flushed: 0 never, 1 before it read, 2 after: " << flushed);
        SmallPool pool{2};
        Page* page = stamped(1)[0];
        const GlobalAddr addr = kmap(page);
        const VirtAddr letter = direct_addr(page_to_pfn(new_page(Gfp::kernel)));
        hal::store<u32>(letter, addr.value());
        sim::on_cpu(CpuId{1}, [&] {
            if (flushed == 1) tlb_flush_local_non_global();
            CHECK(shows(VirtAddr{hal::load<u32>(letter)}, page));
        });
        kunmap(page);
        if (flushed == 2) sim::on_cpu(CpuId{1}, [] { tlb_flush_local_non_global(); });
        // Until another page has the slot.
        u32 turns = 0;
        for (GlobalAddr next; next != addr; ++turns) {
            REQUIRE(turns < 8);
            Page* other = stamped(1)[0];
            next = kmap(other);
            sim::on_cpu(CpuId{1}, [&] { REQUIRE(shows(next, other)); });
            kunmap(other);
        }
        CHECK(turns >= (kDebug ? 4 : 3));
        CHECK(pool.kernel.machine.total().ipis_sent >= 1);
    }
}

TEST_CASE("pkmap: an address that a CPU reads at any moment of its way to another page is right or fails",
          "[pkmap][race]") {
    ONLY_WITH(kHigh && !kDebug);
    // CPU 1 reads through an address, at every step of the round that follows its kunmap.
    for (u32 at = 0;; ++at) {
        INFO("step " << at);
        SmallPool pool{2, 2};
        auto pages = stamped(4);
        const GlobalAddr kept = kmap(pages[0]);
        pool.pass(pages[1]);
        u32 points = 0;
        bool done = false;
        GlobalAddr next;
        {
            sim::ScopedHook hook{[&](sim::Point) {
                if (points++ != at) return;
                done = true;
                if (sim::machine().cpu(CpuId{1}).interrupts)
                    sim::on_cpu(CpuId{1}, [&] { REQUIRE(shows(kept, pages[0])); });
            }};
            next = kmap(pages[2]);
        }
        REQUIRE(next != kept);
        REQUIRE(every_cpu_sees(kept, pages[0]));
        REQUIRE(every_cpu_sees(next, pages[2]));
        if (!done) break;
    }
}

// --- the kmap count of a thread, and the size of the pool

TEST_CASE("kmap: a thread's third mapping is reported, once, and counted", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    auto pages = stamped(4);
    (void)kmap(pages[0]);
    (void)kmap(pages[1]);
    {
        OtherThread other; // has a count of its own
        (void)kmap(pages[0]);
        (void)kmap(pages[2]);
        CHECK(since_start(pkmap_stats()).thirds == 0);
        kunmap(pages[2]);
        kunmap(pages[0]);
    }
    CHECK(since_start(pkmap_stats()).thirds == 0);
    CHECK_FALSE(kernel.machine.logged("slots are reserved for two only"));
    (void)kmap(pages[2]);
    CHECK(since_start(pkmap_stats()).thirds == 1);
    CHECK(kernel.machine.logged("holds 2 mappings makes another one: slots are reserved for two only"));
    const std::size_t lines = kernel.machine.log().size();
    (void)kmap(pages[2]); // a second mapping of the same page counts, too
    (void)kmap(pages[3]);
    CHECK(since_start(pkmap_stats()).thirds == 3);
    CHECK(kernel.machine.log().size() == lines);
    // Back to two: the next mapping is a third again.
    for (Page* page : {pages[3], pages[2], pages[2], pages[1]})
        kunmap(page);
    (void)kmap(pages[1]);
    CHECK(since_start(pkmap_stats()).thirds == 3);
    (void)kmap(pages[2]);
    CHECK(since_start(pkmap_stats()).thirds == 4);
    // Nor does it warn again when the count has wrapped.
    for (u32 i = 0; i < 20; ++i)
        (void)kmap(pages[2]);
    CHECK(pkmap_stats().thirds < 20);
    CHECK(since_start(pkmap_stats()).thirds == 24);
    CHECK(kernel.machine.log().size() == lines);
}

TEST_CASE("pkmap: a page has up to 252 users, one more is a panic and takes nothing", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    constexpr u32 kMost = detail::slot_count::most - detail::slot_count::idle;
    Page* const page = stamped(1)[0];
    const GlobalAddr addr = kmap(page);
    for (u32 i = 1; i < kMost; ++i)
        REQUIRE(kmap(page) == addr);
    CHECK(pkmap_count(slot_at(addr)) == detail::slot_count::most);
    CHECK_PANIC(kmap(page), "is mapped 252 times already");
    forgive(); // the count of the thread, whose kmap did not return
    CHECK(pkmap_count(slot_at(addr)) == detail::slot_count::most);
    CHECK(shows(addr, page));
    for (u32 i = 0; i < kMost; ++i)
        kunmap(page);
    CHECK(pkmap_use().used == 0);
    CHECK_PANIC(kunmap(page), "is not mapped");
}

TEST_CASE("kunmap: by a thread that has nothing mapped is a panic, and the mapping stays", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    Page* page = stamped(1)[0];
    const GlobalAddr addr = kmap(page);
    const auto panics = [&] {
        CHECK_PANIC(kunmap(page), sim::text("kunmap: frame {} was not mapped by this thread", page_to_pfn(page)));
    };
    sim::on_cpu(CpuId{1}, panics);
    {
        OtherThread other;
        panics();
        CHECK(context.load<&Context::minus_kmaps>() == 0);
    }
    CHECK(count_of(addr) == 2);
    CHECK(every_cpu_sees(addr, page));
    kunmap(page);
    CHECK(pkmap_use().used == 0);
}

TEST_CASE("kmap: half as many threads as there are slots hold mappings, each is sure of two, the next one sleeps",
          "[pkmap]") {
    ONLY_WITH(kHigh);
    for (const u32 slots : {2u, 3u, 4u, 9u}) {
        INFO("slots " << slots);
        SmallPool pool{1, slots};
        const u32 threads = slots / 2;
        auto pages = stamped(2 * threads + 1);
        std::vector<GlobalAddr> addr;
        for (u32 i = 0; i < threads; ++i) {
            OtherThread one;
            addr.push_back(kmap(pages[i]));
        }
        {
            OtherThread late;
            CHECK_THROWS_AS((void)kmap(pages[2 * threads]), sim::BadAccess); // it parks
        }
        CHECK(since_start(pkmap_stats()).waits == 0); // a wait is counted at its end
        CHECK(pkmap_use().used == threads);
        for (u32 i = 0; i < threads; ++i) {
            OtherThread one;
            context.store<&Context::minus_kmaps>(~0u); // runs as the thread that holds pages[i]
            addr.push_back(kmap(pages[threads + i]));
        }
        CHECK(since_start(pkmap_stats()).thirds == 0);
        CHECK(pkmap_use().used == 2 * threads);
        for (u32 i = 0; i < addr.size(); ++i)
            CHECK(shows(addr[i], pages[i]));
    }
}

TEST_CASE("kmap: a thread keeps its credits from its first mapping to its last", "[pkmap]") {
    ONLY_WITH(kHigh);
    SmallPool pool{1, 3}; // one credit
    auto pages = stamped(2);
    const auto another_may = [&] {
        OtherThread other;
        try {
            (void)kmap(pages[1]);
        } catch (const sim::BadAccess&) {
            return false;
        }
        kunmap(pages[1]);
        return true;
    };
    CHECK(another_may());
    (void)kmap(pages[0]);
    (void)kmap(pages[0]);
    kunmap(pages[0]);
    kunmap(pages[0]);
    CHECK(another_may()); // the last kunmap returns the credit ...
    (void)kmap(pages[0]);
    (void)kmap(pages[0]);
    kunmap(pages[0]);
    CHECK_FALSE(another_may()); // ... and no earlier one
}

TEST_CASE("kmap: pages of lowmem need no slot and no credit", "[pkmap]") {
    ONLY_WITH(kHigh && !kDebug);
    SmallPool pool{1, 2};
    auto low = stamped(3, Gfp::kernel);
    for (Page* page : low)
        (void)kmap(page);
    CHECK(context.load<&Context::minus_kmaps>() == 0);
    CHECK(since_start(pkmap_stats()).thirds == 0);
    for (Page* page : low)
        kunmap(page);
    Page* high = stamped(1)[0];
    CHECK(shows(kmap(high), high));
}

TEST_CASE("pkmap_set_slots: the pool has as many slots as asked for, all free, and no others are used", "[pkmap]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(2)};
    CHECK(pkmap_slots() == kSlots);
    auto before = stamped(7);
    for (Page* page : before) { // idle or owed
        sim::on_cpu(CpuId{1}, [&] { REQUIRE(shows(kmap(page), page)); });
        sim::on_cpu(CpuId{1}, [&] { kunmap(page); });
    }
    for (const u32 slots : {2u, 5u, 3u, kSlots, 4u}) {
        INFO("slots " << slots);
        pkmap_set_slots(slots);
        CHECK(pkmap_slots() == slots);
        CHECK(pkmap_use().free == slots);
        CHECK(pkmap_use().idle + pkmap_use().used == 0);
        for (Page* page : before)
            CHECK(page->slot() == Page::kNoSlot);
        std::map<u32, Page*> by_slot;
        for (u32 i = 0; i < slots; ++i) {
            Page* page = stamped(1)[0];
            const GlobalAddr addr = kmap(page);
            CHECK(slot_at(addr) >= 1);
            CHECK(slot_at(addr) <= slots);
            REQUIRE(every_cpu_sees(addr, page));
            REQUIRE(by_slot.emplace(slot_at(addr), page).second);
        }
        CHECK_PANIC((void)kmap(before[0]), sim::text("all {} slots of the pool are in use", slots));
        forgive();
        for (const auto& [slot, page] : by_slot)
            kunmap(page);
    }
    CHECK_PANIC(pkmap_set_slots(1), "assertion failed");
    CHECK_PANIC(pkmap_set_slots(kSlots + 1), "assertion failed");
    (void)kmap(before[0]);
    CHECK_PANIC(pkmap_set_slots(8), "assertion failed"); // a page is mapped
}
