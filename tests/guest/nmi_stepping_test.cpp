// An NMI before each single instruction: of maps, user copies, the entries into the kernel and the ways out of it,
// context switches and printing.
//
// The NMIs are real ones, which a CPU sends to itself through its local APIC: `int $2` would not block further NMIs,
// and would come where the code has it. A debug exception comes after each stepped instruction (stepper.hpp), but an
// NMI that its handler sends would arrive in the handler. So it sends two. The first one arrives in it at once; while
// its handler has NMIs blocked, it sends the second, which waits, and goes back to the debug exception's handler
// without an IRET. The IRET to the stepped code unblocks NMIs, and the second one comes there, before the next
// instruction: the *victim*, which the kernel's own handler handles. In the end it sends a third one, which comes right
// after the victim's IRET, again before any instruction: the *echo*. What the two find has to be the same: every
// register and flag, CR0, CR2 and CR3, the counts of the context, and the stack of local slots.
#include "arch/i386/cpu/trap_frame.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "arch/i386/irq/traps.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/programs/process.hpp"
#include "kernel/programs/programs.hpp"
#include "kernel/report/nmi.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/thread.hpp"
#include "mm/ground/remote.hpp"
#include "mm/spaces/user_copy.hpp"
#include "tests/guest/stepper.hpp"
#include "tests/guest/support.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

namespace loft::guest::nmi_stepping_test {
namespace {

// What an NMI's handler finds.
struct Finding {
    std::array<u32, offsetof(TrapFrame, user_esp) / 4> frame{};
    u32 esp = 0, ss = 0, cr0 = 0, cr2 = 0, cr3 = 0;
    u32 preempt_count = 0, pagefaults_off = 0, minus_kmaps = 0;
    u32 top = 0, limit = 0, base = 0;
    bool operator==(const Finding&) const = default;
};

Finding look(const TrapFrame& frame) {
    Finding found;
    std::memcpy(found.frame.data(), &frame, sizeof found.frame);
    found.esp = frame.esp();
    found.ss = frame.from_user() ? frame.user_ss : 0;
    found.cr0 = read_cr0();
    found.cr2 = read_cr2();
    found.cr3 = read_cr3();
    const Context now = context.mine();
    found.preempt_count = now.preempt_count;
    found.pagefaults_off = now.pagefaults_off;
    found.minus_kmaps = now.minus_kmaps;
    const LocalMaps maps = local_maps.mine();
    found.top = maps.top;
    found.limit = maps.limit;
    found.base = maps.base;
    return found;
}

enum class Phase : u32 { none, blocking, victim, echo };

struct Counts {
    u32 points = 0; // victims
    u32 exact = 0;  // victims at the stepped instruction; the others: the thread was switched out in between
    u32 in_ring_3 = 0;
    u32 differ = 0;  // victims after which the state was another one
    u32 depth = 0;   // victims whose handler ran in another context than the stepped code
    u32 open = 0;    // handlers that ran with AC, DF, IF or TF set
    u32 overdue = 0; // NMIs that did not come
};

// Of one CPU. The first two are those of block_nmis.
struct Sequence {
    u32 stack = 0, resume = 0;
    volatile Phase phase = Phase::none;
    bool stepping = false; // the victim is expected at these two, with this count:
    u32 eip = 0, esp = 0, preempt_count = 0;
    Finding victim;
    Counts counts;
};
static_assert(offsetof(Sequence, stack) == 0 && offsetof(Sequence, resume) == 4);
std::array<Sequence, config::kMaxCpus> sequences;
constinit TrapHandler kernels_handler = nullptr;
constinit bool all_are_victims = false;

Sequence& mine() { return sequences[hal::this_cpu().value()]; }

void send_to_myself() { lapic_send(cpu_lapic_id(hal::this_cpu()), IpiKind::nmi, 0); }

// The interrupted code may be about to send: the destination that it has written (SDM vol. 3, 10.6.1) stays.
class SameDestination : NotCopyable<SameDestination> {
  public:
    SameDestination() : before_{hal::load<u32>(kRegister)} {}
    ~SameDestination() { hal::store<u32>(kRegister, before_); }

