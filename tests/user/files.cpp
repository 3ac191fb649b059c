// Files and directories by their paths: every call, and its errors. Argument: a directory to work in, "/" or where a
// disk is mounted. A second argument: leaves a file there, "kept", which somebody looks at later.
//
// Word i of a file is i * 2654435761 + 1, so a page in the wrong place is seen.
#include "tests/user/user.hpp"

#include <initializer_list>

namespace {

constexpr int kNxio = 6, kExist = 17, kXdev = 18, kNotdir = 20, kIsdir = 21, kSpipe = 29, kRange = 34,
              kNametoolong = 36, kNotempty = 39, kLoop = 40, kBusy = 16, kOverflow = 75;
constexpr u32 kReadOnly = 0, kWriteOnly = 1, kReadWrite = 2, kCreate = 0100, kExclusive = 0200, kTruncate = 01000,
              kAppend = 02000, kDirectory = 0200000, kNoFollow = 0400000;
constexpr u32 kHere = 0xffff'ff9c; // AT_FDCWD
constexpr u32 kBad = 77;           // no descriptor

using sys::word;
int open(const char* path, u32 flags, u32 mode = 0644) { return sys::call(5, word(path), flags, mode); }
int creat(const char* path, u32 mode) { return sys::call(8, word(path), mode); }
int link(const char* from, const char* to) { return sys::call(9, word(from), word(to)); }
int unlink(const char* path) { return sys::call(10, word(path)); }
int chdir(const char* path) { return sys::call(12, word(path)); }
int lseek(int file, int offset, u32 whence) { return sys::call(19, u32(file), static_cast<u32>(offset), whence); }
int access(const char* path, u32 mode) { return sys::call(33, word(path), mode); }
int rename(const char* from, const char* to) { return sys::call(38, word(from), word(to)); }
int mkdir(const char* path, u32 mode = 0755) { return sys::call(39, word(path), mode); }
int rmdir(const char* path) { return sys::call(40, word(path)); }
int symlink(const char* target, const char* path) { return sys::call(83, word(target), word(path)); }
int readlink(const char* path, char* to, u32 bytes) { return sys::call(85, word(path), word(to), bytes); }
int truncate(const char* path, int bytes) { return sys::call(92, word(path), static_cast<u32>(bytes)); }
int ftruncate(int file, int bytes) { return sys::call(93, u32(file), static_cast<u32>(bytes)); }
int fsync(int file) { return sys::call(118, u32(file)); }
int fchdir(int file) { return sys::call(133, u32(file)); }
int fdatasync(int file) { return sys::call(148, u32(file)); }
int pread(int file, void* to, u32 bytes, u32 offset) { return sys::call(180, u32(file), word(to), bytes, offset, 0); }
int pwrite(int file, const void* from, u32 bytes, u32 offset) {
    return sys::call(181, u32(file), word(from), bytes, offset, 0);
}
int getcwd(char* to, u32 bytes) { return sys::call(183, word(to), bytes); }
int getdents(int file, void* to, u32 bytes) { return sys::call(220, u32(file), word(to), bytes); }
int read(int file, void* to, u32 bytes) { return sys::read(u32(file), to, bytes); }
int write(int file, const void* from, u32 bytes) { return sys::write(u32(file), from, bytes); }
void close(int file) { CHECK_EQ(sys::close(u32(file)), 0); }

// struct stat64.
struct Stat {
    u32 words[24];
    u32 mode() const { return words[4]; }
    u32 links() const { return words[5]; }
    u32 bytes() const { return words[11]; }
    u32 inode() const { return words[22]; }
    u32 system() const { return words[0]; }
};
int stat(const char* path, Stat& to) { return sys::call(195, word(path), word(&to)); }
int lstat(const char* path, Stat& to) { return sys::call(196, word(path), word(&to)); }
int fstat(int file, Stat& to) { return sys::call(197, u32(file), word(&to)); }
u32 size_of(const char* path) {
    Stat about{};
    return stat(path, about) == 0 ? about.bytes() : ~0u;
}

// What chmod, chown and utime change.
constexpr u32 kUserId = 6, kGroupId = 7, kAccessTime = 16, kModifyTime = 18, kChangeTime = 20; // words of Stat
u32 about(const char* path, u32 word) {
    Stat stat{};
    return lstat(path, stat) == 0 ? stat.words[word] : ~0u;
}
u32 rights(const char* path) { return about(path, 4) & 07777; }
int chmod(const char* path, u32 mode) { return sys::call(15, word(path), mode); }
int chown(const char* path, u32 user, u32 group) { return sys::call(212, word(path), user, group); }
int umask(u32 mask) { return sys::call(60, mask); }
struct Time {
    int seconds, nanoseconds;
};
constexpr int kNow = 0x3fff'ffff, kOmit = 0x3fff'fffe;
int utimensat(u32 directory, const char* path, const Time* times, u32 flags = 0) {
    return sys::call(320, directory, word(path), word(times), flags);
}

bool same(const char* a, const char* b) {
    while (*a != '\0' && *a == *b)
        ++a, ++b;
    return *a == *b;
}
// Makes an empty file.
void make(const char* path) {
    const int file = open(path, kCreate | kExclusive | kWriteOnly);
    REQUIRE(file >= 0);
    close(file);
}

constexpr u32 kBytes = 300'000;
constexpr u32 word_at(u32 offset) { return offset / 4 * 2654435761u + 1; }
constexpr u8 byte_at(u32 offset) { return static_cast<u8>(word_at(offset) >> offset % 4 * 8); }
u8* buffer; // kBytes and a page

bool holds(const u8* bytes, u32 size, u32 offset) {
    for (u32 i = 0; i < size; ++i)
        if (bytes[i] != byte_at(offset + i)) {
            Line{} << "byte " << offset + i << " is " << u32{bytes[i]} << ", not " << u32{byte_at(offset + i)};
            return false;
        }
    return true;
}
void fill_buffer() {
    for (u32 i = 0; i < kBytes; ++i)
        buffer[i] = byte_at(i);
}

char long_text[5000]; // 4999 times 'n'

void names() {
    CHECK_EQ(mkdir("a"), 0);
    CHECK_EQ(mkdir("a"), -kExist);
    CHECK_EQ(mkdir("a/b/"), 0);
    CHECK_EQ(mkdir("missing/b"), -kEnoent);
    CHECK_EQ(mkdir(""), -kEnoent);
    CHECK_EQ(mkdir("."), -kExist);
    CHECK_EQ(mkdir("/"), -kExist);
    CHECK_EQ(mkdir(reinterpret_cast<const char*>(8)), -kEfault);
    CHECK_EQ(mkdir(long_text), -kNametoolong);
    CHECK_EQ(mkdir(long_text + sizeof long_text - 1 - 256), -kNametoolong);
    CHECK_EQ(mkdir(long_text + sizeof long_text - 1 - 255), 0);
    CHECK_EQ(rmdir(long_text + sizeof long_text - 1 - 255), 0);
    make("f");
    CHECK_EQ(mkdir("f"), -kExist);
    CHECK_EQ(mkdir("f/x"), -kNotdir);
    CHECK_EQ(rmdir("a"), -kNotempty);
    CHECK_EQ(rmdir("a/."), -kEinval);
    CHECK_EQ(rmdir("a/b/.."), -kNotempty);
    CHECK_EQ(rmdir("/"), -kBusy);
    CHECK_EQ(rmdir("f"), -kNotdir);
    CHECK_EQ(rmdir("missing"), -kEnoent);
    CHECK_EQ(unlink("a"), -kIsdir);
    CHECK_EQ(unlink("."), -kIsdir);
    CHECK_EQ(unlink("f/"), -kNotdir);
    CHECK_EQ(unlink("missing"), -kEnoent);
    CHECK_EQ(unlink(""), -kEnoent);
    Stat about{};
    CHECK_EQ(stat("a", about), 0);
    CHECK_EQ(about.mode(), 0040755);
    CHECK_EQ(about.links(), 3);
    CHECK_EQ(stat("f", about), 0);
    CHECK_EQ(about.mode(), 0100644);
    CHECK_EQ(about.links(), 1);
    CHECK_EQ(about.bytes(), 0);
    CHECK_EQ(stat("f/", about), -kNotdir);
    CHECK_EQ(stat("missing", about), -kEnoent);
    CHECK_EQ(stat("", about), -kEnoent);
    CHECK_EQ(sys::call(195, word("f"), 8), -kEfault);
    CHECK_EQ(rmdir("a/b"), 0);
    CHECK_EQ(rmdir("a/"), 0);
    CHECK_EQ(unlink("f"), 0);
}

void opening() {
    const int first = open("f", kCreate | kExclusive | kReadWrite, 0777);
    REQUIRE(first >= 0);
    Stat about{};
    CHECK_EQ(fstat(first, about), 0);
    CHECK_EQ(about.mode(), 0100755); // less the umask
    CHECK_EQ(open("f", kCreate | kExclusive), -kExist);
    CHECK_EQ(write(first, "hello", 5), 5);
    int again = open("f", kCreate | kReadOnly); // it is there
    REQUIRE(again >= 0);
    char text[8] = {};
    CHECK_EQ(read(again, text, 8), 5);
    CHECK(same(text, "hello"));
    CHECK_EQ(read(again, text, 8), 0);
    CHECK_EQ(write(again, "x", 1), -kEbadf);
    close(again);
    again = open("f", kWriteOnly | kTruncate);
    REQUIRE(again >= 0);
    CHECK_EQ(size_of("f"), 0);
    CHECK_EQ(read(again, text, 8), -kEbadf);
    close(again);
    close(first);
    again = creat("f", 0600);
    REQUIRE(again >= 0);
    CHECK_EQ(write(again, "abc", 3), 3);
    close(again);
    // Two descriptors append: neither writes over the other.
    const int one = open("f", kWriteOnly | kAppend), two = open("f", kReadWrite | kAppend);
    REQUIRE(one >= 0 && two >= 0);
    CHECK_EQ(write(one, "de", 2), 2);
    CHECK_EQ(write(two, "fg", 2), 2);
    CHECK_EQ(write(one, "h", 1), 1);
    CHECK_EQ(lseek(one, 0, 1), 8);
    CHECK_EQ(pwrite(two, "i", 1, 0), 1); // pwrite(2), "BUGS": it appends, too
    CHECK_EQ(pread(two, buffer, 20, 0), 9);
    buffer[9] = 0;
    CHECK(same(reinterpret_cast<char*>(buffer), "abcdefghi"));
    close(one);
    close(two);
    CHECK_EQ(open("f", kDirectory), -kNotdir);
    CHECK_EQ(open("f/", 0), -kNotdir);
    CHECK_EQ(open("missing", 0), -kEnoent);
    CHECK_EQ(open("missing/f", kCreate), -kEnoent);
    CHECK_EQ(open("f/x", kCreate), -kNotdir);
    CHECK_EQ(open("new/", kCreate), -kIsdir);
    CHECK_EQ(open(".", kCreate), -kIsdir);
    CHECK_EQ(open(".", kWriteOnly), -kIsdir);
    CHECK_EQ(open(".", kReadOnly | kTruncate), -kIsdir);
    CHECK_EQ(open("new", kCreate | kDirectory), -kEinval);
    CHECK_EQ(open(long_text, kCreate), -kNametoolong);
    CHECK_EQ(open("f", 040000), -kEinval);            // O_DIRECT
    CHECK_EQ(open(".", 020200000 | kReadWrite), -95); // O_TMPFILE: EOPNOTSUPP
    CHECK_EQ(open(".", 020200000 | kReadOnly), -kEinval);
    CHECK_EQ(open("f", 020200000 | kReadWrite), -kNotdir);
    const int neither = open("f", 3); // neither to read nor to write
    REQUIRE(neither >= 0);
    CHECK_EQ(read(neither, text, 8), -kEbadf);
    CHECK_EQ(write(neither, text, 8), -kEbadf);
    close(neither);
    const int here = open(".", kDirectory);
    REQUIRE(here >= 0);
    CHECK_EQ(read(here, text, 1), -kIsdir);
    CHECK_EQ(write(here, text, 1), -kEbadf);
    CHECK_EQ(sys::call6(192, 0, kPage, sys::kRead, sys::kPrivate, u32(here), 0), -kEnodev);
    // Relative to a directory.
    int file = sys::call(295, u32(here), word("g"), kCreate | kWriteOnly, 0644);
    REQUIRE(file >= 0);
    CHECK_EQ(sys::call(295, u32(file), word("x"), kCreate, 0644), -kNotdir);
    CHECK_EQ(sys::call(295, kBad, word("x"), kCreate, 0644), -kEbadf);
    close(file);
    CHECK_EQ(sys::call(300, u32(here), word("g"), word(&about), 0), 0);
    CHECK_EQ(sys::call(300, u32(here), word(""), word(&about), 0x1000), 0); // AT_EMPTY_PATH: the directory
    CHECK_EQ(about.mode() & 0170000, 0040000);
    CHECK_EQ(sys::call(300, u32(here), word("g"), word(&about), 1), -kEinval);
    CHECK_EQ(sys::call(296, u32(here), word("d"), 0700), 0);
    CHECK_EQ(sys::call(302, u32(here), word("g"), kHere, word("d/g")), 0);
    CHECK_EQ(sys::call(301, u32(here), word("d/g"), 0), 0);
    CHECK_EQ(sys::call(301, u32(here), word("d"), 0), -kIsdir);
    CHECK_EQ(sys::call(301, u32(here), word("d"), 0x200), 0);
    CHECK_EQ(sys::call(301, u32(here), word("d"), 1), -kEinval);
    close(here);
    // No descriptor is left: nothing is made.
    int all[16];
    u32 count = 0;
    while (count < 16 && (all[count] = open("f", 0)) >= 0)
        ++count;
    CHECK_EQ(open("new", kCreate), -24); // EMFILE
    CHECK_EQ(access("new", 0), -kEnoent);
    while (count != 0)
        close(all[--count]);
    CHECK_EQ(unlink("f"), 0);
}

void data() {
    fill_buffer();
    int file = open("data", kCreate | kReadWrite);
    REQUIRE(file >= 0);
    for (u32 at = 0, step = 1; at < kBytes; at += step, step = step * 3 % 20'011) {
        if (step > kBytes - at) step = kBytes - at;
        REQUIRE(write(file, buffer + at, step) == static_cast<int>(step));
    }
    CHECK_EQ(size_of("data"), kBytes);
    CHECK_EQ(lseek(file, 0, 0), 0);
    for (u32 i = 0; i < kBytes; ++i)
        buffer[i] = 0;
    CHECK_EQ(read(file, buffer, kBytes + 100), int{kBytes});
    CHECK(holds(buffer, kBytes, 0));
    CHECK_EQ(pread(file, buffer, 100, kBytes - 7), 7);
    CHECK_EQ(pread(file, buffer, 100, kBytes), 0);
    // Sizes: what was cut off is zero when it is back.
    CHECK_EQ(truncate("data", 5000), 0);
    CHECK_EQ(size_of("data"), 5000);
    CHECK_EQ(ftruncate(file, 9000), 0);
    CHECK_EQ(size_of("data"), 9000);
    CHECK_EQ(pread(file, buffer, 9000, 0), 9000);
    CHECK(holds(buffer, 5000, 0));
    for (u32 i = 5000; i < 9000; ++i)
        if (buffer[i] != 0) {
            CHECK_EQ(buffer[i], 0);
            break;
        }
    CHECK_EQ(truncate("data", -1), -kEinval);
    CHECK_EQ(ftruncate(file, -1), -kEinval);
    CHECK_EQ(truncate(".", 0), -kIsdir);
    CHECK_EQ(truncate("missing", 0), -kEnoent);
    CHECK_EQ(ftruncate(static_cast<int>(kBad), 0), -kEbadf);
    CHECK_EQ(sys::call(193, word("data"), 100, 0), 0);
    CHECK_EQ(sys::call(194, u32(file), 200, 0), 0);
    CHECK_EQ(size_of("data"), 200);
    CHECK_EQ(sys::call(193, word("data"), 0, 0x8000'0000), -kEinval);
    CHECK_EQ(sys::call(193, word("data"), 0, 0x7fff'ffff), -27); // EFBIG
    // Behind the end: a hole.
    CHECK_EQ(lseek(file, 100'000, 0), 100'000);
    CHECK_EQ(write(file, "end", 3), 3);
    CHECK_EQ(lseek(file, 0, 2), 100'003);
    CHECK_EQ(pread(file, buffer, 10, 50'000), 10);
    CHECK_EQ(buffer[0] | buffer[9], 0);
    CHECK_EQ(lseek(file, -1, 0), -kEinval);
    CHECK_EQ(lseek(file, 100'001, 3), 100'001); // SEEK_DATA
    CHECK_EQ(lseek(file, 100'001, 4), 100'003); // SEEK_HOLE: the end
    CHECK_EQ(lseek(file, 0, 1), 100'003);
    for (const u32 whence : {3u, 4u}) {
        CHECK_EQ(lseek(file, 100'003, whence), -kNxio);
        CHECK_EQ(lseek(file, -1, whence), -kNxio);
    }
    // No offset is above 2^63 - 1; no position is above what a file may have.
    const auto at_most = [&](u32 call, u32 bytes) {
        return sys::call6(call, u32(file), word(buffer), bytes, ~0u, 0x7fff'ffff, 0);
    };
    for (const u32 call : {180u, 181u}) { // pread64, pwrite64
        CHECK_EQ(at_most(call, 2), -kEinval);
        CHECK_EQ(at_most(call, 0), 0);
    }
    u32 position[2] = {1, 1};
    const auto llseek = [&](u32 high, u32 whence) {
        return sys::call6(140, u32(file), high, 0, word(position), whence, 0);
    };
    CHECK_EQ(llseek(0x4000'0000, 0), -kEinval);
    CHECK_EQ(llseek(0x4000'0000, 2), -kEinval);
    CHECK_EQ(llseek(1, 0), 0);
    CHECK_EQ(position[1], 1);
    CHECK_EQ(lseek(file, 100'003, 0), 100'003);
    // The program's memory ends.
    fill_buffer();
    u8* const two = new_memory(2 * kPage);
    REQUIRE(sys::munmap(two + kPage, kPage) == 0);
    for (u32 i = 0; i < kPage; ++i)
        two[i] = byte_at(i);
    CHECK_EQ(pwrite(file, reinterpret_cast<void*>(8), 10, 0), -kEfault);
    CHECK_EQ(ftruncate(file, 0), 0);
    CHECK_EQ(pwrite(file, two, 2 * kPage, 0), int{kPage}); // what was there
    CHECK_EQ(size_of("data"), kPage);
    CHECK_EQ(pwrite(file, two + kPage - 4, 8, kPage), 4);
    CHECK_EQ(size_of("data"), kPage + 4);
    CHECK_EQ(pwrite(file, two + kPage, 8, 2 * kPage), -kEfault);
    CHECK_EQ(size_of("data"), kPage + 4);
    CHECK_EQ(pread(file, two + kPage - 100, 200, 0), 100);
    CHECK_EQ(pread(file, reinterpret_cast<void*>(8), 10, 0), -kEfault);
    CHECK_EQ(sys::munmap(two, kPage), 0);
    // Mapped.
    CHECK_EQ(pwrite(file, buffer, 10'000, 0), 10'000);
    void* const at =
        reinterpret_cast<void*>(sys::call6(192, 0, 4 * kPage, sys::kRead | sys::kWrite, sys::kShared, u32(file), 0));
    REQUIRE(!sys::failed(at));
    CHECK(holds(static_cast<u8*>(at), 10'000, 0));
    static_cast<volatile u8*>(at)[5000] = 99;
    CHECK_EQ(pread(file, buffer, 1, 5000), 1);
    CHECK_EQ(buffer[0], 99);
    CHECK_EQ(in_child([&] { load<u8>(reinterpret_cast<u32>(at) + 3 * kPage); }) & 0x7f, 7); // SIGBUS
    CHECK_EQ(fsync(file), 0);
    CHECK_EQ(fdatasync(file), 0);
    CHECK_EQ(sys::munmap(at, 4 * kPage), 0);
    constexpr u32 kValidated = 3; // MAP_SHARED_VALIDATE: flags that are not known are refused
    const auto map = [&](u32 flags) {
        return sys::call6(192, 0, kPage, sys::kRead | sys::kWrite, flags, u32(file), 0);
    };
    const int validated = map(kValidated | 0x4000);
    REQUIRE(!sys::failed(validated));
    store<u8>(u32(validated), 98);
    CHECK_EQ(pread(file, buffer, 1, 0), 1);
    CHECK_EQ(buffer[0], 98);
    CHECK_EQ(sys::munmap(reinterpret_cast<void*>(validated), kPage), 0);
    CHECK_EQ(map(kValidated | 0x8'0000), -95);    // MAP_SYNC
    CHECK_EQ(map(kValidated | 0x8000'0000), -95); // what no kernel has
    CHECK_EQ(map(kValidated | sys::kAnonymous), -kEinval);
    // Cut below a mapping: what is gone is SIGBUS, what is left of its page zeros.
    void* const cut =
        reinterpret_cast<void*>(sys::call6(192, 0, 3 * kPage, sys::kRead | sys::kWrite, sys::kShared, u32(file), 0));
    REQUIRE(!sys::failed(cut));
    const u32 cut_at = reinterpret_cast<u32>(cut);
    store<u8>(cut_at + 2 * kPage + 5, 7); // all three are mapped
    store<u8>(cut_at + kPage + 5, 7);
    store<u8>(cut_at, 97);
    CHECK_EQ(ftruncate(file, kPage + 2), 0);
    CHECK_EQ(load<u8>(cut_at + kPage + 5), 0);
    CHECK_EQ(load<u8>(cut_at), 97);
    CHECK_EQ(in_child([&] { load<u8>(cut_at + 2 * kPage); }) & 0x7f, 7);
    CHECK_EQ(in_child([&] { store<u8>(cut_at + 2 * kPage, 1); }) & 0x7f, 7);
    CHECK_EQ(write(1, reinterpret_cast<u8*>(cut) + 2 * kPage, 1), -kEfault); // a call sees no signal
    CHECK_EQ(ftruncate(file, 10'000), 0);
    CHECK_EQ(load<u8>(cut_at + 2 * kPage + 5), 0); // it is there again, and empty
    CHECK_EQ(sys::munmap(cut, 3 * kPage), 0);
    CHECK_EQ(pwrite(file, "c", 1, 5000), 1);
    void* const kept =
        reinterpret_cast<void*>(sys::call6(192, 0, 2 * kPage, sys::kRead | sys::kWrite, sys::kShared, u32(file), 0));
    REQUIRE(!sys::failed(kept));
    // Without a name it stays as long as it is open.
    CHECK_EQ(unlink("data"), 0);
    Stat about{};
    CHECK_EQ(fstat(file, about), 0);
    CHECK_EQ(about.links(), 0);
    CHECK_EQ(pread(file, buffer, 1, 5000), 1);
    CHECK_EQ(buffer[0], 'c');
    CHECK_EQ(write(file, "x", 1), 1);
    CHECK_EQ(fsync(file), 0);
    close(file);
    CHECK_EQ(open("data", 0), -kEnoent);
    // Or mapped.
    CHECK_EQ(load<u8>(reinterpret_cast<u32>(kept) + 5000), 'c');
    store<u8>(reinterpret_cast<u32>(kept) + 5001, 'd');
    CHECK_EQ(sys::call(36), 0); // sync
    CHECK_EQ(load<u8>(reinterpret_cast<u32>(kept) + 5001), 'd');
    CHECK_EQ(sys::munmap(kept, 2 * kPage), 0);
    // The position is shared with a child.
    file = open("data", kCreate | kReadWrite);
    REQUIRE(file >= 0);
    CHECK_EQ(in_child([&] { CHECK_EQ(write(file, "child", 5), 5); }), 0);
    CHECK_EQ(write(file, "parent", 6), 6);
    CHECK_EQ(size_of("data"), 11);
    close(file);
    CHECK_EQ(unlink("data"), 0);
    CHECK_EQ(fsync(static_cast<int>(kBad)), -kEbadf);
    CHECK_EQ(sys::call(36), 0);
}

// A program that has not said that it knows files of 2 GiB (O_LARGEFILE) gets none.
void large_files() {
    constexpr u32 kLarge = 0100000;
    constexpr int kFbig = 27;
    int small = open("f", kCreate | kReadWrite), large = open("f", kReadWrite | kLarge);
    REQUIRE(small >= 0 && large >= 0);
    CHECK_EQ(pwrite(small, "ab", 2, 0x7fff'fffe), 1); // up to the limit
    CHECK_EQ(pwrite(small, "ab", 2, 0x7fff'ffff), -kFbig);
    CHECK_EQ(pwrite(small, "ab", 0, 0x7fff'ffff), 0);
    CHECK_EQ(size_of("f"), 0x7fff'ffff);
    close(small);
    small = open("f", kReadWrite | kAppend); // it is not too large yet
    REQUIRE(small >= 0);
    CHECK_EQ(write(small, "c", 1), -kFbig);
    CHECK_EQ(pwrite(large, "c", 1, 0x7fff'ffff), 1);
    CHECK_EQ(size_of("f"), 0x8000'0000);
    u8 text[2] = {};
    CHECK_EQ(pread(small, text, 2, 0x7fff'fffe), 2); // reading has no limit
    CHECK_EQ(text[0], 'a');
    CHECK_EQ(text[1], 'c');
    // open(2); the tmpfs of Linux 6.1 opens it all the same, that of 6.6 does not.
    for (const u32 flags : {kReadOnly, kWriteOnly | kTruncate, kCreate | kWriteOnly})
        CHECK_EQ(open("f", flags), -kOverflow);
    CHECK_EQ(open("f", kCreate | kExclusive), -kExist);
    CHECK_EQ(creat("f", 0600), -kOverflow);
    CHECK_EQ(size_of("f"), 0x8000'0000);
    CHECK_EQ(sys::call(194, u32(small), 0x8000'0001, 0), -kEinval); // ftruncate64
    CHECK_EQ(sys::call(194, u32(small), 0x7fff'ffff, 0), 0);
    CHECK_EQ(sys::call(194, u32(large), 0x8000'0001, 0), 0);
    CHECK_EQ(sys::call(193, word("f"), 0x8000'0002, 0), 0); // truncate64
    close(small);
    close(large);
    large = open("f", kReadOnly | kLarge);
    REQUIRE(large >= 0);
    close(large);
    CHECK_EQ(unlink("f"), 0);
}

// Writers of one file at the same time. A record is larger than a page, and its words are its writer and its number.
constexpr u32 kWriters = 3, kRecords = 60, kRecordWords = 1300, kRecordBytes = kRecordWords * 4;

// All records of a file are whole and there, those of one writer in order.
void records_are_whole() {
    const int file = open("records", kReadOnly);
    REQUIRE(file >= 0);
    u32 next[kWriters]{};
    auto* words = reinterpret_cast<u32*>(buffer);
    for (u32 record = 0; record < kWriters * kRecords; ++record) {
        REQUIRE(read(file, buffer, kRecordBytes) == int{kRecordBytes});
        const u32 writer = words[0] / kRecords, number = words[0] % kRecords;
        u32 wrong = 0;
        for (u32 i = 1; i < kRecordWords; ++i)
            wrong += words[i] != words[0];
        REQUIRE(wrong == 0 && writer < kWriters);
        CHECK_EQ(number, next[writer]);
        next[writer] = number + 1;
    }
    CHECK_EQ(read(file, buffer, 1), 0);
    close(file);
}
void write_records(int file, u32 writer) {
    auto* words = reinterpret_cast<u32*>(buffer);
    for (u32 number = 0; number < kRecords; ++number) {
        for (u32 i = 0; i < kRecordWords; ++i)
            words[i] = writer * kRecords + number;
        CHECK_EQ(write(file, buffer, kRecordBytes), int{kRecordBytes});
    }
}
// One write at a time sees one size: by O_APPEND of descriptions of their own, and by one position that all have.
void writing_together() {
    for (const bool appends : {true, false}) {
        const int shared = open("records", kCreate | kTruncate | kWriteOnly);
        REQUIRE(shared >= 0);
        int pid[kWriters];
        for (u32 writer = 0; writer < kWriters; ++writer) {
            pid[writer] = sys::fork();
            REQUIRE(!sys::failed(pid[writer]));
            if (pid[writer] != 0) continue;
            write_records(appends ? open("records", kAppend | kWriteOnly) : shared, writer);
            sys::exit(failures != 0);
        }
        for (const int one : pid) {
            int status = -1;
            CHECK_EQ(sys::waitpid(one, &status), one);
            CHECK_EQ(status, 0);
        }
        close(shared);
        CHECK_EQ(size_of("records"), kWriters * kRecords * kRecordBytes);
        records_are_whole();
    }
    CHECK_EQ(unlink("records"), 0);
}

void links() {
    char text[300];
    Stat about{}, other{};
    make("f");
    CHECK_EQ(link("f", "g"), 0);
    CHECK_EQ(stat("f", about), 0);
    CHECK_EQ(stat("g", other), 0);
    CHECK_EQ(about.inode(), other.inode());
    CHECK_EQ(about.links(), 2);
    CHECK_EQ(link("f", "g"), -kExist);
    CHECK_EQ(link("f", "h/"), -kEnoent);
    CHECK_EQ(link(".", "h"), -kEperm);
    CHECK_EQ(link(".", "g"), -kExist); // what is there is told first
    CHECK_EQ(link("missing", "h"), -kEnoent);
    CHECK_EQ(link("f", "missing/h"), -kEnoent);
    CHECK_EQ(symlink("f", "s"), 0);
    CHECK_EQ(symlink("f", "s"), -kExist);
    CHECK_EQ(symlink("", "t"), -kEnoent);
    CHECK_EQ(symlink("f", ""), -kEnoent);
    CHECK_EQ(symlink(long_text, "t"), -kNametoolong);
    CHECK_EQ(lstat("s", about), 0);
    CHECK_EQ(about.mode() & 0170000, 0120000);
    CHECK_EQ(about.bytes(), 1);
    CHECK_EQ(stat("s", about), 0);
    CHECK_EQ(about.inode(), other.inode());
    CHECK_EQ(readlink("s", text, sizeof text), 1);
    CHECK_EQ(text[0], 'f');
    CHECK_EQ(readlink("f", text, sizeof text), -kEinval);
    CHECK_EQ(readlink("missing", text, sizeof text), -kEnoent);
    CHECK_EQ(readlink("s", text, 0), -kEinval);
    CHECK_EQ(readlink("s", reinterpret_cast<char*>(8), 10), -kEfault);
    CHECK_EQ(open("s", kNoFollow), -kLoop);
    CHECK_EQ(open("s", kNoFollow | kDirectory), -kNotdir);
    CHECK_EQ(open("s", kCreate | kExclusive), -kExist);
    int file = open("s", kWriteOnly);
    REQUIRE(file >= 0);
    CHECK_EQ(write(file, "12", 2), 2);
    close(file);
    CHECK_EQ(size_of("g"), 2);
    // A long target; only a part of it fits.
    const char* const far = long_text + sizeof long_text - 1 - 200;
    CHECK_EQ(symlink(far, "far"), 0);
    CHECK_EQ(readlink("far", text, sizeof text), 200);
    CHECK_EQ(readlink("far", text, 7), 7);
    CHECK_EQ(stat("far", about), -kEnoent);
    // A link that leads to nothing makes its target; one whose directory is missing makes nothing.
    CHECK_EQ(symlink("made", "to"), 0);
    file = open("to", kCreate | kWriteOnly);
    REQUIRE(file >= 0);
    close(file);
    CHECK_EQ(unlink("made"), 0);
    CHECK_EQ(symlink("missing/made", "nowhere"), 0);
    CHECK_EQ(open("nowhere", kCreate), -kEnoent);
    CHECK_EQ(symlink("two", "one"), 0);
    CHECK_EQ(symlink("one", "two"), 0);
    CHECK_EQ(open("one", 0), -kLoop);
    CHECK_EQ(open("one", kCreate), -kLoop);
    CHECK_EQ(lstat("one", about), 0);
    CHECK_EQ(mkdir("d"), 0);
    CHECK_EQ(symlink("d", "to_d"), 0);
    make("to_d/x");
    CHECK_EQ(access("d/x", 0), 0);
    CHECK_EQ(access("to_d/../f", 0), 0);
    CHECK_EQ(unlink("to_d/x"), 0);
    CHECK_EQ(rmdir("to_d"), -kNotdir);
    for (const char* name : {"f", "g", "s", "far", "to", "nowhere", "one", "two", "to_d"})
        CHECK_EQ(unlink(name), 0);
    CHECK_EQ(rmdir("d"), 0);
    CHECK_EQ(access("d/x", 8), -kEinval);
}

void renaming(const char* base) {
    make("f");
    make("g");
    CHECK_EQ(truncate("g", 5), 0);
    CHECK_EQ(rename("f", "g"), 0);
    CHECK_EQ(access("f", 0), -kEnoent);
    CHECK_EQ(size_of("g"), 0);
    CHECK_EQ(rename("missing", "g"), -kEnoent);
    CHECK_EQ(rename("g", "g"), 0);
    CHECK_EQ(mkdir("d"), 0);
    CHECK_EQ(mkdir("e"), 0);
    CHECK_EQ(mkdir("e/full"), 0);
    CHECK_EQ(rename("g", "d"), -kIsdir);
    CHECK_EQ(rename("d", "g"), -kNotdir);
    CHECK_EQ(rename("d", "e"), -kNotempty);
    CHECK_EQ(rename("e", "e/full/x"), -kEinval);
    // What is above the source is not empty, whatever is renamed.
    make("e/full/f");
    CHECK_EQ(rename("e/full/f", "e/full"), -kNotempty);
    CHECK_EQ(rename("e/full/f", "e"), -kNotempty);
    CHECK_EQ(rename("e/full", "e"), -kNotempty);
    CHECK_EQ(rename("e/full/f", "d"), -kIsdir);
    CHECK_EQ(rename("e/full/missing", "e"), -kEnoent);
    CHECK_EQ(unlink("e/full/f"), 0);
    CHECK_EQ(rename("e", "d"), 0);
    CHECK_EQ(access("d/full", 0), 0);
    CHECK_EQ(rename("d/.", "x"), -kBusy);
    CHECK_EQ(rename("g", "x/"), -kNotdir);
    CHECK_EQ(rename("d/full/", "full/"), 0);
    Stat about{};
    CHECK_EQ(stat("d", about), 0);
    CHECK_EQ(about.links(), 2);
    if (!same(base, "/")) { // another file system
        CHECK_EQ(rename("g", "/g"), -kXdev);
        CHECK_EQ(link("g", "/g"), -kXdev);
        CHECK_EQ(rename("/", "x"), -kXdev);
        CHECK_EQ(rmdir(base), -kBusy);
    }
    CHECK_EQ(rmdir("full"), 0);
    CHECK_EQ(rmdir("d"), 0);
    CHECK_EQ(unlink("g"), 0);
}

// Two programs move two directories into each other: each time one is refused, and none gets lost.
void into_each_other() {
    CHECK_EQ(mkdir("a"), 0);
    CHECK_EQ(mkdir("b"), 0);
    const auto moves = [](const char* from, const char* to) {
        for (u32 i = 0; i < 200; ++i) {
            const int moved = rename(from, to);
            if (moved == 0)
                CHECK_EQ(rename(to, from), 0);
            else if (moved != -kEnoent && moved != -kEinval)
                CHECK_EQ(moved, 0);
            sys::call(158); // sched_yield
        }
    };
    const int first = sys::fork();
    REQUIRE(first >= 0);
    if (first == 0) {
        moves("a", "b/a");
        sys::exit(failures != 0);
    }
    moves("b", "a/b");
    int status = -1;
    CHECK_EQ(sys::waitpid(first, &status), first);
    CHECK_EQ(status, 0);
    Stat about{};
    CHECK_EQ(stat("a", about), 0);
    CHECK_EQ(about.links(), 2);
    CHECK_EQ(rmdir("a"), 0);
    CHECK_EQ(rmdir("b"), 0);
}

void rename_without_replacing() {
    const auto renameat2 = [](const char* from, const char* to, u32 flags) {
        return sys::call(353, kHere, word(from), kHere, word(to), flags);
    };
    make("f");
    make("g");
    CHECK_EQ(mkdir("d"), 0);
    CHECK_EQ(renameat2("f", "g", 1), -kExist); // RENAME_NOREPLACE
    CHECK_EQ(renameat2("f", "f", 1), -kExist);
    CHECK_EQ(renameat2("d", "d", 1), -kExist);
    CHECK_EQ(renameat2("missing", "g", 1), -kEnoent);
    CHECK_EQ(renameat2("f", ".", 1), -kExist);
    CHECK_EQ(renameat2("f", "g", 2), -kEinval); // RENAME_EXCHANGE
    CHECK_EQ(renameat2("f", "g", 3), -kEinval);
    CHECK_EQ(renameat2("f", "g", 8), -kEinval);
    CHECK_EQ(access("f", 0), 0);
    CHECK_EQ(renameat2("f", "d/f", 1), 0);
    CHECK_EQ(renameat2("d/f", "g", 0), 0);
    CHECK_EQ(unlink("g"), 0);
    CHECK_EQ(rmdir("d"), 0);
}

void rights_owners_and_times() {
    make("f");
    CHECK_EQ(symlink("f", "s"), 0);
    CHECK_EQ(symlink("nowhere", "n"), 0);
    int ends[2];
    REQUIRE(sys::pipe(ends) == 0);
    const int file = open("f", kReadOnly), here = open(".", kDirectory);
    REQUIRE(file >= 0 && here >= 0);
    // Rights.
    CHECK_EQ(chmod("f", 0170000 | 04751), 0); // the type stays
    CHECK_EQ(about("f", 4), 0104751);
    CHECK_EQ(chmod("s", 0600), 0); // what it leads to
    CHECK_EQ(rights("f"), 0600);
    CHECK_EQ(rights("s"), 0777);
    CHECK_EQ(sys::call(94, u32(file), 07111), 0); // opened for reading only
    CHECK_EQ(rights("f"), 07111);
    CHECK_EQ(sys::call(306, u32(here), word("f"), 0640), 0);
    CHECK_EQ(rights("f"), 0640);
    CHECK_EQ(access("f", 1), -kEacces);
    CHECK_EQ(chmod("f", 0001), 0);
    CHECK_EQ(access("f", 7), 0);
    CHECK_EQ(chmod("n", 0600), -kEnoent);
    CHECK_EQ(chmod("f/x", 0600), -kNotdir);
    CHECK_EQ(chmod(reinterpret_cast<const char*>(8), 0600), -kEfault);
    CHECK_EQ(sys::call(94, kBad, 0600), -kEbadf);
    CHECK_EQ(sys::call(306, kBad, word("f"), 0600), -kEbadf);
    // Owners. Set-user-ID goes when a file is given away, of whatever kind the new owner is.
    CHECK_EQ(chmod("f", 07711), 0);
    CHECK_EQ(chown("f", 100'000, ~0u), 0);
    CHECK_EQ(about("f", kUserId), 100'000);
    CHECK_EQ(about("f", kGroupId), 0);
    CHECK_EQ(rights("f"), 01711);
    CHECK_EQ(chmod("f", 06701), 0); // set-group-ID without execution by the group has another meaning
    CHECK_EQ(chown("s", ~0u, 200'000), 0);
    CHECK_EQ(about("f", kUserId), 100'000);
    CHECK_EQ(about("f", kGroupId), 200'000);
    CHECK_EQ(rights("f"), 02701);
    CHECK_EQ(sys::call(198, word("s"), 3, 4), 0); // lchown
    CHECK_EQ(about("s", kUserId), 3);
    CHECK_EQ(about("f", kUserId), 100'000);
    CHECK_EQ(sys::call(207, u32(file), 5, 6), 0);                     // fchown
    CHECK_EQ(sys::call(298, kHere, word("s"), 7, ~0u, 0x100), 0);     // AT_SYMLINK_NOFOLLOW
    CHECK_EQ(sys::call(298, u32(file), word(""), ~0u, 8, 0x1000), 0); // AT_EMPTY_PATH
    CHECK_EQ(sys::call(298, u32(file), word(""), ~0u, 8, 0), -kEnoent);
    CHECK_EQ(sys::call(298, kHere, word("f"), 9, 9, 0x200), -kEinval);
    CHECK_EQ(about("s", kUserId), 7);
    CHECK_EQ(about("f", kUserId), 5);
    CHECK_EQ(about("f", kGroupId), 8);
    CHECK_EQ(sys::call(182, word("f"), 0xffff, 10), 0); // ids of 16 bits
    CHECK_EQ(sys::call(95, u32(file), 11, 0xffff), 0);
    CHECK_EQ(sys::call(16, word("s"), 12, 13), 0);
    CHECK_EQ(about("f", kUserId), 11);
    CHECK_EQ(about("f", kGroupId), 10);
    CHECK_EQ(about("s", kGroupId), 13);
    CHECK_EQ(sys::call(207, kBad, 0, 0), -kEbadf);
    CHECK_EQ(chown("n", 0, 0), -kEnoent);
    // The group of a directory.
    CHECK_EQ(mkdir("d"), 0);
    CHECK_EQ(chown("d", 0, 77), 0);
    CHECK_EQ(chmod("d", 02775), 0);
    CHECK_EQ(mkdir("d/e"), 0);
    make("d/g");
    CHECK_EQ(rights("d/e"), 02755);
    CHECK_EQ(about("d/e", kGroupId), 77);
    CHECK_EQ(rights("d/g"), 0644);
    CHECK_EQ(about("d/g", kGroupId), 77);
    CHECK_EQ(unlink("d/g"), 0);
    CHECK_EQ(rmdir("d/e"), 0);
    CHECK_EQ(rmdir("d"), 0);
    // The umask, which a child inherits.
    CHECK_EQ(umask(0170077), 022);
    CHECK_EQ(in_child([] {
                 make("u");
                 CHECK_EQ(rights("u"), 0600);
                 CHECK_EQ(umask(0), 077);
                 CHECK_EQ(mkdir("v", 07777), 0);
                 CHECK_EQ(rights("v"), 01777);
             }),
             0);
    CHECK_EQ(umask(022), 077); // the child's is its own
    CHECK_EQ(unlink("u"), 0);
    CHECK_EQ(rmdir("v"), 0);
    // Times.
    const u32 before = about("f", kChangeTime);
    Time times[2] = {{1000, 0}, {2000, 999'999'999}};
    CHECK_EQ(utimensat(kHere, "s", times), 0);
    CHECK_EQ(about("f", kAccessTime), 1000);
    CHECK_EQ(about("f", kModifyTime), 2000);
    CHECK(about("f", kChangeTime) >= before);
    times[0].nanoseconds = kOmit;
    times[1].seconds = -5;
    CHECK_EQ(utimensat(u32(file), nullptr, times), 0);
    CHECK_EQ(about("f", kAccessTime), 1000);
    CHECK_EQ(about("f", kModifyTime), u32(-5));
    u32 wide[64]; // statx: 64 bits with a sign
    CHECK_EQ(sys::call(383, kHere, word("f"), 0, 0x7ff, word(wide)), 0);
    CHECK_EQ(wide[28], u32(-5));
    CHECK_EQ(wide[29], ~0u);
    CHECK_EQ(wide[16], 1000);
    CHECK_EQ(wide[17], 0);
    times[0].nanoseconds = times[1].nanoseconds = kOmit;
    CHECK_EQ(utimensat(kBad, "missing", times), 0); // nothing to do: nothing is looked up
    times[1].nanoseconds = kNow;
    CHECK_EQ(utimensat(kHere, "f", times), 0);
    CHECK_EQ(about("f", kAccessTime), 1000);
    CHECK(about("f", kModifyTime) >= before);
    CHECK_EQ(utimensat(kHere, "f", nullptr), 0);
    CHECK(about("f", kAccessTime) >= before);
    times[0] = {1, 1'000'000'000};
    CHECK_EQ(utimensat(kHere, "f", times), -kEinval);
    CHECK_EQ(utimensat(kHere, "missing", times), -kEnoent);
    CHECK_EQ(utimensat(u32(file), nullptr, times), -kEinval);
    CHECK_EQ(utimensat(kBad, nullptr, nullptr), -kEbadf);
    CHECK_EQ(utimensat(kHere, nullptr, nullptr), -kEfault);
    CHECK_EQ(utimensat(u32(file), nullptr, nullptr, 0x100), -kEinval);
    CHECK_EQ(utimensat(kHere, "f", nullptr, 1), -kEinval);
    CHECK_EQ(utimensat(kHere, "f", reinterpret_cast<Time*>(8)), -kEfault);
    times[0] = times[1] = {7, 0};
    CHECK_EQ(utimensat(kHere, "s", times, 0x100), 0);
    CHECK_EQ(about("s", kModifyTime), 7);
    const u32 wide_times[8] = {8, 1, 0, 0, 9, 0, 5, 0}; // struct __kernel_timespec: what 32 bits cannot hold is cut
    CHECK_EQ(sys::call(412, kHere, word("f"), word(wide_times), 0), 0);
    CHECK_EQ(about("f", kAccessTime), 0x7fff'ffff);
    CHECK_EQ(about("f", kModifyTime), 9);
    const int pair[2] = {10, 11};
    CHECK_EQ(sys::call(30, word("f"), word(pair)), 0); // utime
    CHECK_EQ(about("f", kAccessTime), 10);
    CHECK_EQ(about("f", kModifyTime), 11);
    const int halves[4] = {12, 999'999, 13, 0};
    CHECK_EQ(sys::call(271, word("f"), word(halves)), 0); // utimes
    CHECK_EQ(about("f", kAccessTime), 12);
    CHECK_EQ(about("f", kModifyTime), 13);
    const int too_much[4] = {12, 1'000'000, 13, 0};
    CHECK_EQ(sys::call(271, word("missing"), word(too_much)), -kEinval);
    CHECK_EQ(sys::call(299, u32(here), word("f"), 0), 0); // futimesat
    CHECK(about("f", kModifyTime) >= before);
    CHECK_EQ(sys::call(30, word("missing"), 0), -kEnoent);
    CHECK_EQ(sys::call(30, word("f"), 8), -kEfault);
    // What has no inode has nothing to change.
    CHECK_EQ(sys::call(94, u32(ends[0]), 0600), -kEperm);
    CHECK_EQ(sys::call(207, u32(ends[0]), 0, 0), -kEperm);
    CHECK_EQ(utimensat(u32(ends[0]), nullptr, nullptr), -kEperm);
    for (const int one : {ends[0], ends[1], file, here})
        close(one);
    for (const char* name : {"f", "s", "n"})
        CHECK_EQ(unlink(name), 0);
}

// The older layouts say the same as stat64 and getdents64.
void old_layouts() {
    const int file = open("f", kCreate | kReadWrite | 0100000, 0600); // O_LARGEFILE
    REQUIRE(file >= 0);
    CHECK_EQ(write(file, buffer, 5000), 5000);
    CHECK_EQ(chown("f", 70'003, 4), 0);
    CHECK_EQ(symlink("f", "s"), 0);
    Stat is{};
    CHECK_EQ(fstat(file, is), 0);
    for (const u32 call : {106u, 108u}) { // stat, fstat
        u32 old[16] = {};
        CHECK_EQ(sys::call(call, call == 106 ? word("s") : u32(file), word(old)), 0);
        CHECK_EQ(old[0], is.system());
        CHECK_EQ(old[1], is.inode());
        CHECK_EQ(old[2], is.mode() | is.links() << 16);
        CHECK_EQ(old[3], 65534 | 4 << 16); // an id that does not fit is told as that of nobody
        CHECK_EQ(old[5], 5000);
        CHECK_EQ(old[6], is.words[13]);
        CHECK_EQ(old[7], is.words[14]);
        CHECK_EQ(old[10], is.words[kModifyTime]);
    }
    for (const u32 call : {18u, 28u}) { // the oldest ones
        u32 old[8] = {};
        CHECK_EQ(sys::call(call, call == 18 ? word("s") : u32(file), word(old)), 0);
        CHECK_EQ(old[0], is.system() | is.inode() << 16);
        CHECK_EQ(old[1], is.mode() | is.links() << 16);
        CHECK_EQ(old[2], 65534 | 4 << 16);
        CHECK_EQ(old[4], 5000);
        CHECK_EQ(old[6], is.words[kModifyTime]);
    }
    u32 link[16] = {};
    CHECK_EQ(sys::call(107, word("s"), word(link)), 0); // lstat
    CHECK_EQ(link[5], 1);
    CHECK_EQ(sys::call(84, word("s"), word(link)), 0);
    CHECK_EQ(link[4], 1);
    CHECK_EQ(sys::call(106, word("missing"), word(link)), -kEnoent);
    CHECK_EQ(sys::call(106, word("f"), 8), -kEfault);
    CHECK_EQ(sys::call(108, kBad, word(link)), -kEbadf);
    CHECK_EQ(sys::call(194, u32(file), 0x8000'0000, 0), 0); // a hole of 2 GiB
    CHECK_EQ(sys::call(106, word("f"), word(link)), -kOverflow);
    CHECK_EQ(sys::call(28, u32(file), word(link)), -kOverflow);
    u32 system[16] = {}, wide[21] = {};
    CHECK_EQ(sys::call(99, word("f"), word(system)), 0);
    CHECK_EQ(sys::call(268, word("f"), sizeof wide, word(wide)), 0);
    CHECK_EQ(system[0], wide[0]);
    CHECK_EQ(system[1], wide[1]);
    CHECK_EQ(system[2], wide[2]);
    CHECK_EQ(system[3], wide[4]);
    CHECK_EQ(system[9], 255);
    CHECK_EQ(sys::call(100, u32(file), word(system)), 0);
    CHECK_EQ(sys::call(100, kBad, word(system)), -kEbadf);
    close(file);
    CHECK_EQ(unlink("f"), 0);
    CHECK_EQ(unlink("s"), 0);
    CHECK_EQ(mkdir("list"), 0);
    make("list/name");
    const int directory = open("list", kDirectory);
    REQUIRE(directory >= 0);
    alignas(8) u8 room[200] = {};
    const int got = sys::call(141, u32(directory), word(room), sizeof room);
    CHECK(got > 0);
    u32 names = 0;
    for (u32 at = 0; static_cast<int>(at) < got; ++names) {
        const u32 size = room[at + 8] | room[at + 9] << 8;
        const auto* const name = reinterpret_cast<const char*>(room + at + 10);
        REQUIRE(size % 4 == 0 && size >= 12);
        CHECK_EQ(room[at + size - 1], same(name, "name") ? 8 : 4);
        if (same(name, "name")) CHECK_EQ(load<u32>(word(room + at)), about("list/name", 22));
        at += size;
    }
    CHECK_EQ(names, 3);
    CHECK_EQ(sys::call(141, u32(directory), word(room), sizeof room), 0);
    CHECK_EQ(lseek(directory, 0, 0), 0);
    CHECK_EQ(sys::call(141, u32(directory), word(room), 8), -kEinval);
    CHECK_EQ(sys::call(141, u32(directory), 8, sizeof room), -kEfault);
    CHECK_EQ(sys::call(141, kBad, word(room), sizeof room), -kEbadf);
    close(directory);
    CHECK_EQ(unlink("list/name"), 0);
    CHECK_EQ(rmdir("list"), 0);
}

// Reads a directory to its end; returns how many entries begin with 'n'.
u32 count_entries(int directory, u32 bytes, u32& all) {
    alignas(8) u8 room[kPage];
    u32 count = 0;
    all = 0;
    for (;;) {
        const int got = getdents(directory, room, bytes);
        CHECK(got >= 0);
        if (got <= 0) return count;
        for (u32 at = 0; at < static_cast<u32>(got);) {
            const u8* const entry = room + at;
            const u32 size = entry[16] | entry[17] << 8;
            CHECK_EQ(size % 8, 0);
            CHECK(entry[18] == 4 || entry[18] == 8); // a directory or a file
            count += entry[19] == 'n';
            ++all;
            at += size;
        }
    }
}

void listing() {
    constexpr u32 kFiles = 500; // more than a block of 4 KiB has
    CHECK_EQ(mkdir("list"), 0);
    char name[] = "list/n000";
    const auto each = [&](auto&& what) {
        for (u32 i = 0; i < kFiles; ++i) {
            name[6] = static_cast<char>('0' + i / 100);
            name[7] = static_cast<char>('0' + i / 10 % 10);
            name[8] = static_cast<char>('0' + i % 10);
            what();
        }
    };
    each([&] { make(name); });
    const int directory = open("list", kDirectory);
    REQUIRE(directory >= 0);
    u32 all = 0;
    CHECK_EQ(getdents(directory, buffer, 20), -kEinval);
    CHECK_EQ(getdents(directory, reinterpret_cast<void*>(8), kPage), -kEfault);
    // The program's memory ends: those that fit are there, and the next call begins behind them.
    u8* const two = new_memory(2 * kPage);
    REQUIRE(sys::munmap(two + kPage, kPage) == 0);
    for (const u32 call : {220u, 141u}) { // getdents64, getdents
        for (const u32 room : {100u, 25u, 10u}) {
            CHECK_EQ(lseek(directory, 0, 0), 0);
            const int whole = sys::call(call, u32(directory), word(buffer), room);
            CHECK_EQ(lseek(directory, 0, 0), 0);
            u8* const part = two + kPage - room;
            CHECK_EQ(sys::call(call, u32(directory), word(part), kPage), whole > 0 ? whole : -kEfault);
            u32 entries = 0;
            for (u32 at = 0; static_cast<int>(at) < whole; ++entries)
                at += part[at + (call == 220 ? 16 : 8)];
            count_entries(directory, kPage, all);
            CHECK_EQ(entries + all, kFiles + 2);
        }
    }
    CHECK_EQ(sys::munmap(two, kPage), 0);
    CHECK_EQ(lseek(directory, 0, 0), 0);
    CHECK_EQ(count_entries(directory, 100, all), kFiles); // nothing was lost
    CHECK_EQ(all, kFiles + 2);                            // with "." and ".."
    CHECK_EQ(count_entries(directory, kPage, all), 0);
    CHECK_EQ(lseek(directory, 0, 0), 0);
    CHECK_EQ(count_entries(directory, kPage, all), kFiles);
    each([&] { CHECK_EQ(unlink(name), 0); });
    CHECK_EQ(lseek(directory, 0, 0), 0);
    CHECK_EQ(count_entries(directory, kPage, all), 0);
    CHECK_EQ(all, 2);
    CHECK_EQ(rmdir("list"), 0);
    CHECK_EQ(lseek(directory, 0, 0), 0);
    CHECK_EQ(getdents(directory, buffer, kPage), -kEnoent);
    CHECK_EQ(sys::call(295, u32(directory), word("x"), kCreate, 0644), -kEnoent);
    close(directory);
    CHECK_EQ(getdents(0, buffer, kPage), -kNotdir);
    CHECK_EQ(getdents(static_cast<int>(kBad), buffer, kPage), -kEbadf);
}

void current_directory(const char* base) {
    char text[200], expected[200];
    u32 size = 0;
    for (const char* part : {same(base, "/") ? "" : base, "/work"})
        while (*part != '\0')
            expected[size++] = *part++;
    expected[size++] = '\0';
    CHECK_EQ(getcwd(text, sizeof text), static_cast<int>(size));
    CHECK(same(text, expected));
    CHECK_EQ(getcwd(text, size - 1), -kRange);
    CHECK_EQ(getcwd(text, size), static_cast<int>(size));
    CHECK_EQ(getcwd(reinterpret_cast<char*>(8), 100), -kEfault);
    CHECK_EQ(mkdir("sub"), 0);
    make("f");
    const int here = open(".", 0), file = open("f", 0);
    REQUIRE(here >= 0 && file >= 0);
    CHECK_EQ(in_child([&] {
                 CHECK_EQ(getcwd(text, sizeof text), static_cast<int>(size)); // inherited
                 CHECK_EQ(chdir("sub"), 0);
                 CHECK_EQ(access("f", 0), -kEnoent);
                 CHECK_EQ(access("../f", 0), 0);
             }),
             0);
    CHECK_EQ(access("f", 0), 0); // the child's is its own
    CHECK_EQ(chdir("/"), 0);
    CHECK_EQ(getcwd(text, sizeof text), 2);
    CHECK(same(text, "/"));
    CHECK_EQ(chdir("../.."), 0); // the root is its own parent
    CHECK_EQ(fchdir(here), 0);
    CHECK_EQ(access("f", 0), 0);
    CHECK_EQ(fchdir(file), -kNotdir);
    CHECK_EQ(fchdir(static_cast<int>(kBad)), -kEbadf);
    CHECK_EQ(chdir("f"), -kNotdir);
    CHECK_EQ(chdir("missing"), -kEnoent);
    CHECK_EQ(chdir(""), -kEnoent);
    // A directory that is removed while it is the current one.
    CHECK_EQ(chdir("sub"), 0);
    CHECK_EQ(rmdir("../sub"), 0);
    CHECK_EQ(getcwd(text, sizeof text), -kEnoent);
    CHECK_EQ(open("x", kCreate), -kEnoent);
    CHECK_EQ(access("../f", 0), 0);
    CHECK_EQ(chdir(".."), 0);
    CHECK_EQ(getcwd(text, sizeof text), static_cast<int>(size));
    CHECK(same(text, expected));
    CHECK_EQ(fchdir(here), 0);
    close(here);
    close(file);
    CHECK_EQ(unlink("f"), 0);
}

void rights_and_systems(const char* base) {
    make("f");
    CHECK_EQ(access("f", 0), 0);
    CHECK_EQ(access("f", 6), 0);
    CHECK_EQ(access("f", 1), -kEacces); // nobody may execute it
    CHECK_EQ(access(".", 7), 0);
    CHECK_EQ(access("missing", 0), -kEnoent);
    CHECK_EQ(sys::call(307, kBad, word("f"), 0), -kEbadf);
    CHECK_EQ(sys::call(439, kHere, word("f"), 0, 1), -kEinval);
    u32 about[21] = {};
    CHECK_EQ(sys::call(268, word("f"), sizeof about, word(about)), 0);
    CHECK_EQ(about[0], same(base, "/") ? 0x0102'1994 : 0xef53);
    CHECK(about[4] != 0 && about[4] <= about[2]);
    CHECK(about[10] <= about[8]); // free inodes, and all
    CHECK_EQ(about[14], 255);
    CHECK_EQ(sys::call(268, word("f"), sizeof about - 4, word(about)), -kEinval);
    CHECK_EQ(sys::call(268, word("missing"), sizeof about, word(about)), -kEnoent);
    CHECK_EQ(sys::call(268, word("f"), sizeof about, 8), -kEfault);
    const int file = open("f", 0);
    REQUIRE(file >= 0);
    CHECK_EQ(sys::call(269, u32(file), sizeof about, word(about)), 0);
    CHECK_EQ(sys::call(344, u32(file)), 0);
    CHECK_EQ(ftruncate(file, 0), -kEinval); // not open for writing
    CHECK_EQ(sys::call(269, kBad, sizeof about, word(about)), -kEbadf);
    close(file);
    CHECK_EQ(unlink("f"), 0);
    Stat root{}, here{};
    CHECK_EQ(stat("/", root), 0);
    CHECK_EQ(stat(".", here), 0);
    CHECK_EQ(root.system() == here.system(), same(base, "/"));
    int ends[2];
    REQUIRE(sys::pipe(ends) == 0);
    CHECK_EQ(lseek(ends[0], 0, 0), -kSpipe);
    CHECK_EQ(fchdir(ends[0]), -kNotdir);
    close(ends[0]);
    close(ends[1]);
}

void keep() {
    fill_buffer();
    const int file = open("kept", kCreate | kTruncate | kWriteOnly);
    REQUIRE(file >= 0);
    REQUIRE(write(file, buffer, kBytes) == int{kBytes});
    close(file);
}

} // namespace

int main(int argc, char** argv) {
    REQUIRE(argc >= 2);
    const char* const base = argv[1];
    for (u32 i = 0; i + 1 < sizeof long_text; ++i)
        long_text[i] = 'n';
    buffer = new_memory(kBytes / kPage * kPage + 2 * kPage);
    REQUIRE(chdir(base) == 0);
    REQUIRE(mkdir("work") == 0);
    REQUIRE(chdir("work") == 0);
    names();
    opening();
    data();
    large_files();
    writing_together();
    links();
    renaming(base);
    into_each_other();
    rename_without_replacing();
    rights_owners_and_times();
    old_layouts();
    listing();
    current_directory(base);
    rights_and_systems(base);
    CHECK_EQ(chdir(".."), 0);
    CHECK_EQ(rmdir("work"), 0);
    if (argc > 2) keep();
    Line{} << "files: " << base << " works";
    return 0;
}
