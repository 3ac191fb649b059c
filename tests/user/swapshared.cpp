// More shared memory and data of a file in memory than the machine has: each page is signed by what it belongs to and
// by its number, a child stores to every fourth page, and both read all of it again.
//     swapshared FILE MIB_OF_FILE MIB_OF_MEMORY
// FILE is removed at the end. Word 0 of a page is its signature, another one its complement.
#include "tests/user/user.hpp"

namespace {

using sys::word;

constexpr u32 kMiB = 1u << 20, kCreate = 0100, kReadWrite = 2;

// Pages that parent and child share.
struct Shared {
    u32 seed;
    u32 pages;
    u8* at;

    u32 signature(u32 page, u32 who) const { return seed + page * 2654435761u + who; }
    void sign(u32 page, u32 who) const {
        auto* words = reinterpret_cast<volatile u32*>(at + page * kPage);
        words[0] = signature(page, who);
        words[page % 1000 + 1] = ~signature(page, who);
    }
    bool is_signed(const volatile u32* words, u32 page, u32 who) const {
        return words[0] == signature(page, who) && words[page % 1000 + 1] == ~signature(page, who);
    }
    u32 count_wrong(u32 who) const {
        u32 wrong = 0;
        for (u32 page = 0; page < pages; ++page)
            wrong += !is_signed(reinterpret_cast<volatile u32*>(at + page * kPage), page, page % 4 == 0 ? who : 0);
        return wrong;
    }
};

u32 buffer[kPage / 4];

// What read() and write() see and leave.
void check_by_calls(const Shared& shared, u32 file) {
    u32 wrong = 0;
    for (u32 page = 0; page < shared.pages; ++page) {
        if (sys::call(180, file, word(buffer), kPage, page * kPage, 0) != int{kPage}) ++wrong;
        wrong += !shared.is_signed(buffer, page, page % 4 == 0 ? 7 : 0);
        if (page % 8 != 0) continue;
        buffer[0] = shared.signature(page, 9);
        buffer[page % 1000 + 1] = ~buffer[0];
        if (sys::call(181, file, word(buffer), kPage, page * kPage, 0) != int{kPage}) ++wrong;
    }
    CHECK_EQ(wrong, 0);
    for (u32 page = 0; page < shared.pages; page += 8)
        wrong += !shared.is_signed(reinterpret_cast<volatile u32*>(shared.at + page * kPage), page, 9);
    CHECK_EQ(wrong, 0);
}

} // namespace

int main(int argc, char** argv) {
    REQUIRE(argc == 4);
    const u32 file_bytes = number_of(argv[2]) * kMiB, memory_bytes = number_of(argv[3]) * kMiB;
    const int opened = sys::call(5, word(argv[1]), kCreate | kReadWrite, 0600);
    REQUIRE(!sys::failed(opened));
    const u32 file = static_cast<u32>(opened);
    REQUIRE(sys::call(93, file, file_bytes) == 0);
    const int mapped = sys::call6(192, 0, file_bytes, sys::kRead | sys::kWrite, sys::kShared, file, 0);
    REQUIRE(!sys::failed(mapped));
    const Shared both[] = {{1, file_bytes / kPage, reinterpret_cast<u8*>(static_cast<u32>(mapped))},
                           {2, memory_bytes / kPage, new_memory(memory_bytes, sys::kShared | sys::kAnonymous)}};
    for (const Shared& shared : both)
        for (u32 page = 0; page < shared.pages; ++page)
            shared.sign(page, 0);
    for (const Shared& shared : both)
        CHECK_EQ(shared.count_wrong(0), 0);
    CHECK_EQ(in_child([&] {
                 for (const Shared& shared : both) {
                     for (u32 page = 0; page < shared.pages; page += 4)
                         shared.sign(page, 7);
                     CHECK_EQ(shared.count_wrong(7), 0);
                 }
             }),
             0);
    for (const Shared& shared : both)
        CHECK_EQ(shared.count_wrong(7), 0);
    check_by_calls(both[0], file);
    CHECK_EQ(sys::call(93, file, file_bytes / 2), 0); // what is cut off may be in swap
    CHECK_EQ(sys::munmap(both[0].at, file_bytes), 0);
    CHECK_EQ(sys::close(file), 0);
    CHECK_EQ(sys::call(10, word(argv[1])), 0);
    Line{} << "swapshared: " << (file_bytes + memory_bytes) / kMiB << " MiB, in two processes";
    return 0;
}
