// Pipes: bytes of one program arrive in another, in order, for all kinds of source and target pages.
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

// pipe(7): a write of at most PIPE_BUF bytes, 4096, is not mixed with other writes. Four programs write records, some
// in one piece and some in two (writev); each record begins with a small letter.
void records(u32 bytes, u32 each) {
    constexpr u32 kWriters = 4;
    int files[2];
    REQUIRE(sys::pipe(files) == 0);
    for (u32 writer = 0; writer < kWriters; ++writer) {
        if (sys::fork() != 0) continue;
        sys::close(static_cast<u32>(files[0]));
        u8* text = new_memory(kPage);
        for (u32 i = 0; i < bytes; ++i)
            text[i] = static_cast<u8>((i == 0 ? 'a' : 'A') + writer);
        const u32 pieces[]{reinterpret_cast<u32>(text), 1, reinterpret_cast<u32>(text + 1), bytes - 1};
        for (u32 n = 0; n < each; ++n) {
            const int put = n % 2 == 0 ? sys::write(static_cast<u32>(files[1]), text, bytes)
                                       : sys::call(146, static_cast<u32>(files[1]), sys::word(pieces), 2);
            CHECK_EQ(put, bytes);
        }
        sys::exit(failures != 0);
    }
    sys::close(static_cast<u32>(files[1]));
    u8 buffer[333];
    u32 total = 0, torn = 0, at = 0;
    u8 now = 0;
    for (int got; (got = sys::read(static_cast<u32>(files[0]), buffer, sizeof buffer)) > 0;) {
        for (int i = 0; i < got; ++i, ++total) {
            const u8 seen = buffer[i];
            if (at == 0) now = static_cast<u8>(seen - 'a');
            torn += at == 0 ? now >= kWriters : seen != 'A' + now;
            at = (at + 1) % bytes;
        }
    }
    CHECK_EQ(total, kWriters * each * bytes);
    CHECK_EQ(torn, 0);
    for (u32 writer = 0; writer < kWriters; ++writer) {
        int status = -1;
        CHECK(sys::waitpid(-1, &status) > 0);
        CHECK_EQ(status, 0);
    }
    sys::close(static_cast<u32>(files[0]));
}

} // namespace

int main(int, char**) {
    records(100, 400);
    records(kPage, 40);
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
    CHECK_EQ(sys::read(in, &byte, 1), 0); // all writers have closed
    int status = -1;
    CHECK_EQ(sys::waitpid(pid, &status), pid);
    CHECK_EQ(status, 0);
    sys::close(in);

    REQUIRE(sys::pipe(files) == 0);
    sys::close(static_cast<u32>(files[0]));
    constexpr int kSigPipe = 13;
    CHECK_EQ(in_child([&] { sys::write(static_cast<u32>(files[1]), "x", 1); }), kSigPipe);
    const u32 ignore[5]{1};
    CHECK_EQ(sys::call(174, kSigPipe, sys::word(ignore), 0, 8), 0); // rt_sigaction
    CHECK_EQ(sys::write(static_cast<u32>(files[1]), "x", 1), -kEpipe);
    sys::close(static_cast<u32>(files[1]));
    // Uses all file numbers, and frees them.
    u32 made = 0;
    int ends[16][2];
    while (made < 16 && sys::pipe(ends[made]) == 0)
        ++made;
    CHECK_EQ(made, 6); // 3 of 16 are the console's, and one is left over
    for (u32 i = 0; i < made; ++i) {
        CHECK_EQ(sys::close(static_cast<u32>(ends[i][0])), 0);
        CHECK_EQ(sys::close(static_cast<u32>(ends[i][1])), 0);
    }
    // The kernel closes the rest when the program exits.
    REQUIRE(sys::pipe(files) == 0);
    return 0;
}
