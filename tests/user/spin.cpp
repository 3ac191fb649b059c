// Computes for ever and makes no system call.
#include "tests/user/user.hpp"

int main(int argc, char**) {
    volatile u32 n = static_cast<u32>(argc);
    for (;;)
        n = n * 5 + 1;
}
