// The support code of the test programs: system calls, lines of text, and checks. No library.
//
// A program exits with 0 if all checks have passed, else with 1 and a line for each failed check. Its output appears in
// the kernel's log, line by line.
#pragma once

#include <cstddef>
#include <cstdint>

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

inline constexpr u32 kPage = 4096;
inline constexpr u32 kUserEnd = 0xc000'0000;

// ------------------------------------------------------------------------------------------------------- system calls

enum : int {
    kEperm = 1,
    kEnoent = 2,
    kEsrch = 3,
    kEintr = 4,
    kEbadf = 9,
    kEchild = 10,
    kEagain = 11,
    kEnomem = 12,
    kEacces = 13,
    kEfault = 14,
    kEnodev = 19,
    kEinval = 22,
    kEpipe = 32,
    kEnosys = 38,
    kEtimedout = 110,
};

namespace sys {

// EAX on return: a value, or a negative errno.
inline int call(u32 number, u32 a = 0, u32 b = 0, u32 c = 0, u32 d = 0, u32 e = 0) {
    int result;
    asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
    return result;
}
inline bool failed(int result) { return result < 0 && result >= -4095; }
template <typename T> u32 word(T* pointer) { return reinterpret_cast<u32>(pointer); }

[[noreturn]] inline void exit(int code) {
    for (;;)
        call(1, static_cast<u32>(code));
}
[[noreturn]] inline void exit_group(int code) {
    for (;;)
        call(252, static_cast<u32>(code));
}
inline int fork() { return call(2); }
inline int read(u32 file, void* to, u32 bytes) { return call(3, file, word(to), bytes); }
inline int write(u32 file, const void* from, u32 bytes) { return call(4, file, word(from), bytes); }
inline int close(u32 file) { return call(6, file); }
inline int waitpid(int pid, int* status, u32 options = 0) {
    return call(7, static_cast<u32>(pid), word(status), options);
}
inline int getpid() { return call(20); }
inline int pipe(int* files) { return call(42, word(files)); }
inline u32 brk(u32 end) { return static_cast<u32>(call(45, end)); }
inline int getppid() { return call(64); }
inline int munmap(void* at, u32 bytes) { return call(91, word(at), bytes); }
inline int uname(void* names) { return call(122, word(names)); }
inline int mprotect(void* at, u32 bytes, u32 prot) { return call(125, word(at), bytes, prot); }
inline int yield() { return call(158); }
inline int gettid() { return call(224); }
inline int set_thread_area(void* descriptor) { return call(243, word(descriptor)); }
inline int getrandom(void* to, u32 bytes) { return call(355, word(to), bytes, 0); }

struct TimeSpec {
    u32 seconds, nanoseconds;
};
inline int nanosleep(const TimeSpec* time) { return call(162, word(time), 0); }
inline int sleep_ms(u32 milliseconds) {
    const TimeSpec time{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
    return nanosleep(&time);
}

inline constexpr u32 kNone = 0, kRead = 1, kWrite = 2, kExec = 4;
inline constexpr u32 kShared = 1, kPrivate = 2, kFixed = 0x10, kAnonymous = 0x20;
// The address, or a negative errno in its place.
inline void* mmap(void* where, u32 bytes, u32 prot, u32 flags) {
    int result;
    // EBP is the sixth argument, an offset into a file.
    asm volatile("push %%ebp\n\t"
                 "xor %%ebp, %%ebp\n\t"
                 "int $0x80\n\t"
                 "pop %%ebp"
                 : "=a"(result)
                 : "a"(192), "b"(where), "c"(bytes), "d"(prot), "S"(flags), "D"(-1)
                 : "memory");
    return reinterpret_cast<void*>(result);
}
inline bool failed(const void* address) { return failed(static_cast<int>(reinterpret_cast<u32>(address))); }

// With all six arguments; they are passed to the asm through memory, as there are too few registers.
inline int call6(u32 number, u32 a, u32 b, u32 c, u32 d, u32 e, u32 f) {
    const u32 arguments[] = {number, a, b, c, d, e, f};
    const u32* at = arguments;
    asm volatile("push %%ebx\n\tpush %%esi\n\tpush %%edi\n\tpush %%ebp\n\t"
                 "mov 4(%%eax), %%ebx\n\tmov 8(%%eax), %%ecx\n\tmov 12(%%eax), %%edx\n\t"
                 "mov 16(%%eax), %%esi\n\tmov 20(%%eax), %%edi\n\tmov 24(%%eax), %%ebp\n\tmov (%%eax), %%eax\n\t"
                 "int $0x80\n\t"
                 "pop %%ebp\n\tpop %%edi\n\tpop %%esi\n\tpop %%ebx"
                 : "+a"(at)
                 :
                 : "ecx", "edx", "memory");
    return static_cast<int>(reinterpret_cast<u32>(at));
}

inline constexpr u32 kFutexWait = 0, kFutexWake = 1, kFutexPrivate = 128;
inline int futex(volatile u32* address, u32 operation, u32 value, const TimeSpec* limit = nullptr) {
    return call(240, word(address), operation, value, word(limit));
}

} // namespace sys

// ------------------------------------------------------------------------------------------------------------- text

// A line, written by one system call, so that lines of several threads do not mix.
class Line {
  public:
    Line& operator<<(const char* text) {
        while (*text != '\0')
            put(*text++);
        return *this;
    }
    Line& operator<<(u32 number);
    Line& operator<<(int number) {
        if (number < 0) put('-');
        return *this << (number < 0 ? 0u - static_cast<u32>(number) : static_cast<u32>(number));
    }
    Line& operator<<(const void* address);
    ~Line() {
        put('\n');
        sys::write(1, text_, size_);
    }

