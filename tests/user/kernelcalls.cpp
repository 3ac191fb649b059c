// Passes every page of the upper gigabyte to system calls that write to it and read from it: EFAULT each time.
#include "tests/user/user.hpp"

int main(int, char**) {
    int files[2];
    REQUIRE(sys::pipe(files) == 0);
    const auto in = static_cast<u32>(files[0]), out = static_cast<u32>(files[1]);
    u8 byte = 0;
    REQUIRE(sys::write(out, "0123456789abcdef", 16) == 16);
    u32 wrong = 0;
    for (u32 at = kUserEnd; at >= kUserEnd; at += kPage) {
        const u32 somewhere = at + at / kPage % (kPage - 16);
        wrong += sys::read(in, reinterpret_cast<void*>(somewhere), 8) != -kEfault;   // a page of the kernel to memory
        wrong += sys::getrandom(reinterpret_cast<void*>(somewhere), 8) != -kEfault;  // a value to memory
        wrong += sys::write(out, reinterpret_cast<void*>(somewhere), 8) != -kEfault; // memory to a page of the kernel
    }
    // Across the border from the user's part, which is not mapped there, into the kernel's.
    wrong += sys::getrandom(reinterpret_cast<void*>(kUserEnd - 4), 8) != -kEfault;
    wrong += sys::write(out, reinterpret_cast<void*>(kUserEnd - 4), 8) != -kEfault;
    CHECK_EQ(wrong, 0);
    // The contents of the pipe are unchanged: no kernel memory has been copied into it.
    for (u32 i = 0; i < 16; ++i) {
        CHECK_EQ(sys::read(in, &byte, 1), 1);
        CHECK_EQ(byte, "0123456789abcdef"[i]);
    }
    return 0;
}
