// One thread repeatedly unmaps memory and maps other memory there, while another one makes the kernel copy from and to
// it. Each copy ends and finds one of the two contents, never other data, and never a freed page.
#include "tests/user/user.hpp"

namespace {

constexpr u32 kPages = 4;
volatile u32 stop = 0;
u8* target;

void* map_again() {
    return sys::mmap(target, kPages * kPage, sys::kRead | sys::kWrite, sys::kPrivate | sys::kAnonymous | sys::kFixed);
}

} // namespace

int main(int argc, char** argv) {
    const u32 rounds = argc > 1 ? number_of(argv[1]) : 300;
    target = new_memory(kPages * kPage);
    int files[2];
    REQUIRE(sys::pipe(files) == 0);
    const auto in = static_cast<u32>(files[0]), out = static_cast<u32>(files[1]);
    static u8 buffer[kPages * kPage];

    auto disturb = [] {
        // In random order: the fair mutex lets both threads in by turns, so one would always meet the same state of the
        // other.
        for (u32 random = 1; stop == 0; random = random * 1'664'525 + 1'013'904'223) {
            switch (random >> 24 & 7) {
            case 0:
            case 1:
                sys::munmap(target, kPages * kPage);
                break;
            case 2:
                sys::mprotect(target, kPages * kPage, sys::kRead);
                break;
            case 3:
                sys::mprotect(target, kPages * kPage, sys::kRead | sys::kWrite);
                break;
            case 4:
                sys::yield();
                break;
            default:
                if (map_again() == target)
                    for (u32 page = 0; page < kPages; ++page)
                        target[page * kPage] = 0;
                break;
            }
        }
        map_again();
    };
    Thread thread;
    REQUIRE(start(thread, disturb));

    u32 whole = 0, cut = 0;
    for (u32 round = 0; round < rounds; ++round) {
        const u32 bytes = 1 + round * 37 % (kPages * kPage - 1);
        const int sent = sys::write(out, target, bytes < kPage ? bytes : kPage);
        if (sent > 0) {
            const int got = sys::read(in, buffer, static_cast<u32>(sent));
            CHECK_EQ(got, sent);
            u32 wrong = 0;
            for (int i = 0; i < got; ++i)
                wrong += buffer[i] != 0 && buffer[i] != 0xaa;
            CHECK_EQ(wrong, 0); // 0xaa: this thread has put it there
        } else {
            CHECK_EQ(sent, -kEfault);
        }
        // Into it, as well.
        for (u32 i = 0; i < 200; ++i)
            buffer[i] = 0xaa;
        CHECK_EQ(sys::write(out, buffer, 200), 200);
        u32 left = 200;
        const int got = sys::read(in, target + round * 111 % (kPages * kPage - 200), left);
        if (got > 0) left -= static_cast<u32>(got);
        (left == 0 ? whole : cut) += 1;
        if (left != 0)
            CHECK_EQ(sys::read(in, buffer, left), left);          // the bytes that were not read are still in the pipe
        sys::nanosleep(reinterpret_cast<sys::TimeSpec*>(target)); // EFAULT, EINVAL, or no time at all
        sys::futex(reinterpret_cast<u32*>(target), sys::kFutexWait | sys::kFutexPrivate, 1);
        sys::futex(reinterpret_cast<u32*>(target), sys::kFutexWake, 1);
    }
    stop = 1;
    thread.join();
    Line{} << whole << " copies were whole, " << cut << " were cut";
    return 0;
}