  private:
    static constexpr VirtAddr kRegister = layout::fix_addr(layout::Fix::lapic) + 0x310;
    u32 before_;
};

void be_victim(Sequence& its, TrapFrame& frame) {
    Counts& counts = its.counts;
    ++counts.points;
    counts.in_ring_3 += frame.from_user();
    its.victim = look(frame);
    if (its.stepping && frame.eip == its.eip && frame.esp() == its.esp) {
        ++counts.exact;
        counts.depth += its.victim.preempt_count != its.preempt_count;
    }
    kernels_handler(frame);
    its.phase = Phase::echo;
    const SameDestination stays;
    send_to_myself();
}

void on_nmi(TrapFrame& frame) {
    Sequence& its = mine();
    its.counts.open +=
        (read_eflags() & (eflags::alignment_check | eflags::direction | eflags::interrupt | eflags::trap)) != 0;
    switch (its.phase) {
    case Phase::none:
        if (all_are_victims) return be_victim(its, frame);
        return kernels_handler(frame);
    case Phase::blocking:
        its.phase = Phase::victim;
        send_to_myself();
        asm volatile("mov %0, %%esp\n\tjmp *%1" ::"r"(its.stack), "r"(its.resume) : "memory");
        __builtin_unreachable();
    case Phase::victim:
        return be_victim(its, frame);
    case Phase::echo:
        its.counts.differ += look(frame) != its.victim;
        its.phase = Phase::none;
        return kernels_handler(frame);
    }
}

void begin_to_block() {
    mine().phase = Phase::blocking;
    send_to_myself();
}

// Returns with NMIs blocked until the next IRET, and one pending.
void block_nmis(Sequence& its) {
    Sequence* place = &its;
    void (*begin)() = begin_to_block;
    constexpr u32 kPatience = 10'000'000;
    asm volatile("push %%ebp\n\t"
                 "mov %%esp, (%0)\n\t"
                 "movl $2f, 4(%0)\n\t"
                 "call *%1\n\t"
                 "mov %2, %%ecx\n"
                 "1:\tpause\n\t"
                 "loop 1b\n"
                 "2:\tpop %%ebp"
                 : "+a"(place), "+d"(begin)
                 : "i"(kPatience)
                 : "ebx", "ecx", "esi", "edi", "memory", "cc");
}

// For each step: an NMI before the next instruction, and its echo.
constexpr auto strike = [] {
    Sequence& its = mine();
    if (its.phase != Phase::none) { // the thread was switched out, and the CPU has not executed an IRET since
        ++its.counts.overdue;
        return;
    }
    const TrapFrame& frame = step_frame();
    its.stepping = true;
    its.eip = frame.eip;
    its.esp = frame.esp();
    its.preempt_count = context.load<&Context::preempt_count>() - (1u << Context::kIrqShift); // without this exception
    const SameDestination stays;
    const u32 touched = read_cr2(); // the first NMI's handler does not return
    block_nmis(its);
    write_cr2(touched);
    if (its.phase == Phase::victim) return;
    its.phase = Phase::none;
    ++its.counts.overdue;
};

u32 nmis_of_all_cpus() {
    u32 sum = 0;
    hal::online_cpus().for_each([&sum](CpuId cpu) { sum += nmi_count(cpu); });
    return sum;
}

// While it exists, the NMIs of every CPU come to on_nmi.
class Watching : NotCopyable<Watching> {
  public:
    explicit Watching(bool all) : before_{nmis_of_all_cpus()} {
        for (Sequence& one : sequences)
            one = Sequence{};
        all_are_victims = all;
        kernels_handler = trap_set_handler(vector::nmi, on_nmi);
    }
    ~Watching() {
        all_are_victims = false;
        trap_set_handler(vector::nmi, kernels_handler);
    }
    Counts judge() const {
        Counts sum;
        for (const Sequence& one : sequences) {
            CHECK(one.phase == Phase::none);
            sum.points += one.counts.points;
            sum.exact += one.counts.exact;
            sum.in_ring_3 += one.counts.in_ring_3;
            sum.differ += one.counts.differ;
            sum.depth += one.counts.depth;
            sum.open += one.counts.open;
            sum.overdue += one.counts.overdue;
        }
        CHECK_EQ(sum.differ, 0u);
        CHECK_EQ(sum.depth, 0u);
        CHECK_EQ(sum.open, 0u);
        CHECK_EQ(sum.overdue, 0u);
        CHECK_GE(nmis_of_all_cpus() - before_, sum.points); // the kernel has counted each
        return sum;
    }

