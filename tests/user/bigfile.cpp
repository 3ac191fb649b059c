// A large file by its path.
//     bigfile write PATH FIRST MIB    writes MIB MiB from MiB FIRST on, and makes them durable
//     bigfile check PATH FIRST MIB    compares every word of them, by pread and by a mapping
//     bigfile remove PATH
// Word i of the file is i * 2654435761 + 1, so a page in the wrong place is seen.
#include "tests/user/user.hpp"

namespace {

constexpr u32 kMiB = 1u << 20, kReadWrite = 2, kCreate = 0100;
constexpr u32 word_at(u64 offset) { return static_cast<u32>(offset / 4) * 2654435761u + 1; }

using sys::word;
int transfer(u32 number, u32 file, void* at, u32 bytes, u64 offset) {
    return sys::call(number, file, word(at), bytes, static_cast<u32>(offset), static_cast<u32>(offset >> 32));
}
constexpr u32 kPread = 180, kPwrite = 181, kFsync = 118, kUnlink = 10, kOpen = 5, kMmap = 192;

bool holds(const u32* words, u64 offset) {
    for (u32 i = 0; i < kMiB / 4; ++i)
        if (words[i] != word_at(offset + i * 4)) {
            Line{} << "word " << i << " of MiB " << static_cast<u32>(offset / kMiB) << " is " << words[i] << ", not "
                   << word_at(offset + i * 4);
            return false;
        }
    return true;
}

} // namespace

int main(int argc, char** argv) {
    REQUIRE(argc >= 3);
    const char* const path = argv[2];
    if (argv[1][0] == 'r') {
        CHECK_EQ(sys::call(kUnlink, word(path)), 0);
        return 0;
    }
    REQUIRE(argc == 5);
    const bool writes = argv[1][0] == 'w';
    const int opened = sys::call(kOpen, word(path), kReadWrite | (writes ? kCreate : 0), 0644);
    REQUIRE(opened >= 0);
    const u32 file = static_cast<u32>(opened), first = number_of(argv[3]), mib = number_of(argv[4]);
    auto* const buffer = reinterpret_cast<u32*>(new_memory(kMiB));
    for (u32 i = first; i < first + mib; ++i) {
        const u64 offset = u64{i} * kMiB;
        if (writes) {
            for (u32 at = 0; at < kMiB / 4; ++at)
                buffer[at] = word_at(offset + at * 4);
            REQUIRE(transfer(kPwrite, file, buffer, kMiB, offset) == int{kMiB});
            continue;
        }
        REQUIRE(transfer(kPread, file, buffer, kMiB, offset) == int{kMiB});
        REQUIRE(holds(buffer, offset));
        if (i % 16 != 0) continue; // some of it as a mapping
        void* const mapped = reinterpret_cast<void*>(
            sys::call6(kMmap, 0, kMiB, sys::kRead, sys::kShared, file, static_cast<u32>(offset / kPage)));
        REQUIRE(!sys::failed(mapped));
        REQUIRE(holds(static_cast<u32*>(mapped), offset));
        CHECK_EQ(sys::munmap(mapped, kMiB), 0);
    }
    if (writes) CHECK_EQ(sys::call(kFsync, file), 0);
    return 0;
}
