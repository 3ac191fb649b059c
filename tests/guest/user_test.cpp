// Programs: each one of tests/user ends with the expected status, all of its memory is freed, and forbidden actions end
// it.
//
// They are multiboot modules, which make run and make test load. Without them the tests that need one are skipped; some
// tests use a few bytes of code instead of a module.
#include "arch/base/not_copyable.hpp"
#include "arch/i386/cpu/features.hpp"
#include "arch/i386/cpu/fpu.hpp"
#include "arch/i386/io/rtc.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/irq/traps.hpp"
#include "arch/i386/isa/control.hpp"
#include "arch/i386/isa/cpuid.hpp"
#include "kernel/boot/table_probe.hpp"
#include "kernel/files/bytes_file.hpp"
#include "kernel/programs/elf.hpp"
#include "kernel/programs/ids.hpp"
#include "kernel/programs/process.hpp"
#include "kernel/programs/programs.hpp"
#include "kernel/programs/syscalls.hpp"
#include "kernel/threads/clock.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/ground/remote.hpp"
#include "mm/init.hpp"
#include "mm/spaces/highpte.hpp"
#include "mm/spaces/user_copy.hpp"
#include "tests/guest/programs.hpp"
#include "tests/guest/support.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <span>

namespace loft::guest::user_test {
namespace {

using selftest::contains;

bool has_fpu() { return fpu_usable(identify_cpu().features) & cpuid_edx::fpu; }

u32 total_free_mib() {
    u32 frames = 0;
    for (const ZoneId zone : {ZoneId::dma, ZoneId::normal, ZoneId::high})
        frames += free_frames(zone);
    return frames / (MiB / kPageSize);
}

// --------------------------------------------------------------------------------------------------- files in memory

// A file built by a test: headers and one page of code and data.
class MadeImage {
  public:
    std::span<const u8> view() const { return {bytes_.data(), size_}; }
    void cut(u32 bytes) { size_ = bytes; }

    template <typename T> void put(u32 offset, T value) { std::memcpy(bytes_.data() + offset, &value, sizeof value); }
    u8& operator[](u32 offset) { return bytes_[offset]; }
    static constexpr u32 kBytes = 0x400;

  private:
    std::array<u8, kBytes> bytes_{};
    u32 size_ = kBytes;
};

// A module, or its beginning, as a file that lives as long as its variable.
class ModuleAsFile final : public ModuleFile {
  public:
    using ModuleFile::ModuleFile;
    ~ModuleAsFile() { put(); }

