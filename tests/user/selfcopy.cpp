// A file that is read into its own mapping, and written from it: to the same page, to other pages of the range that is
// read, inside one page; then while other threads unmap the mapping, write the file back, and take the memory.
//     selfcopy DIRECTORY [MIB]
// The file is made in DIRECTORY. MIB: memory that a child fills at the same time, at least once.
//
// The results are those of a copy from the first byte to the last one, page by page, as Linux has them, too. Word i of
// the file is i * 2654435761 + 1.
#include "tests/user/user.hpp"

#include <initializer_list>

namespace {

constexpr u32 kPages = 16, kBytes = kPages * kPage;
constexpr u32 kRw = sys::kRead | sys::kWrite;

using sys::word;
constexpr u32 word_at(u32 offset) { return offset / 4 * 2654435761u + 1; }
constexpr u8 byte_at(u32 offset) { return static_cast<u8>(word_at(offset) >> offset % 4 * 8); }

u32 file = 0;
u8* mapping;
u8 model[kBytes], copy[kBytes];

int pread(void* to, u32 bytes, u32 offset) { return sys::call(180, file, word(to), bytes, offset, 0); }
int pwrite(const void* from, u32 bytes, u32 offset) { return sys::call(181, file, word(from), bytes, offset, 0); }
int map(u32 flags) { return sys::call6(192, word(mapping), kBytes, kRw, sys::kShared | flags, file, 0); }

void begin() {
    for (u32 i = 0; i < kBytes; ++i)
        model[i] = byte_at(i);
    REQUIRE(pwrite(model, kBytes, 0) == int{kBytes});
}
// The file and its mapping have what the model has.
void check(const char* what) {
    CHECK_EQ(pread(copy, kBytes, 0), int{kBytes});
    for (u32 i = 0; i < kBytes; ++i)
        if (copy[i] != model[i] || load<u8>(word(mapping) + i) != model[i]) {
            Line{} << what << ": byte " << i << " is " << u32{copy[i]} << ", in the mapping "
                   << u32{load<u8>(word(mapping) + i)} << ", not " << u32{model[i]};
            CHECK(false);
            return;
        }
}
// From one offset of the file to another one, by both calls.
void both(const char* what, u32 from, u32 to, u32 bytes) {
    for (const bool reads : {true, false}) {
        begin();
        const int moved = reads ? pread(mapping + to, bytes, from) : pwrite(mapping + from, bytes, to);
        CHECK_EQ(moved, static_cast<int>(bytes));
        for (u32 i = 0; i < bytes; ++i)
            model[to + i] = model[from + i];
        check(what);
    }
}

void alone() {
    both("one page onto itself", 3 * kPage, 3 * kPage, kPage);
    both("all pages onto themselves", 0, 0, kBytes);
    both("a part of a page onto itself", 5 * kPage + 101, 5 * kPage + 101, 3001);
    both("over the border of two pages, onto itself", 5 * kPage - 77, 5 * kPage - 77, 333);
    both("one page to the next one", 3 * kPage, 4 * kPage, kPage);
    both("three pages, one page up", 3 * kPage, 4 * kPage, 3 * kPage);
    both("three pages, one page down", 4 * kPage, 3 * kPage, 3 * kPage);
    both("up inside a page", 2 * kPage, 2 * kPage + 512, 2048);
    both("down inside a page", 2 * kPage + 512, 2 * kPage, 2048);
    both("up by less than a page, over pages", 2 * kPage + 64, 2 * kPage + 1088, 3 * kPage);
    both("down by less than a page, over pages", 2 * kPage + 1088, 2 * kPage + 64, 3 * kPage);
    both("to an odd place in another page", 7 * kPage, 9 * kPage + 2001, 2 * kPage);
}

// Each byte is copied onto itself only, so whoever reads the file sees it as it was, at any moment.
volatile u32 stop = 0, unmapped = 0, looks = 0;

void unmaps(void*) {
    while (stop == 0) {
        sys::mmap(mapping, kBytes, sys::kNone, sys::kPrivate | sys::kAnonymous | sys::kFixed);
        add(unmapped, 1);
        sys::yield();
        REQUIRE(!sys::failed(map(sys::kFixed)));
        sys::yield();
    }
}
void writes_back(void*) {
    while (stop == 0) {
        REQUIRE(sys::call(118, file) == 0);
        sys::yield();
    }
}
void looks_on(void*) {
    static u8 seen[kBytes];
    while (stop == 0) {
        REQUIRE(pread(seen, kBytes, 0) == int{kBytes});
        u32 wrong = 0;
        for (u32 i = 0; i < kBytes; ++i)
            wrong += seen[i] != byte_at(i);
        CHECK_EQ(wrong, 0);
        if (wrong != 0) sys::exit_group(1);
        add(looks, 1);
    }
}

void beside(u32 rounds, u32 mib) {
    begin();
    int pid = 0;
    const u32 passes = word(new_memory(kPage, sys::kShared | sys::kAnonymous)); // of the child over its memory
    if (mib != 0) {
        pid = sys::fork();
        REQUIRE(!sys::failed(pid));
        if (pid == 0)
            for (u8* const memory = new_memory(mib << 20);; store<u32>(passes, load<u32>(passes) + 1))
                for (u32 at = 0; at < mib << 20; at += kPage)
                    store<u32>(word(memory) + at, at);
    }
    static Thread threads[3];
    REQUIRE(threads[0].start(unmaps, nullptr));
    REQUIRE(threads[1].start(writes_back, nullptr));
    REQUIRE(threads[2].start(looks_on, nullptr));
    u32 moved = 0, refused = 0;
    const auto child_is_done = [&] { return mib == 0 || load<u32>(passes) != 0; };
    for (u32 round = 0; round < rounds || looks < 3 || unmapped < 3 || !child_is_done(); ++round) {
        const u32 at = round * 1237 % (kBytes / 2), bytes = 1 + round * 7919 % (kBytes / 2);
        const int result = round % 2 != 0 ? pread(mapping + at, bytes, at) : pwrite(mapping + at, bytes, at);
        CHECK(result == -kEfault || (result > 0 && static_cast<u32>(result) <= bytes));
        moved += result > 0 ? static_cast<u32>(result) / 1024 : 0;
        refused += result == -kEfault;
        if (round % 8 == 0) sys::yield();
    }
    stop = 1;
    for (Thread& thread : threads)
        thread.join();
    if (pid != 0) {
        sys::call(270, static_cast<u32>(pid), static_cast<u32>(pid), 9);
        CHECK_EQ(sys::waitpid(pid, nullptr), pid);
    }
    check("beside others");
    Line{} << "selfcopy: " << moved << " KiB moved, " << refused << " times the mapping was gone, " << looks
           << " looks at the file";
}

} // namespace

int main(int argc, char** argv) {
    REQUIRE(argc >= 2);
    REQUIRE(sys::call(12, word(argv[1])) == 0);
    const int made = sys::call(5, word("self"), 0102, 0644);
    REQUIRE(made >= 0);
    file = static_cast<u32>(made);
    begin();
    const int at = map(0);
    REQUIRE(!sys::failed(at));
    mapping = reinterpret_cast<u8*>(at);
    alone();
    beside(400, argc > 2 ? number_of(argv[2]) : 0);
    CHECK_EQ(sys::munmap(mapping, kBytes), 0);
    CHECK_EQ(sys::close(file), 0);
    CHECK_EQ(sys::call(10, word("self")), 0);
    return 0;
}
