// Page tables by the gigabyte: a page here and there in three gigabytes of addresses, so that every page table of the
// address space is needed, in many processes that live at the same time.
//     sparse CHILDREN [STEP in MiB]
// The parent accesses one page in each STEP and forks the children, which have the same tables; each child writes some
// of its pages. When all children have done so, the parent lets them exit. Without memory the parent exits with status
// 2, and the kernel may kill any of them. A line reports the numbers.
#include "tests/user/user.hpp"

namespace {

constexpr u32 kMiB = 1024 * 1024;
constexpr u32 kBegin = 256 * kMiB,
              kEnd = 2900u * kMiB; // the program lies below, stack and pipe buffers above

u32 step = 2 * kMiB;

u32 value_at(u32 at, u32 who) { return at ^ who * 0x9e37'79b9; }

u32 count_wrong(u32 who, u32 changed) {
    u32 wrong = 0, i = 0;
    for (u32 at = kBegin; at < kEnd; at += step, ++i)
        wrong += load<u32>(at + i % 1000 * 4) != value_at(at, i % 64 == changed % 64 ? who : 0);
    return wrong;
}

} // namespace

int main(int argc, char** argv) {
    const u32 children = argc > 1 ? number_of(argv[1]) : 2;
    if (argc > 2) step = number_of(argv[2]) * kMiB;
    void* all = sys::mmap(reinterpret_cast<void*>(kBegin), kEnd - kBegin, sys::kRead | sys::kWrite,
                          sys::kPrivate | sys::kAnonymous | sys::kFixed);
    REQUIRE(all == reinterpret_cast<void*>(kBegin));
    u32 i = 0;
    for (u32 at = kBegin; at < kEnd; at += step, ++i)
        store<u32>(at + i % 1000 * 4, value_at(at, 0));

    int ready[2], go[2];
    REQUIRE(sys::pipe(ready) == 0 && sys::pipe(go) == 0);
    u32 born = 0;
    bool refused = false;
    for (u32 who = 1; who <= children && !refused; ++who) {
        const int pid = sys::fork();
        if (pid == 0) {
            sys::close(static_cast<u32>(ready[0]));
            sys::close(static_cast<u32>(go[1]));
            u32 k = 0;
            for (u32 at = kBegin; at < kEnd; at += step, ++k)
                if (k % 64 == who % 64) store<u32>(at + k % 1000 * 4, value_at(at, who));
            sys::write(static_cast<u32>(ready[1]), "+", 1);
            u8 byte;
            sys::read(static_cast<u32>(go[0]), &byte, 1); // returns when the parent closes its end
            CHECK_EQ(count_wrong(who, who), 0);
            sys::exit(failures != 0);
        }
        if (sys::failed(pid))
            refused = true;
        else
            ++born;
    }
    sys::close(static_cast<u32>(ready[1]));
    u32 came = 0;
    u8 bytes[64];
    // When a child is killed, its end of the pipe is closed.
    while (came < born) {
        const int got = sys::read(static_cast<u32>(ready[0]), bytes, sizeof bytes);
        if (got <= 0) break;
        came += static_cast<u32>(got);
    }
    Line{} << came << " of " << children << " children have their tables";
    sys::sleep_ms(60); // so that the test, which samples, sees the peak
    sys::close(static_cast<u32>(go[1]));
    u32 well = 0, killed = 0;
    for (u32 k = 0; k < born; ++k) {
        int status = -1;
        CHECK(sys::waitpid(-1, &status) > 0);
        well += status == 0;
        killed += status == kKill;
    }
    CHECK_EQ(well + killed, born); // no child has failed a check
    CHECK_EQ(count_wrong(0, 0), 0);
    if (failures != 0) return 1;
    return well == children ? 0 : 2;
}
