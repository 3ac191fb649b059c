// Futexes between the threads of one program: ping-pong, a lock that many want, limits of time, and words that have
// changed.
#include "tests/user/user.hpp"

namespace {

constexpr u32 kWait = sys::kFutexWait | sys::kFutexPrivate, kWake = sys::kFutexWake | sys::kFutexPrivate;

volatile u32 ball = 0;

void play(u32 who, u32 rounds) {
    for (u32 round = 0; round < rounds; ++round) {
        for (u32 seen = ball; seen % 2 != who; seen = ball)
            sys::futex(&ball, kWait, seen);
        CHECK_EQ(ball, 2 * round + who);
        add(ball, 1);
        sys::futex(&ball, kWake, 1);
    }
}

// Drepper, "Futexes are tricky", the second mutex: 0 free, 1 taken, 2 taken and somebody may wait.
class Lock {
  public:
    void lock() {
        u32 seen = exchange_if_free(1);
        if (seen == 0) return;
        if (seen != 2) seen = __atomic_exchange_n(&word_, 2, __ATOMIC_SEQ_CST);
        while (seen != 0) {
            sys::futex(&word_, kWait, 2);
            seen = __atomic_exchange_n(&word_, 2, __ATOMIC_SEQ_CST);
        }
    }
    void unlock() {
        if (__atomic_exchange_n(&word_, 0, __ATOMIC_SEQ_CST) == 2) sys::futex(&word_, kWake, 1);
    }

  private:
    u32 exchange_if_free(u32 wanted) {
        u32 expected = 0;
        __atomic_compare_exchange_n(&word_, &expected, wanted, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        return expected;
    }
    volatile u32 word_ = 0;
};
Lock lock;
volatile u32 inside = 0, counter = 0, gate = 0;

} // namespace

int main(int, char**) {
    constexpr u32 kRounds = 500;
    auto pong = [] { play(1, kRounds); };
    Thread other;
    REQUIRE(start(other, pong));
    play(0, kRounds);
    other.join();
    CHECK_EQ(ball, 2 * kRounds);

    constexpr u32 kThreads = 6, kTurns = 200;
    auto take_turns = [] {
        for (u32 i = 0; i < kTurns; ++i) {
            lock.lock();
            CHECK_EQ(add(inside, 1), 0);
            counter = counter + 1;
            if (i % 16 == 0) sys::yield();
            add(inside, static_cast<u32>(-1));
            lock.unlock();
        }
    };
    Thread threads[kThreads];
    for (Thread& thread : threads)
        REQUIRE(start(thread, take_turns));
    for (Thread& thread : threads)
        thread.join();
    CHECK_EQ(counter, kThreads * kTurns);

    // One wake-up wakes as many as it says, and says how many it woke.
    auto wait_at_gate = [] {
        while (gate == 0)
            sys::futex(&gate, kWait, 0);
    };
    for (Thread& thread : threads)
        REQUIRE(start(thread, wait_at_gate));
    CHECK_EQ(sys::futex(&gate, kWake, 0), 0);
    gate = 1;
    u32 woken = 0;
    for (u32 i = 0; i < 3; ++i)
        woken += static_cast<u32>(sys::futex(&gate, kWake, 2));
    CHECK(woken <= kThreads); // those who had not begun to wait do not
    for (Thread& thread : threads)
        thread.join();

    const sys::TimeSpec soon{0, 20'000'000}, wrong{0, 1'000'000'000};
    volatile u32 word = 5;
    CHECK_EQ(sys::futex(&word, kWait, 4), -kEagain);
    CHECK_EQ(sys::futex(&word, kWait, 5, &soon), -kEtimedout);
    CHECK_EQ(sys::futex(&word, sys::kFutexWait, 5, &soon), -kEtimedout);
    CHECK_EQ(sys::futex(&word, kWait, 5, &wrong), -kEinval);
    CHECK_EQ(sys::futex(&word, kWake, 10), 0);
    CHECK_EQ(sys::futex(&word, 77, 0), -kEnosys);
    return 0;
}