  private:
    void put(char c) {
        if (size_ < sizeof text_) text_[size_++] = c;
    }
    char text_[160];
    u32 size_ = 0;
};

// ------------------------------------------------------------------------------------------------------------ checks

extern volatile u32 failures;

inline void check_failed(const char* file, u32 line, const char* what) {
    Line{} << file << ":" << line << ": " << what << " does not hold";
    __atomic_fetch_add(&failures, 1, __ATOMIC_SEQ_CST);
}
template <typename A, typename B> void check_equal(A a, B b, const char* file, u32 line, const char* what) {
    if (static_cast<u32>(a) == static_cast<u32>(b)) return;
    Line{} << file << ":" << line << ": " << what << " does not hold: " << static_cast<int>(a) << ", "
           << static_cast<int>(b);
    __atomic_fetch_add(&failures, 1, __ATOMIC_SEQ_CST);
}
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) check_failed(__FILE__, __LINE__, #condition);                                                \
    } while (false)
// As numbers of 32 bits.
#define CHECK_EQ(a, b) check_equal(a, b, __FILE__, __LINE__, #a " == " #b)
// Ends the program if the condition is false.
#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            check_failed(__FILE__, __LINE__, #condition);                                                              \
            sys::exit_group(1);                                                                                        \
        }                                                                                                              \
    } while (false)

// ------------------------------------------------------------------------------------------------ memory and children

// New memory of the program's own; ends the program if there is none.
u8* new_memory(u32 bytes, u32 flags = sys::kPrivate | sys::kAnonymous, u32 prot = sys::kRead | sys::kWrite);

// Runs `body` in a child and returns its status as waitpid has it: the exit code in bits 8 to 15, the signal in 0 to 6.
template <typename F> int in_child(F&& body) {
    const int pid = sys::fork();
    if (pid == 0) {
        body();
        sys::exit(failures != 0);
    }
    int status = -1;
    if (sys::failed(pid) || sys::waitpid(pid, &status) != pid) return -1;
    return status;
}
inline constexpr int kIll = 4, kTrap = 5, kFpe = 8, kKill = 9, kSegv = 11;

// Volatile accesses to memory that may be unmapped: the compiler makes no assumptions about them.
template <typename T> T load(u32 address) { return *reinterpret_cast<volatile T*>(address); }
template <typename T> void store(u32 address, T value) { *reinterpret_cast<volatile T*>(address) = value; }

// ---------------------------------------------------------------------------------------------------------- threads

// Runs run(argument) in a new thread with a stack of its own; join waits for its end.
struct Thread {
    void (*run)(void*) = nullptr;
    void* argument = nullptr;
    u8* stack = nullptr;
    volatile u32 tid = 0; // 0 again when it has ended

    bool start(void (*body)(void*), void* given);
    void join();
};
template <typename F> bool start(Thread& thread, F& body) {
    return thread.start([](void* argument) { (*static_cast<F*>(argument))(); }, &body);
}

inline u32 add(volatile u32& word, u32 n) { return __atomic_fetch_add(&word, n, __ATOMIC_SEQ_CST); }

// --------------------------------------------------------------------------------------------------- the beginning

extern char** environment;
u32 auxiliary(u32 type); // 0: the kernel did not pass this type
u32 number_of(const char* text);

int main(int argc, char** argv);
