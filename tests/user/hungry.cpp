// Memory runs out, and the program that has the most is killed: a child that takes all that it can get. Its parent,
// which has little, takes and gives back memory all the time, and is not harmed. It gets it when there is none, too,
// while it reads from a pipe that the child writes to: a thread of the child may wait for it then.
#include "tests/user/user.hpp"

namespace {

constexpr u32 kChunk = 1u << 20, kNoHang = 1;

void fill(u8* memory, u32 word) {
    for (u32 at = 0; at < kChunk; at += kPage)
        *reinterpret_cast<volatile u32*>(memory + at) = word + at;
}
u32 count_wrong(const u8* memory, u32 word) {
    u32 wrong = 0;
    for (u32 at = 0; at < kChunk; at += kPage)
        wrong += *reinterpret_cast<const volatile u32*>(memory + at) != word + at;
    return wrong;
}

constexpr u32 kPiped = 16 * kPage;

[[noreturn]] void take_all(int pipe) {
    auto writes = [pipe] {
        u8* const bytes = new_memory(kPiped);
        for (u32 at = 0; at < kPiped; ++at)
            bytes[at] = static_cast<u8>(at % kPage % 251);
        for (;;)
            CHECK_EQ(sys::write(pipe, bytes, kPiped), kPiped);
    };
    Thread thread;
    REQUIRE(start(thread, writes));
    for (u32 word = 0;; word += kPage) {
        void* const more = sys::mmap(nullptr, kChunk, sys::kRead | sys::kWrite, sys::kPrivate | sys::kAnonymous);
        if (!sys::failed(more)) fill(static_cast<u8*>(more), word); // at the end it has 3 GiB
    }
}

// Reads from the pipe to pages that are touched for the first time. Returns the number of bytes.
u32 read_pipe(int pipe, u8* memory) {
    u32 done = 0;
    while (done < kPiped) {
        const int got = sys::read(pipe, memory + done, kPiped - done);
        CHECK(got >= 0);
        if (got <= 0) break;
        done += static_cast<u32>(got);
    }
    for (u32 at = 0; at < done; ++at)
        if (memory[at] != at % kPage % 251) CHECK_EQ(memory[at], at % kPage % 251);
    return done;
}

} // namespace

int main(int, char**) {
    u8* const kept = new_memory(kChunk);
    fill(kept, 1);
    int pipe[2];
    REQUIRE(sys::pipe(pipe) == 0);
    const int child = sys::fork();
    if (child == 0) {
        sys::close(pipe[0]);
        take_all(pipe[1]);
    }
    REQUIRE(!sys::failed(child));
    sys::close(pipe[1]);
    int status = -1, ended = 0;
    u32 turns = 0, piped = 0;
    for (; ended == 0; ++turns) {
        u8* const memory = new_memory(kChunk);
        piped += read_pipe(pipe[0], memory) / kPage;
        fill(memory, turns);
        CHECK_EQ(count_wrong(memory, turns), 0);
        CHECK_EQ(sys::munmap(memory, kChunk), 0);
        ended = sys::waitpid(child, &status, kNoHang);
    }
    CHECK_EQ(ended, child);
    CHECK_EQ(status, kKill);
    CHECK_EQ(count_wrong(kept, 1), 0);
    Line{} << "hungry: the child is gone after " << turns << " turns and " << piped << " pages by the pipe";
    return 0;
}
