// Stores are seen in order, also across copy on write (SDM vol. 3, 8.2.2): a thread that sees the flag sees the datum
// that was stored before it. For each page, three threads on three CPUs:
//
//     main        stores elsewhere in the page, which fork has shared: the kernel makes a copy of it
//     publisher   stores the datum into the page, then sets the flag, which is in another page
//     observer    has the old page in its TLB; reads the flag, then the datum
//
// Argument: the number of rounds over all pages.
#include "tests/user/user.hpp"

namespace {

constexpr u32 kPages = 256;
constexpr u32 kOld = 1, kNew = 2;

// Memory that fork does not copy. Turns count from 1, each with the next page.
struct Board {
    volatile u32 turn;      // main: the observer may begin
    volatile u32 observing; // observer: the page is in its TLB
    volatile u32 go;        // main: the publisher may begin
    volatile u32 published, observed;
    volatile u32 let_child_go;
    volatile u32 flag[kPages];
};
Board* board;
u8* pages;
volatile u32 out_of_order = 0, not_old = 0, stop = 0;

volatile u32& word(u32 page, u32 index) { return *reinterpret_cast<volatile u32*>(pages + page * kPage + index * 4); }
void wait_for(volatile u32& what, u32 value) {
    while (what != value && stop == 0)
        asm volatile("pause");
}

void observe() {
    for (u32 turn = 1; stop == 0; ++turn) {
        wait_for(board->turn, turn);
        if (stop != 0) return;
        const u32 page = (turn - 1) % kPages;
        if (word(page, 0) != kOld) add(not_old, 1);
        board->observing = turn;
        u32 flag = 0, datum = 0;
        while (flag != turn && stop == 0) {
            flag = board->flag[page]; // volatile: read in this order
            datum = word(page, 0);
        }
        if (flag == turn && datum != kNew) add(out_of_order, 1);
        board->observed = turn;
    }
}

void publish() {
    u32 random = 1;
    for (u32 turn = 1; stop == 0; ++turn) {
        wait_for(board->go, turn);
        if (stop != 0) return;
        const u32 page = (turn - 1) % kPages;
        // A random delay, to hit any moment of the main thread's fault.
        random = random * 1'664'525 + 1'013'904'223;
        for (u32 i = 0, n = (random >> 16) % 6000; i < n; ++i)
            asm volatile("");
        word(page, 0) = kNew;
        board->flag[page] = turn;
        board->published = turn;
    }
}

} // namespace

int main(int argc, char** argv) {
    const u32 rounds = argc > 1 ? number_of(argv[1]) : 20;
    board = reinterpret_cast<Board*>(new_memory(2 * kPage, sys::kShared | sys::kAnonymous));
    pages = new_memory(kPages * kPage);
    Thread observer, publisher;
    REQUIRE(observer.start([](void*) { observe(); }, nullptr));
    REQUIRE(publisher.start([](void*) { publish(); }, nullptr));
    u32 turn = 0;
    for (u32 round = 0; round < rounds; ++round) {
        for (u32 page = 0; page < kPages; ++page)
            word(page, 0) = kOld;
        board->let_child_go = 0;
        const int child = sys::fork(); // it keeps every page until the round is over
        if (child == 0) {
            while (board->let_child_go == 0)
                sys::sleep_ms(10);
            sys::exit(0);
        }
        REQUIRE(child > 0);
        for (u32 page = 0; page < kPages; ++page) {
            ++turn;
            board->turn = turn;
            wait_for(board->observing, turn);
            board->go = turn;
            word(page, 2) = 5;
            wait_for(board->observed, turn);
            wait_for(board->published, turn);
        }
        board->let_child_go = 1;
        int status = -1;
        REQUIRE(sys::waitpid(child, &status) == child);
        CHECK_EQ(status, 0);
    }
    stop = 1;
    observer.join();
    publisher.join();
    Line{} << turn << " pages: " << out_of_order << " times the flag was seen and the datum was not";
    CHECK_EQ(out_of_order, 0);
    CHECK_EQ(not_old, 0);
    return failures != 0;
}
