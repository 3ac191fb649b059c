// Floating point: x87 and SSE registers and control words, as far as the processor has them, belong to a thread; other
// threads that compute do not change them.
#include "tests/user/user.hpp"

namespace {

// AT_HWCAP of the auxiliary vector, which follows the environment: the features that the kernel saves for programs.
// CPUID reports the features of the processor.
u32 usable(char** argv) {
    constexpr u32 kHwcap = 16;
    char** at = argv;
    for (u32 lists = 0; lists < 2; ++at)
        lists += *at == nullptr;
    for (const u32* pair = reinterpret_cast<const u32*>(at); pair[0] != 0; pair += 2)
        if (pair[0] == kHwcap) return pair[1];
    return 0;
}

volatile u32 next = 1, wrong = 0;

// Fills registers once and checks them repeatedly; in between only other threads use them.
void watch_x87(u32 me, u32 rounds) {
    const u16 control = static_cast<u16>(0x037f & ~(me % 4 << 10)); // a different rounding mode for each thread
    const u32 first = me * 1000 + 1, second = me * 1000 + 2;
    asm volatile("fninit\n\tfldcw %0\n\tfildl %1\n\tfildl %2" ::"m"(control), "m"(first), "m"(second));
    for (u32 i = 0; i < rounds; ++i) {
        if (i % 16 == 0)
            sys::sleep_ms(1);
        else
            sys::yield();
        u16 now;
        asm volatile("fnstcw %0" : "=m"(now));
        add(wrong, now != control);
    }
    u32 top, below;
    asm volatile("fistpl %0\n\tfistpl %1" : "=m"(top), "=m"(below));
    add(wrong, top != second || below != first);
    u16 status;
    asm volatile("fnstsw %0" : "=m"(status));
    add(wrong, (status >> 11 & 7) != 0); // the stack is empty, as it was
}

void watch_sse(u32 me, u32 rounds) {
    const u32 control = 0x1f80 ^ (me % 4 << 13);
    alignas(16) const u32 value[4] = {me, ~me, me * 3, 0x5555'0000 + me};
    alignas(16) u32 back[4];
    asm volatile("ldmxcsr %0\n\tmovaps %1, %%xmm3\n\tmovaps %1, %%xmm7" ::"m"(control), "m"(value));
    for (u32 i = 0; i < rounds; ++i) {
        if (i % 16 == 0)
            sys::sleep_ms(1);
        else
            sys::yield();
        u32 now;
        asm volatile("stmxcsr %0" : "=m"(now));
        add(wrong, now != control);
        asm volatile("movaps %%xmm3, %0" : "=m"(back));
        for (u32 k = 0; k < 4; ++k)
            add(wrong, back[k] != value[k]);
    }
    asm volatile("movaps %%xmm7, %0" : "=m"(back));
    add(wrong, back[3] != value[3]);
}

} // namespace

int main(int, char** argv) {
    const u32 features = usable(argv);
    if ((features & 1) == 0) return 0; // no FPU
    const bool has_sse = features & 1u << 25;
    // The initial state: all registers are empty, all exceptions are masked, no values of other programs.
    u16 control, status;
    asm volatile("fnstcw %0\n\tfnstsw %1" : "=m"(control), "=m"(status));
    CHECK_EQ(control, 0x37f);
    CHECK_EQ(status, 0);
    if (has_sse) {
        u32 mxcsr;
        alignas(16) u32 first[4];
        asm volatile("stmxcsr %0\n\tmovaps %%xmm0, %1" : "=m"(mxcsr), "=m"(first));
        CHECK_EQ(mxcsr, 0x1f80);
        CHECK_EQ(first[0] | first[1] | first[2] | first[3], 0);
    }

    constexpr u32 kThreads = 6, kRounds = 100;
    Thread threads[kThreads];
    auto x87 = [] { watch_x87(add(next, 1), kRounds); };
    auto sse = [] { watch_sse(add(next, 1), kRounds); };
    for (u32 i = 0; i < kThreads; ++i)
        REQUIRE(i % 2 == 0 || !has_sse ? start(threads[i], x87) : start(threads[i], sse));
    watch_x87(add(next, 1), kRounds);
    for (Thread& thread : threads)
        thread.join();
    CHECK_EQ(wrong, 0);

    // A child inherits its parent's registers; its changes do not affect the parent.
    const u32 seven = 7, nine = 9;
    asm volatile("fninit\n\tfildl %0" ::"m"(seven));
    const int result = in_child([&] {
        u32 got;
        asm volatile("fistl %0\n\tfildl %1" : "=m"(got) : "m"(nine));
        CHECK_EQ(got, 7);
    });
    CHECK_EQ(result, 0);
    u32 got;
    asm volatile("fistpl %0" : "=m"(got));
    CHECK_EQ(got, 7);

    // An unmasked exception kills the program.
    CHECK_EQ(in_child([] {
                 const u16 divide_by_zero = 0x037f & ~4;
                 asm volatile("fninit\n\tfldcw %0\n\tfld1\n\tfldz\n\tfdivrp\n\tfwait" ::"m"(divide_by_zero));
             }),
             kFpe);
    return 0;
}
