// The clock, and real interrupts that use memory while the main context does.
#include "arch/base/not_copyable.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/irq/traps.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/threads/scheduler.hpp"
#include "tests/guest/support.hpp"

namespace loft::guest::interrupts_test {
namespace {

// Runs `work` repeatedly until `wanted` ticks have come. False if they do not come.
template <typename F> bool during_ticks(u32 wanted, F&& work) {
    const u32 first = ticks();
    for (Patience patience{wanted * Patience::kSleeping}; ticks() - first < wanted;) {
        if (patience.over()) return false;
        work();
    }
    return true;
}

// Adds a handler to the tick of this CPU until the end of the test; the ticks of other CPUs are unchanged.
class DuringTicks : NotCopyable<DuringTicks> {
  public:
    explicit DuringTicks(TickHandler handler) {
        handler_ = handler;
        cpu_ = hal::this_cpu();
        before_ = timer_set_tick_handler([](TrapFrame& frame) {
            if (before_ != nullptr) before_(frame);
            if (hal::this_cpu() == cpu_) handler_(frame);
        });
    }
    ~DuringTicks() { timer_set_tick_handler(before_); }

  private:
    static inline TickHandler before_ = nullptr, handler_ = nullptr;
    static inline CpuId cpu_{};
};

u32 quick_or_full(u32 quick) { return selftest::full() ? quick * 20 : quick; }

} // namespace

SELFTEST(interrupts, clock_ticks) {
    CHECK_GT(tsc_khz(), 1000u);
    const u64 start = now_us();
    const u32 first = ticks();
    u64 previous = start;
    u32 backwards = 0;
    CHECK(during_ticks(5, [&] {
        const u64 now = now_us();
        backwards += now < previous;
        previous = now;
    }));
    CHECK_EQ(backwards, 0u);
    CHECK_GE(ticks() - first, 5u);
    // A slow host makes five ticks of 10 ms longer, or delivers late ticks in quick succession.
    CHECK_GT(now_us() - start, 5'000u);
}

// The longest wait has as many checks as fit a word.
SELFTEST(interrupts, waits_have_a_longest_time) {
    constexpr u32 kMost = ~0u / 500; // ms
    CHECK(!hal::deadline(kMost).expired());
    CHECK(
        selftest::contains(selftest::catch_panic([] { static_cast<void>(hal::deadline(kMost + 1)); }), "kLooksPerMs"));
}

SELFTEST(interrupts, tick_runs_in_interrupt_context) {
    static u32 ran, wrong;
    ran = wrong = 0;
    const DuringTicks handler{[](TrapFrame&) {
        ++ran;
        wrong += !in_interrupt() || hal::irqs_enabled() || preemptible();
    }};
    CHECK(during_ticks(3, [] { wait_for_interrupt(); }));
    CHECK_GE(ran, 3u);
    CHECK_EQ(wrong, 0u);
    CHECK(!in_interrupt());
    CHECK(hal::irqs_enabled());
}

// A handler that takes longer than a tick does not occupy the CPU: the interrupted context runs before the next tick.
SELFTEST(interrupts, a_slow_tick_leaves_time) {
    static u32 ran;
    ran = 0;
    const DuringTicks handler{[](TrapFrame&) {
        ++ran;
        for (const u64 start = now_us(); now_us() - start < 15'000;)
            hal::cpu_relax();
    }};
    u32 rounds = 0;
    CHECK(during_ticks(5, [&] { ++rounds; }));
    CHECK_GE(ran, 5u);
    CHECK_GT(rounds, 500u);
}

// With interrupts off no tick comes; a pending one comes afterwards.
SELFTEST(interrupts, off_means_off) {
    CHECK(during_ticks(1, [] {}));
    u64 before = 0, after = 0;
    {
        const IrqGuard off;
        CHECK(!hal::irqs_enabled());
        before = ticks();
        for (const u64 start = now_us(); now_us() - start < 30'000;)
            hal::cpu_relax();
        after = ticks();
        { const IrqGuard nested; }
        CHECK(!hal::irqs_enabled());
    }
    CHECK_EQ(after, before);
    CHECK(hal::irqs_enabled());
    CHECK(during_ticks(1, [] {}));
}

// The tick maps pages of its own, in a stack of windows that the main context is using.
SELFTEST(interrupts, tick_maps_while_the_main_context_maps) {
    if (const char* why = no_slots_for(12)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<6> mine;
    const Pages<6> theirs;
    REQUIRE(mine.complete() && theirs.complete());
    static const Pages<6>* pages;
    static u32 wrong, ran;
    pages = &theirs;
    wrong = ran = 0;
    for (Page* page : mine)
        sign(page, 1);
    for (Page* page : theirs)
        sign(page, 2);
    const DuringTicks handler{[](TrapFrame&) {
        const u32 i = ran++ % 5;
        const LocalMap first{(*pages)[i]};
        const AtomicMap second{(*pages)[i + 1]};
        wrong += !marks_hold(first.addr(), pages->pfn(i), 2);
        wrong += !marks_hold(second.addr(), pages->pfn(i + 1), 2);
    }};
    u32 mistakes = 0, rounds = 0;
    CHECK(during_ticks(quick_or_full(8), [&] {
        const u32 i = rounds++ % 5;
        const LocalMap first{mine[i]};
        const LocalMap second{mine[i + 1]};
        mistakes += !marks_hold(second.addr(), mine.pfn(i + 1), 1);
        mistakes += !marks_hold(first.addr(), mine.pfn(i), 1);
    }));
    CHECK_GE(ran, 8u);
    CHECK_GT(rounds, 8u);
    CHECK_EQ(wrong, 0u);
    CHECK_EQ(mistakes, 0u);
}

// The tick allocates and frees while the main context does.
SELFTEST(interrupts, tick_allocates_while_the_main_context_allocates) {
    const KeepsFreeCounts counts;
    static u32 wrong, ran;
    wrong = ran = 0;
    const DuringTicks handler{[](TrapFrame&) {
        ++ran;
        FrameChain pages;
        wrong += pages.take(Gfp::high, 0, 70) != 70; // more than a CPU's list holds
        Page* block = alloc_pages(Gfp::kernel, 3);
        wrong += block == nullptr;
        if (block != nullptr) free_pages(block, 3);
    }};
    u32 mistakes = 0;
    CHECK(during_ticks(quick_or_full(5), [&] {
        FrameChain pages;
        mistakes += pages.take(Gfp::high, 0, 40) != 40;
        const u32 owner = selftest::rng().next();
        Page* block = alloc_pages(Gfp::high, 2);
        mistakes += block == nullptr;
        if (block == nullptr) return;
        block[3].set_payload(owner);
        mistakes += block[3].payload() != owner;
        free_pages(block, 2);
    }));
    CHECK_GE(ran, 5u);
    CHECK_EQ(wrong, 0u);
    CHECK_EQ(mistakes, 0u);
    drain_local_pages();
    page_alloc_verify();
}

// An interrupt of a device that loft does not use and that earlier software has left on: the kernel sends an EOI, or no
// interrupt of its priority or below would ever come again. The same vector raised by an instruction is a kernel bug.
SELFTEST(interrupts, one_without_a_handler_is_dropped) {
    if (!lapic_ready()) SKIP("no local APIC to send it");
    constexpr u8 kNobodys = 0xe8; // above the devices' vectors
    const MigrateGuard here;
    const u32 before = spurious_interrupts();
    {
        const IrqGuard off;
        CHECK(lapic_send(lapic_id(), IpiKind::fixed, kNobodys));
    }
    CHECK(during_ticks(2, [] {}));
    CHECK_EQ(spurious_interrupts(), before + 1);
    CHECK(selftest::contains(selftest::catch_panic([] { asm volatile("int %0" ::"i"(kNobodys)); }),
                             "unhandled interrupt (vector 232"));
    CHECK_EQ(spurious_interrupts(), before + 1);
}

// An interrupt raises the interrupt depth and lowers it again, at every depth.
SELFTEST(interrupts, nest) {
    CHECK_EQ(irq_depth(), 0u);
    u32 outer = 0, inner = 0, after = 0;
    in_interrupt_do([&] {
        outer = irq_depth();
        in_interrupt_do<test_vector::inner>([&] { inner = irq_depth(); });
        after = irq_depth();
    });
    CHECK_EQ(outer, 1u);
    CHECK_EQ(inner, 2u);
    CHECK_EQ(after, 1u);
    CHECK_EQ(irq_depth(), 0u);
}

// The registers and flags of the interrupted context are restored.
SELFTEST(interrupts, registers_survive) {
    static u32 ran;
    ran = 0;
    trap_set_handler(test_vector::outer, [](TrapFrame&) { ++ran; });
    u32 a = 0x1111'1111u, b = 0x2222'2222u, c = 0x3333'3333u, d = 0x4444'4444u, s = 0x5555'5555u, t = 0x6666'6666u;
    bool carry = false;
    asm volatile("stc\n\t"
                 "int %7\n\t"
                 "setc %6" // to memory: no register is free
                 : "+a"(a), "+b"(b), "+c"(c), "+d"(d), "+S"(s), "+D"(t), "=m"(carry)
                 : "i"(test_vector::outer)
                 : "memory");
    CHECK_EQ(ran, 1u);
    CHECK(carry);
    CHECK_EQ(a, 0x1111'1111u);
    CHECK_EQ(b, 0x2222'2222u);
    CHECK_EQ(c, 0x3333'3333u);
    CHECK_EQ(d, 0x4444'4444u);
    CHECK_EQ(s, 0x5555'5555u);
    CHECK_EQ(t, 0x6666'6666u);
}

} // namespace loft::guest::interrupts_test
