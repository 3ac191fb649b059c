// A program exits while its threads sleep in the kernel, in every call that can sleep: the exit does not wait for them.
#include "tests/user/user.hpp"

#include <iterator>

namespace {

int files[2], full[2], file;
u8* memory;
volatile u32 ready = 0, word = 0;
auto* shared = reinterpret_cast<volatile u32*>(0);

constexpr u32 kLong[2]{1000, 0};                   // seconds, nanoseconds
constexpr u32 kLong64[4]{1000, 0, 0, 0};           // likewise
constexpr u32 kFarAway64[4]{0x7fff'ffff, 0, 0, 0}; // a time on a clock

void (*const sleeps[])(void*) = {
    [](void*) { sys::read(static_cast<u32>(files[0]), memory, 1); },
    [](void*) { sys::write(static_cast<u32>(full[1]), memory, kPage); },
    [](void*) { sys::write(static_cast<u32>(full[1]), memory, 64 * kPage); },
    [](void*) {
        const u32 pieces[]{sys::word(memory), 10, sys::word(memory), 10};
        sys::call(146, static_cast<u32>(full[1]), sys::word(pieces), 2);
    },
    [](void*) { sys::call(187, static_cast<u32>(full[1]), static_cast<u32>(file), 0, kPage); },
    [](void*) { sys::waitpid(-1, nullptr); },
    [](void*) { sys::call(114, ~0u, 0, 0, 0); },
    [](void*) { sys::call(162, sys::word(kLong), 0); },
    [](void*) { sys::call(267, 1, 0, sys::word(kLong), 0); },
    [](void*) { sys::call(407, 0, 1, sys::word(kFarAway64), 0); },
    [](void*) { sys::futex(&word, sys::kFutexWait | sys::kFutexPrivate, 0); },
    [](void*) { sys::futex(shared, sys::kFutexWait, 0); },
    [](void*) { sys::call6(240, sys::word(&word), 9, 0, 0, 0, 1); },
    [](void*) { sys::call6(422, sys::word(&word), 0, 0, sys::word(kLong64), 0, 0); },
};

void run(u32 which) {
    memory = new_memory(64 * kPage);
    shared = reinterpret_cast<volatile u32*>(new_memory(kPage, sys::kShared | sys::kAnonymous));
    REQUIRE(sys::pipe(files) == 0);
    REQUIRE(sys::call(331, sys::word(full), 04000) == 0); // O_NONBLOCK, until it is full
    while (sys::write(static_cast<u32>(full[1]), memory, kPage) > 0) {
    }
    file = sys::call(5, sys::word("/blocked"), 0102, 0644);
    REQUIRE(file >= 0 && sys::write(static_cast<u32>(file), memory, kPage) == int{kPage});
    u32 off = 0;
    REQUIRE(sys::call(54, static_cast<u32>(full[1]), 0x5421, sys::word(&off)) == 0); // FIONBIO
    const int pid = sys::fork();
    REQUIRE(!sys::failed(pid));
    if (pid == 0) {
        for (;;)
            sys::sleep_ms(1000);
    }
    ready = 0;
    static Thread threads[std::size(sleeps)];
    for (u32 i = 0; i < std::size(sleeps); ++i) {
        if (which != std::size(sleeps) && which != i) continue;
        static u32 numbers[std::size(sleeps)];
        numbers[i] = i;
        REQUIRE(threads[i].start(
            [](void* number) {
                add(ready, 1);
                sleeps[*static_cast<u32*>(number)](nullptr);
                add(ready, 100); // the call must not return
            },
            &numbers[i]));
    }
    const u32 started = which == std::size(sleeps) ? static_cast<u32>(std::size(sleeps)) : 1;
    while (ready % 100 != started)
        sys::yield();
    sys::sleep_ms(20);
    CHECK_EQ(ready, started);
    sys::call(270, static_cast<u32>(pid), static_cast<u32>(pid), 9); // the child sleeps, too
    if (which % 2 != 0) sys::exit_group(failures == 0 ? 42 : 1);
    sys::call(270, static_cast<u32>(sys::getpid()), static_cast<u32>(sys::gettid()), failures == 0 ? 15 : 9);
}

} // namespace

int main(int, char**) {
    for (u32 which = 0; which <= std::size(sleeps); ++which) {
        const int status = in_child([&] { run(which); });
        if (status != (which % 2 != 0 ? 42 << 8 : 15)) Line{} << "call " << which << ": status " << status;
        CHECK_EQ(status, which % 2 != 0 ? 42 << 8 : 15);
    }
    CHECK_EQ(sys::call(10, sys::word("/blocked")), 0);
    return 0;
}
