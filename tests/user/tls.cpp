// Thread-local storage: each thread has a segment of its own in %gs, on any CPU.
#include "tests/user/user.hpp"

namespace {

struct UserDescriptor {
    u32 entry, base, limit, flags;
};
constexpr u32 k32Bit = 1, kReadOnly = 1 << 3, kPages = 1 << 4, kNotPresent = 1 << 5, kUseable = 1 << 6;
constexpr u32 kFirstEntry = 6;

void set_gs(u32 selector) { asm volatile("mov %0, %%gs" ::"r"(selector)); }
u32 gs_word(u32 offset) {
    u32 value;
    asm volatile("movl %%gs:(%1), %0" : "=r"(value) : "r"(offset));
    return value;
}

volatile u32 wrong = 0;

// Each thread has its own base in the same GDT entry.
void watch(u32 me) {
    u32 block[4] = {me, me * 3, 0, 0};
    UserDescriptor mine{kFirstEntry, reinterpret_cast<u32>(block), sizeof block - 1, k32Bit | kUseable};
    REQUIRE(sys::set_thread_area(&mine) == 0);
    set_gs(kFirstEntry * 8 + 3);
    for (u32 i = 0; i < 50; ++i) {
        add(wrong, gs_word(0) != me || gs_word(4) != me * 3);
        if (i % 8 == 0)
            sys::sleep_ms(1);
        else
            sys::yield();
    }
}

} // namespace

int main(int, char**) {
    u32 block[2] = {0x1234, 0x5678};
    UserDescriptor one{~0u, reinterpret_cast<u32>(block), 0xfffff, k32Bit | kPages | kUseable};
    CHECK_EQ(sys::set_thread_area(&one), 0);
    CHECK_EQ(one.entry, kFirstEntry); // the numbers are Linux's
    set_gs(one.entry * 8 + 3);
    CHECK_EQ(gs_word(0), 0x1234);
    CHECK_EQ(gs_word(4), 0x5678);
    UserDescriptor two{~0u, reinterpret_cast<u32>(block) + 4, 0xfffff, k32Bit | kPages | kUseable};
    CHECK_EQ(sys::set_thread_area(&two), 0);
    CHECK_EQ(two.entry, kFirstEntry + 1);
    UserDescriptor three{~0u, 0, 0xfffff, k32Bit | kPages | kUseable}, four = three;
    CHECK_EQ(sys::set_thread_area(&three), 0);
    CHECK_EQ(sys::set_thread_area(&four), -kEsrch);

    // A child inherits its parent's segment.
    CHECK_EQ(in_child([] { CHECK_EQ(gs_word(4), 0x5678); }), 0);

    // The entry is cleared while it is loaded: the register is null when the program continues, and its use faults.
    CHECK_EQ(in_child([&] {
                 UserDescriptor none{kFirstEntry, 0, 0, kReadOnly | kNotPresent};
                 CHECK_EQ(sys::set_thread_area(&none), 0);
                 u32 selector;
                 asm volatile("mov %%gs, %0" : "=r"(selector));
                 CHECK_EQ(selector, 0);
                 if (failures == 0) gs_word(0);
             }),
             kSegv);
    // The same with the stack segment: the kernel cannot return to ring 3 and kills the program.
    CHECK_EQ(in_child([&] {
                 UserDescriptor flat{kFirstEntry, 0, 0xfffff, k32Bit | kPages | kUseable};
                 CHECK_EQ(sys::set_thread_area(&flat), 0);
                 asm volatile("mov %0, %%ss" ::"r"(kFirstEntry * 8 + 3));
                 UserDescriptor none{kFirstEntry, 0, 0, kReadOnly | kNotPresent};
                 sys::set_thread_area(&none);
             }),
             kSegv);
    // Beyond its limit: a processor faults, an emulator may not.
    const int beyond = in_child([&] {
        UserDescriptor small{kFirstEntry, reinterpret_cast<u32>(block), 3, k32Bit | kUseable};
        CHECK_EQ(sys::set_thread_area(&small), 0);
        set_gs(kFirstEntry * 8 + 3);
        CHECK_EQ(gs_word(0), 0x1234);
        gs_word(4);
    });
    CHECK(beyond == kSegv || beyond == 0);
    // A base in the kernel's addresses gives no access to them.
    CHECK_EQ(in_child([&] {
                 UserDescriptor high{kFirstEntry, 0xc000'0000, 0xfffff, k32Bit | kPages | kUseable};
                 CHECK_EQ(sys::set_thread_area(&high), 0);
                 set_gs(kFirstEntry * 8 + 3);
                 gs_word(0x10'0000);
             }),
             kSegv);

    const auto refused = [](u32 entry, u32 limit, u32 flags) {
        UserDescriptor wanted{entry, 0x1000, limit, flags};
        return sys::set_thread_area(&wanted);
    };
    CHECK_EQ(refused(1, 0xfffff, k32Bit), -kEinval);                    // the kernel's own
    CHECK_EQ(refused(9, 0xfffff, k32Bit), -kEinval);                    //
    CHECK_EQ(refused(4096, 0xfffff, k32Bit), -kEinval);                 //
    CHECK_EQ(refused(kFirstEntry, 0xfffff, 0), -kEinval);               // 16 bits
    CHECK_EQ(refused(kFirstEntry, 0xfffff, k32Bit | 2 << 1), -kEinval); // code
    CHECK_EQ(refused(kFirstEntry, 0xfffff, k32Bit | kNotPresent), -kEinval);

    constexpr u32 kThreads = 5;
    Thread threads[kThreads];
    static volatile u32 next = 1;
    auto body = [] { watch(add(next, 1)); };
    for (Thread& thread : threads)
        REQUIRE(start(thread, body));
    for (Thread& thread : threads)
        thread.join();
    CHECK_EQ(wrong, 0);
    CHECK_EQ(gs_word(0), 0x1234); // this thread's segment is unchanged
    return 0;
}
