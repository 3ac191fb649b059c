// Files: programs read, write and map the disks through the page cache; what they have synced is on the disk.
#include "kernel/files/mounts.hpp"
#include "kernel/files/write_back.hpp"
#include "kernel/threads/sleep.hpp"
#include "mm/cache/memory_object.hpp"
#include "mm/init.hpp"
#include "tests/guest/programs.hpp"
#include "tests/guest/signed_disks.hpp"
#include "tests/guest/support.hpp"

#include <algorithm>
#include <array>

namespace loft::guest::file_test {
namespace {

// The part of a disk that the tests of files use.
constexpr u32 kFirstMib = 16, kMib = 32;
constexpr u32 kSectorsPerMib = MiB / kSectorBytes, kSectorsPerPage = kPageSize / kSectorBytes;

// Frees all pages of the cache that can be freed, so that frames can be counted.
void empty_the_cache() {
    CHECK(write_back_all());
    while (drop_pages(~0u) != 0) {
    }
}

// Runs `diskfile`, and samples what meminfo says is dirty: at most the limit, and the page that its thread has just
// stored to. The mappings of this program are small.
WaitStatus run_diskfile(std::string_view disk, u32 first_mib, u32 mibs) {
    const Decimal first{first_mib}, mib{mibs};
    const std::array<std::string_view, 3> arguments{disk, first, mib};
    const Started started = process_start({.name = "diskfile", .arguments = arguments});
    if (!CHECK(started.process != nullptr)) return WaitStatus::exited(1);
    constexpr u32 kKiBPerPage = kPageSize / KiB, kMapped = 64;
    u32 most = 0;
    Patience patience{kPatienceSeconds * kSleepsPerSecond, kPatienceSeconds};
    while (!started.process->ended.done() && !patience.over()) {
        most = std::max(most, meminfo().dirty);
        sleep_ms(1000 / kSleepsPerSecond);
    }
    selftest::note("Dirty up to {} kB, the limit is {} kB", most, dirty_page_limit() * kKiBPerPage);
    CHECK_LE(most, (dirty_page_limit() + 1 + kMapped) * kKiBPerPage);
    return wait_for(started.process, 1);
}

// tests/user/diskfile.cpp writes these words.
constexpr u32 word_at(u64 offset) { return static_cast<u32>(offset / 4) * 2654435761u + 1; }

} // namespace

SELFTEST(file, a_disk_through_the_page_cache) {
    if (const char* why = needs_program("diskfile")) SKIP(why);
    const NothingIsLeft nothing;
    empty_the_cache();
    const PageCacheStats before = page_cache_stats();
    u32 low = free_frames(ZoneId::normal) + free_frames(ZoneId::dma);
    on_each_disk([&](BlockDevice& disk, const Signature& signature) {
        if (!signature.is_reliable() || disk.sectors() < u64{kFirstMib + kMib} * kSectorsPerMib) return;
        const Decimal first{kFirstMib}, mib{kMib};
        const Outcome outcome = run("diskfile", {}, disk.name(), std::string_view{first}, std::string_view{mib});
        CHECK(outcome.started);
        CHECK_EQ(outcome.status.value(), signature.flush_error ? 1u << 8 : 0u); // its checks of fsync fail
        // All of it is on the disk, without the cache.
        const Pages<1> frame;
        REQUIRE(frame.complete());
        u32 wrong = 0;
        for (u32 at = kFirstMib * kSectorsPerMib; at < (kFirstMib + kMib) * kSectorsPerMib; at += kSectorsPerPage) {
            if (!CHECK(transfer(disk, BlockOp::read, at, frame[0]))) break;
            const LocalMap map{frame[0]};
            for (u32 word = 0; word < kPageSize / 4; ++word)
                wrong += hal::load<u32>(map.addr() + word * 4) != word_at(u64{at} * kSectorBytes + word * 4);
        }
        CHECK_EQ(wrong, 0u);
    });
    const PageCacheStats after = page_cache_stats();
    selftest::note("{} pages read, {} written, {} in memory", after.filled - before.filled,
                   after.stored - before.stored, after.pages);
    if (no_highmem_for(2 * after.pages) == nullptr) // the index, too, lies in high memory
        CHECK_LE(low - (free_frames(ZoneId::normal) + free_frames(ZoneId::dma)), 64u);
    empty_the_cache();
    CHECK_EQ(page_cache_stats().pages, 0u);
    CHECK_EQ(page_cache_stats().dirty, 0u);
}

// A program writes and reads twice as much as there is high memory: pages are written, dropped and read again, and the
// cache takes no lowmem.
SELFTEST(file, a_file_larger_than_high_memory) {
    if (const char* why = needs_program("diskfile")) SKIP(why);
    if (const char* why = no_highmem_for(1)) SKIP(why);
    const NothingIsLeft nothing;
    empty_the_cache();
    const u32 high = free_frames(ZoneId::high), low = free_frames(ZoneId::normal) + free_frames(ZoneId::dma);
    const u32 mibs = 2 * (high >> (20 - kPageShift)) + 1, limit = dirty_page_limit();
    u32 used = 0;
    each_disk([&](BlockDevice& disk, const Signature& signature) {
        if (!signature.is_reliable() || signature.flush_error ||
            disk.sectors() < u64{kFirstMib + mibs} * kSectorsPerMib)
            return;
        ++used;
        const PageCacheStats before = page_cache_stats();
        set_dirty_page_limit(high / 4); // else reclaim alone would limit them: the cache gets high memory first
        CHECK_EQ(run_diskfile(disk.name(), kFirstMib, mibs).value(), 0u);
        set_dirty_page_limit(limit);
        const PageCacheStats after = page_cache_stats();
        const u32 high_left = free_frames(ZoneId::high);
        const u32 low_left = free_frames(ZoneId::normal) + free_frames(ZoneId::dma);
        selftest::note("{}: {} MiB; {} pages read, {} written, {} dropped, {} in memory", disk.name(), mibs,
                       after.filled - before.filled, after.stored - before.stored, after.dropped - before.dropped,
                       after.pages);
        selftest::note("HighFree {} -> {}, LowFree {} -> {} pages", high, high_left, low, low_left);
        CHECK_GE(after.dropped - before.dropped, high);
        CHECK_LE(high_left, high / 4); // the cache has the rest
        CHECK_LE(low, low_left + 64);
    });
    if (used == 0) SKIP("no disk of twice the size of high memory");
    empty_the_cache();
    CHECK_EQ(page_cache_stats().pages, 0u);
}

// A file on the first mounted disk, in two steps: its pages are in high memory, and lowmem does not pay for them. The
// file has three quarters of the disk, at most kMostMib; on a large disk it is larger than lowmem.
SELFTEST(file, a_large_file_on_a_mounted_disk) {
    constexpr u32 kMostMib = 1280, kPagesPerMib = MiB / kPageSize;
    if (const char* why = needs_program("bigfile")) SKIP(why);
    if (mounted_disks().empty()) SKIP("no disk is mounted (mount=)");
    const MountedDisk& disk = mounted_disks()[0];
    const FileSystemStat space = disk.system->stat();
    const u32 mib =
        std::min(kMostMib, static_cast<u32>(u64{space.free_blocks} * space.block_bytes / MiB * 3 / 4)) & ~1u;
    if (const char* why = no_highmem_for(mib * kPagesPerMib * 5 / 4)) SKIP(why);
    const NothingIsLeft nothing;
    empty_the_cache();
    std::array<char, 64> text;
    constexpr std::string_view kName = "/big";
    REQUIRE(disk.path.size() + kName.size() <= text.size());
    const std::string_view name{text.data(), disk.path.size() + kName.size()};
    std::copy(kName.begin(), kName.end(), std::copy(disk.path.begin(), disk.path.end(), text.begin()));
    const auto file = [&](std::string_view what, u32 first, u32 count) {
        const Decimal from{first}, size{count};
        const Outcome outcome = run("bigfile", {}, what, name, std::string_view{from}, std::string_view{size});
        CHECK_EQ(outcome.status.value(), 0u);
        process_wait_for_all();
        drain_all_cpus();
    };
    struct Memory {
        u32 high = free_frames(ZoneId::high), low = free_frames(ZoneId::normal) + free_frames(ZoneId::dma);
        u32 cached = page_cache_stats().pages;
    };
    const Memory before;
    file("write", 0, mib / 2);
    const Memory half;
    file("write", mib / 2, mib / 2);
    const Memory whole;
    const u32 filled = page_cache_stats().filled;
    file("check", 0, mib);
    CHECK_LE(page_cache_stats().filled - filled, 64u); // it is in memory
    const auto line = [](const char* when, const Memory& now) {
        selftest::note("{}: HighFree {} kB, LowFree {} kB, {} pages in the cache", when, now.high * (kPageSize / KiB),
                       now.low * (kPageSize / KiB), now.cached);
    };
    line("before", before);
    line("half of the file", half);
    line("the file", whole);
    const u32 pages = whole.cached - before.cached;
    const u32 used = before.low - std::min(before.low, whole.low), more = half.low - std::min(half.low, whole.low);
    selftest::note("{} MiB; lowmem per page of the cache: {} thousandths of a byte; of the second half {}", mib,
                   u64{used} * kPageSize * 1000 / pages, u64{more} * kPageSize * 1000 / (whole.cached - half.cached));
    CHECK_GE(pages, mib * kPagesPerMib);
    CHECK_GE(before.high - whole.high, pages);
    CHECK_LE(used, 64u);
    CHECK_LE(more, 8u);
    // From the disk again.
    empty_the_cache();
    CHECK_LE(page_cache_stats().pages, 64u);
    file("check", 0, mib);
    CHECK_GE(page_cache_stats().filled - filled, mib * kPagesPerMib);
    CHECK_EQ(run("bigfile", {}, "remove", name).status.value(), 0u);
    process_wait_for_all();
    CHECK(!is_error(file_tree().sync()));
    CHECK_EQ(disk.system->stat().free_blocks, space.free_blocks);
    selftest::note("{}: {} MiB were written, and read again from the disk", disk.path, mib);
}

} // namespace loft::guest::file_test
