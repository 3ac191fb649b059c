// Memory that fork does not copy: both processes see each other's writes, and a futex in it wakes the other one.
#include "tests/user/user.hpp"

int main(int, char**) {
    constexpr u32 kPages = 20;
    u8* memory = new_memory(kPages * kPage, sys::kShared | sys::kAnonymous);
    u8* own = new_memory(kPage);
    auto* turn = reinterpret_cast<volatile u32*>(memory);
    store<u32>(reinterpret_cast<u32>(memory) + 5 * kPage,
               55); // this page exists before the fork; the others come after it
    *own = 1;
    const int pid = sys::fork();
    REQUIRE(!sys::failed(pid));
    constexpr u32 kRounds = 200;
    const u32 me = pid == 0;
    for (u32 round = 0; round < kRounds; ++round) {
        for (u32 seen = *turn; seen % 2 != me; seen = *turn)
            sys::futex(turn, sys::kFutexWait, seen);
        const u32 now = *turn;
        CHECK_EQ(now, 2 * round + me);
        auto* page = reinterpret_cast<volatile u32*>(memory + (1 + now % (kPages - 1)) * kPage + 8);
        if (now >= kPages - 1) CHECK_EQ(*page, now - (kPages - 1)); // the other process may have written it last
        *page = now;
        *own = static_cast<u8>(me + 1);
        __atomic_store_n(turn, now + 1, __ATOMIC_SEQ_CST);
        sys::futex(turn, sys::kFutexWake, 1);
    }
    CHECK_EQ(load<u32>(reinterpret_cast<u32>(memory) + 5 * kPage), 55);
    CHECK_EQ(*own, me + 1); // not visible to the other process
    if (me == 1) return 0;
    int status = -1;
    CHECK_EQ(sys::waitpid(pid, &status), pid);
    CHECK_EQ(status, 0);
    CHECK_EQ(sys::munmap(memory, kPages * kPage), 0);
    return 0;
}
