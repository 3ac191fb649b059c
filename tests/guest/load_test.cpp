// Mixed load: programs work on files and on more private memory than the machine has, while swap is about half full,
// and while it is full. tests/user/mixed.cpp checks every word that it reads; this test checks that nobody was killed,
// that nothing is left behind, and how full the swap areas were.
//
// Needs swap= and mount=. load=SECONDS sets the duration of each of the two; seed= the operations.
#include "kernel/boot/cmdline.hpp"
#include "kernel/files/mounts.hpp"
#include "mm/cache/swap_area.hpp"
#include "tests/guest/programs.hpp"

#include <algorithm>

namespace loft::guest::load_test {
namespace {

constexpr u32 kPagesPerMib = MiB / kPageSize;
constexpr u32 kUsualSeconds = 10; // of each part, without load=
constexpr u32 kFiles = 20;        // in each directory
// What the other processes and files in memory have, about, in MiB: private pages of 12 threads, a tmpfs of 20 files
// with a quarter of a MiB in the mean, page tables.
constexpr u32 kOthersMib = 20;

u32 all_free() { return free_frames(ZoneId::dma) + free_frames(ZoneId::normal) + free_frames(ZoneId::high); }

// How full swap was, seen every few milliseconds since programs had filled `enough` slots for the first time.
struct Fill {
    u32 enough = 0;
    u32 looks = 0, full = 0; // full: less than a twentieth was free
    u32 most = 0;            // slots in use
    u64 sum = 0;

    void look() {
        const SwapStats now = swap_stats();
        const u32 used = now.slots - now.free;
        if (looks == 0 && used < enough) return;
        ++looks;
        sum += used;
        most = std::max(most, used);
        full += now.free < now.slots / 20;
    }
    u32 mean_percent() const { return static_cast<u32>(sum * 100 / (u64{std::max(looks, 1u)} * swap_stats().slots)); }
    u32 full_percent() const { return full * 100 / std::max(looks, 1u); }
};

// Free blocks and inodes, when all is on the disk.
FileSystemStat space_of(const MountedDisk& disk) {
    CHECK(!is_error(file_tree().sync()));
    return disk.system->stat();
}

const char* needs_load() {
    if (const char* why = needs_program("mixed")) return why;
    if (swap_stats().slots == 0) return "this machine has no swap area (swap=)";
    if (mounted_disks().empty()) return "no disk is mounted (mount=)";
    if (all_free() / kPagesPerMib > 1024) return "it takes long to fill this machine's memory";
    return nullptr;
}

// The root of a file system stays in memory after its first use.
void use_roots() {
    for (const MountedDisk& disk : mounted_disks()) {
        Path path{file_tree(), nullptr};
        REQUIRE(path.text() != nullptr && disk.path.size() < kMostPath);
        *std::copy(disk.path.begin(), disk.path.end(), path.text()) = '\0';
        if (CHECK(!is_error(path.walk(Path::Stop::follow)))) FileSystem::release(path.take());
    }
}

// `mib`: private memory of the large process.
void run_mixed(u32 mib, Fill& fill) {
    const u32 seconds = options().load == 0 ? kUsualSeconds : options().load;
    const MountedDisk& first = mounted_disks().front();
    const MountedDisk& last = mounted_disks().back();
    const FileSystemStat before[]{space_of(first), space_of(last)};
    const SwapStats swap = swap_stats();
    const PageCacheStats cache = page_cache_stats();
    const Decimal seed{static_cast<u32>(options().seed)}, time{seconds}, size{mib}, files{kFiles};
    const std::string_view arguments[]{seed, time, size, files, "/.", first.path, last.path};
    const Started started =
        process_start({.name = "mixed", .arguments = {arguments, mounted_disks().size() == 1 ? 6u : 7u}});
    if (!CHECK(started.process != nullptr)) return;
    const u32 most = 2 * seconds + 4 * kPatienceSeconds;
    for (Patience patience{most * kSleepsPerSecond, most}; !started.process->ended.done() && !patience.over();) {
        fill.look();
        sleep_ms(10);
    }
    CHECK_EQ(wait_for(started.process, 1).value(), 0u);
    process_wait_for_all();
    const SwapStats now = swap_stats();
    const PageCacheStats then = page_cache_stats();
    selftest::note("{} MiB in one process; {} slots: {} % used in the mean, {} at most; full in {} % of the time", mib,
                   now.slots, fill.mean_percent(), fill.most, fill.full_percent());
    selftest::note("{} pages read, {} written, {} dropped; of them from and to swap {}, {}", then.filled - cache.filled,
                   then.stored - cache.stored, then.dropped - cache.dropped, now.in - swap.in, now.out - swap.out);
    CHECK_EQ(now.free, now.slots);
    const FileSystemStat after[]{space_of(first), space_of(last)};
    for (u32 i = 0; i < 2; ++i) {
        CHECK_EQ(after[i].free_blocks, before[i].free_blocks);
        CHECK_EQ(after[i].free_inodes, before[i].free_inodes);
    }
}

} // namespace

// Programs have as much as half of swap and three fifths of memory; the other pages in memory are those of files.
SELFTEST(load, swap_is_half_full) {
    if (const char* why = needs_load()) SKIP(why);
    const NothingIsLeft nothing;
    use_roots();
    const KeepsFreeCounts counts;
    Fill fill{.enough = swap_stats().slots / 4};
    run_mixed((all_free() / 5 * 3 + swap_stats().slots / 2) / kPagesPerMib - kOthersMib, fill);
    CHECK_GE(fill.looks, 1u);
    CHECK_GE(fill.mean_percent(), 20u);
    CHECK_LE(fill.mean_percent(), 85u);
    CHECK_LE(fill.full_percent(), 10u);
}

// Programs have as much as swap and memory together, but for what files need: most pages in memory cannot leave it.
SELFTEST(load, swap_is_full) {
    if (const char* why = needs_load()) SKIP(why);
    const NothingIsLeft nothing;
    use_roots();
    const KeepsFreeCounts counts;
    Fill fill{.enough = swap_stats().slots / 20 * 19};
    run_mixed((all_free() + swap_stats().slots) / kPagesPerMib - 2 * kOthersMib, fill);
    CHECK_GE(fill.looks, 1u);
    CHECK_GE(fill.full_percent(), 50u);
}

} // namespace loft::guest::load_test
