// Memory of programs is closed to the kernel outside of its user copies (SMAP, SMEP), and the kernel runs with clear
// flags, whatever the flags of the code that it interrupts.
#include "arch/i386/irq/traps.hpp"
#include "arch/i386/isa/control.hpp"
#include "arch/i386/isa/cpuid.hpp"
#include "mm/ground/remote.hpp"
#include "mm/spaces/user_copy.hpp"
#include "tests/guest/stepper.hpp"
#include "tests/guest/support.hpp"

#include <array>

namespace loft::guest::smap_test {
namespace {

using selftest::contains;

const char* no_smap() { return read_cr4() & cr4_bit::smap ? nullptr : "this processor has no SMAP"; }

constexpr VirtAddr kUser{0x1000'0000u};
constexpr u32 kPages = 2;

// A page that the test has written, and one behind it that is not present.
class OnePage {
  public:
    explicit OnePage(Prot prot, u32 first_word) {
        ready_ = space_ && space_->map(kUser, kPages * kPageSize, prot, MapKind::anonymous, true) &&
                 put_user<u32>(UserAddr{kUser.value()}, first_word);
    }
    bool ready() const { return ready_; }

  private:
    const BorrowedSpace space_;
    bool ready_;
};

constexpr Prot kReadWrite = Prot::read | Prot::write;

constexpr u32 kAc = eflags::alignment_check, kDf = eflags::direction;
u32 open_flags() { return read_eflags() & (kAc | kDf); }

} // namespace

// Where the processor has the feature, each CPU has it on.
SELFTEST(smap, what_the_processor_has_is_on) {
    const CpuidResult features = cpuid(cpuid_leaf::vendor).eax >= cpuid_leaf::structured_features
                                     ? cpuid(cpuid_leaf::structured_features)
                                     : CpuidResult{};
    struct Wanted {
        u32 cr4;
        hal::Atomic<u32> wrong;
    };
    Wanted wanted{(features.ebx >> 7 & 1) << 20 | (features.ebx >> 20 & 1) << 21 | (features.ecx >> 2 & 1) << 11, {}};
    const auto look = [](void* argument) {
        Wanted& wanted = *static_cast<Wanted*>(argument);
        wanted.wrong.fetch_add((read_cr4() & (1u << 20 | 1u << 21 | 1u << 11)) != wanted.cr4);
    };
    const MigrateGuard here;
    look(&wanted);
    run_on(hal::online_cpus(), look, &wanted);
    CHECK_EQ(wanted.wrong.load(), 0u);
    selftest::note("SMEP, SMAP, UMIP: {:08x}", wanted.cr4);
}

SELFTEST(smap, a_stray_access_faults) {
    if (const char* why = no_smap()) SKIP(why);
    const KeepsFreeCounts counts;
    const OnePage page{kReadWrite, 77};
    REQUIRE(page.ready());
    u32 value = 0;
    CHECK(!probe_read32(kUser, value));
    CHECK(!probe_write32(kUser, 1));
    const auto names_smap = [](std::string_view said) {
        return contains(said, "the kernel accessed user memory outside a user copy") && contains(said, "SMAP");
    };
    CHECK(names_smap(selftest::catch_panic([] { static_cast<void>(hal::load<u32>(kUser)); })));
    CHECK(names_smap(selftest::catch_panic([] { hal::store<u32>(kUser, 1); })));
    // A user copy reaches the page, and a panic has left nothing open.
    const Result<u32> word = get_user<u32>(UserAddr{kUser.value()});
    CHECK(word && *word == 77);
    CHECK_EQ(open_flags(), 0u);
    CHECK(!probe_read32(kUser, value));
}

SELFTEST(smap, a_stray_execution_faults) {
    if (!(read_cr4() & cr4_bit::smep)) SKIP("this processor has no SMEP");
    const KeepsFreeCounts counts;
    const OnePage page{kReadWrite | Prot::exec, 0xc3}; // ret
    REQUIRE(page.ready());
    CHECK(!probe_exec(kUser));
    const std::string_view said =
        selftest::catch_panic([] { reinterpret_cast<void (*)()>(hal::opaque(kUser.value()))(); });
    CHECK(contains(said, "the kernel executed user memory") && contains(said, "SMEP"));
}

// Instruction by instruction: only the copy is open, an interrupt in it is not, and it is open again afterwards.
SELFTEST(smap, every_copy_opens_and_closes) {
    if (const char* why = no_smap()) SKIP(why);
    const KeepsFreeCounts counts;
    const OnePage page{kReadWrite, 77};
    REQUIRE(page.ready());
    static constexpr u32 kBytes = 23; // words and single bytes
    static std::array<u8, kBytes> buffer;
    const VirtAddr map = hal::lowmem_addr(buffer.data()), end = kUser + kPageSize;
    struct Case {
        u32 (*copy)(VirtAddr map, VirtAddr user);
        VirtAddr user;
        u32 left;
    };
    // All of it; up to the end of the page, which ends a word copy; and a byte copy.
    const std::array<Case, 7> cases{{
        {[](VirtAddr, VirtAddr user) { return hal::user_copy_in(buffer.data(), user, kBytes); }, kUser, 0},
        {[](VirtAddr, VirtAddr user) { return hal::user_copy_out(user, buffer.data(), kBytes); }, kUser, 0},
        {[](VirtAddr map, VirtAddr user) { return hal::user_copy_to_map(map, user, kBytes); }, kUser, 0},
        {[](VirtAddr map, VirtAddr user) { return hal::user_copy_from_map(user, map, kBytes); }, kUser, 0},
        {[](VirtAddr, VirtAddr user) { return hal::user_clear(user, kBytes); }, kUser, 0},
        {[](VirtAddr, VirtAddr user) { return hal::user_clear(user, kBytes); }, end - 8, kBytes - 8},
        {[](VirtAddr, VirtAddr user) { return hal::user_clear(user, kBytes); }, end - 20, 3},
    }};
    for (const Case& one : cases) {
        u32 open = 0, in_handler = 0, reached = 0, left = 0, ignored;
        {
            const PreemptGuard no_faults_are_resolved;
            step_through([&] { left = one.copy(map, one.user); },
                         [&] {
                             open += (step_frame().eflags & kAc) != 0;
                             in_handler += open_flags() != 0;
                             reached += probe_read32(kUser, ignored);
                         });
        }
        CHECK_EQ(open_flags(), 0u);
        CHECK_EQ(left, one.left);
        CHECK_GE(open, 3u);
        CHECK_EQ(in_handler, 0u);
        CHECK_EQ(reached, 0u);
    }
}

namespace {

constinit u32 flags_in_handler = 0, flags_interrupted = 0, handled = 0;

void note_flags(TrapFrame& frame) {
    if (frame.vector == vector::nmi && (frame.eflags & (kAc | kDf)) == 0) return; // another one: from outside
    flags_in_handler |= open_flags();
    flags_interrupted = frame.eflags & (kAc | kDf);
    ++handled;
}

// Executes an instruction with AC and DF set, and returns the two as they are afterwards. One asm statement: no C++
// code runs meanwhile.
#define LOFT_WITH_OPEN_FLAGS(instruction)                                                                              \
    [] {                                                                                                               \
        u32 after;                                                                                                     \
        asm volatile("pushf\n\torl %1, (%%esp)\n\tpopf\n\t" instruction "\n\tpushf\n\tpopl %0\n\t"                     \
                     "pushf\n\tandl %2, (%%esp)\n\tpopf"                                                               \
                     : "=&r"(after)                                                                                    \
                     : "i"(kAc | kDf), "i"(~(kAc | kDf))                                                               \
                     : "memory", "cc");                                                                                \
        return after & (kAc | kDf);                                                                                    \
    }()

} // namespace

// An exception, an interrupt, a system call and an NMI: the handler has both flags clear, and the interrupted code has
// them again afterwards.
SELFTEST(smap, entries_clear_the_flags) {
    const u32 seen_by_handler = no_smap() == nullptr ? kAc | kDf : kDf;
    const auto clean = [&](u32 after) {
        CHECK_GE(handled, 1u);
        CHECK_EQ(flags_in_handler & seen_by_handler, 0u);
        CHECK_EQ(flags_interrupted, kAc | kDf);
        CHECK_EQ(after, kAc | kDf);
        flags_in_handler = flags_interrupted = handled = 0;
    };
    const auto handle = [](u8 vector, auto&& body) {
        const TrapHandler before = trap_set_handler(vector, note_flags);
        body();
        trap_set_handler(vector, before);
    };
    const MigrateGuard here;
    const IrqGuard alone; // no tick in between: its handler is not this one
    handle(test_vector::outer, [&] { clean(LOFT_WITH_OPEN_FLAGS("int $0x70")); });
    handle(vector::breakpoint, [&] { clean(LOFT_WITH_OPEN_FLAGS("int3")); });
    handle(vector::system_call, [&] { clean(LOFT_WITH_OPEN_FLAGS("int $0x80")); });
    handle(vector::nmi, [&] { clean(LOFT_WITH_OPEN_FLAGS("int $2")); });
}

} // namespace loft::guest::smap_test
