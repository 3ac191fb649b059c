// Functions that the compiler and libstdc++'s freestanding headers call implicitly: memory functions, and the error
// functions that would throw in a hosted program.
//
// The memory functions are string instructions, or loops with a barrier: otherwise the optimiser could replace a loop
// by a call of the very function.
#include "arch/base/panic.hpp"

#include <cstddef>
#include <cstdint>

namespace {
inline void not_a_library_call() { asm volatile("" ::: "memory"); }
} // namespace

extern "C" {

void* memcpy(void* to, const void* from, std::size_t bytes) {
    void* destination = to;
    std::size_t words = bytes / 4;
    asm volatile("rep movsl" : "+D"(destination), "+S"(from), "+c"(words)::"memory");
    words = bytes % 4;
    asm volatile("rep movsb" : "+D"(destination), "+S"(from), "+c"(words)::"memory");
    return to;
}

void* memmove(void* to, const void* from, std::size_t bytes) {
    if (reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from) >= bytes)
        return memcpy(to, from, bytes); // no overlap, or the destination is below the source
    auto* last_to = static_cast<char*>(to) + bytes - 1;
    const auto* last_from = static_cast<const char*>(from) + bytes - 1;
    asm volatile("std; rep movsb; cld" : "+D"(last_to), "+S"(last_from), "+c"(bytes)::"memory", "cc");
    return to;
}

void* memset(void* to, int value, std::size_t bytes) {
    void* destination = to;
    const unsigned pattern = 0x01010101u * static_cast<unsigned char>(value);
    std::size_t count = bytes / 4;
    asm volatile("rep stosl" : "+D"(destination), "+c"(count) : "a"(pattern) : "memory");
    count = bytes % 4;
    asm volatile("rep stosb" : "+D"(destination), "+c"(count) : "a"(pattern) : "memory");
    return to;
}

int memcmp(const void* left, const void* right, std::size_t bytes) {
    const auto* a = static_cast<const unsigned char*>(left);
    const auto* b = static_cast<const unsigned char*>(right);
    for (std::size_t i = 0; i < bytes; ++i) {
        not_a_library_call();
        if (a[i] != b[i]) return a[i] - b[i];
    }
    return 0;
}

std::size_t strlen(const char* text) {
    std::size_t length = 0;
    while (text[length] != '\0') {
        not_a_library_call();
        ++length;
    }
    return length;
}

void* memchr(const void* memory, int value, std::size_t bytes) {
    const auto* at = static_cast<const unsigned char*>(memory);
    for (std::size_t i = 0; i < bytes; ++i) {
        not_a_library_call();
        if (at[i] == static_cast<unsigned char>(value)) return const_cast<unsigned char*>(at + i);
    }
    return nullptr;
}

[[noreturn]] void abort() { loft::panic("abort()"); }
[[noreturn]] void __cxa_pure_virtual() { loft::panic("a pure virtual function was called"); }

} // extern "C"

namespace std { // declared, as noreturn, in <bits/functexcept.h>
void __throw_logic_error(const char* what) { loft::panic("libstdc++: logic error: {}", what); }
void __throw_length_error(const char* what) { loft::panic("libstdc++: length error: {}", what); }
void __throw_invalid_argument(const char* what) { loft::panic("libstdc++: invalid argument: {}", what); }
void __throw_out_of_range(const char* what) { loft::panic("libstdc++: out of range: {}", what); }
void __throw_out_of_range_fmt(const char* what, ...) { loft::panic("libstdc++: out of range: {}", what); }
} // namespace std
