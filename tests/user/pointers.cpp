// Bad pointers in every system call that takes one: EFAULT, without other effects.
#include "tests/user/user.hpp"

#include <initializer_list>

namespace {

u32 bad[24];
u32 count = 0;

// Each call with every bad pointer; `expected` is its answer.
template <typename F> void all(const char* name, F&& call, int expected = -kEfault) {
    for (u32 i = 0; i < count; ++i) {
        const int got = call(bad[i]);
        if (got == expected) continue;
        Line{} << name << " of " << reinterpret_cast<void*>(bad[i]) << " says " << got << ", not " << expected;
        add(failures, 1);
    }
}

} // namespace

int main(int, char**) {
    u8* page = new_memory(4 * kPage);
    const u32 at = reinterpret_cast<u32>(page);
    CHECK_EQ(sys::munmap(page + 2 * kPage, 2 * kPage),
             0); // mmap may place the next page there, above
    CHECK_EQ(sys::mprotect(page + kPage, kPage, sys::kNone), 0);
    const u32 hole = at + 2 * kPage, closed = at + kPage;
    // The null pointer, holes, the border to the kernel from both sides, the kernel itself, and a range that wraps.
    for (const u32 address : {0u,           4u,           0xfffu,        0x1000u,      hole,
                              hole + 4092,  closed,       closed + 2048, 0xbfff'f000u, 0xbfff'fffcu,
                              0xc000'0000u, 0xc000'0004u, 0xc010'0000u,  0xf800'0000u, 0xff80'0000u,
                              0xffc0'0000u, 0xffff'0000u, 0xffff'f000u,  0xffff'fff0u, 0xffff'fffcu})
        bad[count++] = address;

    int files[2] = {-1, -1};
    REQUIRE(sys::pipe(files) == 0);
    const auto in = static_cast<u32>(files[0]), out = static_cast<u32>(files[1]);

    all("write", [](u32 p) { return sys::write(1, reinterpret_cast<void*>(p), 4); });
    all("write to a pipe", [&](u32 p) { return sys::write(out, reinterpret_cast<void*>(p), 4); });
    CHECK_EQ(sys::write(out, "12345678", 8), 8);
    all("read from a pipe", [&](u32 p) { return sys::read(in, reinterpret_cast<void*>(p), 4); });
    char back[9] = {};
    CHECK_EQ(sys::read(in, back, 8), 8); // nothing was lost
    CHECK(back[0] == '1' && back[7] == '8');
    const int made = sys::call(5, sys::word("/pointers"), 0102, 0644);
    REQUIRE(made >= 0 && sys::write(static_cast<u32>(made), "x", 1) == 1);
    for (const u32 number : {187u, 239u}) // null: the position
        all("sendfile",
            [&](u32 p) { return p == 0 ? -kEfault : sys::call(number, out, static_cast<u32>(made), p, 1); });
    sys::close(static_cast<u32>(made));
    CHECK_EQ(sys::call(10, sys::word("/pointers")), 0);
    all("pipe", [](u32 p) { return sys::call(42, p); });
    all("uname", [](u32 p) { return sys::call(122, p); });
    all("nanosleep", [](u32 p) { return sys::call(162, p, 0); });
    all("getrandom", [](u32 p) { return sys::call(355, p, 4, 0); });
    all("writev", [](u32 p) { return sys::call(146, 1, p, 1); });
    all("set_thread_area", [](u32 p) { return sys::call(243, p); });
    all("futex wait", [](u32 p) { return p % 4 != 0 ? -kEfault : sys::call(240, p, 128, 0); });
    all("futex wake, shared", [](u32 p) { return p % 4 != 0 ? -kEfault : sys::call(240, p, 1, 1); });
    u32 word = 0;
    all("futex wait with a limit",
        [&](u32 p) { return p == 0 ? -kEfault : sys::call(240, sys::word(&word), 128, 0, p); });
    all("statx", [](u32 p) { return sys::call(383, 1, sys::word(""), 0x1000, 0, p); });
    all("fstat64", [](u32 p) { return sys::call(197, 1, p); });
    const int root = sys::call(5, sys::word("/"), 0);
    REQUIRE(root >= 0);
    for (const u32 number :
         {5u, 8u, 10u, 12u, 15u, 16u, 18u, 30u, 33u, 39u, 40u, 84u, 92u, 106u, 107u, 182u, 212u, 271u})
        all("a path", [&](u32 p) { return sys::call(number, p, 0, 0); });
    for (const u32 number : {9u, 38u, 83u}) {
        all("the first of two paths", [&](u32 p) { return sys::call(number, p, sys::word("/x")); });
        all("the second of two paths", [&](u32 p) { return sys::call(number, sys::word("/"), p); });
    }
    all("renameat2", [](u32 p) { return sys::call(353, 0, p, 0, sys::word("/x"), 1); });
    for (const u32 number : {18u, 84u, 99u, 106u, 107u})
        all("what stat or statfs says", [&](u32 p) { return sys::call(number, sys::word("/"), p); });
    for (const u32 number : {28u, 100u, 108u})
        all("what fstat or fstatfs says", [&](u32 p) { return sys::call(number, static_cast<u32>(root), p); });
    for (const u32 number : {30u, 271u}) // null is the present
        all("times", [&](u32 p) { return p == 0 ? -kEfault : sys::call(number, sys::word("/"), p); });
    for (const u32 number : {320u, 412u})
        all("times", [&](u32 p) { return p == 0 ? -kEfault : sys::call(number, 0xffff'ff9c, sys::word("/"), p, 0); });
    all("getdents", [&](u32 p) { return sys::call(141, static_cast<u32>(root), p, kPage); });
    all("stat64", [](u32 p) { return sys::call(195, sys::word("/"), p); });
    all("statfs64", [](u32 p) { return sys::call(268, sys::word("/"), 84, p); });
    all("getcwd", [](u32 p) { return sys::call(183, p, 100); });
    all("getdents64", [&](u32 p) { return sys::call(220, static_cast<u32>(root), p, kPage); });
    sys::close(static_cast<u32>(root));
    // A child that has ended is reaped, although its status cannot be stored.
    all("waitpid", [](u32 p) {
        if (p == 0) return -kEfault; // null is allowed here: no status
        const int pid = sys::fork();
        if (pid == 0) sys::exit(0);
        return sys::waitpid(pid, reinterpret_cast<int*>(p));
    });
    CHECK_EQ(sys::waitpid(-1, nullptr), -kEchild);

    // A write to read-only memory; a read is allowed.
    u8* constant = new_memory(kPage);
    CHECK_EQ(sys::mprotect(constant, kPage, sys::kRead), 0);
    CHECK_EQ(sys::uname(constant), -kEfault);
    CHECK_EQ(sys::getrandom(constant, 1), -kEfault);
    CHECK_EQ(sys::write(out, constant, 8), 8);
    CHECK_EQ(sys::read(in, constant, 8), -kEfault);

    // Half of the range is mapped: a write or a read of less than a page is all or nothing. getrandom returns what it
    // has stored.
    CHECK_EQ(sys::mprotect(page + kPage, kPage, sys::kRead | sys::kWrite), 0);
    for (u32 i = 0; i < 2 * kPage; ++i)
        page[i] = static_cast<u8>(i);
    CHECK_EQ(sys::read(in, page, 8), 8);
    CHECK_EQ(sys::write(out, page + 2 * kPage - 16, 64), -kEfault);
    CHECK_EQ(sys::write(out, page + kPage - 16, 2 * kPage), kPage);
    CHECK_EQ(sys::read(in, page + 2 * kPage - 5, 16), -kEfault);
    CHECK_EQ(sys::read(in, page, 2 * kPage), kPage);
    CHECK_EQ(sys::write(1, page + 2 * kPage - 1, 0x7fff'ffff), -kEfault);
    CHECK_EQ(sys::getrandom(page + 2 * kPage - 3, 64), 3);
    CHECK_EQ(sys::call(122, hole - 100), -kEfault);

    // Not a pointer, but as bad.
    CHECK_EQ(sys::read(3000, page, 1), -kEbadf);
    CHECK_EQ(sys::close(15), -kEbadf);
    CHECK_EQ(sys::read(out, page, 1), -kEbadf);
    CHECK_EQ(sys::write(in, page, 1), -kEbadf);
    CHECK_EQ(sys::call(240, sys::word(&word) + 1, 128, 0), -kEinval);
    CHECK_EQ(sys::waitpid(12345, nullptr), -kEchild);
    return 0;
}
