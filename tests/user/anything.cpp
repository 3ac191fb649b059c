// Random calls from several threads of a program that shares its memory with its parent by copy on write, until the
// program exits or is killed. The kernel must survive, the parent's memory must not change, and all resources must be
// freed.
//     anything [SEED [ROUNDS]]
#include "tests/user/user.hpp"

#include <iterator>

namespace {

constexpr u32 kThreads = 5, kPages = 24, kWords = kPage / 4;
u8* arena;  // private to each program; the parent has a mark in each page
u8* shared; // shared by all programs
u32 first_seed = 1;

struct Random {
    u32 state;
    u32 below(u32 end) {
        state = state * 1'664'525 + 1'013'904'223;
        return (state >> 8) % end;
    }
    bool one_in(u32 n) { return below(n) == 0; }
};

u32 mark(u32 page) { return 0x5eed'0000 + page; }

// Calls that map and unmap memory occur more often. Left out: the exit of a thread or a program, which would come too
// soon; fork and clone, as a child needs code to run; signals, which must not go to other programs; new directories and
// another current one, as the files that are made have to be found again.
constexpr u8 kCalls[]{3,  4,  5,  6,   7,   8,   9,   10,  13,  20,  33,  38,  42,  42,  45,  54,  64,  78,  83,  85,
                      91, 92, 93, 118, 91,  91,  114, 122, 125, 125, 125, 146, 158, 162, 174, 175, 191, 183, 187, 15,
                      30, 60, 94, 99,  106, 141, 198, 207, 212, 192, 192, 192, 195, 196, 197, 220, 224, 240};
constexpr u16 kMore[]{239, 240, 240, 240, 243, 258, 265, 266, 267, 268, 269, 295, 300, 301, 302, 298,
                      303, 304, 305, 306, 307, 320, 331, 353, 340, 355, 383, 403, 406, 407, 422, 422};

u32 address(Random& random) {
    const u32 page = random.below(kPages) * kPage;
    u8* const base = random.one_in(3) ? shared : arena;
    return reinterpret_cast<u32>(base) + page + (random.one_in(2) ? random.below(kWords) * 4 : 0);
}

u32 argument(Random& random) {
    switch (random.below(10)) {
    case 0:
        return random.below(16);
    case 1:
        return random.below(8) * kPage;
    case 2:
        return 1u << random.below(32);
    case 3:
        return 0;
    case 4:
        return ~random.below(4);
    default:
        return address(random);
    }
}

// A call with sensible arguments, which succeeds more often than a random one.
int sensible(Random& random) {
    using namespace sys;
    const u32 at = address(random) & ~(kPage - 1), bytes = (1 + random.below(6)) * kPage, word = address(random);
    constexpr u32 kFutexes[]{0, 1, 3, 4, 5, 9, 10};
    switch (random.below(10)) {
    case 9:
        return call(187, random.below(16), random.below(16), random.one_in(2) ? 0 : word, random.below(3 * kPage));
    case 0:
        return call(91, at, random.one_in(2) ? kPage : bytes);
    case 1:
    case 2: {
        constexpr u32 kGrowsDown = 0x100, kPopulate = 0x8000;
        u32 flags = (random.one_in(4) ? kShared : kPrivate) | kAnonymous | kFixed;
        if (random.one_in(4)) flags |= kGrowsDown;
        if (random.one_in(4)) flags |= kPopulate;
        return call6(192, at, bytes, random.one_in(8) ? random.below(8) : 3, flags, ~0u, 0);
    }
    case 3:
        return call(125, at, bytes, random.below(8) | (random.one_in(6) ? 0x0100'0000u : 0u));
    case 4: {
        const TimeSpec limit{0, random.below(3'000'000)};
        const u32 operation = kFutexes[random.below(std::size(kFutexes))] | (random.one_in(2) ? 128u : 0u);
        const bool waits = operation % 128 == 0 || operation % 128 == 9;
        return call6(240, word, operation, random.below(3), waits ? sys::word(&limit) : random.below(4),
                     address(random), random.one_in(2) ? random.below(3) : ~0u);
    }
    case 5:
        return call(random.one_in(2) ? 3 : 4, random.below(16), word, random.below(3 * kPage));
    case 6: {
        const u32 pieces[]{address(random), random.below(kPage), address(random), random.below(2 * kPage)};
        return call(146, random.below(16), sys::word(pieces), 2);
    }
    case 7: { // a thread needs its own stack
        const int pid = call(120, random.one_in(2) ? 17 : 17 | 0x10'0000 | 0x100'0000, 0, word, 0, address(random));
        if (pid == 0) {
            store<u32>(word, 7); // a copy, or no such memory
            exit_group(0);
        }
        return pid;
    }
    default: {
        const TimeSpec time{0, random.below(2'000'000)};
        return nanosleep(&time);
    }
    }
}

void run(u32 seed) {
    Random random{seed * 2'654'435'761u + 12'345};
    for (u32 i = 0; i < 600; ++i) {
        if (random.one_in(2)) {
            sensible(random);
        } else if (random.one_in(300)) {
            sys::call(270, static_cast<u32>(sys::getpid()), static_cast<u32>(sys::gettid()), random.below(66));
        } else {
            const u32 which = random.below(std::size(kCalls) + std::size(kMore));
            const u32 number = which < std::size(kCalls) ? kCalls[which] : kMore[which - std::size(kCalls)];
            sys::call6(number, argument(random), argument(random), argument(random), argument(random), argument(random),
                       argument(random));
        }
    }
}

[[noreturn]] void child(u32 seed) {
    for (u32 file = 0; file < 3; ++file)
        sys::close(file); // no output from these programs
    int files[2];
    sys::pipe(files);
    sys::call(331, sys::word(files), 04000); // O_NONBLOCK
    static Thread threads[kThreads];
    static u32 seeds[kThreads];
    for (u32 i = 0; i < kThreads; ++i) {
        seeds[i] = seed * kThreads + i;
        if (!threads[i].start([](void* mine) { run(*static_cast<u32*>(mine)); }, &seeds[i])) break;
    }
    run(seed + 77'777);
    sys::exit_group(0);
}

} // namespace

namespace {

constexpr char kFolder[] = "/anything"; // the files that random calls make are in it

void enter_folder() {
    sys::call(39, sys::word(kFolder), 0755);
    REQUIRE(sys::call(12, sys::word(kFolder)) == 0);
}
void remove_folder() {
    alignas(8) u8 entries[kPage];
    const int folder = sys::call(5, sys::word("."), 0, 0);
    REQUIRE(folder >= 0);
    for (u32 removed = 1; removed != 0;) {
        removed = 0;
        sys::call(19, static_cast<u32>(folder), 0, 0);
        const int got = sys::call(220, static_cast<u32>(folder), sys::word(entries), sizeof entries);
        for (int at = 0; at < got; at += entries[at + 16] | entries[at + 17] << 8)
            removed += sys::call(10, sys::word(entries + at + 19)) == 0; // not "." and ".."
    }
    sys::close(static_cast<u32>(folder));
    REQUIRE(sys::call(12, sys::word("/")) == 0);
    CHECK_EQ(sys::call(40, sys::word(kFolder)), 0);
}

} // namespace

int main(int argc, char** argv) {
    if (argc > 1) first_seed = number_of(argv[1]);
    const u32 rounds = argc > 2 ? number_of(argv[2]) : 20;
    arena = new_memory(kPages * kPage);
    shared = new_memory(kPages * kPage, sys::kShared | sys::kAnonymous);
    enter_folder();
    u32 faults = 0;
    for (u32 round = 0; round < rounds; ++round) {
        for (u32 page = 0; page < kPages; ++page)
            for (u32 at = 0; at < kPage; at += 512)
                store<u32>(reinterpret_cast<u32>(arena) + page * kPage + at, mark(page));
        Random random{first_seed + round};
        const int pid = sys::fork();
        if (pid == 0) child(first_seed + round);
        REQUIRE(pid > 0);
        sys::sleep_ms(5 + random.below(60));
        sys::call(270, static_cast<u32>(pid), static_cast<u32>(pid), 9);
        int status = -1;
        REQUIRE(sys::waitpid(pid, &status) == pid);
        faults += (status & 0x7f) == kSegv;
        u32 wrong = 0;
        for (u32 page = 0; page < kPages; ++page)
            for (u32 at = 0; at < kPage; at += 512)
                wrong += load<u32>(reinterpret_cast<u32>(arena) + page * kPage + at) != mark(page);
        CHECK_EQ(wrong, 0);
    }
    remove_folder();
    Line{} << rounds << " rounds, " << faults << " ended by a fault";
    return 0;
}
