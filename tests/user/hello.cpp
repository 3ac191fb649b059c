// Prints hello, and checks the state that the kernel has set up: arguments, environment, auxiliary vector, registers.
#include "tests/user/user.hpp"

namespace {

bool same(const char* a, const char* b) {
    while (*a != '\0' && *a == *b)
        ++a, ++b;
    return *a == *b;
}

} // namespace

extern "C" char _start[];

int main(int argc, char** argv) {
    Line{} << "hello from ring 3";
    CHECK(argc >= 1 && same(argv[0], "hello"));
    CHECK(argv[argc] == nullptr);
    if (argc > 1) {
        CHECK(argc == 3 && same(argv[1], "one") && same(argv[2], "two words"));
        CHECK(environment[0] != nullptr && same(environment[0], "HOME=/"));
        CHECK(environment[1] == nullptr);
    }
    CHECK_EQ(auxiliary(6), kPage);
    CHECK_EQ(auxiliary(9), reinterpret_cast<u32>(&_start));
    CHECK_EQ(auxiliary(3), 0x08048000 + 52); // AT_PHDR: the program headers of the file
    CHECK_EQ(auxiliary(4), 32);
    CHECK_EQ(auxiliary(5), 4);
    CHECK_EQ(reinterpret_cast<u32>(argv - 1) % 16, 0);
    CHECK(auxiliary(25) != 0 && auxiliary(25) < kUserEnd);
    CHECK(same(reinterpret_cast<const char*>(auxiliary(15)), "i686"));

    u32 cs, ss, flags;
    asm volatile("mov %%cs, %0\n\tmov %%ss, %1\n\tpushf\n\tpop %2" : "=r"(cs), "=r"(ss), "=r"(flags));
    CHECK_EQ(cs & 3, 3);
    CHECK_EQ(ss & 3, 3);
    CHECK_EQ(flags & 0x3200, 0x200); // interrupts on, no right to the ports

    CHECK(sys::getpid() > 0);
    CHECK_EQ(sys::getpid(), sys::gettid());
    CHECK_EQ(sys::getppid(), 0);
    CHECK_EQ(sys::write(1, "", 0), 0);
    CHECK_EQ(sys::write(7, "x", 1), -kEbadf);
    char byte;
    CHECK_EQ(sys::read(0, &byte, 1), 0);
    CHECK_EQ(sys::call(9999), -kEnosys);
    CHECK_EQ(sys::call(9999), -kEnosys); // one line of the log for both
    return 0;
}
