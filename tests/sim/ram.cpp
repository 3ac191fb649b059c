// Mapping the simulated memory. Contract: ram.hpp.
#include "tests/sim/ram.hpp"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace loft::sim {
namespace {

constexpr u64 kJunkBlock = 16 * MiB; // 4096 mappings of it make 64 GiB

[[noreturn]] void die(const char* what) {
    std::perror(what);
    std::abort();
}

void map_at(std::uintptr_t at, u64 bytes, int protection, int flags, int file) {
    void* got =
        mmap(reinterpret_cast<void*>(at), bytes, protection, flags | MAP_NORESERVE | MAP_FIXED_NOREPLACE, file, 0);
    if (got != reinterpret_cast<void*>(at)) die("simulated RAM: mmap");
}

std::vector<u64> make_junk() {
    std::vector<u64> junk(kJunkBlock / sizeof(u64));
    u64 state = 0x6c6f'6674;
    for (u64& word : junk) { // splitmix64
        u64 z = state += 0x9e37'79b9'7f4a'7c15;
        z = (z ^ z >> 30) * 0xbf58'476d'1ce4'e5b9;
        z = (z ^ z >> 27) * 0x94d0'49bb'1331'11eb;
        word = z ^ z >> 31;
    }
    return junk;
}
const std::vector<u64>& junk_block() {
    static const std::vector<u64> junk = make_junk();
    return junk;
}

int junk_file() {
    const int file = memfd_create("loft-junk", 0);
    if (file < 0) die("simulated RAM: memfd_create");
    if (write(file, junk_block().data(), kJunkBlock) != static_cast<ssize_t>(kJunkBlock)) die("simulated RAM: write");
    return file;
}

void map_everything() {
    const int file = junk_file();
    for (u64 at = 0; at < kRamLimit; at += kJunkBlock)
        map_at(kRamBase + at, kJunkBlock, PROT_READ | PROT_WRITE, MAP_PRIVATE, file);
    close(file);
    map_at(kWindowBase, 4 * GiB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    map_at(kFrameStateBase, kFrameLimit, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

} // namespace

bool ram_is_junk(u32 pfn) {
    const u64 at = u64{pfn} << kPageShift;
    const u8* const junk = reinterpret_cast<const u8*>(junk_block().data());
    return std::memcmp(ram_at(at), junk + at % kJunkBlock, kPageSize) == 0;
}

void ram_make_junk(u32 pfn) {
    const u64 at = u64{pfn} << kPageShift;
    std::memcpy(ram_at(at), reinterpret_cast<const u8*>(junk_block().data()) + at % kJunkBlock, kPageSize);
}

void ram_reset() {
    static bool mapped = false;
    if (!mapped) {
        map_everything();
        mapped = true;
        return;
    }
    // Drops private pages that were written; the next access finds junk (or zero states) again.
    if (madvise(reinterpret_cast<void*>(kRamBase), kRamLimit, MADV_DONTNEED) != 0) die("simulated RAM: madvise");
    if (madvise(reinterpret_cast<void*>(kFrameStateBase), kFrameLimit, MADV_DONTNEED) != 0) die("madvise");
}

} // namespace loft::sim
