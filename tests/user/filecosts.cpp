// What operations on files cost, in ticks of the TSC: under QEMU's `-icount shift=0` a tick is an instruction. The same
// file runs on loft and on Linux (scripts/bench-files).
//     filecosts paths NAME FILE    each operation on a new file, whose pages are in memory
//     filecosts disk NAME FILE     the same on a disk
//     filecosts read NAME FILE     reads FILE, which is not in memory, from its begin to its end
//     filecosts swap NAME MIB      stores to that much memory, then reads it
//
// Lines are "bench NAME.OPERATION FIGURE ticks", as kernel/proof/bench.hpp defines them: a figure is the median of 21
// rounds, divided by the operations of a round; the loop is included, a first round is not counted. What follows the
// name of an operation is the cost of one page.
//
// A CPU that waits for a disk executes nothing, but its ticks go on. So all but `paths` start a second process, which
// computes whenever the first one waits, and says how many ticks it had: the rest is what the kernel and the first
// process have executed.
#include "tests/user/user.hpp"

namespace {

constexpr u32 kRounds = 21, kPages = 1024, kAround = 16;
constexpr u32 kMiB = 1u << 20;

u64 ticks() { return __builtin_ia32_rdtsc(); }

// What both share. `spun`: the ticks that the second process had, in units of kUnit.
constexpr u32 kUnit = 1024;
struct Shared {
    volatile u32 spun = 0, stop = 0;
};
Shared* shared = nullptr;

// The ticks that the second process did not have; exact to kUnit.
u64 clock() { return ticks() - u64{shared->spun} * kUnit; }

int open(const char* path, u32 flags) { return sys::call(5, sys::word(path), flags, 0644); }
int unlink(const char* path) { return sys::call(10, sys::word(path)); }
int ftruncate(u32 file, u32 bytes) { return sys::call(93, file, bytes); }
int pread(u32 file, void* to, u32 bytes, u32 offset) { return sys::call(180, file, sys::word(to), bytes, offset, 0); }
int pwrite(u32 file, const void* from, u32 bytes, u32 offset) {
    return sys::call(181, file, sys::word(from), bytes, offset, 0);
}
u8* map_file(u32 file, u32 pages, u32 prot, u32 flags) {
    u8* const at = reinterpret_cast<u8*>(sys::call6(192, 0, pages * kPage, prot, flags, file, 0));
    REQUIRE(!sys::failed(at));
    return at;
}
constexpr u32 kReadOnly = 0, kReadWrite = 02 | 0100 | 01000; // O_RDWR, O_CREAT, O_TRUNC

const char* name = nullptr; // of the lines

void print(const char* operation, u64 all, u32 operations) {
    const u64 scaled = (all * 10'000 + operations / 2) / operations;
    Line line;
    line << "bench " << name << "." << operation << " " << static_cast<u32>(scaled / 10'000) << ".";
    const u32 rest = static_cast<u32>(scaled % 10'000);
    for (u32 digit = 1000; digit > rest && digit > 1; digit /= 10)
        line << "0";
    line << rest << " ticks";
}

// `round` returns the ticks of its operations.
template <typename F> void measure(const char* operation, u32 operations, F&& round) {
    u64 took[kRounds];
    static_cast<void>(round());
    for (u32 i = 0; i < kRounds; ++i) { // in order
        const u64 now = round();
        u32 at = i;
        for (; at != 0 && took[at - 1] > now; --at)
            took[at] = took[at - 1];
        took[at] = now;
    }
    print(operation, took[kRounds / 2], operations);
}

// The ticks of operation(i) for each i below `count`.
template <typename F> u64 loop(u32 count, F&& operation) {
    const u64 begin = clock();
    for (u32 i = 0; i < count; ++i)
        operation(i);
    return clock() - begin;
}

u8 buffer[kPage];

void fill(u32 file, u32 step) {
    REQUIRE(ftruncate(file, 0) == 0);
    for (u32 i = 0; i < kPages; ++i)
        REQUIRE(pwrite(file, buffer, kPage, i * step * kPage) == int{kPage});
}

// The cost of a load or store to every `step`-th page of a new mapping.
template <typename F> u64 touch(u32 file, u32 step, u32 prot, u32 flags, F&& access) {
    const u32 pages = kPages * step;
    u8* const at = map_file(file, pages, prot, flags);
    const u64 took = loop(kPages, [&](u32 i) { access(reinterpret_cast<u32>(at) + i * step * kPage); });
    REQUIRE(sys::munmap(at, pages * kPage) == 0);
    return took;
}

void measure_paths(const char* path) {
    for (u8& byte : buffer)
        byte = 1;
    const int opened = open(path, kReadWrite);
    REQUIRE(!sys::failed(opened));
    const u32 file = static_cast<u32>(opened);

    measure("pwrite_new", kPages, [&] {
        REQUIRE(ftruncate(file, 0) == 0);
        return loop(kPages, [&](u32 i) { pwrite(file, buffer, kPage, i * kPage); });
    });
    measure("pwrite", kPages, [&] { return loop(kPages, [&](u32 i) { pwrite(file, buffer, kPage, i * kPage); }); });
    measure("pread", kPages, [&] { return loop(kPages, [&](u32 i) { pread(file, buffer, kPage, i * kPage); }); });
    measure("pread64", kPages, [&] { return loop(kPages, [&](u32 i) { pread(file, buffer, 64, i * kPage); }); });
    measure("read_fault", kPages,
            [&] { return touch(file, 1, sys::kRead, sys::kShared, [](u32 at) { static_cast<void>(load<u32>(at)); }); });
    measure("write_fault.private", kPages,
            [&] { return touch(file, 1, sys::kRead | sys::kWrite, sys::kPrivate, [](u32 at) { store<u32>(at, 1); }); });
    // Only every 16th page is in memory.
    fill(file, kAround);
    measure("read_fault.single", kPages, [&] {
        return touch(file, kAround, sys::kRead, sys::kShared, [](u32 at) { static_cast<void>(load<u32>(at)); });
    });
    measure("open_close", kPages,
            [&] { return loop(kPages, [&](u32) { sys::close(static_cast<u32>(open(path, kReadOnly))); }); });
    CHECK_EQ(sys::close(file), 0);
    CHECK_EQ(unlink(path), 0);
}

// ------------------------------------------------------------------------------------------------- the second process

// A pass of the loop takes fewer ticks than kPass, unless something else has run. After kTurn ticks it lets another
// process run, if one is ready; the cheapest of these calls is one in which none was.
[[noreturn]] void spin() {
    constexpr u32 kPass = 64, kTurn = 20'000;
    u32 mine = 0, cheapest = ~0u;
    u64 last = ticks();
    while (shared->stop == 0) {
        const u64 begin = last;
        while (last - begin < kTurn) {
            const u64 now = ticks();
            if (now - last < kPass) mine += static_cast<u32>(now - last);
            last = now;
        }
        sys::yield();
        const u64 now = ticks();
        if (now - last < cheapest) cheapest = static_cast<u32>(now - last);
        mine += cheapest;
        last = now;
        shared->spun = shared->spun + mine / kUnit;
        mine %= kUnit;
    }
    sys::exit(0);
}

// The second process, until the end of the scope.
class Spinner {
  public:
    Spinner() : pid_{sys::fork()} {
        if (pid_ == 0) spin();
        REQUIRE(pid_ > 0);
        while (shared->spun == 0)
            sys::yield();
    }
    ~Spinner() {
        shared->stop = 1;
        int status = -1;
        CHECK(sys::waitpid(pid_, &status) == pid_);
    }

  private:
    int pid_;
};

void measure_read(const char* from) {
    constexpr u32 kChunk = 64 * 1024;
    const int file = open(from, kReadOnly);
    REQUIRE(!sys::failed(file));
    u8* const to = new_memory(kChunk);
    for (u32 i = 0; i < kChunk; i += kPage)
        to[i] = 1;
    u32 pages = 0;
    const Spinner spinner;
    const u64 begin = clock();
    for (;;) {
        const int got = sys::read(static_cast<u32>(file), to, kChunk);
        REQUIRE(!sys::failed(got));
        if (got == 0) break;
        pages += static_cast<u32>(got) / kPage;
    }
    const u64 took = clock() - begin;
    REQUIRE(pages != 0);
    print("read", took, pages);
}

void measure_swap(u32 mib) {
    u8* const memory = new_memory(mib * kMiB);
    const u32 pages = mib * kMiB / kPage;
    const Spinner spinner;
    const u64 begin = clock();
    for (u32 i = 0; i < pages; ++i)
        store<u32>(reinterpret_cast<u32>(memory) + i * kPage, i + 1);
    const u64 stored = clock();
    print("store", stored - begin, pages);
    u32 wrong = 0;
    for (u32 i = 0; i < pages; ++i)
        wrong += load<u32>(reinterpret_cast<u32>(memory) + i * kPage) != i + 1;
    print("load", clock() - stored, pages);
    CHECK_EQ(wrong, 0);
}

bool is(const char* a, const char* b) {
    while (*a == *b && *a != '\0')
        ++a, ++b;
    return *a == *b;
}

} // namespace

int main(int argc, char** argv) {
    REQUIRE(argc == 4);
    shared = reinterpret_cast<Shared*>(new_memory(kPage, sys::kShared | sys::kAnonymous));
    name = argv[2];
    if (is(argv[1], "paths")) {
        measure_paths(argv[3]);
    } else if (is(argv[1], "disk")) {
        const Spinner spinner;
        measure_paths(argv[3]);
    } else if (is(argv[1], "read")) {
        measure_read(argv[3]);
    } else {
        measure_swap(number_of(argv[3]));
    }
    return 0;
}
