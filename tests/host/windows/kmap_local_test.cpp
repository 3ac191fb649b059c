// kmap_local_page and kmap_atomic: a stack of slots for each CPU, its cost, and interrupts between any two of its
// steps.
#include "mm/windows/interrupt_context.hpp"
#include "mm/windows/kmap_local.hpp"
#include "tests/host/booted.hpp"
#include "tests/host/oracle.hpp"
#include "tests/sim/fiber.hpp"

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kStride = layout::kLocalStride;

VirtAddr slot_of(u32 index, CpuId cpu = CpuId{0}) { return layout::local_first_slot(cpu) + index * kStride; }
u32 misses(CpuId cpu = CpuId{0}) { return local_maps.of(cpu).misses; }

// Maps the page, checks it, unmaps it.
void touch(Page* page) {
    const LocalAddr addr = kmap_local_page(page);
    REQUIRE(shows(addr, page));
    kunmap_local(addr);
}

} // namespace

TEST_CASE("kmap_local: a page of lowmem is its place in the direct map, without a slot", "[kmap_local]") {
    ONLY_WITH(!kDebug || !kHigh);
    Booted kernel;
    Page* page = stamped(1, Gfp::kernel)[0];
    const LocalAddr addr = kmap_local_page(page);
    CHECK(addr == LocalAddr{direct_addr(page_to_pfn(page))});
    CHECK(shows(addr, page));
    CHECK(local_depth() == 0);
    kunmap_local(addr);
    kunmap_local(addr + 1234); // lowmem pages may be unmapped in any order
    const AtomicAddr atomic = kmap_atomic(page);
    CHECK(atomic == AtomicAddr{direct_addr(page_to_pfn(page))});
    kunmap_atomic(atomic);
    CHECK(kernel.machine.total().invlpg == 0);
}

TEST_CASE("kmap_local: DEBUG sends pages of lowmem through a slot too", "[kmap_local]") {
    ONLY_WITH(kDebug && kHigh);
    Booted kernel;
    Page* page = stamped(1, Gfp::kernel)[0];
    const LocalAddr addr = kmap_local_page(page);
    CHECK(addr == LocalAddr{slot_of(0)});
    CHECK(shows(addr, page));
    kunmap_local(addr);
    CHECK_PANIC(kunmap_local(LocalAddr{direct_addr(page_to_pfn(page))}), "kunmap_local");
}

