// Swap: programs have more memory than the machine; what they have is on a disk, and comes back.
#include "arch/i386/isa/control.hpp"
#include "kernel/devices/disks.hpp"
#include "kernel/files/mounts.hpp"
#include "kernel/files/swap.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/cache/swap_area.hpp"
#include "mm/reclaim/balance.hpp"
#include "tests/guest/programs.hpp"
#include "tests/guest/signed_disks.hpp"

#include <array>

namespace loft::guest::swap_test {
namespace {

// Takes swap areas away again at its end.
class SwapOn : NotCopyable<SwapOn> {
  public:
    SwapOn() {
        each_disk([this](BlockDevice& disk, const Signature& signature) {
            if (signature.swap && CHECK(swap_on(disk))) ++areas;
        });
    }
    ~SwapOn() {
        each_disk([](BlockDevice& disk, const Signature& signature) {
            if (signature.swap) CHECK(swap_off(disk));
        });
        CHECK_EQ(swap_stats().slots, 0u);
        while (*write_back_one()) {
        }
    }
    u32 areas = 0;
};

u32 all_free() { return free_frames(ZoneId::dma) + free_frames(ZoneId::normal) + free_frames(ZoneId::high); }

constexpr const char* kNoSwap = "this machine has no disk for swap";

} // namespace

SELFTEST(swap, a_program_larger_than_memory) {
    if (const char* why = needs_program("swapper")) SKIP(why);
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    const SwapOn swap;
    if (swap.areas == 0) SKIP(kNoSwap);
    const u32 memory = all_free() >> (20 - kPageShift), mib = memory + memory / 4;
    const u32 slots = swap_stats().free;
    if (slots >> (20 - kPageShift) < 2 * mib) SKIP("too little swap");
    const PageCacheStats before = page_cache_stats();
    const BalanceStats thread = balance_stats();
    const Decimal text{mib};
    const Outcome outcome = run("swapper", {}, std::string_view{text});
    CHECK(outcome.started);
    CHECK_EQ(outcome.status.value(), 0u);
    const PageCacheStats after = page_cache_stats();
    selftest::note("{} MiB of {} MiB; {} pages read, {} written", mib, memory, after.filled - before.filled,
                   after.stored - before.stored);
    const u32 by_thread = balance_stats().freed - thread.freed;
    selftest::note("the reclaim thread was woken {} times and has freed {} frames",
                   balance_stats().wakes - thread.wakes, by_thread);
    CHECK(by_thread != 0);
    CHECK_EQ(swap_stats().free, slots);
    CHECK_GE(after.stored - before.stored, memory << (20 - kPageShift) >> 2);
}

// A file in memory and shared memory that are larger than memory together.
SELFTEST(swap, shared_memory_larger_than_memory) {
    if (const char* why = needs_program("swapshared")) SKIP(why);
    const auto run_with = [](u32 file_mib, u32 memory_mib) {
        const Decimal file{file_mib}, memory{memory_mib};
        const Outcome outcome = run("swapshared", {}, "/shared", std::string_view{file}, std::string_view{memory});
        CHECK(outcome.started);
        CHECK_EQ(outcome.status.value(), 0u);
    };
    run_with(1, 1); // the file system keeps a frame from here on
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    const SwapOn swap;
    if (swap.areas == 0) SKIP(kNoSwap);
    const u32 memory = all_free() >> (20 - kPageShift);
    const u32 slots = swap_stats().free;
    if (slots >> (20 - kPageShift) < 2 * memory) SKIP("too little swap");
    const SwapStats before = swap_stats();
    run_with(memory / 3, memory);
    selftest::note("{} MiB of {} MiB; {} pages read, {} written", memory + memory / 3, memory,
                   swap_stats().in - before.in, swap_stats().out - before.out);
    CHECK_GE(swap_stats().out - before.out, memory << (20 - kPageShift) >> 2);
    run_with(1, 1); // frees the file, if the hand of a clock has had it when its name went
    CHECK_EQ(swap_stats().free, slots);
}

// swapoff while the pages of a program are on the disk: they come back.
SELFTEST(swap, a_disk_is_given_back) {
    if (const char* why = needs_program("swapper")) SKIP(why);
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    u32 areas = 0;
    {
        const SwapOn swap;
        areas = swap.areas;
        if (areas == 0) SKIP(kNoSwap);
        const Outcome outcome = run("swapper", {}, "4");
        CHECK_EQ(outcome.status.value(), 0u);
    }
}

// The names of the disks are /dev/NAME.
SELFTEST(swap, a_disk_is_not_written_by_its_name) {
    if (const char* why = needs_program("swapfile")) SKIP(why);
    u32 areas = 0;
    each_disk([&areas](BlockDevice& disk, const Signature& signature) {
        if (!signature.swap) return;
        ++areas;
        std::array<char, 32> path{"/dev/"};
        std::string_view{disk.name()}.copy(path.data() + 5, path.size() - 6);
        CHECK_EQ(run("swapfile", {}, path.data()).status.value(), 0u);
    });
    if (areas == 0) SKIP(kNoSwap);
}

// A file on the disk that is mounted at /mnt.
SELFTEST(swap, a_file_takes_pages) {
    for (const char* name : {"swapper", "swapfile"})
        if (const char* why = needs_program(name)) SKIP(why);
    const BlockDevice* const disk = find_disk("vda");
    if (disk == nullptr || !is_mounted(*disk)) SKIP("no disk is mounted");
    constexpr std::string_view kPath = "/mnt/swap";
    for (const char* mib : {"1", "0"}) // the file system keeps a frame from here on
        CHECK_EQ(run("swapfile", {}, kPath, mib).status.value(), 0u);
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    const u32 memory = all_free() >> (20 - kPageShift);
    CHECK_EQ(run("swapfile", {}, kPath, std::string_view{Decimal{memory + memory / 2}}).status.value(), 0u);
    const SwapStats before = swap_stats();
    CHECK_GE(before.free, memory << (20 - kPageShift));
    CHECK_EQ(run("swapper", {}, std::string_view{Decimal{memory + memory / 4}}).status.value(), 0u);
    selftest::note("{} pages of {} MiB read, {} written", swap_stats().in - before.in, memory,
                   swap_stats().out - before.out);
    CHECK_GE(swap_stats().out - before.out, memory << (20 - kPageShift) >> 2);
    CHECK_EQ(run("swapfile", {}, kPath, "0").status.value(), 0u);
    CHECK_EQ(swap_stats().slots, 0u);
}

// No frame can be freed: the thread tries after 100 ms, 200 ms, and so on.
SELFTEST(swap, the_reclaim_thread_rests) {
    if (all_free() >> (20 - kPageShift) > 512) SKIP("it takes long to fill this machine's memory");
    for (const ZoneId zone : {ZoneId::dma, ZoneId::normal, ZoneId::high})
        if (const u32 managed = zone_info(zone).managed; managed != 0 && managed < 1024)
            SKIP("a zone is too small for marks");
    const KeepsFreeCounts counts;
    const AllFrames taken{Gfp::user};
    CHECK(zones_below_low() == ZoneSet::every());
    const auto vain = [before = balance_stats().vain] { return balance_stats().vain - before; };
    for (u32 waited = 0; vain() == 0 && waited < 60'000; waited += 100)
        sleep_ms(100); // it may still rest from an earlier test
    CHECK_GE(vain(), 1u);
    sleep_ms(5000);
    CHECK_LE(vain(), 8u);
}

// What the clock costs that has to pass all spaces before a shared page is free: 100 of them share all of their pages.
// With icount=0 a tick of the TSC is an instruction (tests/guest/matrix.cfg, swap-clock).
SELFTEST(swap, the_clock_over_spaces_that_share_all_pages) {
    constexpr u32 kSpaces = 100, kPages = 1024;
    // So that the reclaim thread has no work, which would take some of the pages.
    if (all_free() < 24 * kPages) SKIP("too little memory");
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    const SwapOn swap;
    if (swap.areas == 0) SKIP(kNoSwap);
    constexpr VirtAddr kBegin{u32{0x1000'0000}};
    std::array<AddressSpace*, kSpaces> space{AddressSpace::create()};
    REQUIRE(space[0] != nullptr);
    CHECK(space[0]->map(kBegin, kPages * kPageSize, Prot::read | Prot::write, MapKind::anonymous, true));
    for (u32 page = 0; page < kPages; ++page)
        CHECK(space[0]->handle_fault(kBegin + page * kPageSize, FaultAccess::write) == FaultResult::resolved);
    u32 made = 1;
    for (; made < kSpaces; ++made) {
        const Result<AddressSpace*> child = space[0]->fork();
        if (!CHECK(child)) break;
        space[made] = *child;
    }
    const u32 used = swap_stats().slots - swap_stats().free;
    const u64 begin = read_tsc();
    const u32 out = swap_out_pages(kPages);
    const u64 ticks = read_tsc() - begin;
    CHECK_EQ(out, kPages);
    CHECK_EQ(swap_stats().slots - swap_stats().free - used, kPages); // one slot for all of them
    selftest::note("{} pages in {} spaces: {} ticks for each page that is free then, {} for each of its entries",
                   kPages, made, ticks / kPages, ticks / (u64{kPages} * made));
    for (u32 i = 0; i < made; ++i)
        space[i]->put();
}

// Memory is full and goes to the disk while 200 senders wait, and while a file is copied onto itself.
SELFTEST(swap, files_beside_it) {
    if (const char* why = needs_program("senders")) SKIP(why);
    if (const char* why = needs_program("selfcopy")) SKIP(why);
    const NothingIsLeft nothing;
    const SwapOn swap;
    if (swap.areas == 0) SKIP(kNoSwap);
    const u32 memory = all_free() >> (20 - kPageShift), mib = memory + memory / 8;
    if (swap_stats().free >> (20 - kPageShift) < 2 * mib) SKIP("too little swap");
    const Decimal text{mib};
    const auto work_in = [&](std::string_view path) {
        for (const std::string_view program : {"senders", "selfcopy"}) {
            const u32 before = page_cache_stats().stored;
            const Outcome outcome = run(program, {}, path, std::string_view{text});
            CHECK(outcome.started);
            CHECK_EQ(outcome.status.value(), 0u);
            const u32 stored = page_cache_stats().stored - before;
            selftest::note("{} in {}, beside {} MiB of memory: {} pages written", program, path, mib, stored);
            CHECK_GE(stored, memory << (20 - kPageShift) >> 4); // half of what did not fit
        }
    };
    work_in("/");
    for (const MountedDisk& one : mounted_disks())
        work_in(one.path);
}

// No swap: a program takes all memory, and is killed when another one wants some.
SELFTEST(swap, the_largest_program_is_killed) {
    if (const char* why = needs_program("hungry")) SKIP(why);
    if (all_free() >> (20 - kPageShift) > 512) SKIP("it takes long to fill this machine's memory");
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    const Outcome outcome = run("hungry", {});
    CHECK(outcome.started);
    CHECK_EQ(outcome.status.value(), 0u);
}

} // namespace loft::guest::swap_test