  private:
    void destroy() override {}
};

// Offsets in the file (System V ABI, chapters 4 and 5).
namespace at {
constexpr u32 klass = 4, data = 5, ident_version = 6, type = 16, machine = 18, version = 20, entry = 24, headers = 28,
              header_bytes = 42, header_count = 44;
constexpr u32 first = 52, second = first + 32; // program headers, and in each:
constexpr u32 segment_type = 0, offset = 4, address = 8, file_bytes = 16, bytes = 20, flags = 24;
} // namespace at
constexpr u32 kCode = 0x200; // offset in the file and in its page
constexpr u32 kBase = 0x1000'0000;

void put_segment(MadeImage& image, u32 header, u32 offset, u32 address, u32 file_bytes, u32 bytes, u32 flags) {
    image.put<u32>(header + at::segment_type, 1);
    image.put<u32>(header + at::offset, offset);
    image.put<u32>(header + at::address, address);
    image.put<u32>(header + at::file_bytes, file_bytes);
    image.put<u32>(header + at::bytes, bytes);
    image.put<u32>(header + at::flags, flags);
}

// exit_group(42)
constexpr u8 kExit42[]{0xb8, 252, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80};

template <u32 N> MadeImage make_image(const u8 (&code)[N]) {
    MadeImage image;
    constexpr u8 kIdent[]{0x7f, 'E', 'L', 'F', 1, 1, 1};
    for (u32 i = 0; i < sizeof kIdent; ++i)
        image[i] = kIdent[i];
    image.put<u16>(at::type, 2);
    image.put<u16>(at::machine, 3);
    image.put<u32>(at::version, 1);
    image.put<u32>(at::entry, kBase + kCode);
    image.put<u32>(at::headers, at::first);
    image.put<u16>(at::header_bytes, 32);
    image.put<u16>(at::header_count, 2);
    put_segment(image, at::first, 0, kBase, MadeImage::kBytes, MadeImage::kBytes, 5);
    put_segment(image, at::second, 0x300, kBase + 0x1300, 0x100, 0x4000, 6);
    for (u32 i = 0; i < N; ++i)
        image[kCode + i] = code[i];
    return image;
}

} // namespace

// ------------------------------------------------------------------------------------------------------ the programs

SELFTEST(user, hello) {
    if (const char* why = needs_program("hello")) SKIP(why);
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    Text text;
    constexpr std::string_view kArguments[]{"one", "two words"}, kEnvironment[]{"HOME=/"};
    const Started started = process_start(
        {.name = "hello", .arguments = kArguments, .environment = kEnvironment, .watch = {.output = &text}});
    REQUIRE(started.process != nullptr);
    CHECK_EQ(wait_for(started.process).value(), 0u);
    CHECK(contains(text.view(), "hello from ring 3\n"));
}

// An ordinary program, linked with an unmodified C library.
SELFTEST(user, hello_from_a_c_library) {
    if (const char* why = needs_program("libc_hello")) SKIP(why);
    if (!has_fpu()) SKIP("this processor has no FPU, which the C library prints numbers with");
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    Text text;
    const Outcome outcome = run("libc_hello", {.output = &text}, "argument");
    CHECK(outcome.started);
    CHECK_EQ(outcome.status.value(), 0u);
    CHECK(contains(text.view(), "hello from the C library: printf, 42, 0.333333, argc 2\n"));
}

// Dates as POSIX defines them (Base Definitions, 4.16), and the date that programs get.
SELFTEST(user, the_date) {
    CHECK_EQ(seconds_of_date(1970, 1, 1, 0, 0, 0), 0u);
    CHECK_EQ(seconds_of_date(1970, 12, 31, 23, 59, 59), 31'535'999u);
    CHECK_EQ(seconds_of_date(2000, 2, 28, 12, 0, 0), 951'739'200u);
    CHECK_EQ(seconds_of_date(2000, 2, 29, 0, 0, 0), 951'782'400u);
    CHECK_EQ(seconds_of_date(2000, 3, 1, 0, 0, 0), 951'868'800u);
    CHECK_EQ(seconds_of_date(2020, 1, 1, 0, 0, 0), 1'577'836'800u);
    CHECK_EQ(seconds_of_date(2038, 1, 19, 3, 14, 8), 0x8000'0000u);
    CHECK_EQ(seconds_of_date(2099, 12, 31, 23, 59, 59), 4'102'444'799u);
    const u64 board = rtc_read();
    if (board == 0 || boot_date_us() == 0) SKIP("the board has no clock that shows a date");
    // The rates of the two clocks are not checked; no boot lasts a day.
    const u64 at_boot = boot_date_us() / 1'000'000;
    CHECK_GE(board + 1, at_boot);
    CHECK_LE(board, at_boot + 86'400);
}

// The C library's clocks, sleeps, and threads.
SELFTEST(user, time_by_a_c_library) {
    if (const char* why = needs_program("libc_time")) SKIP(why);
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    Text text;
    const Outcome outcome =
        selftest::full() ? run("libc_time", {.output = &text}, "long") : run("libc_time", {.output = &text});
    CHECK(outcome.started);
    CHECK_EQ(outcome.status.value(), 0u);
    if (boot_date_us() != 0) CHECK(contains(text.view(), "libc_time: the year is 2020 or later\n"));
}

SELFTEST(user, threads_by_a_c_library) {
    if (const char* why = needs_program("libc_threads")) SKIP(why);
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    Text text;
    const Outcome outcome = run("libc_threads", {.output = &text});
    CHECK(outcome.started);
    CHECK_EQ(outcome.status.value(), WaitStatus::killed(Signal::abort).value()); // it ends with abort()
    CHECK(contains(text.view(), "libc_threads: 50 rounds, 1 once, bad 0\n"));
}

#define PROGRAM(test, name, ...)                                                                                       \
    SELFTEST(user, test) {                                                                                             \
        if (const char* why = needs_program(name)) SKIP(why);                                                          \
        expect_success(name __VA_OPT__(, ) __VA_ARGS__);                                                               \
    }

PROGRAM(demand_zero, "zero", total_free_mib() > 64 ? "8" : "2")
PROGRAM(heap, "heap")
PROGRAM(rights, "protect")
PROGRAM(stack_growth, "stack")
PROGRAM(bad_pointers, "pointers")
PROGRAM(every_argument_as_linux, "arguments")
PROGRAM(an_end_while_threads_sleep, "blocked")
PROGRAM(fork_bomb_with_a_bound, "forks", "3", selftest::full() ? "4" : "3")
PROGRAM(copy_on_write, "cow", "6", total_free_mib() > 64 ? "64" : "16")
PROGRAM(shared_memory, "shared")
PROGRAM(pipes, "pipes")
PROGRAM(munmap_against_copies, "races", selftest::full() ? "5000" : "200")
// The peak number of objects differs from run to run, and caches keep a slab: so a first run fills the caches.
SELFTEST(user, any_call_from_any_thread) {
    if (const char* why = needs_program("anything")) SKIP(why);
    static_cast<void>(run("anything", {}, "1", "3"));
    expect_success("anything", "1001", selftest::full() ? "150" : "8");
}
PROGRAM(futexes, "futexes")
PROGRAM(threads, "threads")
PROGRAM(thread_local_storage, "tls")

SELFTEST(user, floating_point) {
    if (const char* why = needs_program("fpu")) SKIP(why);
    if (!has_fpu()) SKIP("this processor has no FPU");
    expect_success("fpu");
}

// The program's three threads spin, each on its own CPU.
SELFTEST(user, stores_are_seen_in_order) {
    if (const char* why = needs_program("order")) SKIP(why);
    if (hal::online_cpus().count() < 3) SKIP("this takes three CPUs");
    expect_success("order", selftest::full() ? "8" : "1");
}

// A fork bomb that is limited only by the kernel: forks succeed until there is no thread left, then fail with an error;
// in the end all memory is free.
SELFTEST(user, fork_bomb) {
    if (const char* why = needs_program("forks")) SKIP(why);
    if (total_free_mib() < 256) SKIP("this machine has too little memory for a thousand processes");
    // DEBUG checks every page of vmap at each free of a frame: a thousand stacks would take too long.
    constexpr std::string_view kDepth = config::kDebug ? "1" : "2", kWidth = config::kDebug ? "80" : "1200";
    static_cast<void>(run("forks", {}, kDepth, kWidth)); // descriptors of threads are never freed
    expect_success("forks", kDepth, kWidth);
}

// An id belongs to one process or thread at a time, also after the counter has wrapped.
SELFTEST(user, ids_begin_again_and_are_never_two_things) {
    static constinit IdPool pool{IdPool::kEnd - 3};
    static u32 seen[IdPool::kEnd / 32];
    CHECK_EQ(pool.take(), IdPool::kEnd - 2);
    CHECK_EQ(pool.take(), IdPool::kEnd - 1);
    CHECK_EQ(pool.take(), IdPool::kFirstAgain);
    CHECK_EQ(pool.take(), IdPool::kFirstAgain + 1);
    // An id that was just freed is not the next one.
    pool.give_back(IdPool::kFirstAgain + 1);
    CHECK_EQ(pool.take(), IdPool::kFirstAgain + 2);
    u32 count = pool.in_use(), twice = 0, outside = 0;
    CHECK_EQ(count, 4u);
    std::fill(std::begin(seen), std::end(seen), 0);
    for (const u32 id : {IdPool::kEnd - 2, IdPool::kEnd - 1, IdPool::kFirstAgain, IdPool::kFirstAgain + 2})
        seen[id / 32] |= 1u << id % 32;
    for (u32 id = pool.take(); id != 0 && count < IdPool::kEnd; id = pool.take(), ++count) {
        outside += id < IdPool::kFirstAgain || id >= IdPool::kEnd;
        twice += seen[id / 32 % std::size(seen)] >> id % 32 & 1;
        seen[id / 32 % std::size(seen)] |= 1u << id % 32;
    }
    CHECK_EQ(count, IdPool::kEnd - IdPool::kFirstAgain);
    CHECK_EQ(twice, 0u);
    CHECK_EQ(outside, 0u);
    // No id is left until one is freed.
    CHECK_EQ(pool.take(), 0u);
    pool.give_back(4711);
    CHECK_EQ(pool.take(), 4711u);
    for (const u32 none : {0u, 1u, IdPool::kEnd})
        CHECK(contains(selftest::catch_panic([&] { pool.give_back(none); }), "nothing has it"));
    for (u32 id = IdPool::kFirstAgain; id < IdPool::kEnd; ++id)
        pool.give_back(id);
    CHECK_EQ(pool.in_use(), 0u);
}

// -------------------------------------------------------------------------------------------------- forbidden actions

SELFTEST(user, faults_end_the_program_only) {
    if (const char* why = needs_program("die")) SKIP(why);
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    const struct {
        std::string_view how;
        Signal signal;
    } cases[]{
        {"null-read", Signal::segv},    {"null-write", Signal::segv},   {"null-call", Signal::segv},
        {"kernel-read", Signal::segv},  {"kernel-write", Signal::segv}, {"kernel-call", Signal::segv},
        {"border", Signal::segv},       {"divide", Signal::fpe},        {"undefined", Signal::ill},
        {"breakpoint", Signal::trap},   {"step", Signal::trap},         {"cli", Signal::segv},
        {"hlt", Signal::segv},          {"port", Signal::segv},         {"interrupt", Signal::segv},
        {"double-fault", Signal::segv}, {"cr3", Signal::segv},          {"load-cr0", Signal::segv},
        {"msr", Signal::segv},          {"segment", Signal::segv},      {"per-cpu", Signal::segv},
        {"task", Signal::segv},         {"gate", Signal::segv},         {"iret", Signal::segv},
        {"overflow", Signal::segv},     {"nested", Signal::segv},       {"syscall", Signal::ill},
        {"nmi", Signal::segv},          {"local-gate", Signal::segv},   {"local-segment", Signal::segv},
    };
    for (const auto& one : cases) {
        const Outcome outcome = run("die", {}, one.how);
        if (!CHECK_EQ(outcome.status.value(), WaitStatus::killed(one.signal).value()))
            selftest::note("this was {}", one.how);
    }
    // Some processors lack the instruction; on others it faults because the kernel has not set it up.
    const u32 sysenter = run("die", {}, "sysenter").status.value();
    CHECK(sysenter == WaitStatus::killed(Signal::segv).value() || sysenter == WaitStatus::killed(Signal::ill).value());
    // Instructions that show the kernel's descriptor tables; without UMIP they are not privileged.
    const WaitStatus shown = read_cr4() & cr4_bit::umip ? WaitStatus::killed(Signal::segv) : WaitStatus::exited(99);
    for (const std::string_view how : {"sgdt", "sidt", "sldt", "str", "smsw"})
        if (!CHECK_EQ(run("die", {}, how).status.value(), shown.value())) selftest::note("this was {}", how);
    // Two-level tables have no NX: then the function returns, and the program exits by itself.
    const WaitStatus called = run("die", {}, "data-call").status;
    CHECK_EQ(called.value(), hal::cpu_features().no_execute ? WaitStatus::killed(Signal::segv).value()
                                                            : WaitStatus::exited(99).value());
}

namespace {

constinit hal::Atomic<u32> calls_seen, flags_in_calls;

void note_call(TrapFrame& frame) {
    if (frame.eip == reinterpret_cast<u32>(&system_call)) {
        calls_seen.fetch_add(1);
        flags_in_calls.fetch_or(frame.eflags);
    }
    frame.eflags |= eflags::resume;
}

template <typename F> void on_all_cpus(F function) {
    const MigrateGuard here;
    function(nullptr);
    run_on(hal::online_cpus(), function, nullptr);
}

} // namespace

// A program sets AC, which opens its memory to a kernel with SMAP, and DF, which C++ needs clear. A breakpoint on
// system_call sees the kernel's flags; the program has its own again afterwards.
SELFTEST(user, flags_of_a_program_stop_at_the_entry) {
    constexpr u32 kFlags = eflags::alignment_check | eflags::direction;
    constexpr u8 kCode[]{
        0x9c,                                     // pushf
        0x81, 0x0c, 0x24, 0x00, 0x04, 0x04, 0x00, // orl $kFlags, (%esp)
        0x9d,                                     // popf
        0xb8, 20,   0,    0,    0,                // mov $getpid, %eax
        0xcd, 0x80,                               // int $0x80
        0x9c,                                     // pushf
        0x5b,                                     // pop %ebx
        0x81, 0xe3, 0x00, 0x04, 0x04, 0x00,       // and $kFlags, %ebx
        0x81, 0xf3, 0x00, 0x04, 0x04, 0x00,       // xor $kFlags, %ebx
        0x0f, 0x95, 0xc3,                         // setne %bl
        0x0f, 0xb6, 0xdb,                         // movzbl %bl, %ebx
        0xb8, 252,  0,    0,    0,                // mov $exit_group, %eax
        0xcd, 0x80,                               // int $0x80
    };
    static_assert(kFlags == 0x0004'0400);
    const NothingIsLeft nothing;
    const MadeImage image = make_image(kCode);
    BytesFile file{image.view()};
    calls_seen.store(0);
    flags_in_calls.store(0);
    const TrapHandler before = trap_set_handler(vector::debug, note_call);
    on_all_cpus([](void*) { set_breakpoint(reinterpret_cast<u32>(&system_call)); });
    const Started started = process_start({.name = "made"}, file);
    const u32 status = started.process != nullptr ? wait_for(started.process).value() : ~0u;
    on_all_cpus([](void*) { reset_breakpoints(); });
    trap_set_handler(vector::debug, before);
    CHECK_EQ(status, WaitStatus::exited(0).value());
    CHECK_EQ(calls_seen.load(), 2u);
    CHECK_EQ(flags_in_calls.load() & eflags::direction, 0u);
    if (read_cr4() & cr4_bit::smap) CHECK_EQ(flags_in_calls.load() & eflags::alignment_check, 0u);
}

namespace {

struct Touches {
    u32 faults[3] = {0, 0, 0}; // read, write, jump
    u32 wrong = 0;             // unexpected faults
    u32 next[3] = {0xc000'0000, 0xc000'0000, 0xc000'0000};
};

// The registers of tests/user/kernelspace.asm.
bool next_touch(TrapFrame& frame, VirtAddr address, void* argument) {
    Touches& touches = *static_cast<Touches*>(argument);
    const u32 what = frame.edi;
    if (what > 2 || !frame.from_user()) return false;
    const bool border = what == 0 && touches.next[0] == 0;
    const u32 wanted = border ? 0xbfff'fffe : frame.esi + (what == 1 ? kPageSize - 4 : 0);
    // At the border the CPU may report either page.
    const bool right = border ? address.value() == wanted || address.value() == 0xc000'0000
                              : address.value() == wanted && frame.esi == touches.next[what];
    touches.wrong += !right || (frame.error & page_fault_error::user) == 0 ||
                     ((frame.error & page_fault_error::write) != 0) != (what == 1);
    ++touches.faults[what];
    touches.next[what] += kPageSize;
    frame.eip = frame.ebx;
    return true;
}

} // namespace

SELFTEST(user, every_page_of_the_kernel_is_closed) {
    if (const char* why = needs_program("kernelspace")) SKIP(why);
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    static Touches touches;
    touches = Touches{};
    const Outcome outcome = run("kernelspace", {.on_fault = next_touch, .argument = &touches});
    CHECK_EQ(outcome.status.value(), 0u);
    constexpr u32 kPages = 0x4000'0000 / kPageSize;
    CHECK_EQ(touches.faults[0], kPages + 1); // one more at the border
    CHECK_EQ(touches.faults[1], kPages);
    CHECK_EQ(touches.faults[2], kPages);
    CHECK_EQ(touches.wrong, 0u);
}

PROGRAM(every_page_of_the_kernel_is_refused_to_calls, "kernelcalls")

// ---------------------------------------------------------------------------------------------------------- the loader

SELFTEST(user, a_made_file_runs) {
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    const MadeImage image = make_image(kExit42);
    BytesFile file{image.view()};
    const Started started = process_start({.name = "made"}, file);
    REQUIRE(started.process != nullptr);
    CHECK_EQ(wait_for(started.process).value(), WaitStatus::exited(42).value());
}

// The frame that a program has at an address.
Page* frame_of(const Started& started, u32 address, bool write) {
    Page* page = nullptr;
    if (CHECK(get_user_pages(*started.process->space, UserAddr{address}, 1, write, &page))) put_page(page);
    return page;
}
u32 word_of(const Started& started, u32 address) {
    u32 word = 0;
    CHECK_EQ(read_space(*started.process->space, &word, UserAddr{address}, sizeof word), 0u);
    return word;
}

// Two programs of one file have its text in the same frames, and its data until one of them writes.
SELFTEST(user, text_is_in_memory_once) {
    constexpr u8 kForever[]{0xeb, 0xfe}; // jmp to itself
    constexpr u32 kData = kBase + 0x1300, kWord = 0x1234'5678;
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    MadeImage image = make_image(kForever);
    image.put<u32>(0x300, kWord);
    BytesFile file{image.view()};
    std::array<Started, 2> started;
    for (Started& one : started)
        one = process_start({.name = "made"}, file);
    if (CHECK(started[0].process != nullptr && started[1].process != nullptr)) {
        CHECK(frame_of(started[0], kBase, false) == frame_of(started[1], kBase, false));
        CHECK(frame_of(started[0], kBase + 0x2000, true) != frame_of(started[1], kBase + 0x2000, true)); // zeros
        const u32 other = ~kWord;
        CHECK_EQ(word_of(started[0], kData), kWord);
        CHECK_EQ(write_space(*started[0].process->space, UserAddr{kData}, &other, sizeof other), 0u);
        CHECK_EQ(word_of(started[0], kData), other);
        CHECK_EQ(word_of(started[1], kData), kWord);
        CHECK_EQ(word_of(started[1], kBase + 0x300), kWord); // the same bytes of the file, in the text
    }
    for (const Started& one : started) {
        if (one.process == nullptr) continue;
        process_kill(*one.process, WaitStatus::killed(Signal::kill));
        wait_for(one.process);
    }
}

// A segment without bytes of the file begins within a page: before it, the page is the file's, as on Linux 6.1.
SELFTEST(user, before_a_segment_of_zeros_is_the_file) {
    constexpr u8 kForever[]{0xeb, 0xfe};
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    MadeImage image = make_image(kForever);
    put_segment(image, at::second, 0x300, kBase + 0x1300, 0, 0x1000, 6);
    image.put<u32>(0x300, 0x1234'5678);
    BytesFile file{image.view()};
    const Started started = process_start({.name = "made"}, file);
    REQUIRE(started.process != nullptr);
    CHECK_EQ(word_of(started, kBase + 0x1000), 0x464c'457fu);
    for (const u32 at : {0x12fcu, 0x1300u, 0x1ffcu, 0x2000u})
        CHECK_EQ(word_of(started, kBase + at), 0u);
    process_kill(*started.process, WaitStatus::killed(Signal::kill));
    wait_for(started.process);
}

// The object of a module is one as long as it is used, whoever opens it and puts it at the same time.
SELFTEST(user, opening_a_program_at_the_same_time) {
    static const Program* program;
    program = find_program("hello");
    if (program == nullptr) SKIP(needs_program("hello"));
    warm_up_threads(4);
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    static hal::Atomic<u32> wrong;
    wrong.store(0);
    const auto open_and_put = [](void*) {
        for (u32 i = 0; i < 300; ++i) {
            MemoryObject* const one = open_program(*program);
            MemoryObject* const two = open_program(*program);
            u32 magic = 0;
            if (one != two || one == nullptr || !one->read(0, &magic, 4) || magic != 0x464c'457f) wrong.fetch_add(1);
            for (MemoryObject* const object : {one, two})
                if (object != nullptr) object->put();
        }
    };
    std::array<Thread*, 4> threads{};
    for (Thread*& thread : threads)
        thread = thread_create("opens", open_and_put, nullptr);
    for (Thread* const thread : threads)
        if (CHECK(thread != nullptr)) thread_join(thread);
    CHECK_EQ(wrong.load(), 0u);
}

SELFTEST(user, bad_files_are_refused_in_words) {
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    ElfPlan plan;
    const MadeImage good = make_image(kExit42);
    BytesFile good_file{good.view()};
    CHECK(elf_examine(good_file, plan) == nullptr);
    // Not inlined: each use has an image on its stack.
    const auto refused = [](std::string_view word, auto&& spoil) __attribute__((noinline)) {
        MadeImage image = make_image(kExit42);
        spoil(image);
        BytesFile file{image.view()};
        const Started started = process_start({.name = "bad"}, file);
        if (!CHECK(started.process == nullptr)) {
            wait_for(started.process);
        } else if (!CHECK(contains(started.problem, word))) {
            selftest::note("it says: {}", started.problem);
        }
        if (started.problem != nullptr) CHECK(!contains(started.problem, "cannot be read")); // asked beyond its end
    };
    using Image = MadeImage&;
    refused("ELF", [](Image i) { i.cut(0); });
    refused("ELF", [](Image i) { i.cut(51); });
    refused("program headers", [](Image i) { i.cut(52); });
    refused("cut off", [](Image i) { i.cut(MadeImage::kBytes - 1); });
    refused("not an ELF file", [](Image i) { i[0] = 'M'; });
    refused("32-bit", [](Image i) { i[at::klass] = 2, i.put<u16>(at::machine, 62); });
    refused("big-endian", [](Image i) { i[at::data] = 2, i.put<u16>(at::machine, 0x300); });
    refused("processor", [](Image i) { i.put<u16>(at::machine, 62); });
    refused("-no-pie", [](Image i) { i.put<u16>(at::type, 3); });
    refused("executable", [](Image i) { i.put<u16>(at::type, 1); });
    refused("size", [](Image i) { i.put<u16>(at::header_bytes, 31); });
    refused("no program headers", [](Image i) { i.put<u16>(at::header_count, 0); });
    refused("too many", [](Image i) { i.put<u16>(at::header_count, 0xffff); });
    refused("beyond", [](Image i) { i.put<u32>(at::headers, 0xffff'fff0); });
    refused("beyond", [](Image i) { i.put<u32>(at::headers, MadeImage::kBytes - 63); });
    refused("dynamically", [](Image i) { i.put<u32>(at::second, 3); });
    refused("nothing to load", [](Image i) { i.put<u32>(at::first, 0), i.put<u32>(at::second, 0); });
    refused("longer in the file", [](Image i) { i.put<u32>(at::first + at::bytes, 0x3ff); });
    refused("end of the file", [](Image i) { i.put<u32>(at::first + at::offset, 0x1000); });
    refused("end of the file", [](Image i) { i.put<u32>(at::first + at::offset, 0xffff'f000); });
    refused("end of the file", [](Image i) {
        i.put<u32>(at::first + at::file_bytes, 0xffff'ffff), i.put<u32>(at::first + at::bytes, 0xffff'ffff);
    });
    refused("null pointer", [](Image i) { i.put<u32>(at::first + at::address, 0); });
    refused("null pointer", [](Image i) { i.put<u32>(at::first + at::address, 0xf000); });
    refused("where programs cannot be", [](Image i) { i.put<u32>(at::second + at::address, 0xc000'0300); });
    refused("where programs cannot be", [](Image i) { i.put<u32>(at::second + at::address, 0xbfff'f300); });
    refused("where programs cannot be", [](Image i) { i.put<u32>(at::second + at::address, 0xffff'f300); });
    refused("where programs cannot be", [](Image i) { i.put<u32>(at::second + at::bytes, 0xb000'0000); });
    refused("where programs cannot be", [](Image i) { i.put<u32>(at::second + at::bytes, 0xffff'fd00); });
    refused("suit", [](Image i) { i.put<u32>(at::first + at::address, kBase + 1); });
    refused("overlap", [](Image i) { i.put<u32>(at::second + at::address, kBase + 0x300); });
    refused("overlap", [](Image i) { i.put<u32>(at::second + at::address, kBase - 0x10000 + 0x300); });
    refused("entry", [](Image i) { i.put<u32>(at::entry, 0); });
    refused("entry", [](Image i) { i.put<u32>(at::entry, kBase + MadeImage::kBytes); });
    refused("entry", [](Image i) { i.put<u32>(at::entry, kBase + 0x1300); }); // data
    refused("entry", [](Image i) { i.put<u32>(at::entry, 0xc010'0000); });
    refused("too many segments", [](Image i) {
        i.put<u32>(at::headers, 52), i.put<u16>(at::header_count, 17), i.put<u32>(at::entry, kBase);
        for (u32 k = 0; k < 17; ++k)
            put_segment(i, 52 + 32 * k, 0, kBase + k * 0x1000, 16, 16, 5);
    });
    // A valid file that needs more memory than the machine has.
    if (total_free_mib() < 2048) {
        MadeImage image = make_image(kExit42);
        image.put<u32>(at::second + at::bytes, 0x9000'0000);
        BytesFile file{image.view()};
        const Started started = process_start({.name = "large"}, file);
        if (CHECK(started.process != nullptr)) // the area is made; pages come with the first access
            CHECK_EQ(wait_for(started.process).value(), WaitStatus::exited(42).value());
    }
    process_wait_for_all();
}

// Fields that Linux does not read may have any value.
SELFTEST(user, fields_without_a_meaning_are_not_checked) {
    const NothingIsLeft nothing;
    const auto runs = [](const char* what, auto&& change) {
        MadeImage image = make_image(kExit42);
        change(image);
        BytesFile file{image.view()};
        const Started started = process_start({.name = "odd"}, file);
        if (!CHECK(started.process != nullptr)) {
            selftest::note("{}: {}", what, started.problem);
            return;
        }
        CHECK_EQ(wait_for(started.process).value(), WaitStatus::exited(42).value());
    };
    using Image = MadeImage&;
    runs("class", [](Image i) { i[at::klass] = 2; });
    runs("byte order", [](Image i) { i[at::data] = 2; });
    runs("versions", [](Image i) { i[at::ident_version] = 0, i.put<u32>(at::version, 7); });
    runs("OS ABI", [](Image i) { i[7] = 99, i[8] = 99; });
    runs("padding", [](Image i) { i.put<u32>(9, ~0u), i.put<u16>(13, 0xffff), i[15] = 0xff; });
    runs("80486", [](Image i) { i.put<u16>(at::machine, 6); });
    runs("flags", [](Image i) { i.put<u32>(36, ~0u); });
    runs("size of the header", [](Image i) { i.put<u16>(40, 1); });
    runs("section headers", [](Image i) { i.put<u32>(32, ~0u), i.put<u32>(46, ~0u), i.put<u16>(50, 0xffff); });
    runs("alignment", [](Image i) { i.put<u32>(at::first + 28, 3), i.put<u32>(at::second + 28, 0xffff'ffff); });
    runs("physical address", [](Image i) { i.put<u32>(at::first + 12, ~0u); });
    runs("flags of a segment", [](Image i) { i.put<u32>(at::second + at::flags, 0xffff'fff6); });
    runs("PT_DYNAMIC", [](Image i) { i.put<u32>(at::second, 2); });
    runs("PT_NOTE at nowhere", [](Image i) { i.put<u32>(at::second, 4), i.put<u32>(at::second + at::offset, ~0u); });
}

// elf(5): PT_GNU_STACK decides whether the stack is executable. A file without it is an old one: it may execute all
// pages that it may read.
SELFTEST(user, the_file_decides_about_the_stack) {
    if (!hal::cpu_features().no_execute) SKIP("two levels cannot forbid execution");
    const NothingIsLeft nothing;
    // exit_group(42) is copied to the stack, and called there.
    constexpr u8 kOnStack[]{0x83,        0xec,
                            0x20, // sub $32, %esp
                            0xbe,        (kCode + 32) & 0xff,
                            kCode >> 8,  0,
                            kBase >> 24,       // mov $code + 32, %esi
                            0x89,        0xe7, // mov %esp, %edi
                            0xb9,        sizeof kExit42,
                            0,           0,
                            0,                 // mov $12, %ecx
                            0xf3,        0xa4, // rep movsb
                            0xff,        0xd4, // call *%esp
                            0x90,        0x90,
                            0x90,        0x90,
                            0x90,        0x90,
                            0x90,        0x90,
                            0x90,        0x90,
                            0x90,        0x90,
                            0x90,        0xb8,
                            252,         0,
                            0,           0,
                            0xbb,        42,
                            0,           0,
                            0,           0xcd,
                            0x80};
    static_assert(sizeof kOnStack == 32 + sizeof kExit42);
    const auto status = [&](u32 stack_flags) {
        MadeImage image = make_image(kOnStack);
        image.put<u16>(at::header_count, stack_flags != 0 ? 3 : 2);
        image.put<u32>(at::second + 32 + at::segment_type, 0x6474'e551);
        image.put<u32>(at::second + 32 + at::flags, stack_flags);
        BytesFile file{image.view()};
        const Started started = process_start({.name = "stack"}, file);
        return CHECK(started.process != nullptr) ? wait_for(started.process).value() : 0;
    };
    CHECK_EQ(status(7), WaitStatus::exited(42).value());
    CHECK_EQ(status(6), WaitStatus::killed(Signal::segv).value());
    CHECK_EQ(status(0), WaitStatus::exited(42).value());
}

// Random files: each is refused or loaded, and all memory is freed in both cases.
SELFTEST(user, garbage_in_files_does_no_harm) {
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    selftest::Rng& rng = selftest::rng();
    const u32 rounds = selftest::full() ? 20'000 : 1500;
    u32 good = 0, beyond = 0;
    for (u32 round = 0; round < rounds; ++round) {
        MadeImage image = make_image(kExit42);
        for (u32 n = 1 + rng.below(4); n != 0; --n) {
            const u32 where = rng.below(at::second + 32);
            switch (rng.below(3)) {
            case 0:
                image[where] = static_cast<u8>(rng.next());
                break;
            case 1:
                image.put<u32>(where & ~3u, rng.next());
                break;
            default:
                image.put<u32>(where & ~3u, 0u - rng.below(0x3000));
                break;
            }
        }
        if (rng.below(8) == 0) image.cut(rng.below(MadeImage::kBytes));
        BytesFile file{image.view()};
        ElfPlan plan;
        const char* const problem = elf_examine(file, plan);
        if (problem == nullptr) {
            ++good;
            AddressSpace* space = AddressSpace::create();
            REQUIRE(space != nullptr);
            CHECK(elf_load(file, plan, *space) == nullptr);
            space->put();
        } else {
            beyond += contains(problem, "cannot be read");
        }
    }
    CHECK_EQ(beyond, 0u);
    selftest::note("{} of {} spoiled files could be loaded", good, rounds);
    // A valid file, truncated at any offset.
    if (const Program* program = find_program("hello")) {
        ModuleAsFile file{program->begin, program->bytes};
        ElfPlan whole;
        REQUIRE(elf_examine(file, whole) == nullptr);
        u32 needed = 0;
        for (u32 i = 0; i < whole.count; ++i)
            needed = std::max(needed, whole.segments[i].file_offset + whole.segments[i].file_bytes);
        u32 accepted = 0;
        for (u32 bytes = 0; bytes < needed; bytes += 1 + bytes / 64) {
            ElfPlan plan;
            ModuleAsFile cut{program->begin, bytes};
            accepted += elf_examine(cut, plan) == nullptr;
        }
        CHECK_EQ(accepted, 0u);
    }
}

SELFTEST(user, an_unknown_name_is_an_answer) {
    const Started started = process_start({.name = "nobody"});
    CHECK(started.process == nullptr && contains(started.problem, "no module"));
}

// ------------------------------------------------------------------------------------------------- the kernel's side

// A program that computes is preempted, also by a kernel that does not preempt its own threads; and it can be killed.
SELFTEST(user, programs_are_preempted) {
    if (const char* why = needs_program("spin")) SKIP(why);
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    const u32 cpus = hal::online_cpus().count();
    std::array<Process*, 12> spinning{};
    const u32 wanted = std::min<u32>(2 * cpus + 1, spinning.size());
    for (u32 i = 0; i < wanted; ++i) {
        const Started started = process_start({.name = "spin"});
        if (CHECK(started.process != nullptr)) spinning[i] = started.process;
    }
    // This thread and another program get the CPU beside all of them.
    if (find_program("hello") != nullptr) CHECK_EQ(run("hello", {}).status.value(), 0u);
    for (u32 i = 0; i < 5; ++i)
        sleep_ms(10);
    for (Process* process : spinning) {
        if (process == nullptr) continue;
        CHECK(!process->ended.done());
        process_kill(*process, WaitStatus::killed(Signal::kill));
        CHECK_EQ(wait_for(process).value(), WaitStatus::killed(Signal::kill).value());
    }
}

// A program that is killed during a long system call leaves the call soon: here, a megabyte of lines to the console.
SELFTEST(user, a_killed_program_writes_no_more) {
    const NothingIsLeft nothing;
    // writev(1, list, 1024), of 1024 times the first KiB. The list is made in the second segment.
    constexpr u8 kWrites[]{0xbf, 0,    0x20, 0,   kBase >> 24, // mov $list, %edi
                           0xb9, 0,    4,    0,   0,           // mov $1024, %ecx
                           0xb8, 0,    0,    0,   kBase >> 24, // again: mov $base, %eax
                           0xab,                               // stosl
                           0xb8, 0,    4,    0,   0,           // mov $1024, %eax
                           0xab,                               // stosl
                           0xe2, 0xf2,                         // loop again
                           0xb8, 146,  0,    0,   0,           // mov $146, %eax
                           0xbb, 1,    0,    0,   0,           // mov $1, %ebx
                           0xb9, 0,    0x20, 0,   kBase >> 24, // mov $list, %ecx
                           0xba, 0,    4,    0,   0,           // mov $1024, %edx
                           0xcd, 0x80, 0xeb, 0xfe};            // int $0x80; forever: jmp forever
    class Count final : public Sink {
      public:
        void write(std::string_view text) override { bytes.fetch_add(static_cast<u32>(text.size())); }
        hal::Atomic<u32> bytes;
    };
    Count count;
    const MadeImage image = make_image(kWrites);
    BytesFile file{image.view()};
    const Started started = process_start({.name = "writes", .watch = {.output = &count}}, file);
    REQUIRE(started.process != nullptr);
    for (u32 i = 0; i < 10'000 && count.bytes.load() == 0; ++i)
        sleep_ms(1);
    process_kill(*started.process, WaitStatus::killed(Signal::kill));
    const u32 before = count.bytes.load();
    CHECK_GT(before, 0u);
    CHECK_EQ(wait_for(started.process).value(), WaitStatus::killed(Signal::kill).value());
    CHECK_LE(count.bytes.load() - before, 1024u); // the line being written
}

// A context that returns to its program with a count or a mapping held is reported; the program is not affected.
SELFTEST(user, leaks_to_programs_are_reported) {
    if (const char* why = no_slots_for(2)) SKIP(why);
    const NothingIsLeft nothing;
    const MadeImage image = make_image(kExit42);
    BytesFile file{image.view()};
    static Page* page;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    page = pages[0];
    selftest::note("errors about a program that came back with something held are expected here");
    const auto run_with = [&](void (*at_start)(void*)) {
        const u32 before = thread_leaks();
        const Started started = process_start({.name = "made", .watch = {.at_start = at_start}}, file);
        if (!CHECK(started.process != nullptr)) return;
        CHECK_EQ(wait_for(started.process).value(), WaitStatus::exited(42).value());
        CHECK_EQ(thread_leaks(), before + 1);
    };
    run_with([](void*) { static_cast<void>(kmap_local_page(page)); });
    run_with([](void*) { preempt_disable(); });
    run_with([](void*) { pagefault_disable(); });
    // A correct return is not reported.
    const u32 before = thread_leaks();
    const Started started = process_start({.name = "made"}, file);
    REQUIRE(started.process != nullptr);
    wait_for(started.process);
    CHECK_EQ(thread_leaks(), before);
}

namespace {

constexpr Prot kReadWrite = Prot::read | Prot::write;

} // namespace

SELFTEST(user, copies_resolve_faults_where_they_may) {
    const KeepsFreeCounts counts;
    const BorrowedSpace space;
    REQUIRE(space);
    constexpr u32 kPages = 6;
    REQUIRE(space->map(VirtAddr{kBase}, kPages * kPageSize, kReadWrite, MapKind::anonymous, true));
    const UserAddr begin{kBase};
    std::array<u8, 300> out{}, in{};
    for (u32 i = 0; i < out.size(); ++i)
        out[i] = static_cast<u8>(i + 1);
    // Across the border of two pages that are not present yet.
    const UserAddr across = begin + (kPageSize - 100);
    CHECK_EQ(copy_to_user(across, out.data(), out.size()), 0u);
    CHECK_EQ(copy_from_user(in.data(), across, in.size()), 0u);
    CHECK(in == out);
    CHECK_EQ(space->stats().resident, 2u);
    // A copy ends at a page fault where no fault may be resolved: with preemption off, and with interrupts off.
    const UserAddr fresh = begin + 3 * kPageSize;
    CHECK_EQ(copy_to_user_inatomic(fresh, out.data(), 100), 100u);
    {
        const PreemptGuard guard;
        CHECK_EQ(copy_to_user_inatomic(fresh, out.data(), 100), 100u);
        CHECK_EQ(copy_from_user_inatomic(in.data(), begin + kPageSize, 100), 0u);
    }
    {
        const IrqGuard guard;
        CHECK_EQ(copy_from_user_inatomic(in.data(), fresh, 100), 100u);
        CHECK_EQ(copy_from_user_inatomic(in.data(), begin + kPageSize, 100), 0u);
        CHECK(!hal::irqs_enabled());
    }
    in_interrupt_do([&] {
        CHECK_EQ(copy_from_user_inatomic(in.data(), fresh, 100), 100u);
        CHECK_EQ(copy_from_user_inatomic(in.data(), begin + kPageSize, 100), 0u);
    });
    // The copy instructions themselves, with page faults on: the trap handler resolves the fault, and the instruction
    // continues.
    const UserAddr last = begin + (kPages - 1) * kPageSize;
    CHECK_EQ(hal::user_copy_out(VirtAddr{last.value()}, out.data(), 100), 0u);
    CHECK_EQ(hal::user_copy_in(in.data(), VirtAddr{last.value()}, 100), 0u);
    CHECK(std::equal(in.begin(), in.begin() + 100, out.begin()));
    CHECK_EQ(hal::user_copy_out(VirtAddr{last.value() + kPageSize - 52}, out.data(), 100), 48u);
    CHECK_EQ(space->stats().resident, 3u);
    CHECK(space->unmap(VirtAddr{last.value()}, kPageSize));
    // Short by the bytes after the border.
    CHECK_EQ(copy_to_user_inatomic(begin + (2 * kPageSize - 40), out.data(), 100), 60u);
    CHECK_EQ(space->stats().resident, 2u);
    CHECK_EQ(fault_in_writeable(fresh, 1), 0u);
    CHECK_EQ(copy_to_user_inatomic(fresh, out.data(), 100), 0u);
    // In atomic context the calls that may sleep panic.
    const std::string_view said = selftest::catch_panic([&] {
        const PreemptGuard guard;
        static_cast<void>(copy_to_user(begin, out.data(), 1));
    });
    CHECK(contains(said, "may sleep, called in atomic context"));
    // With a local map held, faults are resolved, and the map is unchanged afterwards.
    if (no_slots_for(1) == nullptr) {
        const Pages<1> pages;
        REQUIRE(pages.complete());
        sign(pages[0]);
        const LocalMap map{pages[0]};
        CHECK_EQ(copy_to_user(begin + 4 * kPageSize, out.data(), 8), 0u);
        CHECK(marks_hold(map.addr(), pages.pfn(0)));
    }
    CHECK_EQ(clear_user(UserAddr{0xbfff'fff0u}, 32), 32u);
    CHECK_EQ(clear_user(UserAddr{0xffff'fff0u}, 32), 32u);
}

// Only the user copies may access memory of programs: any other access is a bug and panics.
SELFTEST(user, other_touches_are_bugs) {
    const KeepsFreeCounts counts;
    const BorrowedSpace space;
    REQUIRE(space);
    REQUIRE(space->map(VirtAddr{kBase}, kPageSize, kReadWrite, MapKind::anonymous, true));
    const auto touch = [](u32 address) {
        const std::string_view said = selftest::catch_panic([&] { hal::store<u32>(VirtAddr{address}, 1); });
        return contains(said, "outside a user copy") || contains(said, "null pointer");
    };
    CHECK(touch(kBase)); // also for a page that a fault could bring in
    CHECK(touch(0x5000'0000));
    CHECK(touch(0));
    CHECK_EQ(space->stats().resident, 0u);
    // A probe reads only a page that is present and brings none in.
    u32 value = 0;
    CHECK(!probe_read32(VirtAddr{kBase}, value));
    CHECK_EQ(space->stats().resident, 0u);
    CHECK(put_user<u32>(UserAddr{kBase}, 77));
    // With SMAP it cannot read that page either.
    const bool closed = read_cr4() & cr4_bit::smap;
    CHECK_EQ(probe_read32(VirtAddr{kBase}, value), !closed);
    if (!closed) CHECK_EQ(value, 77u);
    // A fault at the kernel's address of a copy is a kernel bug: it panics and does not end the copy.
    const std::string_view said = selftest::catch_panic([&] {
        static_cast<void>(hal::user_copy_in(reinterpret_cast<void*>(layout::direct_map_end().value() + kPageSize),
                                            VirtAddr{kBase}, 4));
    });
    CHECK(contains(said, "overrun of the direct map"));
}

// Kernel threads have no address space. One that runs after a program on the same CPU keeps the program's root; the
// kernel's part of the address space is the same for it.
SELFTEST(user, kernel_threads_have_no_space) {
    CHECK(active_space() == nullptr);
    CHECK(current_process() == nullptr && !must_stop());
    char byte;
    CHECK_EQ(copy_from_user(&byte, UserAddr{kBase}, 1), 1u);
    CHECK(read_cr0() & (has_fpu() ? cr0_bit::ts : cr0_bit::em)); // and no FPU
}

// ------------------------------------------------------------------------------------------------------------- scale

namespace {

struct Peak {
    u32 tables = 0, high = 0;    // frames
    u32 low_free = 0xffff'ffff;  // KiB
    u32 high_free = 0xffff'ffff; //
};

// Runs `sparse` and samples the memory counts meanwhile.
WaitStatus run_sparse(std::string_view children, std::string_view step, Peak& peak) {
    const std::array<std::string_view, 2> arguments{children, step};
    const Started started = process_start({.name = "sparse", .arguments = arguments});
    if (!CHECK(started.process != nullptr)) return WaitStatus::exited(1);
    Patience patience{kPatienceSeconds * kSleepsPerSecond, kPatienceSeconds};
    while (!started.process->ended.done() && !patience.over()) {
        const PageTableStats stats = page_table_stats();
        if (stats.tables > peak.tables) peak.tables = stats.tables, peak.high = stats.high;
        const MemInfo info = meminfo();
        peak.low_free = std::min(peak.low_free, info.low_free);
        peak.high_free = std::min(peak.high_free, info.high_free);
        sleep_ms(10);
    }
    return wait_for(started.process, 1);
}

constexpr u32 kKiBPerFrame = kPageSize / KiB;
// Page tables of one process of `sparse`: one for each large-page range of its 2644 MiB.
constexpr u32 kSparseTables = 2644 * MiB / paging::kLargeSize;
constexpr std::string_view kStep = config::kPae ? "2" : "4";

} // namespace

// A few processes with all page tables that an address space can have, and their counts in meminfo.
SELFTEST(user, page_tables_are_counted) {
    if (const char* why = needs_program("sparse")) SKIP(why);
    constexpr u32 kChildren = 4;
    constexpr u32 kNeededMiB = (kChildren + 2) * kSparseTables * 2 / 256 + 32;
    if (total_free_mib() < kNeededMiB) SKIP("this machine has too little memory");
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    const u32 low_before = meminfo().low_free;
    Peak peak;
    CHECK_EQ(run_sparse("4", kStep, peak).value(), 0u);
    process_wait_for_all();
    selftest::note("PageTables {} kB, {} kB of it in high memory; LowFree {} kB, then {} kB",
                   peak.tables * kKiBPerFrame, peak.high * kKiBPerFrame, low_before, peak.low_free);
    CHECK_GE(peak.tables, (kChildren + 1) * kSparseTables);
    CHECK_LE(peak.tables, (kChildren + 1) * (kSparseTables + 64));
    if (!tables_may_be_high())
        CHECK_EQ(peak.high, 0u);
    else if (meminfo().high_free > kNeededMiB * 1024)
        CHECK_GE(peak.high, (kChildren + 1) * kSparseTables);
    const MemInfo after = meminfo();
    CHECK_EQ(after.page_tables, 0u);
    CHECK_EQ(after.page_tables_high, 0u);
}

// More page tables than lowmem could ever hold, on a machine with enough high memory for them.
SELFTEST(user, page_tables_beyond_lowmem) {
    if (const char* why = needs_program("sparse")) SKIP(why);
    if (!selftest::full()) SKIP("takes a while: selftest=full does it");
    // Enough for more than 1 GiB of tables: 262144 frames.
    constexpr u32 kChildren = 262'144 / kSparseTables + 4;
    BufferSink<8> children;
    format(children, "{}", kChildren);
    if (meminfo().high_free < 3 * 1024 * 1024) SKIP("needs 4 GiB of memory");
    static_cast<void>(run("forks", {}, "1", "1000")); // descriptors of threads are never freed
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    const u32 low_before = meminfo().low_free;
    Peak peak;
    const WaitStatus status = run_sparse(children.view(), kStep, peak);
    process_wait_for_all();
    selftest::note("{} children: PageTables {} kB, {} kB of it in high memory; LowFree {} kB, then {} kB", kChildren,
                   peak.tables * kKiBPerFrame, peak.high * kKiBPerFrame, low_before, peak.low_free);
    if (tables_may_be_high()) {
        CHECK_EQ(status.value(), 0u);
        CHECK_GT(u64{peak.tables} * kPageSize, GiB);
        CHECK_GT(u64{peak.high} * kPageSize, GiB);
        // Lowmem is needed only for directories and the kernel's objects of each process.
        CHECK_LE(low_before - peak.low_free, kChildren * 24 + 8 * 1024);
    } else {
        // Lowmem is too small for all of them: system calls fail or programs are killed; the kernel continues.
        CHECK_NE(status.value(), 0u);
        CHECK_EQ(peak.high, 0u);
        CHECK_GT(peak.low_free, 0u);
    }
}

// A program that uses more memory than the machine has is killed; no other program is.
SELFTEST(user, out_of_memory_ends_the_program) {
    if (const char* why = needs_program("zero")) SKIP(why);
    const u32 free = total_free_mib();
    constexpr u32 kMost = 2900; // MiB that one program can map
    if (free > (selftest::full() ? kMost - 64 : 1100u)) SKIP("there is too much memory here to use it all up");
    if (const char* why = too_long_to_take_everything()) SKIP(why);
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    // Except in a full run the kernel takes the memory first, but for a part of each zone: that is faster.
    FrameChain high, normal;
    const auto take_most = [](FrameChain& chain, ZoneId zone, Gfp gfp) {
        constexpr u32 kRest = 64 * MiB / kPageSize;
        if (const u32 frames = free_frames(zone); frames > kRest)
            chain.take(gfp, kMaxOrder, (frames - kRest) >> kMaxOrder);
    };
    if (!selftest::full()) {
        take_most(high, ZoneId::high, Gfp::high);
        take_most(normal, ZoneId::normal, Gfp::kernel);
    }
    BufferSink<8> size;
    format(size, "{}", total_free_mib() + 64);
    const std::string_view arguments[]{size.view()};
    const Started greedy = process_start({.name = "zero", .arguments = arguments});
    REQUIRE(greedy.process != nullptr);
    CHECK_EQ(wait_for(greedy.process).value(), WaitStatus::killed(Signal::kill).value());
    if (find_program("hello") != nullptr) CHECK_EQ(run("hello", {}).status.value(), 0u);
}

// ------------------------------------------------------------------------------------------------------ all together

// Programs on all CPUs, while kernel threads use all mapping calls.
SELFTEST(user, programs_beside_the_kernel) {
    if (const char* why = needs_program("cow")) SKIP(why);
    if (total_free_mib() < 128) SKIP("this machine has too little memory");
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    constexpr u32 kShared = 64;
    const Pages<kShared> pages;
    REQUIRE(pages.complete());
    for (Page* page : pages)
        sign(page, 3);
    hal::Atomic<u32> stop, wrong, maps;
    auto map_all_the_time = [&] {
        for (u32 i = 0; stop.load() == 0; ++i) {
            Page* const one = pages[i * 7 % kShared];
            Page* const two = pages[i * 13 % kShared];
            {
                const KMap pool{one};
                const LocalMap local{two};
                if (i % 16 == 0) yield();
                wrong.fetch_add(!marks_hold(pool.addr(), page_to_pfn(one), 3));
                wrong.fetch_add(!marks_hold(local.addr(), page_to_pfn(two), 3));
            }
            maps.fetch_add(2);
            if (i % 64 == 0) sleep_ms(1);
        }
    };
    constexpr u32 kMappers = config::kDebug ? 1 : 4;
    std::array<Thread*, kMappers> mapper{};
    for (Thread*& thread : mapper) {
        thread = thread_create("mapper", map_all_the_time);
        CHECK(thread != nullptr);
    }
    constexpr std::string_view kNames[]{"cow", "threads", "races", "fpu", "forks", "shared", "tls", "pipes"};
    const u32 rounds = selftest::full() ? 10 : 1;
    for (u32 round = 0; round < rounds; ++round) {
        std::array<Process*, std::size(kNames)> process{};
        for (u32 i = 0; i < std::size(kNames); ++i) {
            if (find_program(kNames[i]) == nullptr) continue;
            const Started started = process_start({.name = kNames[i]});
            if (CHECK(started.process != nullptr)) process[i] = started.process;
        }
        for (u32 i = 0; i < std::size(kNames); ++i)
            if (process[i] != nullptr && !CHECK_EQ(wait_for(process[i]).value(), 0u))
                selftest::note("this was {}", kNames[i]);
    }
    stop.store(1);
    for (Thread* thread : mapper)
        if (thread != nullptr) thread_join(thread);
    CHECK_EQ(wrong.load(), 0u);
    CHECK_GT(maps.load(), 0u);
    process_wait_for_all();
}

} // namespace loft::guest::user_test
