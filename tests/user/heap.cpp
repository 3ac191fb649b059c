// brk: grows, shrinks, new memory is zero, and the break stays if it cannot move.
#include "tests/user/user.hpp"

int main(int, char**) {
    const u32 begin = sys::brk(0);
    REQUIRE(begin != 0 && begin < kUserEnd);
    CHECK_EQ(sys::brk(begin + 10 * kPage + 5), begin + 10 * kPage + 5);
    for (u32 page = 0; page <= 10; ++page) {
        CHECK_EQ(load<u32>(begin + page * kPage), 0);
        store<u32>(begin + page * kPage, page + 1);
    }
    CHECK_EQ(sys::brk(begin + kPage), begin + kPage);
    CHECK_EQ(load<u32>(begin), 1);
    CHECK_EQ(in_child([&] { load<u32>(begin + kPage); }), kSegv);
    CHECK_EQ(sys::brk(begin + 4 * kPage), begin + 4 * kPage);
    for (u32 page = 1; page < 4; ++page)
        CHECK_EQ(load<u32>(begin + page * kPage), 0); // not the old contents
    // An address that is in use, one of the kernel, and one below the heap: brk returns the unchanged break.
    void* wall = sys::mmap(reinterpret_cast<void*>(begin + 64 * kPage), kPage, sys::kRead,
                           sys::kPrivate | sys::kAnonymous | sys::kFixed);
    CHECK(!sys::failed(wall));
    CHECK_EQ(sys::brk(begin + 100 * kPage), begin + 4 * kPage);
    CHECK_EQ(sys::brk(0xd000'0000), begin + 4 * kPage);
    CHECK_EQ(sys::brk(0xffff'ffff), begin + 4 * kPage);
    CHECK_EQ(sys::brk(begin - kPage), begin + 4 * kPage);
    CHECK_EQ(sys::brk(begin), begin);
    CHECK_EQ(in_child([&] { load<u32>(begin); }), kSegv);
    return 0;
}
