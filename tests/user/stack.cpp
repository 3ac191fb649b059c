// The stack grows on access, up to its limit; an access beyond it kills the program.
#include "tests/user/user.hpp"

namespace {

constexpr u32 kLimit = 8 * 1024 * 1024;

[[gnu::noinline]] u32 deep(u32 levels) {
    volatile u8 frame[1000];
    frame[0] = static_cast<u8>(levels);
    frame[999] = 1;
    if (levels == 0) return frame[999];
    return deep(levels - 1) + (frame[0] == static_cast<u8>(levels));
}

} // namespace

int main(int, char**) {
    const u32 here = reinterpret_cast<u32>(__builtin_frame_address(0));
    constexpr u32 kLevels = 6 * 1024 * 1024 / 1024;
    CHECK_EQ(deep(kLevels), kLevels + 1);
    // Also in one step: the pages in between come with their first access.
    store<u32>(here - 7 * 1024 * 1024, 42);
    CHECK_EQ(load<u32>(here - 7 * 1024 * 1024), 42);
    CHECK_EQ(load<u32>(here - 6 * 1024 * 1024 - 512 * 1024), 0);
    CHECK_EQ(in_child([&] { store<u32>(here - kLimit - kPage, 1); }), kSegv);
    CHECK_EQ(in_child([] { deep(100'000); }), kSegv);
    // Accesses above its upper end fault: mmap never chooses an address there.
    for (u32 i = 0; i < 4; ++i)
        CHECK(reinterpret_cast<u32>(new_memory(kPage)) < here);
    CHECK_EQ(in_child([] { store<u32>(kUserEnd - kPage, 1); }), kSegv);
    CHECK_EQ(in_child([] { static_cast<void>(load<u32>(kUserEnd - kPage)); }), kSegv);
    // Accesses by the kernel let the stack grow, too.
    const int status = in_child([&] {
        CHECK_EQ(sys::getrandom(reinterpret_cast<void*>(here - 7 * 1024 * 1024 - 3 * kPage), 2 * kPage), 2 * kPage);
    });
    CHECK_EQ(status, 0);
    return 0;
}
