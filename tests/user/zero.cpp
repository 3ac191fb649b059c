// Demand-zero memory: every page is zero at the first access and keeps its contents afterwards.
//     zero [MiB]
#include "tests/user/user.hpp"

int main(int argc, char** argv) {
    const u32 bytes = (argc > 1 ? number_of(argv[1]) : 8) * 1024 * 1024;
    u8* memory = new_memory(bytes);
    u32 wrong = 0;
    for (u32 round = 0; round < 2; ++round) {
        for (u32 at = 0; at < bytes; at += kPage) {
            auto* words = reinterpret_cast<volatile u32*>(memory + at);
            // Some are read first, some written first.
            if (at / kPage % 2 == 0)
                for (u32 i = 0; i < kPage / 4; ++i)
                    wrong += words[i] != 0;
            words[at / kPage % 1024] = at + 1;
        }
        for (u32 at = 0; at < bytes; at += kPage) {
            auto* words = reinterpret_cast<volatile u32*>(memory + at);
            const u32 marked = at / kPage % 1024;
            wrong += words[marked] != at + 1 || words[(marked + 1) % 1024] != 0;
        }
        // The second half is unmapped, mapped again, and zero.
        CHECK_EQ(sys::munmap(memory + bytes / 2, bytes / 2), 0);
        void* again = sys::mmap(memory + bytes / 2, bytes / 2, sys::kRead | sys::kWrite,
                                sys::kPrivate | sys::kAnonymous | sys::kFixed);
        CHECK(again == memory + bytes / 2);
        for (u32 at = 0; at < bytes / 2; at += kPage)
            store<u32>(reinterpret_cast<u32>(memory + at) + at / kPage % 1024 * 4, 0);
    }
    CHECK_EQ(wrong, 0);
    CHECK_EQ(sys::munmap(memory, bytes), 0);
    return 0;
}
