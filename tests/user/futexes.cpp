// Futexes between the threads of one program: ping-pong, a contended lock, timeouts, and words that have changed.
#include "tests/user/user.hpp"

#include <initializer_list>

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

// Drepper, "Futexes are tricky", the second mutex: 0 free, 1 taken, 2 taken and a thread may be waiting.
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

constexpr u32 kRequeue = 3, kCmpRequeue = 4, kWakeOp = 5, kWaitBits = 9, kWakeBits = 10, kRealtime = 256;
int futex(volatile u32* at, u32 operation, u32 value, u32 fourth = 0, volatile u32* second = nullptr, u32 third = 0) {
    return sys::call6(240, sys::word(at), operation, value, fourth, sys::word(second), third);
}

// A process with read-only shared memory waits, and is woken by a process that may write it.
void read_only() {
    auto* shared = reinterpret_cast<volatile u32*>(new_memory(kPage, sys::kShared | sys::kAnonymous));
    shared[0] = 1;
    const int pid = sys::fork();
    if (pid == 0) {
        CHECK_EQ(sys::mprotect(const_cast<u32*>(shared), kPage, sys::kRead), 0);
        CHECK_EQ(sys::futex(shared, sys::kFutexWait, 2), -kEagain);
        const sys::TimeSpec limit{20, 0};
        const int result = sys::futex(shared, sys::kFutexWait, 1, &limit);
        CHECK(result == 0 || result == -kEagain);
        CHECK_EQ(shared[0], 2);
        sys::exit(failures != 0);
    }
    sys::sleep_ms(30);
    shared[0] = 2;
    int woken = sys::futex(shared, sys::kFutexWake, 1), status = -1;
    CHECK(woken == 0 || woken == 1);
    CHECK_EQ(sys::waitpid(pid, &status), pid);
    CHECK_EQ(status, 0);
    CHECK_EQ(sys::mprotect(const_cast<u32*>(shared), kPage, sys::kRead), 0);
    CHECK_EQ(sys::futex(shared, sys::kFutexWake, 1), 0);
}

volatile u32 station[4], arrived = 0, away = 0;

// Waits until `value` threads have counted themselves, right before they sleep at the word, and then some time.
void wait_until(volatile u32& count, u32 value) {
    while (count != value)
        sys::yield();
    sys::sleep_ms(20);
}

void chosen_by_bits() {
    static u32 bits[3]{1, 2, 6};
    arrived = 0;
    away = 0;
    station[0] = 0;
    static auto wait = [](u32 mine) {
        add(arrived, 1);
        CHECK_EQ(futex(&station[0], kWaitBits | sys::kFutexPrivate, 0, 0, nullptr, mine), 0);
        add(away, 1);
    };
    Thread threads[3];
    for (u32 i = 0; i < 3; ++i)
        REQUIRE(threads[i].start([](void* at) { wait(*static_cast<u32*>(at)); }, &bits[i]));
    wait_until(arrived, 3);
    CHECK_EQ(futex(&station[0], kWakeBits | sys::kFutexPrivate, 10, 0, nullptr, 8), 0);
    CHECK_EQ(futex(&station[0], kWakeBits, 10, 0, nullptr, ~0u), 0); // a shared key does not match private waiters
    CHECK_EQ(futex(&station[0], kWakeBits | sys::kFutexPrivate, 10, 0, nullptr, 4), 1);
    wait_until(away, 1);
    CHECK_EQ(futex(&station[0], kWake, 10), 2);
    for (Thread& thread : threads)
        thread.join();
    // Timeouts are absolute times of a clock here.
    struct {
        u64 seconds;
        u32 nanoseconds, padding;
    } now{};
    for (const u32 clock : {0u, 1u}) {
        REQUIRE(sys::call(403, clock, sys::word(&now)) == 0);
        now.nanoseconds += 30'000'000;
        now.seconds += now.nanoseconds / 1'000'000'000;
        now.nanoseconds %= 1'000'000'000;
        const u32 date = clock == 0 ? kRealtime : 0;
        CHECK_EQ(sys::call6(422, sys::word(&station[0]), kWaitBits | date, 0, sys::word(&now), 0, 1), -kEtimedout);
        auto later = now;
        REQUIRE(sys::call(403, clock, sys::word(&later)) == 0);
        CHECK(later.seconds > now.seconds || later.nanoseconds >= now.nanoseconds);
    }
}

// Waiters that are requeued to another word are woken there, and time out there.
void moved() {
    for (const u32 flag : {sys::kFutexPrivate, 0u}) {
        arrived = 0;
        away = 0;
        static u32 kind;
        kind = flag;
        auto wait = [] {
            add(arrived, 1);
            CHECK_EQ(futex(&station[1], sys::kFutexWait | kind, 0), 0);
            add(away, 1);
        };
        Thread threads[6];
        for (Thread& thread : threads)
            REQUIRE(start(thread, wait));
        wait_until(arrived, 6);
        CHECK_EQ(futex(&station[1], kCmpRequeue | flag, 1, 3, &station[2], 1), -kEagain);
        CHECK_EQ(futex(&station[1], kCmpRequeue | flag, 1, 3, &station[2], 0), 4);
        wait_until(away, 1);
        CHECK_EQ(futex(&station[1], kRequeue | flag, 0, 1, &station[3]), 1);
        CHECK_EQ(futex(&station[2], sys::kFutexWake | flag, 1), 1);
        wait_until(away, 2);
        // One more waiter at word 1, two at word 2, one at word 3. Word 2 changes from 0 to 5; it was less than 1.
        const u32 add_5_if_less_than_1 = 1u << 28 | 2u << 24 | 5u << 12 | 1;
        CHECK_EQ(futex(&station[1], kWakeOp | flag, 8, 8, &station[2], add_5_if_less_than_1), 3);
        CHECK_EQ(station[2], 5);
        wait_until(away, 5);
        CHECK_EQ(futex(&station[1], kWakeOp | flag, 8, 8, &station[2], add_5_if_less_than_1), 0);
        CHECK_EQ(station[2], 10);
        station[2] = 0;
        CHECK_EQ(futex(&station[3], sys::kFutexWake | flag, 8), 1);
        for (Thread& thread : threads)
            thread.join();
    }
    auto wait_shortly = [] {
        const sys::TimeSpec limit{0, 150'000'000};
        add(arrived, 1);
        CHECK_EQ(futex(&station[1], kWait, 0, sys::word(&limit)), -kEtimedout);
    };
    Thread thread;
    arrived = 0;
    REQUIRE(start(thread, wait_shortly));
    while (arrived != 1)
        sys::yield();
    sys::sleep_ms(30);
    CHECK(futex(&station[1], kRequeue | sys::kFutexPrivate, 0, 1, &station[2]) <= 1);
    thread.join();
    CHECK_EQ(futex(&station[2], kWake, 1), 0);
}

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

    // FUTEX_WAKE wakes the requested number and returns the number that it woke.
    auto wait_at_gate = [] {
        while (gate == 0)
            sys::futex(&gate, kWait, 0);
    };
    for (Thread& thread : threads)
        REQUIRE(start(thread, wait_at_gate));
    gate = 1;
    u32 woken = 0;
    for (u32 i = 0; i < 3; ++i)
        woken += static_cast<u32>(sys::futex(&gate, kWake, 2));
    CHECK(woken <= kThreads); // threads that had not begun to wait are not counted
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
    read_only();
    chosen_by_bits();
    moved();
    return 0;
}