  private:
    u32 before_;
};

const char* cannot_strike() { return lapic_ready() ? nullptr : "no local APIC to send NMIs"; }

// Runs `step(strike)`, which returns the number of steps. An NMI came at nearly each of them.
template <typename Step> void strike_at_each(u32 least, Step&& step) {
    const Watching watching{false};
    const u32 steps = step();
    const Counts counts = watching.judge();
    selftest::note("{} instructions, {} NMIs, {} of them right before the next instruction", steps, counts.points,
                   counts.exact);
    CHECK_GT(counts.exact, least);
    CHECK_GT(counts.exact, steps - steps / 16);
}

template <typename Body> void strike_through(u32 least, Body&& body) {
    strike_at_each(least, [&] { return step_through(body, strike); });
}

u32 rounds(u32 quick) { return selftest::full() ? quick * 10 : quick; }

CpuSet this_cpu_only() { return CpuSet::only(hal::this_cpu()); }

constexpr VirtAddr kUser{0x1000'0000u};

} // namespace

SELFTEST(nmi_stepping, kmap_local) {
    if (const char* why = cannot_strike()) SKIP(why);
    if (const char* why = no_slots_for(16)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<3> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages)
        sign(page, 3);
    u32 wrong = 0;
    strike_through(300, [&] {
        for (u32 i = 0; i < rounds(4); ++i) {
            const LocalAddr first = kmap_local_page(pages[i % 3]);
            const LocalAddr second = kmap_local_page(pages[(i + i / 3) % 3]);
            wrong += hal::load<u32>(first) != mark(pages.pfn(i % 3), 0, 3);
            wrong += hal::load<u32>(second) != mark(pages.pfn((i + i / 3) % 3), 0, 3);
            kunmap_local(second);
            kunmap_local(first);
        }
    });
    CHECK_EQ(wrong, 0u);
}

SELFTEST(nmi_stepping, kmap_atomic) {
    if (const char* why = cannot_strike()) SKIP(why);
    if (const char* why = no_slots_for(16)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages)
        sign(page, 3);
    u32 wrong = 0;
    strike_through(100, [&] {
        for (u32 i = 0; i < rounds(4); ++i) {
            const AtomicAddr at = kmap_atomic(pages[i % 2]);
            wrong += hal::load<u32>(at) != mark(pages.pfn(i % 2), 0, 3);
            kunmap_atomic(at);
        }
    });
    CHECK_EQ(wrong, 0u);
}

// A pool that is so small that slots are reused, with the flushes of other CPUs that this asks for.
SELFTEST(nmi_stepping, kmap_and_kunmap) {
    if (const char* why = cannot_strike()) SKIP(why);
    if (const char* why = no_slots_for(32)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<12> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages)
        sign(page, 3);
    const PoolOf pool{8};
    const u32 wraps = pkmap_stats().wraps;
    u32 wrong = 0;
    strike_through(1000, [&] {
        for (u32 i = 0; i < rounds(24); ++i) {
            const GlobalAddr at = kmap(pages[i % 12]);
            wrong += hal::load<u32>(at) != mark(pages.pfn(i % 12), 0, 3);
            kunmap(pages[i % 12]);
        }
    });
    CHECK_EQ(wrong, 0u);
    CHECK_NE(pkmap_stats().wraps, wraps);
}

// Remote calls, on both sides: the CPU that asks and waits, then the one that is interrupted and answers.
SELFTEST(nmi_stepping, remote_calls) {
    if (const char* why = cannot_strike()) SKIP(why);
    if (hal::online_cpus().count() < 2) SKIP("one CPU");
    const MigrateGuard here;
    const CpuId other{31 - static_cast<u32>(std::countl_zero(hal::online_cpus().without(hal::this_cpu()).bits()))};
    static hal::Atomic<u32> calls;
    calls.store(0);
    const auto call_other = [other] {
        run_on(
            CpuSet::only(other), [](void*) { calls.fetch_add(1); }, nullptr);
    };
    constexpr u32 kCalls = 5;
    const auto call_often = [&call_other] {
        for (u32 i = 0; i < kCalls; ++i)
            call_other();
    };
    strike_through(200, call_often);
    const SteppedEntry answers{vector::ipi_call, CpuSet::only(other), kCalls};
    strike_at_each(200, [&] {
        return step_entries(
            [&] {
                call_often();
                call_other(); // answered when the other CPU has left the last one that is stepped
            },
            strike);
    });
    CHECK_EQ(answers.entered(), kCalls);
    CHECK_EQ(calls.load(), 2 * kCalls + 1);
}

// Every operation on an entry of a page table.
SELFTEST(nmi_stepping, entries) {
    if (const char* why = cannot_strike()) SKIP(why);
    alignas(8) static u32 memory[2];
    auto* cell = reinterpret_cast<hal::PteCell*>(memory);
    const Pte one{Pfn{0x1234u}, pte::present | pte::write}, other{Pfn{0x4321u}, pte::present};
    u32 wrong = 0;
    strike_through(60, [&] {
        hal::pte_set(cell, one);
        wrong += hal::pte_read(cell) != one;
        wrong += hal::pte_exchange(cell, other) != one;
        wrong += hal::pte_take(cell) != other;
        hal::pte_set(cell, one);
        hal::pte_clear(cell);
        wrong += hal::pte_read(cell).present();
    });
    CHECK_EQ(wrong, 0u);
}

// With user memory open, and through the whole of a page fault: its entry, CR2, the new page, the way back to the copy.
SELFTEST(nmi_stepping, user_copies) {
    if (const char* why = cannot_strike()) SKIP(why);
    const KeepsFreeCounts counts;
    const BorrowedSpace space;
    REQUIRE(bool{space});
    REQUIRE(bool{space->map(kUser, 2 * kPageSize, Prot::read | Prot::write, MapKind::anonymous, true)});
    const auto at = [](u32 page) { return UserAddr{kUser.value() + page * kPageSize + 8}; };
    REQUIRE(bool{put_user<u32>(at(0), 77)});
    const MigrateGuard here;
    const SteppedEntry faults{vector::page_fault, this_cpu_only(), 100};
    u32 wrong = 0, open = 0, with_address = 0;
    strike_at_each(300, [&] {
        return step_through(
            [&] {
                const Result<u32> present = get_user<u32>(at(0));
                wrong += !present || *present != 77;
                wrong += !put_user<u32>(at(1), 78); // a new page
                const Result<u32> changed = get_user<u32>(at(1));
                wrong += !changed || *changed != 78;
                wrong += bool{get_user<u32>(at(2))}; // no page: the copy ends
            },
            [&] {
                open += (step_frame().eflags & eflags::alignment_check) != 0;
                with_address += read_cr2() == at(1).value();
                strike();
            });
    });
    CHECK_EQ(wrong, 0u);
    CHECK_EQ(faults.entered(), 2u);
    CHECK_GT(with_address, 10u);
    if (read_cr4() & cr4_bit::smap) CHECK_GE(open, 4u);
    selftest::note("{} of them with user memory open", open);
}

// A fault that the kernel expects, an interrupt and a breakpoint: from the first instruction of the entry to the IRET.
SELFTEST(nmi_stepping, entries_and_returns) {
    if (const char* why = cannot_strike()) SKIP(why);
    const MigrateGuard here;
    const auto entered_by = [](u8 vector, u32 least, auto&& body) {
        const SteppedEntry entry{vector, this_cpu_only(), 1};
        strike_through(least, body);
        CHECK_EQ(entry.entered(), 1u);
    };
    u32 handled = 0, ignored = 0;
    bool read = true;
    entered_by(vector::page_fault, 60, [&] { read = probe_read32(VirtAddr{0u}, ignored); });
    CHECK(!read);
    entered_by(test_vector::outer, 60, [&] { in_interrupt_do([&] { ++handled; }); });
    CHECK_EQ(handled, 1u);
}

// The tick, in whatever it interrupts.
SELFTEST(nmi_stepping, ticks) {
    if (const char* why = cannot_strike()) SKIP(why);
    const MigrateGuard here;
    const SteppedEntry ticks{vector::lapic_timer, this_cpu_only(), rounds(2)};
    bool came = true;
    strike_at_each(100, [&] {
        return step_entries(
            [&] {
                Patience patience{Patience::kSpinning};
                while (ticks.entered() < rounds(2) && (came = !patience.over()))
                    hal::cpu_relax();
            },
            strike);
    });
    CHECK(came);
}

// From one thread to the other and back, on one CPU.
SELFTEST(nmi_stepping, context_switches) {
    if (const char* why = cannot_strike()) SKIP(why);
    warm_up_threads(2);
    const KeepsFreeCounts counts;
    const CpuSet here = this_cpu_only();
    const u32 n = rounds(6);
    bool stop = false;
    u32 others = 0;
    auto other = [&] {
        while (!stop) {
            ++others;
            yield();
        }
    };
    auto stepped = [&] {
        strike_through(n * 100, [&] {
            Thread* const thread = thread_create("other", other, here);
            if (!CHECK(thread != nullptr)) return;
            step_also(ThreadId{thread->id.load()});
            for (u32 i = 0; i < n; ++i)
                yield();
            stop = true;
            thread_join(thread);
        });
    };
    Thread* const thread = thread_create("stepped", stepped, here);
    if (CHECK(thread != nullptr)) thread_join(thread);
    CHECK_GE(others, 2u);
}

// A line of output, under the lock that a panic also takes.
SELFTEST(nmi_stepping, printing) {
    if (const char* why = cannot_strike()) SKIP(why);
    strike_through(500, [] { selftest::note("a line with NMIs in it: {}", 12345u); });
}

// A program: its system calls and its page faults, from the stack switch of the entry to the IRET to ring 3.
SELFTEST(nmi_stepping, programs) {
    if (const char* why = cannot_strike()) SKIP(why);
    if (find_program("hello") == nullptr) SKIP("the program did not come along");
    constexpr u32 kEntries = 3;
    for (const u8 vector : {vector::system_call, vector::page_fault}) {
        const SteppedEntry entries{vector, hal::online_cpus(), kEntries};
        u32 status = ~0u;
        strike_at_each(1000, [&] {
            return step_entries(
                [&] {
                    const Started started = process_start({.name = "hello"});
                    if (started.process == nullptr) return;
                    status = process_wait(started.process).value();
                    process_wait_for_all();
                },
                strike);
        });
        CHECK_EQ(status, 0u);
        CHECK_EQ(entries.entered(), kEntries);
    }
}

// In ring 3, at any instruction. The NMIs come from another CPU.
SELFTEST(nmi_stepping, ring_3) {
    if (const char* why = cannot_strike()) SKIP(why);
    if (hal::online_cpus().count() < 2) SKIP("one CPU");
    if (find_program("spin") == nullptr) SKIP("the program did not come along");
    const Watching watching{true};
    const Started started = process_start({.name = "spin"});
    REQUIRE(started.process != nullptr);
    const u32 wanted = rounds(100);
    const MigrateGuard here;
    Patience patience{Patience::kSpinning};
    u32 seen = 0;
    while (seen < wanted && !patience.over()) {
        hal::online_cpus().without(hal::this_cpu()).for_each([](CpuId cpu) {
            const IrqGuard off;
            lapic_send(cpu_lapic_id(cpu), IpiKind::nmi, 0);
        });
        for (u32 i = selftest::rng().below(1000); i != 0; --i)
            hal::cpu_relax();
        seen = 0;
        for (const Sequence& one : sequences)
            seen += const_cast<const volatile u32&>(one.counts.in_ring_3);
    }
    process_kill(*started.process, WaitStatus::killed(Signal::kill));
    process_wait(started.process);
    process_wait_for_all();
    const Counts counts = watching.judge();
    selftest::note("{} NMIs, {} of them in ring 3", counts.points, counts.in_ring_3);
    CHECK_GE(counts.in_ring_3, wanted);
}

} // namespace loft::guest::nmi_stepping_test
