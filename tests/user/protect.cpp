// mprotect and mmap: a forbidden access ends the program that makes it, and no other one.
#include "tests/user/user.hpp"

int main(int, char**) {
    u8* memory = new_memory(4 * kPage);
    const u32 at = reinterpret_cast<u32>(memory);
    for (u32 page = 0; page < 4; ++page)
        store<u32>(at + page * kPage, page + 1);

    CHECK_EQ(sys::mprotect(memory + kPage, kPage, sys::kRead), 0);
    CHECK_EQ(load<u32>(at + kPage), 2);
    CHECK_EQ(in_child([&] { store<u32>(at + kPage, 9); }), kSegv);
    CHECK_EQ(in_child([&] { store<u32>(at + 2 * kPage - 2, 9); }), kSegv); // the first half of it only
    CHECK_EQ(load<u32>(at + kPage), 2);
    CHECK_EQ(sys::mprotect(memory + 2 * kPage, kPage, sys::kNone), 0);
    CHECK_EQ(in_child([&] { load<u32>(at + 2 * kPage); }), kSegv);
    CHECK_EQ(in_child([&] { store<u32>(at, 9); }), 0);
    CHECK_EQ(sys::mprotect(memory, 4 * kPage, sys::kRead | sys::kWrite), 0);
    for (u32 page = 0; page < 4; ++page) {
        CHECK_EQ(load<u32>(at + page * kPage), page + 1);
        store<u32>(at + page * kPage, page + 11);
    }
    // In a child that shares the pages by copy on write: rights that were removed do not come back.
    CHECK_EQ(in_child([&] {
                 CHECK_EQ(sys::mprotect(memory, kPage, sys::kRead), 0);
                 CHECK_EQ(in_child([&] { store<u32>(at, 1); }), kSegv);
                 CHECK_EQ(sys::mprotect(memory, kPage, sys::kRead | sys::kWrite), 0);
                 store<u32>(at, 1);
             }),
             0);
    CHECK_EQ(load<u32>(at), 11);

    // The program's own text and constants.
    CHECK_EQ(in_child([] { store<u32>(reinterpret_cast<u32>(&main) & ~3u, 0); }), kSegv);
    CHECK_EQ(in_child([] { store<u8>(reinterpret_cast<u32>("constant"), 0); }), kSegv);

    CHECK_EQ(sys::munmap(memory + kPage, kPage), 0);
    CHECK_EQ(in_child([&] { load<u32>(at + kPage); }), kSegv);
    CHECK_EQ(sys::mprotect(memory, 3 * kPage, sys::kRead), -kEnomem); // there is a hole in it
    CHECK_EQ(sys::munmap(memory, 4 * kPage), 0);
    CHECK_EQ(sys::munmap(memory, 4 * kPage), 0); // nothing is mapped: no error

    // Invalid arguments.
    CHECK_EQ(sys::munmap(memory + 1, kPage), -kEinval);
    CHECK_EQ(sys::mprotect(memory + 1, kPage, sys::kRead), -kEinval);
    CHECK_EQ(sys::mprotect(memory, kPage, 0x100), -kEinval);
    const auto map = [](u32 where, u32 bytes, u32 flags) {
        return static_cast<int>(
            reinterpret_cast<u32>(sys::mmap(reinterpret_cast<void*>(where), bytes, sys::kRead, flags)));
    };
    constexpr u32 kMine = sys::kPrivate | sys::kAnonymous;
    CHECK_EQ(map(0, 0, kMine), -kEinval);
    CHECK_EQ(map(0, kPage, sys::kAnonymous), -kEinval);
    CHECK_EQ(map(0, kPage, sys::kPrivate), -kEbadf);
    CHECK_EQ(map(0, 0xc000'0000, kMine), -kEnomem);
    CHECK_EQ(map(0, 0xffff'ffff, kMine), -kEnomem);
    CHECK_EQ(map(0x1000'0001, kPage, kMine | sys::kFixed), -kEinval);
    CHECK(sys::failed(map(0, kPage, kMine | sys::kFixed)));
    CHECK(sys::failed(map(0xbfff'f000, 2 * kPage, kMine | sys::kFixed)));
    CHECK(sys::failed(map(0xc000'0000, kPage, kMine | sys::kFixed)));
    CHECK(sys::failed(map(0xffff'f000, kPage, kMine | sys::kFixed)));
    // A hint that cannot be used is no error.
    CHECK(!sys::failed(map(0xd000'0000, kPage, kMine)));
    return 0;
}
