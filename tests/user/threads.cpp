// Threads: shared memory, a tid and a stack for each; creation, exit, and the exit of the whole program.
#include "tests/user/user.hpp"

#include <initializer_list>

namespace {

volatile u32 sum = 0, started = 0;
volatile u32 wall[2] = {0, 0};

} // namespace

int main(int, char**) {
    // Many short threads: each frees its resources while the program runs on.
    auto short_one = [] {
        CHECK(sys::gettid() != sys::getpid());
        add(sum, 1);
    };
    for (u32 i = 0; i < 40; ++i) {
        Thread thread;
        REQUIRE(start(thread, short_one));
        thread.join();
    }
    CHECK_EQ(sum, 40);

    // Many threads at once on the same pages; the first access by any of them faults a page in.
    constexpr u32 kThreads = 8, kPages = 64;
    static u8* memory;
    memory = new_memory(kPages * kPage);
    sum = 0;
    auto writer = [] {
        const u32 me = add(started, 1);
        for (u32 page = 0; page < kPages; ++page)
            add(*reinterpret_cast<volatile u32*>(memory + (page * 7 + me) % kPages * kPage), me + 1);
        add(sum, 1);
    };
    Thread threads[kThreads];
    for (Thread& thread : threads)
        REQUIRE(start(thread, writer));
    for (Thread& thread : threads)
        thread.join();
    CHECK_EQ(sum, kThreads);
    for (u32 page = 0; page < kPages; ++page)
        CHECK_EQ(*reinterpret_cast<u32*>(memory + page * kPage), kThreads * (kThreads + 1) / 2);

    // fork copies only the calling thread; the child's memory is a snapshot.
    auto counting = [] {
        while (wall[0] == 0)
            add(wall[1], 1);
    };
    REQUIRE(start(threads[0], counting));
    for (u32 i = 0; i < 5; ++i) {
        const int status = in_child([] {
            const u32 seen = wall[1];
            sys::sleep_ms(5);
            CHECK_EQ(wall[1], seen);
            CHECK_EQ(sys::gettid(), sys::getpid());
        });
        CHECK_EQ(status, 0);
    }
    wall[0] = 1;
    threads[0].join();

    // exit_group ends all threads: one that computes, one that sleeps, one that waits for ever, one that waits for a
    // child.
    const int status = in_child([] {
        auto spin = [] {
            for (;;)
                add(sum, 1);
        };
        auto sleep = [] { sys::sleep_ms(100'000); };
        auto wait = [] {
            for (;;)
                sys::futex(&wall[0], sys::kFutexWait, 1);
        };
        auto wait_for_child = [] {
            const int pid = sys::fork();
            if (pid == 0) {
                sys::sleep_ms(30);
                sys::exit(0);
            }
            sys::waitpid(pid, nullptr);
            for (;;)
                sys::yield();
        };
        int files[2];
        sys::pipe(files);
        static u32 in;
        in = static_cast<u32>(files[0]);
        auto read = [] {
            u8 byte;
            sys::read(in, &byte, 1);
        };
        Thread some[5];
        REQUIRE(start(some[0], spin) && start(some[1], sleep) && start(some[2], wait) &&
                start(some[3], wait_for_child) && start(some[4], read));
        sys::sleep_ms(20);
        sys::exit_group(7);
    });
    CHECK_EQ(status, 7 << 8);

    // A fault in one thread kills all threads.
    CHECK_EQ(in_child([] {
                 auto fault = [] { store<u32>(0, 1); };
                 Thread thread;
                 REQUIRE(start(thread, fault));
                 for (;;)
                     sys::sleep_ms(1000);
             }),
             kSegv);
    // The first thread may exit before the others.
    CHECK_EQ(in_child([] {
                 static Thread thread;
                 auto later = [] {
                     sys::sleep_ms(20);
                     sys::exit_group(3);
                 };
                 REQUIRE(start(thread, later));
                 sys::exit(0);
             }),
             3 << 8);
    // Its tid stays valid as long as the process: a signal can be sent to it and has no effect.
    const int left = in_child([] {
        static volatile u32 here = 1;
        static u32 pid;
        pid = static_cast<u32>(sys::getpid());
        static Thread thread;
        auto later = [] {
            while (here != 0)
                sys::yield();
            sys::sleep_ms(20);
            for (const u32 signal : {0u, 15u, 9u}) {
                CHECK_EQ(sys::call(270, pid, pid, signal), 0); // tgkill
                CHECK_EQ(sys::call(238, pid, signal), 0);      // tkill
            }
            CHECK_EQ(sys::call(238, pid, 65), -kEinval);
            sys::exit_group(failures != 0 ? 1 : 3);
        };
        sys::call(258, sys::word(&here)); // set_tid_address
        REQUIRE(start(thread, later));
        sys::exit(0);
    });
    CHECK_EQ(left, 3 << 8);
    // The word of set_tid_address is for the other threads: the exit of the last thread does not clear it.
    auto* const shared = reinterpret_cast<volatile u32*>(new_memory(kPage, sys::kShared | sys::kAnonymous));
    *shared = 5;
    CHECK_EQ(in_child([&] { sys::call(258, sys::word(shared)); }), 0);
    CHECK_EQ(*shared, 5);
    return 0;
}
