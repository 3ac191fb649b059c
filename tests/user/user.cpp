// The support code of the test programs. Contract: user.hpp.
#include "tests/user/user.hpp"

volatile u32 failures = 0;
char** environment = nullptr;

namespace {

constexpr u32 kStackBytes = 64 * 1024;

struct Auxiliary {
    u32 type, value;
};
const Auxiliary* auxiliary_vector = nullptr;

} // namespace

// Functions that the compiler calls by itself.
extern "C" {
void* memcpy(void* to, const void* from, std::size_t bytes) {
    void* destination = to;
    asm volatile("rep movsb" : "+D"(destination), "+S"(from), "+c"(bytes)::"memory");
    return to;
}
void* memset(void* to, int value, std::size_t bytes) {
    void* destination = to;
    asm volatile("rep stosb" : "+D"(destination), "+c"(bytes) : "a"(value) : "memory");
    return to;
}
[[noreturn]] void begin(u32* stack) {
    const u32 argc = stack[0];
    char** argv = reinterpret_cast<char**>(stack + 1);
    environment = argv + argc + 1;
    char** end = environment;
    while (*end != nullptr)
        ++end;
    auxiliary_vector = reinterpret_cast<const Auxiliary*>(end + 1);
    const int code = main(static_cast<int>(argc), argv);
    sys::exit_group(code != 0 ? code : failures != 0);
}
int clone_thread(u32 flags, void* stack_top, volatile u32* parent_tid, void* tls, volatile u32* child_tid,
                 void (*run)(void*), void* argument);
}

Line& Line::operator<<(u32 number) {
    char digits[10];
    u32 count = 0;
    do
        digits[count++] = static_cast<char>('0' + number % 10);
    while ((number /= 10) != 0);
    while (count != 0)
        put(digits[--count]);
    return *this;
}

Line& Line::operator<<(const void* address) {
    const u32 value = reinterpret_cast<u32>(address);
    for (int shift = 28; shift >= 0; shift -= 4)
        put("0123456789abcdef"[value >> shift & 15]);
    return *this;
}

u8* new_memory(u32 bytes, u32 flags, u32 prot) {
    void* at = sys::mmap(nullptr, bytes, prot, flags);
    if (sys::failed(at)) {
        Line{} << "no memory: mmap of " << bytes << " bytes says " << static_cast<int>(reinterpret_cast<u32>(at));
        sys::exit_group(1);
    }
    return static_cast<u8*>(at);
}

bool Thread::start(void (*body)(void*), void* given) {
    // CLONE_VM, FS, FILES, SIGHAND, THREAD, PARENT_SETTID, CHILD_CLEARTID
    constexpr u32 kFlags = 0x100 | 0x200 | 0x400 | 0x800 | 0x1'0000 | 0x10'0000 | 0x20'0000;
    run = body;
    argument = given;
    stack = new_memory(kStackBytes);
    const int made = clone_thread(kFlags, stack + kStackBytes, &tid, nullptr, &tid, body, given);
    if (!sys::failed(made)) return true;
    sys::munmap(stack, kStackBytes);
    return false;
}

void Thread::join() {
    for (u32 seen = tid; seen != 0; seen = tid)
        sys::futex(&tid, sys::kFutexWait, seen);
    sys::munmap(stack, kStackBytes);
}

u32 auxiliary(u32 type) {
    for (const Auxiliary* at = auxiliary_vector; at->type != 0; ++at)
        if (at->type == type) return at->value;
    return 0;
}

u32 number_of(const char* text) {
    u32 number = 0;
    while (*text >= '0' && *text <= '9')
        number = number * 10 + static_cast<u32>(*text++ - '0');
    return number;
}
