// Files: programs read, write and map the disks through the page cache; what they have synced is on the disk.
#include "mm/cache/memory_object.hpp"
#include "tests/guest/programs.hpp"
#include "tests/guest/signed_disks.hpp"
#include "tests/guest/support.hpp"

namespace loft::guest {
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
    const u32 mibs = 2 * (high >> (20 - kPageShift)) + 1;
    u32 used = 0;
    each_disk([&](BlockDevice& disk, const Signature& signature) {
        if (!signature.is_reliable() || signature.flush_error ||
            disk.sectors() < u64{kFirstMib + mibs} * kSectorsPerMib)
            return;
        ++used;
        const PageCacheStats before = page_cache_stats();
        const Decimal first{kFirstMib}, mib{mibs};
        const Outcome outcome = run("diskfile", {}, disk.name(), std::string_view{first}, std::string_view{mib});
        CHECK(outcome.started);
        CHECK_EQ(outcome.status.value(), 0u);
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

} // namespace loft::guest
