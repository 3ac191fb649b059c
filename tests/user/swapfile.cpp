// A file as a swap area.
//     swapfile PATH MIB      makes it, and swaps on; what must not be done to it from there on fails
//     swapfile PATH 0        swaps off, and removes it
//     swapfile PATH          a disk with a header of mkswap: swaps on, and off again
// The errors are those of Linux 6.1 (mm/swapfile.c, fs/namei.c, mm/mmap.c).
#include "tests/user/user.hpp"

namespace {

constexpr u32 kMiB = 1u << 20, kChunk = 64 * 1024;
constexpr u32 kReadWrite = 2, kCreate = 0100, kTruncate = 01000;
constexpr int kEbusy = 16, kEtxtbsy = 26;
u8 buffer[kChunk];

void put(u32 offset, u32 word) { __builtin_memcpy(buffer + offset, &word, sizeof word); }
int swapon(const char* path) { return sys::call(87, sys::word(path), 0); }
int swapoff(const char* path) { return sys::call(115, sys::word(path)); }

constexpr u32 kReadAndWrite = sys::kRead | sys::kWrite;
void* map_shared(u32 file, u32 prot) {
    return reinterpret_cast<void*>(sys::call6(192, 0, kPage, prot, sys::kShared, file, 0));
}

// Swaps on while the file is mapped. A store through a mapping ends its program then: as a page that it could write
// before, and as one of a mapping that gets the right to write afterwards.
void swap_on_mapped(const char* path, u32 file) {
    void* const writable = map_shared(file, kReadAndWrite);
    void* const readable = map_shared(file, sys::kRead);
    REQUIRE(!sys::failed(writable) && !sys::failed(readable));
    auto* const word = static_cast<volatile u32*>(writable);
    *word = *word;
    CHECK_EQ(swapon(path), 0);
    CHECK_EQ(swapon(path), -kEbusy);
    CHECK_EQ(sys::mprotect(readable, kPage, kReadAndWrite), 0);
    void* const both[] = {writable, readable};
    for (void* const at : both)
        CHECK_EQ(in_child([at] { *static_cast<volatile u32*>(at) = 1; }) & 0x7f, 7); // SIGBUS
    CHECK_EQ(sys::write(file, buffer, 1), -kEtxtbsy);
    CHECK_EQ(reinterpret_cast<int>(map_shared(file, kReadAndWrite)), -kEtxtbsy);
    CHECK_EQ(sys::munmap(readable, kPage), 0);
    CHECK_EQ(sys::munmap(writable, kPage), 0);
}

void use_disk(const char* path) {
    const int file = sys::call(5, sys::word(path), kReadWrite);
    REQUIRE(file >= 0);
    const u32 to = static_cast<u32>(file);
    swap_on_mapped(path, to);
    CHECK_EQ(sys::read(to, buffer, kPage), int{kPage});
    const int again = sys::call(5, sys::word(path), kReadWrite);
    CHECK(again >= 0);
    CHECK_EQ(sys::close(static_cast<u32>(again)), 0);
    CHECK_EQ(swapoff(path), 0);
    CHECK_EQ(sys::call(19, to, 0, 0), 0); // lseek
    CHECK_EQ(sys::write(to, buffer, kPage), int{kPage});
    CHECK_EQ(sys::close(to), 0);
}

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
    swap_on_mapped(path, to);
    CHECK_EQ(sys::call(93, to, kPage), -kEtxtbsy); // ftruncate
    CHECK_EQ(sys::call(5, sys::word(path), kReadWrite | kTruncate, 0), -kEtxtbsy);
    CHECK_EQ(sys::call(10, sys::word(path)), -kEperm); // unlink
    CHECK_EQ(sys::close(to), 0);
}

} // namespace

int main(int argc, char** argv) {
    REQUIRE(argc == 2 || argc == 3);
    if (argc == 2) {
        use_disk(argv[1]);
    } else if (const u32 mib = number_of(argv[2]); mib != 0) {
        make(argv[1], mib);
    } else {
        CHECK_EQ(swapoff(argv[1]), 0);
        CHECK_EQ(swapoff(argv[1]), -kEinval);
        CHECK_EQ(sys::call(10, sys::word(argv[1])), 0);
    }
    Line{} << "swapfile: " << argv[1];
    return 0;
}