TEST_CASE("kmap_local: a high page is seen in a slot of this CPU, and written through it", "[kmap_local]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(3)};
    for (u32 cpu = 0; cpu < 3; ++cpu) {
        sim::on_cpu(CpuId{cpu}, [&] {
            Page* page = stamped(1)[0];
            const LocalAddr addr = kmap_local_page(page);
            CHECK(addr == LocalAddr{slot_of(0, CpuId{cpu})});
            CHECK(shows(addr, page));
            hal::store<u32>(addr + 8, 0xc0ff'ee00 + cpu);
            CHECK(sim::peek<u32>(page_to_pfn(page).phys() + 8) == 0xc0ff'ee00 + cpu);
            kunmap_local(addr + 4095); // any address inside the page
            CHECK(local_depth() == 0);
        });
    }
}

TEST_CASE("kmap_local: mappings are a stack, also of one and the same page", "[kmap_local]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    auto pages = stamped(3);
    const LocalAddr a = kmap_local_page(pages[0]);
    const LocalAddr b = kmap_local_page(pages[1]);
    const LocalAddr again = kmap_local_page(pages[0]);
    CHECK(a == LocalAddr{slot_of(0)});
    CHECK(b == LocalAddr{slot_of(1)});
    CHECK(again == LocalAddr{slot_of(2)});
    CHECK(local_depth() == 3);
    CHECK(shows(a, pages[0]));
    CHECK(shows(b, pages[1]));
    CHECK(shows(again, pages[0]));
    kunmap_local(again);
    const LocalAddr c = kmap_local_page(pages[2]);
    CHECK(c == again); // the next map takes the slot that was released last
    CHECK(shows(c, pages[2]));
    kunmap_local(c);
    kunmap_local(b);
    CHECK(shows(a, pages[0]));
    kunmap_local(a);
}

TEST_CASE("kmap_local: a slot that shows another page than before shows nothing stale", "[kmap_local]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    auto pages = stamped(4);
    for (u32 round = 0; round < 3; ++round)
        for (Page* page : pages)
            touch(page);
    // Also if the only access is a write.
    for (Page* page : pages) {
        const LocalAddr addr = kmap_local_page(page);
        hal::store<u32>(addr + 16, page_to_pfn(page).value());
        kunmap_local(addr);
    }
    for (Page* page : pages)
        CHECK(sim::peek<u32>(page_to_pfn(page).phys() + 16) == page_to_pfn(page).value());
}

TEST_CASE("kmap_local: two frames that differ in the upper 32 bits only are not mistaken for each other",
          "[kmap_local]") {
    ONLY_WITH(config::kPae);
    Setup setup;
    setup.machine.cpus = 1;
    setup.machine.ram = 12 * GiB;
    Booted kernel{setup};
    const Pfn near{0x8'1234u}, far{0x18'1234u}, farther{0x28'1234u};
    for (const Pfn pfn : {near, far, farther, near, farther, far}) {
        stamp(pfn_to_page(pfn));
        touch(pfn_to_page(pfn));
    }
}

TEST_CASE("kmap_local: the same page again costs nothing, another one costs one invlpg", "[kmap_local]") {
    ONLY_WITH(kHigh && !kDebug);
    Booted kernel;
    auto pages = stamped(2);
    sim::Counters& counters = kernel.machine.counters(CpuId{0});
    const u32 before = misses(), flushed = tlb_stats_of(CpuId{0}).invlpg;
    touch(pages[0]);
    CHECK(counters.invlpg == 1);
    CHECK(misses() == before + 1);
    const auto entry = sim::peek<RawPte>(PhysAddr{u64{0}} +
                                         (reinterpret_cast<std::uintptr_t>(kernel_pte(slot_of(0))) - sim::kRamBase));
    u32 stores = 0;
    {
        sim::ScopedHook hook{[&](sim::Point point) {
            stores += point == sim::Point::pte_store || point == sim::Point::pte_atomic || point == sim::Point::tlb;
        }};
        for (u32 i = 0; i < 5; ++i)
            touch(pages[0]);
    }
    CHECK(stores == 0);
    CHECK(counters.invlpg == 1);
    CHECK(misses() == before + 1);
    touch(pages[1]);
    CHECK(counters.invlpg == 2);
    CHECK(misses() == before + 2);
    CHECK(tlb_stats_of(CpuId{0}).invlpg == flushed + 2);
    CHECK(kernel.machine.total().ipis_sent == 0);
    CHECK(kernel.machine.total().flush_non_global + kernel.machine.total().flush_all == 0);
    CHECK(entry != 0);
}

TEST_CASE("kmap_local: DEBUG pays one invlpg for each unmap, none for a map", "[kmap_local]") {
    ONLY_WITH(kHigh && kDebug);
    Booted kernel;
    Page* page = stamped(1)[0];
    sim::Counters& counters = kernel.machine.counters(CpuId{0});
    counters = {};
    const LocalAddr addr = kmap_local_page(page);
    CHECK(counters.invlpg == 0);
    kunmap_local(addr);
    CHECK(counters.invlpg == 1);
    CHECK(kernel.machine.total().ipis_sent == 0);
}

TEST_CASE("kmap_local: entries are global, not executable, and preset as accessed and dirty", "[kmap_local]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    Page* page = stamped(1)[0];
    const LocalAddr addr = kmap_local_page(page);
    const auto mapped = oracle_walk(kernel_root().value(), addr.value());
    REQUIRE(mapped);
    CHECK(*mapped == Mapped{.phys = page_to_pfn(page).phys().value(),
                            .write = true,
                            .execute = !config::kPae,
                            .global = true,
                            .accessed_dirty = true});
    kunmap_local(addr);
}

TEST_CASE("kmap_local: 16 mappings fit a thread, the 17th is a panic", "[kmap_local]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    auto pages = stamped(17);
    std::vector<LocalAddr> held;
    for (u32 i = 0; i < 16; ++i)
        held.push_back(kmap_local_page(pages[i]));
    for (u32 i = 0; i < 16; ++i)
        CHECK(shows(held[i], pages[i]));
    CHECK_PANIC((void)kmap_local_page(pages[16]), "mapping number 17 does not fit: 16 slots for a thread");
}

TEST_CASE("kmap_local: interrupts have 16 more, the 33rd is a panic", "[kmap_local]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    auto pages = stamped(33);
    std::vector<LocalAddr> held;
    for (u32 i = 0; i < 16; ++i)
        held.push_back(kmap_local_page(pages[i]));
    as_interrupt([&] {
        for (u32 i = 16; i < 24; ++i)
            held.push_back(kmap_local_page(pages[i]));
        as_interrupt([&] {
            for (u32 i = 24; i < 32; ++i)
                held.push_back(kmap_local_page(pages[i]));
            for (u32 i = 0; i < 32; ++i)
                CHECK(shows(held[i], pages[i]));
            for (; held.size() > 24; held.pop_back())
                kunmap_local(held.back());
        });
        for (; held.size() > 16; held.pop_back())
            kunmap_local(held.back());
    });
    CHECK(local_depth() == 16);
    const InterruptCookie cookie = interrupt_enter();
    (void)cookie;
    for (u32 i = 16; i < 32; ++i)
        (void)kmap_local_page(pages[i]);
    CHECK_PANIC((void)kmap_local_page(pages[32]), "mapping number 33 does not fit");
}

TEST_CASE("kmap_local: an unmap out of order, of another context, or of nothing is a panic that says so",
          "[kmap_local]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    auto pages = stamped(3);
    SECTION("nothing is mapped") {
        CHECK_PANIC(kunmap_local(LocalAddr{slot_of(0)}), "but nothing is mapped");
        // The address below an empty stack is the private slot: the order check alone would accept it.
        CHECK_PANIC(kunmap_local(LocalAddr{slot_of(0) - kStride}), "but nothing is mapped");
        CHECK_PANIC(kunmap_local(LocalAddr{layout::pkmap_addr(1)}), "but nothing is mapped");
    }
    SECTION("twice") {
        const LocalAddr addr = kmap_local_page(pages[0]);
        kunmap_local(addr);
        CHECK_PANIC(kunmap_local(addr), sim::text("{} was given back", VirtAddr{addr}));
    }
    SECTION("not the youngest") {
        const LocalAddr a = kmap_local_page(pages[0]);
        const LocalAddr b = kmap_local_page(pages[1]);
        const LocalAddr c = kmap_local_page(pages[2]);
        CHECK_PANIC(kunmap_local(b),
                    sim::text("{} is not the youngest mapping: {} is still held", VirtAddr{b}, VirtAddr{c}));
        CHECK_PANIC(kunmap_local(a), "is not the youngest mapping");
        CHECK(local_depth() == 3);
        kunmap_local(c);
        kunmap_local(b);
        kunmap_local(a);
    }
    SECTION("another CPU's, or an address that is no slot") {
        const LocalAddr mine = kmap_local_page(pages[0]);
        const auto foreign = sim::text("no local mapping of this context; the youngest one is {}", VirtAddr{mine});
        CHECK_PANIC(kunmap_local(LocalAddr{slot_of(0, CpuId{1})}), foreign);
        CHECK_PANIC(kunmap_local(LocalAddr{slot_of(0) - kStride}), foreign);
        CHECK_PANIC(kunmap_local(LocalAddr{slot_of(1)}), foreign);
        CHECK_PANIC(kunmap_local(LocalAddr{VirtAddr{0x1000u}}), foreign);
    }
}

TEST_CASE("kmap_local: DEBUG says where the mapping was made that is still held", "[kmap_local]") {
    ONLY_WITH(kHigh && kDebug);
    Booted kernel;
    auto pages = stamped(2);
    const LocalAddr a = kmap_local_page(pages[0]);
    (void)kmap_local_page(pages[1]);
    const u32 caller = local_slot(1).caller;
    CHECK(caller != 0);
    CHECK_PANIC(kunmap_local(a), sim::text("mapped at {:08x}", caller));
}

TEST_CASE("kmap_atomic: preemption and page-fault handling are off until the unmap", "[kmap_local]") {
    Booted kernel;
    auto pages = stamped(2);
    const AtomicAddr a = kmap_atomic(pages[0]);
    CHECK(pagefaults_disabled());
    CHECK_FALSE(preemptible());
    const AtomicAddr b = kmap_atomic(pages[1]);
    CHECK(shows(a, pages[0]));
    CHECK(shows(b, pages[1]));
    kunmap_atomic(b + 100);
    CHECK(pagefaults_disabled());
    CHECK_FALSE(preemptible());
    kunmap_atomic(a);
    CHECK_FALSE(pagefaults_disabled());
    CHECK(preemptible());
    CHECK(local_depth() == 0);
}

TEST_CASE("kmap_atomic: shares the stack and its limits with kmap_local_page", "[kmap_local]") {
    ONLY_WITH(kHigh);
    Booted kernel;
    auto pages = stamped(17);
    const LocalAddr local = kmap_local_page(pages[0]);
    const AtomicAddr atomic = kmap_atomic(pages[1]);
    CHECK_PANIC(kunmap_local(local), "is not the youngest mapping");
    kunmap_atomic(atomic);
    kunmap_local(local);
    for (u32 i = 0; i < 16; ++i)
        (void)kmap_atomic(pages[i]);
    CHECK_PANIC((void)kmap_atomic(pages[16]), "mapping number 17 does not fit");
}

TEST_CASE("kmap_atomic: works with preemption off and in an interrupt", "[kmap_local]") {
    Booted kernel;
    const Books before = books();
    auto pages = stamped(2);
    const Books held = books();
    {
        PreemptGuard guard;
        const AtomicAddr thread = kmap_atomic(pages[0]);
        as_interrupt([&] {
            const AtomicAddr addr = kmap_atomic(pages[1]);
            CHECK(shows(addr, pages[1]));
            CHECK(shows(thread, pages[0]));
            kunmap_atomic(addr);
        });
        kunmap_atomic(thread);
    }
    CHECK(books() == held);
    free_all(pages);
    CHECK(books() == before);
}

TEST_CASE("kmap_local: DEBUG lets a use after the unmap fault, and an overrun too", "[kmap_local]") {
    ONLY_WITH(kHigh && kDebug);
    Booted kernel;
    auto pages = stamped(2);
    const LocalAddr a = kmap_local_page(pages[0]);
    const LocalAddr b = kmap_local_page(pages[1]);
    CHECK_THROWS_AS(hal::load<u32>(a + kPageSize), sim::PageFault);
    CHECK_THROWS_AS(hal::load<u32>(b + kPageSize), sim::PageFault);
    CHECK_THROWS_AS(hal::load<u32>(VirtAddr{a} - 4), sim::PageFault);
    kunmap_local(b);
    CHECK_THROWS_AS(hal::load<u32>(b), sim::PageFault);
    kunmap_local(a);
    CHECK_THROWS_AS(hal::load<u32>(a), sim::PageFault);

    const LocalFault fault = local_fault(VirtAddr{a} + 100);
    CHECK(fault.kind == LocalFault::Kind::released);
    CHECK(fault.cpu == CpuId{0});
    CHECK(fault.slot == 0);
    CHECK(fault.last == page_to_pfn(pages[0]));
}

TEST_CASE("kmap_local: DEBUG finds an entry that somebody else has changed", "[kmap_local]") {
    ONLY_WITH(kHigh && kDebug);
    Booted kernel;
    auto pages = stamped(2);
    SECTION("a slot that is not empty at the map") {
        hal::pte_set(kernel_pte(slot_of(0)), Pte{page_to_pfn(pages[0]), kernel_prot.data});
        CHECK_PANIC((void)kmap_local_page(pages[1]), sim::text("slot {} is not empty", slot_of(0)));
    }
    SECTION("another frame at the unmap") {
        const LocalAddr addr = kmap_local_page(pages[0]);
        hal::pte_clear(kernel_pte(addr));
        hal::pte_set(kernel_pte(addr), Pte{page_to_pfn(pages[1]), kernel_prot.data});
        CHECK_PANIC(kunmap_local(addr), sim::text("shows frame {}, not {} that was mapped there", page_to_pfn(pages[1]),
                                                  page_to_pfn(pages[0])));
    }
    SECTION("no frame at the unmap") {
        const LocalAddr addr = kmap_local_page(pages[0]);
        hal::pte_clear_low(kernel_pte(addr));
        CHECK_PANIC(kunmap_local(addr), "that was mapped there");
    }
}

TEST_CASE("local_fault: says what a faulting address is to the windows", "[kmap_local]") {
    Booted kernel;
    using Kind = LocalFault::Kind;
    CHECK(local_fault(VirtAddr{0u}).kind == Kind::none);
    CHECK(local_fault(VirtAddr{layout::kLocalBase - 1}).kind == Kind::none);
    CHECK(local_fault(VirtAddr{layout::kFixmapBase}).kind == Kind::none);
    ONLY_WITH(kHigh);
    for (u32 slot = 0; slot < layout::kLocalSlots; ++slot) {
        const LocalFault own = local_fault(slot_of(slot) + 4095);
        CHECK(own.kind == Kind::released);
        CHECK(own.slot == slot);
        CHECK(own.cpu == CpuId{0});
        const LocalFault foreign = local_fault(slot_of(slot, CpuId{1}));
        CHECK(foreign.kind == Kind::foreign);
        CHECK(foreign.slot == slot);
        CHECK(foreign.cpu == CpuId{1});
        if (kDebug) {
            const LocalFault guard = local_fault(slot_of(slot) + kPageSize);
            CHECK(guard.kind == Kind::guard);
            CHECK(guard.slot == slot);
        }
    }
    CHECK(local_fault(layout::local_private_slot(CpuId{0})).kind == Kind::foreign);
    CHECK(local_fault(layout::local_private_slot(CpuId{0})).last == Pfn{});
    if (kDebug) CHECK(local_fault(layout::local_private_slot(CpuId{1}) + kPageSize).kind == Kind::guard);
    sim::on_cpu(CpuId{1}, [] { CHECK(local_fault(slot_of(0)).kind == Kind::foreign); });
}

TEST_CASE("kmap_local: held slots can be listed, with the frames behind them", "[kmap_local]") {
    Booted kernel;
    CHECK(local_depth() == 0);
    ONLY_WITH(kHigh);
    auto pages = stamped(3);
    for (Page* page : pages)
        (void)kmap_local_page(page);
    CHECK(local_depth() == 3);
    for (u32 i = 0; i < 3; ++i) {
        CHECK(local_slot(i).address == slot_of(i));
        CHECK(local_slot(i).entry.pfn() == page_to_pfn(pages[i]));
        CHECK((local_slot(i).caller != 0) == kDebug);
    }
    sim::on_cpu(CpuId{1}, [] { CHECK(local_depth() == 0); });
}

TEST_CASE("local_to_pfn: knows the mappings that are held on this CPU, and no others", "[kmap_local]") {
    Booted kernel;
    Pfn pfn;
    CHECK_FALSE(local_to_pfn(VirtAddr{0xc010'0000u}, pfn));
    ONLY_WITH(kHigh);
    auto pages = stamped(2);
    const LocalAddr a = kmap_local_page(pages[0]);
    const LocalAddr b = kmap_local_page(pages[1]);
    REQUIRE(local_to_pfn(VirtAddr{a} + 4095, pfn));
    CHECK(pfn == page_to_pfn(pages[0]));
    REQUIRE(local_to_pfn(b, pfn));
    CHECK(pfn == page_to_pfn(pages[1]));
    if (kDebug) CHECK_FALSE(local_to_pfn(VirtAddr{b} + kPageSize, pfn)); // a guard page
    sim::on_cpu(CpuId{1}, [&] { CHECK_FALSE(local_to_pfn(a, pfn)); });
    kunmap_local(b);
    CHECK_FALSE(local_to_pfn(b, pfn)); // the entry may be kept, but the slot is not held
    CHECK_FALSE(local_to_pfn(slot_of(0) - kStride, pfn));
    kunmap_local(a);
}

TEST_CASE("local_maps_frame: finds a frame that any CPU holds", "[kmap_local]") {
    Booted kernel{small(3)};
    auto pages = stamped(2);
    CHECK_FALSE(local_maps_frame(page_to_pfn(pages[0])));
    ONLY_WITH(kHigh);
    LocalAddr addr;
    sim::on_cpu(CpuId{2}, [&] {
        (void)kmap_local_page(pages[1]);
        addr = kmap_local_page(pages[0]);
    });
    CHECK(local_maps_frame(page_to_pfn(pages[0])));
    CHECK(local_maps_frame(page_to_pfn(pages[1])));
    sim::on_cpu(CpuId{2}, [&] { kunmap_local(addr); });
    CHECK_FALSE(local_maps_frame(page_to_pfn(pages[0])));
    CHECK(local_maps_frame(page_to_pfn(pages[1])));
}

TEST_CASE("local_check_leaks: reports each mapping that a context leaves behind", "[kmap_local]") {
    Booted kernel;
    CHECK(local_check_leaks("thread exits"));
    ONLY_WITH(kHigh);
    auto pages = stamped(2);
    const LocalAddr a = kmap_local_page(pages[0]);
    (void)kmap_local_page(pages[1]);
    CHECK_FALSE(local_check_leaks("thread exits"));
    CHECK(kernel.machine.logged("thread exits with 2 local mappings held"));
    CHECK(kernel.machine.logged(sim::text("{} shows frame {}", slot_of(1), page_to_pfn(pages[1]))));
    local_unwind(1);
    CHECK(local_depth() == 1);
    CHECK(shows(a, pages[0]));
    local_unwind(1);
    CHECK(local_depth() == 1);
    local_unwind(0);
    CHECK(local_check_leaks("thread exits"));
}

TEST_CASE("with_private_slot: shows any frame, keeps none, and needs no slot of the stack", "[kmap_local]") {
    Booted kernel{small(2)};
    auto pages = stamped(3);
    auto low = stamped(2, Gfp::kernel);
    const auto look = [](Page* page) {
        VirtAddr seen;
        IrqGuard guard;
        with_private_slot(page_to_pfn(page), [&](VirtAddr va) {
            seen = va;
            REQUIRE(shows(va, page));
        });
        return seen;
    };
    for (u32 cpu = 0; cpu < 2; ++cpu) {
        sim::on_cpu(CpuId{cpu}, [&] {
            for (Page* page : low)
                CHECK(look(page) == direct_addr(page_to_pfn(page)));
            for (u32 round = 0; round < 2; ++round) {
                for (Page* page : pages) {
                    const VirtAddr at = look(page);
                    if (!kHigh) continue;
                    CHECK(at == layout::local_private_slot(CpuId{cpu}));
                    CHECK_THROWS_AS(hal::load<u32>(at), sim::PageFault);
                }
            }
        });
    }
    ONLY_WITH(kHigh);
    const InterruptCookie cookie = interrupt_enter();
    while (local_depth() < layout::kLocalSlots)
        (void)kmap_local_page(pages[0]);
    (void)look(pages[1]);
    local_unwind(0);
    interrupt_leave(cookie);
}

TEST_CASE("kmap_local: a CPU's window is its own: no flush, no IPI, no interference", "[kmap_local]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(4)};
    auto pages = stamped(8);
    LocalAddr held[4];
    for (u32 cpu = 0; cpu < 4; ++cpu)
        sim::on_cpu(CpuId{cpu}, [&] { held[cpu] = kmap_local_page(pages[cpu]); });
    for (u32 cpu = 0; cpu < 4; ++cpu) {
        sim::on_cpu(CpuId{cpu}, [&] {
            for (u32 i = 0; i < 8; ++i)
                touch(pages[i]);
            CHECK(shows(held[cpu], pages[cpu]));
            kunmap_local(held[cpu]);
        });
    }
    CHECK(kernel.machine.total().ipis_sent == 0);
    CHECK(kernel.machine.total().flush_non_global + kernel.machine.total().flush_all == 0);
}

// The central test. An interrupt finds its slot in the state that the interrupted step has left: empty, with the old
// page, with half an entry, or with the new page.
TEST_CASE("kmap_local: an interrupt between any two steps of map and unmap harms nobody", "[kmap_local][interrupt]") {
    ONLY_WITH(kHigh);
    enum class Irq { same_page, other_page, two_pages, nested, atomic };
    for (const Irq kind : {Irq::same_page, Irq::other_page, Irq::two_pages, Irq::nested, Irq::atomic}) {
        for (const bool dirty_slots : {false, true}) {
            INFO("interrupt kind " << static_cast<int>(kind) << ", slots used before " << dirty_slots);
            Booted kernel{small(1)};
            auto pages = stamped(8);
            Page *a = pages[0], *b = pages[1], *x = pages[2], *y = pages[3];
            const Books before = books();
            Intruder intruder{[&] {
                as_interrupt([&] {
                    const u32 depth = local_depth();
                    switch (kind) {
                    case Irq::same_page:
                        touch(a);
                        break;
                    case Irq::other_page:
                        touch(x);
                        break;
                    case Irq::two_pages: {
                        const LocalAddr first = kmap_local_page(x);
                        touch(b);
                        touch(y);
                        REQUIRE(shows(first, x));
                        kunmap_local(first);
                        break;
                    }
                    case Irq::nested: {
                        const LocalAddr first = kmap_local_page(x);
                        as_interrupt([&] { touch(y); });
                        REQUIRE(shows(first, x));
                        kunmap_local(first);
                        break;
                    }
                    case Irq::atomic: {
                        const AtomicAddr first = kmap_atomic(x);
                        REQUIRE(shows(first, x));
                        kunmap_atomic(first);
                        break;
                    }
                    }
                    REQUIRE(local_depth() == depth);
                });
            }};
            const u32 points = sim::interrupt_at_every_point({
                .operation =
                    [&] {
                        const LocalAddr first = kmap_local_page(a);
                        REQUIRE(shows(first, a));
                        const LocalAddr second = kmap_local_page(b);
                        REQUIRE(shows(second, b));
                        REQUIRE(shows(first, a));
                        kunmap_local(second);
                        const LocalAddr third = kmap_local_page(a);
                        REQUIRE(shows(third, a));
                        REQUIRE(shows(first, a));
                        kunmap_local(third);
                        kunmap_local(first);
                    },
                .intruder = std::ref(intruder),
                .prepare =
                    [&] {
                        if (!dirty_slots) return;
                        const LocalAddr lower = kmap_local_page(pages[4]);
                        const LocalAddr upper = kmap_local_page(pages[5]);
                        touch(pages[6]);
                        kunmap_local(upper);
                        kunmap_local(lower);
                    },
                .check =
                    [&] {
                        intruder.finish();
                        REQUIRE(books() == before);
                    },
            });
            CHECK(points > 15);
        }
    }
}

TEST_CASE("kmap_local: an interrupt before every step harms nobody", "[kmap_local][interrupt]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(1)};
    auto pages = stamped(6);
    u32 turn = 0;
    Intruder intruder{[&] {
        as_interrupt([&] {
            const LocalAddr first = kmap_local_page(pages[turn++ % 5]);
            touch(pages[turn++ % 5]);
            kunmap_local(first);
        });
    }};
    {
        sim::ScopedHook hook{[&](sim::Point) {
            if (kernel.machine.here().interrupts) sim::interrupt(std::ref(intruder));
        }};
        for (u32 round = 0; round < 20; ++round) {
            const LocalAddr a = kmap_local_page(pages[round % 6]);
            REQUIRE(shows(a, pages[round % 6]));
            const LocalAddr b = kmap_local_page(pages[round % 4]);
            REQUIRE(shows(b, pages[round % 4]));
            REQUIRE(shows(a, pages[round % 6]));
            kunmap_local(b);
            kunmap_local(a);
        }
    }
    intruder.finish();
    CHECK(intruder.runs() > 100);
    CHECK(local_depth() == 0);
}

// --- the scheduler

namespace {

// Switches one thread out when another one gets the CPU. Interrupts are off.
struct Saved {
    LocalSaved maps;
    u32 preempt = 0, faults = 0;
};
void switch_out(Saved& saved) {
    saved.preempt = context.load<&Context::preempt_count>();
    saved.faults = context.load<&Context::pagefaults_off>();
    local_switch_out(saved.maps);
    context.store<&Context::preempt_count>(0u);
    context.store<&Context::pagefaults_off>(0u);
}
void switch_in(const Saved& saved) {
    local_switch_in(saved.maps);
    context.store<&Context::preempt_count>(saved.preempt);
    context.store<&Context::pagefaults_off>(saved.faults);
}
bool may_switch() { return sim::machine().here().interrupts && context.of(hal::this_cpu()).preempt_count == 0; }

// Maps, checks and unmaps: slots 0 and 1 twice, with different pages each time.
void use_two_slots(Page* a, Page* b, Page* c) {
    const LocalAddr first = kmap_local_page(a);
    REQUIRE(shows(first, a));
    const LocalAddr second = kmap_local_page(b);
    REQUIRE(shows(second, b));
    REQUIRE(shows(first, a));
    kunmap_local(second);
    REQUIRE(shows(first, a));
    kunmap_local(first);
    const LocalAddr third = kmap_local_page(c);
    REQUIRE(shows(third, c));
    kunmap_local(third);
}

} // namespace

TEST_CASE("local_switch: a thread's mappings go with it, and are there again at the same addresses", "[kmap_local]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(1)};
    auto pages = stamped(32);
    for (const u32 depth : {0u, 1u, 5u, 16u}) {
        INFO("depth " << depth);
        std::vector<LocalAddr> held;
        for (u32 i = 0; i < depth; ++i)
            held.push_back(kmap_local_page(pages[i]));
        CHECK(local_held() == (depth != 0));
        LocalSaved saved;
        local_switch_out(saved);
        CHECK(saved.depth == depth);
        CHECK(local_depth() == 0);
        CHECK_FALSE(local_held());
        for (u32 i = 0; i < 16; ++i)
            CHECK(shows(kmap_local_page(pages[16 + i]), pages[16 + i]));
        local_unwind(0);
        local_switch_in(saved);
        CHECK(local_depth() == depth);
        for (u32 i = 0; i < depth; ++i) {
            CHECK(shows(held[i], pages[i]));
            CHECK(local_slot(i).address == held[i]);
            CHECK((local_slot(i).caller != 0) == kDebug);
        }
        for (; !held.empty(); held.pop_back())
            kunmap_local(held.back());
    }
}

TEST_CASE("local_switch: two threads that hold mappings take turns", "[kmap_local]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(1)};
    auto pages = stamped(8);
    LocalSaved one, two;
    const LocalAddr a = kmap_local_page(pages[0]), b = kmap_local_page(pages[1]);
    local_switch_out(one);
    const LocalAddr c = kmap_local_page(pages[2]);
    CHECK(c == a); // each thread starts with an empty stack
    for (u32 turn = 0; turn < 4; ++turn) {
        local_switch_out(two);
        local_switch_in(one);
        REQUIRE(shows(a, pages[0]));
        REQUIRE(shows(b, pages[1]));
        touch(pages[3 + turn]);
        local_switch_out(one);
        local_switch_in(two);
        REQUIRE(shows(c, pages[2]));
        touch(pages[3 + turn]);
    }
    kunmap_local(c);
    local_switch_in(one);
    kunmap_local(b);
    kunmap_local(a);
}

TEST_CASE("local_switch: costs nothing if nobody used the slots in between", "[kmap_local]") {
    ONLY_WITH(kHigh && !kDebug);
    Booted kernel{small(1)};
    auto pages = stamped(4);
    for (u32 i = 0; i < 3; ++i)
        (void)kmap_local_page(pages[i]);
    const sim::Counters before = kernel.machine.total();
    u32 stores = 0;
    LocalSaved saved;
    {
        sim::ScopedHook hook{[&](sim::Point point) {
            stores += point == sim::Point::pte_store || point == sim::Point::pte_atomic || point == sim::Point::tlb;
        }};
        local_switch_out(saved);
        local_switch_in(saved);
    }
    CHECK(stores == 0);
    local_switch_out(saved);
    touch(pages[3]); // the lowest slot
    CHECK(kernel.machine.total().invlpg == before.invlpg + 1);
    local_switch_in(saved);
    CHECK(kernel.machine.total().invlpg == before.invlpg + 2);
}

TEST_CASE("local_switch: DEBUG empties the slots of a thread that is switched out, for every access", "[kmap_local]") {
    ONLY_WITH(kHigh && kDebug);
    Booted kernel{small(1)};
    auto pages = stamped(2);
    const LocalAddr a = kmap_local_page(pages[0]), b = kmap_local_page(pages[1]);
    const u32 caller = local_slot(1).caller;
    CHECK(shows(a, pages[0]));
    CHECK(shows(b, pages[1]));
    const u64 before = kernel.machine.total().invlpg;
    LocalSaved saved;
    local_switch_out(saved);
    CHECK(kernel.machine.total().invlpg == before + 2);
    CHECK_THROWS_AS(hal::load<u32>(a), sim::PageFault);
    CHECK_THROWS_AS(hal::load<u32>(b), sim::PageFault);
    local_switch_in(saved);
    CHECK(kernel.machine.total().invlpg == before + 2);
    CHECK(shows(b, pages[1]));
    CHECK(local_slot(1).caller == caller);
    kunmap_local(b); // checks the saved frame of the slot
    kunmap_local(a);
}

TEST_CASE("local_switch: not from an interrupt's share of the stack, not onto somebody's mappings", "[kmap_local]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(1)};
    auto pages = stamped(1);
    LocalSaved saved;
    (void)kmap_local_page(pages[0]);
    CHECK_PANIC(local_switch_in(saved), "assertion failed");
    (void)interrupt_enter();
    while (local_depth() <= layout::kLocalThreadSlots)
        (void)kmap_local_page(pages[0]);
    CHECK_PANIC(local_switch_out(saved), "assertion failed");
}

TEST_CASE("local_switch: without high memory there is nothing to save", "[kmap_local]") {
    ONLY_WITH(!kHigh);
    Booted kernel{small(1)};
    auto pages = stamped(1);
    const LocalAddr addr = kmap_local_page(pages[0]);
    CHECK_FALSE(local_held());
    LocalSaved saved;
    local_switch_out(saved);
    CHECK(saved.depth == 0);
    local_switch_in(saved);
    CHECK(shows(addr, pages[0]));
}

TEST_CASE("local_switch: a switch between any two steps of map and unmap, to a thread that uses every slot",
          "[kmap_local][switch]") {
    ONLY_WITH(kHigh);
    for (const bool used_before : {false, true}) {
        for (const bool same_pages : {false, true}) {
            INFO("slots used before " << used_before << ", by the same pages " << same_pages);
            Booted kernel{small(1)};
            auto pages = stamped(20);
            const Books before = books();
            Intruder intruder{[&] {
                if (context.of(CpuId{0}).preempt_count != 0) return;
                Saved mine;
                switch_out(mine);
                kernel.machine.here().interrupts = true; // the other thread runs with interrupts on
                std::vector<LocalAddr> held;
                const auto page = [&](u32 i) { return pages[same_pages ? i % 3 : 3 + i]; };
                for (u32 i = 0; i < 16; ++i) {
                    held.push_back(kmap_local_page(page(i)));
                    REQUIRE(shows(held[i], page(i)));
                }
                for (u32 i = 16; i-- > 0;) {
                    REQUIRE(shows(held[i], page(i)));
                    kunmap_local(held[i]);
                }
                kernel.machine.here().interrupts = false;
                switch_in(mine);
            }};
            const u32 points = sim::interrupt_at_every_point({
                .operation = [&] { use_two_slots(pages[0], pages[1], pages[2]); },
                .intruder = std::ref(intruder),
                .prepare =
                    [&] {
                        if (used_before) use_two_slots(pages[19], pages[18], pages[17]);
                    },
                .check =
                    [&] {
                        intruder.finish();
                        REQUIRE(books() == before);
                    },
            });
            CHECK(points > 20);
            CHECK(intruder.runs() == points);
        }
    }
}

// The harder case: the other thread, too, is stopped in the middle of a map or an unmap, and continues when the first
// one has finished. Each finds slots that the other has left half changed.
TEST_CASE("local_switch: two threads, each stopped between any two steps of map and unmap", "[kmap_local][switch]") {
    ONLY_WITH(kHigh);
    Booted kernel{small(1)};
    auto pages = stamped(6);
    const Books before = books();
    struct Thread {
        sim::Fiber fiber;
        std::function<void()> body;
        Saved saved;
        u32 stop = 0, steps = 0;
        bool done = false;
        std::exception_ptr failed;
    } thread[2];
    for (u32 i = 0; i < 2; ++i)
        thread[i].body = [&, i] {
            try {
                use_two_slots(pages[3 * i], pages[3 * i + 1], pages[3 * i + 2]);
            } catch (...) {
                thread[i].failed = std::current_exception();
            }
            thread[i].done = true;
            for (;;)
                thread[i].fiber.leave();
        };
    const auto start = [&](Thread& t, u32 stop) {
        t.saved = {};
        t.stop = stop;
        t.steps = 0;
        t.done = false;
        t.fiber.start(&t.body);
    };
    // Runs a thread until its stop or its end.
    const auto run = [&](Thread& t) {
        switch_in(t.saved);
        {
            sim::ScopedHook hook{[&](sim::Point) {
                if (may_switch() && t.steps++ == t.stop) t.fiber.leave();
            }};
            t.fiber.resume();
        }
        if (t.failed) std::rethrow_exception(std::exchange(t.failed, nullptr));
        switch_out(t.saved);
    };
    u32 pairs = 0;
    for (u32 first = 0;; ++first) {
        bool first_stopped = false;
        for (u32 second = 0;; ++second) {
            INFO("the first one stops at step " << first << ", the second one at step " << second);
            start(thread[0], first);
            start(thread[1], second);
            run(thread[0]);
            first_stopped = !thread[0].done;
            run(thread[1]);
            const bool second_stopped = !thread[1].done;
            for (Thread& t : thread)
                while (!t.done)
                    run(t);
            REQUIRE(local_depth() == 0);
            ++pairs;
            if (!second_stopped) break;
        }
        REQUIRE(books() == before);
        if (!first_stopped) break;
    }
    CHECK(pairs > 400);
}

// A thread that holds no slot may be migrated at any time. One instruction reads and advances `top`, so the thread gets
// a slot of the CPU on which that instruction runs, and every count belongs to that CPU.
TEST_CASE("kmap_local: a thread that migrates before it holds a slot gets one of the CPU where it is",
          "[kmap_local][race]") {
    ONLY_WITH(kHigh);
    u32 moved = 0;
    for (const bool atomic : {false, true}) {
        for (u32 at = 0;; ++at) {
            INFO("atomic " << atomic << ", step " << at);
            Booted kernel{small(2)};
            Page* page = stamped(1)[0];
            bool more = false;
            VirtAddr addr;
            {
                u32 seen = 0;
                sim::ScopedHook hook{[&](sim::Point) {
                    const CpuId here = kernel.machine.current();
                    const bool pinned = local_maps.of(here).top != local_maps.of(here).base ||
                                        context.of(here).preempt_count != 0 || !kernel.machine.here().interrupts;
                    if (seen++ != at) return;
                    more = true;
                    if (pinned) return;
                    ++moved;
                    kernel.machine.switch_to(CpuId{1});
                }};
                addr = atomic ? VirtAddr{kmap_atomic(page)} : VirtAddr{kmap_local_page(page)};
            }
            const CpuId here = kernel.machine.current();
            REQUIRE(shows(addr, page));
            REQUIRE(addr == slot_of(0, here));
            for (u32 cpu = 0; cpu < 2; ++cpu)
                REQUIRE(sim::on_cpu(CpuId{cpu}, [] { return local_depth(); }) == (CpuId{cpu} == here));
            atomic ? kunmap_atomic(AtomicAddr{addr}) : kunmap_local(LocalAddr{addr});
            REQUIRE(books().atomic_counts == 0);
            REQUIRE(books().held_maps == 0);
            if (!more) break;
        }
    }
    CHECK(moved >= 2);
}

TEST_CASE("kmap_local: random stacks on four CPUs, with interrupts, against lists", "[kmap_local][random]") {
    ONLY_WITH(kHigh);
    for (u32 seed = 1; seed <= 10; ++seed) {
        INFO("seed " << seed);
        Random random{seed};
        Booted kernel{small(4)};
        auto pages = stamped(12);
        std::vector<std::pair<LocalAddr, Page*>> held[4];
        const std::function<void(u32, u32)> step = [&](u32 cpu, u32 nesting) {
            auto& mine = held[cpu];
            const u32 limit = nesting == 0 ? 16 : 32;
            const u32 floor = nesting == 0 ? 0 : static_cast<u32>(mine.size());
            for (u32 i = below(random, 6); i-- > 0;) {
                switch (below(random, nesting < 3 ? 5 : 4)) {
                case 0:
                case 1:
                    if (mine.size() < limit) {
                        Page* page = pages[below(random, 12)];
                        mine.push_back({kmap_local_page(page), page});
                    }
                    break;
                case 2:
                    if (mine.size() > floor) {
                        kunmap_local(mine.back().first + below(random, kPageSize));
                        mine.pop_back();
                    }
                    break;
                case 3:
                    for (const auto& [addr, page] : mine)
                        REQUIRE(shows(addr, page));
                    break;
                case 4:
                    as_interrupt([&] { step(cpu, nesting + 1); });
                    break;
                }
            }
            for (; nesting != 0 && mine.size() > floor; mine.pop_back())
                kunmap_local(mine.back().first);
        };
        for (u32 round = 0; round < 400; ++round) {
            const u32 cpu = below(random, 4);
            sim::on_cpu(CpuId{cpu}, [&] {
                step(cpu, 0);
                REQUIRE(local_depth() == held[cpu].size());
            });
        }
        REQUIRE(kernel.machine.total().ipis_sent == 0);
    }
}
