// A file as a swap area.
//     swapfile PATH MIB      makes it, and swaps on; what must not be done to it from there on fails
//     swapfile PATH 0        swaps off, and removes it
// The errors are those of Linux 6.1 (mm/swapfile.c, fs/namei.c, mm/mmap.c).
#include "tests/user/user.hpp"

namespace {

constexpr u32 kMiB = 1u << 20, kChunk = 64 * 1024;
constexpr u32 kReadWrite = 2, kCreate = 0100, kTruncate = 01000;
constexpr int kEbusy = 16, kEtxtbsy = 26;
u8 buffer[kChunk];

void put(u32 offset, u32 word) { __builtin_memcpy(buffer + offset, &word, sizeof word); }
int swapon(const char* path) { return sys::call(87, sys::word(path), 0); }

void make(const char* path, u32 mib) {
    const int file = sys::call(5, sys::word(path), kReadWrite | kCreate | kTruncate, 0600);
    REQUIRE(file >= 0);
    const u32 to = static_cast<u32>(file);
    CHECK_EQ(swapon(path), -kEinval); // it is empty
    CHECK_EQ(sys::call(93, to, mib * kMiB), 0);
    CHECK_EQ(swapon(path), -kEinval); // it is a hole
    // mkswap(8)
    put(1024, 1);
    put(1028, mib * kMiB / kPage - 1);
    __builtin_memcpy(buffer + kPage - 10, "SWAPSPACE2", 10);
    for (u32 chunk = 0; chunk < mib * kMiB / kChunk; ++chunk) {
        REQUIRE(sys::write(to, buffer, kChunk) == static_cast<int>(kChunk));
        if (chunk == 0) __builtin_memset(buffer, 0, kPage);
        if (chunk == 0) CHECK_EQ(swapon(path), -kEinval); // it has holes
    }
    CHECK_EQ(swapon(path), 0);
    CHECK_EQ(swapon(path), -kEbusy);
    CHECK_EQ(sys::write(to, buffer, 1), -kEtxtbsy);
    CHECK_EQ(sys::call(93, to, kPage), -kEtxtbsy); // ftruncate
    CHECK_EQ(sys::call(5, sys::word(path), kReadWrite | kTruncate, 0), -kEtxtbsy);
    CHECK_EQ(sys::call6(192, 0, kPage, sys::kRead | sys::kWrite, sys::kShared, to, 0), -kEtxtbsy);
    CHECK_EQ(sys::call(10, sys::word(path)), -kEperm); // unlink
    CHECK_EQ(sys::close(to), 0);
}

} // namespace

int main(int argc, char** argv) {
    REQUIRE(argc == 3);
    if (const u32 mib = number_of(argv[2]); mib != 0) {
        make(argv[1], mib);
    } else {
        CHECK_EQ(sys::call(115, sys::word(argv[1])), 0); // swapoff
        CHECK_EQ(sys::call(115, sys::word(argv[1])), -kEinval);
        CHECK_EQ(sys::call(10, sys::word(argv[1])), 0);
    }
    Line{} << "swapfile: " << argv[1];
    return 0;
}
