// More memory than the machine has: writes every page, forks, and both read all of it again.
//     swapper MIB
// Word 0 of page n is n * 2654435761 + 1; the child stores to every fourth page. Parent and child must not see what the
// other one stores.
#include "tests/user/user.hpp"

namespace {

constexpr u32 kMiB = 1u << 20;
u8* memory = nullptr;
u32 pages = 0;

constexpr u32 word_of(u32 page, u32 who) { return page * 2654435761u + 1 + who; }

u32 count_wrong(u32 who) {
    u32 wrong = 0;
    for (u32 page = 0; page < pages; ++page) {
        const auto* words = reinterpret_cast<const volatile u32*>(memory + page * kPage);
        const u32 expected = word_of(page, page % 4 == 0 ? who : 0);
        wrong += words[0] != expected || words[page % 1000 + 1] != ~word_of(page, 0);
    }
    return wrong;
}

} // namespace

int main(int argc, char** argv) {
    REQUIRE(argc == 2);
    const u32 mib = number_of(argv[1]);
    memory = new_memory(mib * kMiB);
    pages = mib * kMiB / kPage;
    for (u32 page = 0; page < pages; ++page) {
        auto* words = reinterpret_cast<volatile u32*>(memory + page * kPage);
        words[0] = word_of(page, 0);
        words[page % 1000 + 1] = ~word_of(page, 0);
    }
    CHECK_EQ(count_wrong(0), 0);
    CHECK_EQ(in_child([&] {
                 for (u32 page = 0; page < pages; page += 4)
                     *reinterpret_cast<volatile u32*>(memory + page * kPage) = word_of(page, 7);
                 CHECK_EQ(count_wrong(7), 0);
             }),
             0);
    CHECK_EQ(count_wrong(0), 0);
    Line{} << "swapper: " << mib << " MiB, in two processes";
    return 0;
}
