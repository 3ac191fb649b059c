// A disk as a file: read, write, positions, mappings, fsync and msync. Arguments: its name, and which MiB of it to
// write: the first one, and how many.
//
// Word i of the disk becomes i * 2654435761 + 1, so a page in the wrong place is seen.
#include "tests/user/user.hpp"

namespace {

constexpr u32 kMiB = 1u << 20, kChunk = 64 * 1024;
constexpr u32 word_at(u64 offset) { return static_cast<u32>(offset / 4) * 2654435761u + 1; }

int open(const char* path, u32 flags) { return sys::call(5, sys::word(path), flags); }
int pread(u32 file, void* to, u32 bytes, u64 offset) {
    return sys::call(180, file, sys::word(to), bytes, static_cast<u32>(offset), static_cast<u32>(offset >> 32));
}
int pwrite(u32 file, const void* from, u32 bytes, u64 offset) {
    return sys::call(181, file, sys::word(from), bytes, static_cast<u32>(offset), static_cast<u32>(offset >> 32));
}
int lseek(u32 file, int offset, u32 whence) { return sys::call(19, file, static_cast<u32>(offset), whence); }
int llseek(u32 file, u64 offset, u32 whence, u64& position) {
    return sys::call(140, file, static_cast<u32>(offset >> 32), static_cast<u32>(offset), sys::word(&position), whence);
}
int fsync(u32 file) { return sys::call(118, file); }
constexpr u32 kAsync = 1, kSync = 4;
int msync(void* at, u32 bytes, u32 flags) { return sys::call(144, sys::word(at), bytes, flags); }
void* map_file(u32 file, u32 bytes, u32 prot, u32 flags, u32 page) {
    return reinterpret_cast<void*>(sys::call6(192, 0, bytes, prot, flags, file, page));
}

bool holds(const u32* words, u32 bytes, u64 offset) {
    for (u32 i = 0; i < bytes / 4; ++i)
        if (words[i] != word_at(offset + i * 4)) {
            Line{} << "word at " << static_cast<u32>(offset / 4) + i << " is " << words[i] << ", not "
                   << word_at(offset + i * 4);
            return false;
        }
    return true;
}

u64 begin = 0; // the offset on the disk

void write_and_read(u32 file, u32 mib, u32* buffer) {
    const u64 end = begin + u64{mib} * kMiB;
    u64 position = 0;
    CHECK_EQ(llseek(file, begin, 0, position), 0);
    CHECK(position == begin);
    for (u64 at = begin; at < end; at += kChunk) {
        for (u32 i = 0; i < kChunk / 4; ++i)
            buffer[i] = word_at(at + i * 4);
        REQUIRE(sys::write(file, buffer, kChunk) == int{kChunk});
    }
    CHECK_EQ(fsync(file), 0);
    CHECK_EQ(llseek(file, begin, 0, position), 0);
    for (u64 at = begin; at < end; at += kChunk) {
        REQUIRE(sys::read(file, buffer, kChunk) == int{kChunk});
        REQUIRE(holds(buffer, kChunk, at));
    }
    // At odd places, across pages.
    u32 random = 7;
    auto* bytes = reinterpret_cast<u8*>(buffer);
    for (u32 round = 0; round < 200; ++round) {
        random = random * 1664525 + 1013904223;
        const u64 offset = begin + random % (mib * kMiB - 10'000);
        const u32 size = 1 + random / 65536 % 9'000;
        REQUIRE(pread(file, bytes, size, offset) == static_cast<int>(size));
        for (u32 i = 0; i < size; ++i)
            if (bytes[i] != static_cast<u8>(word_at(offset + i) >> (offset + i) % 4 * 8)) {
                Line{} << "byte " << i << " of " << size << " from page " << static_cast<u32>(offset / kPage)
                       << " is wrong";
                CHECK(false);
                return;
            }
    }
    // A few bytes inside a page, and back.
    const u32 value = 0x1234'5678;
    CHECK_EQ(pwrite(file, &value, 4, begin + 4095), 4);
    CHECK_EQ(pread(file, buffer, 8192, begin), 8192);
    CHECK_EQ(bytes[4095], 0x78);
    CHECK_EQ(bytes[4098], 0x12);
    CHECK_EQ(bytes[4094], static_cast<u8>(word_at(begin + 4092) >> 16));
    for (u32 i = 0; i < 2048; ++i)
        buffer[i] = word_at(begin + i * 4);
    CHECK_EQ(pwrite(file, buffer, 8192, begin), 8192);
}

void map(u32 file, u32* buffer) {
    constexpr u32 kPages = 64;
    const u64 at = begin + 100 * kPage;
    const u32 first = static_cast<u32>(at / kPage);
    void* shared = map_file(file, kPages * kPage, sys::kRead | sys::kWrite, sys::kShared, first);
    void* own = map_file(file, kPages * kPage, sys::kRead | sys::kWrite, sys::kPrivate, first);
    REQUIRE(!sys::failed(shared) && !sys::failed(own));
    auto* words = static_cast<volatile u32*>(shared);
    auto* mine = static_cast<volatile u32*>(own);
    CHECK(holds(static_cast<u32*>(shared), kPages * kPage, at));
    CHECK(holds(static_cast<u32*>(own), kPages * kPage, at));
    // A store through the mapping is the file's at once; a private one never.
    words[5] = 55;
    mine[1030] = 66;
    CHECK_EQ(pread(file, buffer, 2 * kPage, at), int{2 * kPage});
    CHECK_EQ(buffer[5], 55);
    CHECK_EQ(buffer[1030], word_at(at + 1030 * 4));
    CHECK_EQ(mine[5], 55); // the page was not copied yet
    CHECK_EQ(msync(shared, kPages * kPage, kSync), 0);
    // A child stores; the file changes by write.
    CHECK_EQ(in_child([&] { words[2048] = 77; }), 0);
    CHECK_EQ(words[2048], 77);
    const u32 value = 88;
    CHECK_EQ(pwrite(file, &value, 4, at + 3072 * 4), 4);
    CHECK_EQ(words[3072], 88);
    // From a page of the file into the same page, and out of it.
    CHECK_EQ(pread(file, const_cast<u32*>(words + 4096), kPage, at + 4 * kPage), int{kPage});
    CHECK_EQ(pwrite(file, const_cast<u32*>(words + 4096), kPage, at + 4 * kPage), int{kPage});
    CHECK(holds(const_cast<u32*>(words + 4096), kPage, at + 4 * kPage));
    CHECK_EQ(pread(file, const_cast<u32*>(words + 5120), kPage, at + 6 * kPage), int{kPage}); // page 5 becomes page 6
    CHECK(holds(const_cast<u32*>(words + 5120), kPage, at + 6 * kPage));
    // All as it was.
    for (u32 i = 0; i < kPages * kPage / 4; ++i)
        if (words[i] != word_at(at + i * 4)) words[i] = word_at(at + i * 4);
    CHECK_EQ(msync(shared, kPages * kPage, kAsync), 0);
    CHECK_EQ(sys::munmap(own, kPages * kPage), 0);
    CHECK_EQ(msync(shared, kPage, kSync | kAsync), -kEinval);
    CHECK_EQ(msync(static_cast<u8*>(shared) + 1, kPage, kSync), -kEinval);
    CHECK_EQ(sys::munmap(shared, kPages * kPage), 0);
    CHECK_EQ(msync(shared, kPage, kSync), -kEnomem);
    CHECK_EQ(fsync(file), 0);
}

void errors(const char* path, u32 file, u32* buffer) {
    constexpr int kEexist = 17, kEnotdir = 20, kEnospc = 28, kEspipe = 29, kEoverflow = 75;
    u64 size = 0, position = 0;
    CHECK_EQ(llseek(file, 0, 2, size), 0);
    CHECK(size != 0);
    CHECK_EQ(sys::read(file, buffer, 512), 0); // at the end
    CHECK_EQ(sys::write(file, buffer, 512), -kEnospc);
    CHECK_EQ(pread(file, buffer, 1024, size - 512), 512);
    CHECK_EQ(pread(file, buffer, 512, size), 0);
    CHECK_EQ(pwrite(file, buffer, 1, size), -kEnospc);
    CHECK_EQ(pread(file, buffer, 512, ~u64{0}), -kEinval);
    CHECK_EQ(llseek(file, size + 1, 0, position), -kEinval);
    CHECK_EQ(lseek(file, -1, 0), -kEinval);
    CHECK_EQ(lseek(file, 0, 7), -kEinval);
    CHECK_EQ(llseek(file, 100, 0, position), 0);
    CHECK_EQ(lseek(file, 23, 1), 123);
    if (size > 0x8000'0000) CHECK_EQ(lseek(file, 0, 2), -kEoverflow);
    CHECK_EQ(pread(file, reinterpret_cast<void*>(kUserEnd), 512, 0), -kEfault);
    CHECK_EQ(pread(file, reinterpret_cast<void*>(8), 512, 0), -kEfault);
    CHECK_EQ(pwrite(file, reinterpret_cast<void*>(8), 512, 0), -kEfault);
    CHECK_EQ(pread(77, buffer, 512, 0), -kEbadf);
    CHECK_EQ(lseek(77, 0, 0), -kEbadf);
    CHECK_EQ(fsync(77), -kEbadf);
    int ends[2];
    REQUIRE(sys::pipe(ends) == 0);
    CHECK_EQ(lseek(static_cast<u32>(ends[0]), 0, 0), -kEspipe);
    CHECK_EQ(pread(static_cast<u32>(ends[0]), buffer, 1, 0), -kEspipe);
    CHECK_EQ(fsync(static_cast<u32>(ends[0])), -kEinval);
    sys::close(static_cast<u32>(ends[0]));
    sys::close(static_cast<u32>(ends[1]));
    const int reader = open(path, 0), writer = open(path, 1);
    REQUIRE(reader >= 0 && writer >= 0);
    CHECK_EQ(sys::write(static_cast<u32>(reader), buffer, 512), -kEbadf);
    CHECK_EQ(pread(static_cast<u32>(writer), buffer, 512, 0), -kEbadf);
    CHECK_EQ(reinterpret_cast<u32>(map_file(static_cast<u32>(writer), kPage, sys::kRead, sys::kShared, 0)), -kEacces);
    CHECK_EQ(
        reinterpret_cast<u32>(map_file(static_cast<u32>(reader), kPage, sys::kRead | sys::kWrite, sys::kShared, 0)),
        -kEacces);
    void* read_only = map_file(static_cast<u32>(reader), kPage, sys::kRead, sys::kShared, 0);
    REQUIRE(!sys::failed(read_only));
    CHECK_EQ(sys::mprotect(read_only, kPage, sys::kRead | sys::kWrite), -kEacces);
    CHECK_EQ(sys::munmap(read_only, kPage), 0);
    read_only = map_file(static_cast<u32>(reader), kPage, sys::kRead, sys::kPrivate, 0);
    REQUIRE(!sys::failed(read_only));
    CHECK_EQ(sys::mprotect(read_only, kPage, sys::kRead | sys::kWrite), 0);
    CHECK_EQ(sys::munmap(read_only, kPage), 0);
    const int neither = open(path, 3);
    REQUIRE(neither >= 0);
    CHECK_EQ(sys::read(static_cast<u32>(neither), buffer, 512), -kEbadf);
    CHECK_EQ(sys::write(static_cast<u32>(neither), buffer, 512), -kEbadf);
    sys::close(static_cast<u32>(neither));
    // A buffer that ends within the write: the bytes before the end are written, and counted.
    u8* const last = new_memory(2 * kPage) + kPage - 1000;
    CHECK_EQ(sys::munmap(last + 1000, kPage), 0);
    for (u32 i = 0; i < 1000; ++i)
        last[i] = static_cast<u8>(i);
    CHECK_EQ(pwrite(file, last, 4096, begin + 8192), 1000);
    CHECK_EQ(pread(file, buffer, 1000, begin + 8192), 1000);
    CHECK_EQ(buffer[1], 0x0706'0504u);
    for (u32 i = 0; i < 2048; ++i)
        buffer[i] = word_at(begin + 8192 + u64{i} * 4);
    CHECK_EQ(pwrite(file, buffer, 8192, begin + 8192), 8192);
    CHECK_EQ(fsync(file), 0);
    void* behind = map_file(file, kPage, sys::kRead, sys::kShared, static_cast<u32>((size + kPage) / kPage));
    constexpr u64 kLargest = u64{1} << 42; // 4 TiB, which no mapping may pass
    if (size < kLargest) {
        REQUIRE(!sys::failed(behind));
        CHECK_EQ(in_child([&] { load<u32>(reinterpret_cast<u32>(behind)); }) & 0x7f, 7); // SIGBUS
        CHECK_EQ(sys::munmap(behind, kPage), 0);
    } else {
        CHECK_EQ(reinterpret_cast<int>(behind), -kEoverflow);
    }
    sys::close(static_cast<u32>(reader));
    sys::close(static_cast<u32>(writer));
    CHECK_EQ(open(path, 0300), -kEexist);
    CHECK_EQ(open(path, 0200000), -kEnotdir);
    CHECK_EQ(open("/dev/nothing", 0), -kEnoent);
    CHECK_EQ(open("/dev/", 0), -kEnoent);
}

} // namespace

int main(int argc, char** argv) {
    REQUIRE(argc == 4);
    char path[32] = "/dev/";
    for (u32 i = 0; argv[1][i] != '\0' && i < 20; ++i)
        path[5 + i] = argv[1][i];
    const int file = open(path, 2);
    REQUIRE(file >= 0);
    u32* buffer = reinterpret_cast<u32*>(new_memory(kChunk));
    begin = u64{number_of(argv[2])} * kMiB;
    const u32 mib = number_of(argv[3]);
    write_and_read(static_cast<u32>(file), mib, buffer);
    map(static_cast<u32>(file), buffer);
    errors(path, static_cast<u32>(file), buffer);
    CHECK_EQ(sys::close(static_cast<u32>(file)), 0);
    Line{} << "diskfile: " << mib << " MiB written and read";
    return 0;
}
