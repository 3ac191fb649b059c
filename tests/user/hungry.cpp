// Memory runs out, and the program that has the most is killed: a child that takes all that it can get. Its parent,
// which has little, takes and gives back memory all the time, waits when there is none, and is not harmed.
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

} // namespace

int main(int, char**) {
    u8* const kept = new_memory(kChunk);
    fill(kept, 1);
    const int child = sys::fork();
    if (child == 0)
        for (u32 word = 0;; word += kPage) {
            void* const more = sys::mmap(nullptr, kChunk, sys::kRead | sys::kWrite, sys::kPrivate | sys::kAnonymous);
            if (!sys::failed(more)) fill(static_cast<u8*>(more), word); // at the end it has 3 GiB
        }
    REQUIRE(!sys::failed(child));
    int status = -1, ended = 0;
    u32 turns = 0;
    for (; ended == 0; ++turns) {
        u8* const memory = new_memory(kChunk);
        fill(memory, turns);
        CHECK_EQ(count_wrong(memory, turns), 0);
        CHECK_EQ(sys::munmap(memory, kChunk), 0);
        ended = sys::waitpid(child, &status, kNoHang);
    }
    CHECK_EQ(ended, child);
    CHECK_EQ(status, kKill);
    CHECK_EQ(count_wrong(kept, 1), 0);
    Line{} << "hungry: the child is gone after " << turns << " turns";
    return 0;
}
