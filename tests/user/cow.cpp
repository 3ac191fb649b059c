// Copy on write: children and their parent write the same pages at the same time, and each sees its own.
//     cow [CHILDREN] [PAGES]
#include "tests/user/user.hpp"

namespace {

u32 children = 4, pages = 64;

volatile u32& word(u8* memory, u32 page) {
    return *reinterpret_cast<volatile u32*>(memory + page * kPage + page % 1024 * 4);
}

u32 count_wrong(u8* memory, u32 who) {
    u32 wrong = 0;
    for (u32 page = 0; page < pages; ++page)
        wrong += word(memory, page) != who * 0x10000 + page;
    return wrong;
}
void write_all(u8* memory, u32 who) {
    for (u32 page = 0; page < pages; ++page)
        word(memory, page) = who * 0x10000 + page;
}

// A child forks a child of its own in the middle of its writes.
void grandchild(u8* memory, u32 who) {
    const int status = in_child([&] {
        CHECK_EQ(count_wrong(memory, who), 0);
        write_all(memory, who + 100);
        CHECK_EQ(count_wrong(memory, who + 100), 0);
    });
    CHECK_EQ(status, 0);
}

} // namespace

int main(int argc, char** argv) {
    if (argc > 1) children = number_of(argv[1]);
    if (argc > 2) pages = number_of(argv[2]);
    u8* memory = new_memory(pages * kPage);
    for (u32 round = 0; round < 3; ++round) {
        write_all(memory, 1);
        for (u32 who = 2; who < 2 + children; ++who) {
            const int pid = sys::fork();
            REQUIRE(!sys::failed(pid));
            if (pid != 0) continue;
            CHECK_EQ(count_wrong(memory, 1), 0); // not affected by the others
            for (u32 i = 0; i < 5; ++i) {
                write_all(memory, who);
                if (i == 2) grandchild(memory, who);
                CHECK_EQ(count_wrong(memory, who), 0);
                sys::yield();
            }
            // An unmap in one process does not affect the others.
            CHECK_EQ(sys::munmap(memory, kPage), 0);
            sys::exit(failures != 0);
        }
        // The parent's pages do not change while the children write theirs.
        for (u32 i = 0; i < 5; ++i) {
            CHECK_EQ(count_wrong(memory, 1), 0);
            sys::yield();
        }
        for (u32 i = 0; i < children; ++i) {
            int status = -1;
            CHECK(sys::waitpid(-1, &status) > 0);
            CHECK_EQ(status, 0);
        }
        CHECK_EQ(count_wrong(memory, 1), 0);
        write_all(memory, 7); // the last one to count the pages
        CHECK_EQ(count_wrong(memory, 7), 0);
    }
    return 0;
}
