// Pipes: bytes of one program arrive in another, in order, whatever pages they come from and go to.
#include "tests/user/user.hpp"

namespace {

constexpr u32 kBytes = 300'000;
u8 byte_at(u32 i) { return static_cast<u8>(i * 7 + i / 251); }

void send(u32 out) {
    u8* memory = new_memory(kBytes + kPage);
    for (u32 i = 0; i < kBytes; ++i)
        memory[i + 13] = byte_at(i);
    u32 sent = 0;
    for (u32 step = 1; sent < kBytes; step = step * 3 % 9973 + 1) {
        const u32 now = step < kBytes - sent ? step : kBytes - sent;
        const int result = sys::write(out, memory + 13 + sent, now);
        REQUIRE(result == static_cast<int>(now)); // it waits until there is room for all of it
        sent += now;
    }
}

void receive(u32 in) {
    u8* memory = new_memory(kBytes + kPage);
    u32 got = 0;
    for (u32 step = 1; got < kBytes; step = step * 5 % 7919 + 1) {
        const int result = sys::read(in, memory + 5 + got, step);
        REQUIRE(result > 0 && result <= static_cast<int>(step));
        got += static_cast<u32>(result);
    }
    CHECK_EQ(got, kBytes);
    u32 wrong = 0;
    for (u32 i = 0; i < kBytes; ++i)
        wrong += memory[5 + i] != byte_at(i);
    CHECK_EQ(wrong, 0);
}

} // namespace

int main(int, char**) {
    int files[2];
    REQUIRE(sys::pipe(files) == 0);
    const auto in = static_cast<u32>(files[0]), out = static_cast<u32>(files[1]);
    const int pid = sys::fork();
    REQUIRE(!sys::failed(pid));
    if (pid == 0) {
        sys::close(in);
        send(out);
        return 0;
    }
    sys::close(out);
    receive(in);
    u8 byte;
    CHECK_EQ(sys::read(in, &byte, 1), 0); // nobody writes any more
    int status = -1;
    CHECK_EQ(sys::waitpid(pid, &status), pid);
    CHECK_EQ(status, 0);
    sys::close(in);

    REQUIRE(sys::pipe(files) == 0);
    sys::close(static_cast<u32>(files[0]));
    CHECK_EQ(sys::write(static_cast<u32>(files[1]), "x", 1), -kEpipe);
    sys::close(static_cast<u32>(files[1]));
    // All numbers, and all of them back.
    u32 made = 0;
    int ends[16][2];
    while (made < 16 && sys::pipe(ends[made]) == 0)
        ++made;
    CHECK_EQ(made, 6); // 3 of 16 are the console's, and one is left over
    for (u32 i = 0; i < made; ++i) {
        CHECK_EQ(sys::close(static_cast<u32>(ends[i][0])), 0);
        CHECK_EQ(sys::close(static_cast<u32>(ends[i][1])), 0);
    }
    // The rest is the kernel's business when a program ends.
    REQUIRE(sys::pipe(files) == 0);
    return 0;
}
