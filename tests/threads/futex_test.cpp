// Futexes, futex(2): who has seen the old value is woken, or moved to where it is woken; a waiter that gives up has
// left.
#include "tests/threads/rig.hpp"

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kWait = 0, kWake = 1, kRequeue = 3, kCmpRequeue = 4, kWakeOp = 5, kWaitBits = 9, kWakeBits = 10,
              kPrivate = 128;
constexpr u32 kWord = user_word(1), kOther = user_word(2), kTime = user_word(4);
constexpr int kTooLate = failed(Errno::again), kTimedOut = failed(Errno::timedout);

int wake(Ring3& me, u32 word, u32 most) { return me.call(nr::futex, word, kWake | kPrivate, most); }

// FUTEX_WAKE_OP: changes the second word, wakes one thread at the first, and one at the second if that was 0.
enum class Change : u32 { set, add };
int wake_op(Ring3& me, u32 word, u32 second, Change change, u32 operand) {
    constexpr u32 kEqual = 0, kMost = 1;
    const u32 code = static_cast<u32>(change) << 28 | kEqual << 24 | operand << 12;
    return me.call(nr::futex, word, kWakeOp | kPrivate, kMost, kMost, second, code);
}

// A time of one tick, at kTime.
void set_time(Scene& s, Process& process) {
    s.set_word(process, kTime, 0);
    s.set_word(process, kTime + 4, 10'000'000);
}

} // namespace

TEST_CASE("threads: a futex's waiter is woken, or sees the new value", "[.threads][threads-futex]") {
    Scene s{2};
    int result = 1, woken = -1;
    bool by_change = false;
    SECTION("by FUTEX_WAKE") {}
    SECTION("by FUTEX_WAKE_OP, with a change of another word") { by_change = true; }
    const u32 waiter = s.function([&](Ring3& me) {
        result = me.call(nr::futex, kWord, kWait | kPrivate, 0);
        sim::expect(me.load(kWord) == 1, "who comes back sees the new value");
    });
    const u32 waker = s.function([&](Ring3& me) {
        me.exchange(kWord, 1);
        woken = by_change ? wake_op(me, kWord, kOther, Change::set, 1) : wake(me, kWord, 1);
    });
    Process* const p = s.program(waiter, cpus_of({0}));
    s.sibling(*p, waker, cpus_of({1}));
    s.check = [&] {
        sim::expect(woken == 1 ? result == 0 : woken == 0 && result == kTooLate, "0, or EAGAIN if it came too late");
    };
    s.explored.copy_points = true; // a waiter has read its word, and is in no list yet
    s.explore(sim::reduced(schedules(2'000), 1, 0));
    s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("threads: a futex's waiter is woken, or its time is over", "[.threads][threads-futex]") {
    Scene s{2};
    int result = 1, woken = -1;
    const u32 waiter = s.function([&](Ring3& me) { result = me.call(nr::futex, kWord, kWait | kPrivate, 0, kTime); });
    const u32 waker = s.function([&](Ring3& me) { woken = wake(me, kWord, 1); });
    Process* const p = s.program(waiter, cpus_of({0}));
    s.sibling(*p, waker, cpus_of({1}));
    set_time(s, *p);
    s.check = [&] { sim::expect(woken == 1 ? result == 0 : woken == 0 && result == kTimedOut, "0, or ETIMEDOUT"); };
    s.explored.ticks = 2;
    s.explore(sim::reduced(schedules(1'500), 1, 0));
    s.explore(sim::random(schedules(1'500)));
}

TEST_CASE("threads: a futex's waiter that is moved is woken at its new word, or its time is over",
          "[.threads][threads-futex]") {
    // Two words of a shared page: their object is counted for each waiter.
    Scene s{3};
    constexpr u32 kFrom = Scene::kSharedPage, kTo = Scene::kSharedPage + 4;
    int result = 1, moved = -1, woken = -1, earlier = -1;
    const u32 waiter = s.function([&](Ring3& me) { result = me.call(nr::futex, kFrom, kWait, 0, kTime); });
    const u32 mover = s.function([&](Ring3& me) {
        moved = me.call(nr::futex, kFrom, kCmpRequeue, 0, 1, kTo, 0);
        woken = me.call(nr::futex, kTo, kWake, 1);
    });
    const u32 waker = s.function([&](Ring3& me) { earlier = me.call(nr::futex, kFrom, kWake, 1); });
    Process* const p = s.program(waiter, cpus_of({0}));
    s.sibling(*p, mover, cpus_of({1}));
    s.sibling(*p, waker, cpus_of({2}));
    s.share_page({p});
    set_time(s, *p);
    s.check = [&] {
        sim::expect(moved == 0 || moved == 1, "at most one is moved");
        sim::expect(woken <= moved, "who is woken there has been moved there");
        sim::expect(woken + earlier <= 1 && (result == 0) == (woken + earlier == 1), "it is woken once");
        sim::expect(result == 0 || result == kTimedOut, "0, or ETIMEDOUT");
    };
    s.explored.ticks = 1;
    s.explore(sim::reduced(schedules(500), 1, 0));
    s.explore(sim::random(schedules(3'000)));
}

TEST_CASE("threads: two threads move waiters in opposite directions", "[.threads][threads-futex]") {
    Scene s{2};
    int result = 1, there = 0, back = 0;
    const u32 mover = s.function([&](Ring3& me) {
        there = me.call(nr::futex, kWord, kCmpRequeue | kPrivate, 0, 1, kOther, 0);
        me.exchange(kTime, 1);
    });
    const u32 waker = s.function([&](Ring3& me) {
        back = me.call(nr::futex, kOther, kCmpRequeue | kPrivate, 0, 1, kWord, 0);
        while (me.load(kTime) == 0)
            hal::cpu_relax();
        me.exchange(kWord, 1);
        me.exchange(kOther, 1);
        const int woken = wake(me, kWord, 1) + wake(me, kOther, 1);
        sim::expect(woken <= 1 && there <= 1 && back <= there, "it is in one place");
    });
    const u32 waiter = s.function([&](Ring3& me) { result = me.call(nr::futex, kWord, kWait | kPrivate, 0); });
    Process* const p = s.program(waiter, cpus_of({0}));
    s.sibling(*p, mover, cpus_of({0, 1}));
    s.sibling(*p, waker, cpus_of({1}));
    s.check = [&] { sim::expect(result == 0 || result == kTooLate, "it is woken, or came too late"); };
    s.explored.ticks = 1;
    s.explore(sim::reduced(schedules(500), 1, 0));
    s.explore(sim::random(schedules(3'000)));
}

TEST_CASE("threads: a futex's waiter that is killed is in no list afterwards", "[.threads][threads-futex]") {
    Scene s{2};
    int early = -1, late = -1;
    const u32 waiter = s.function([](Ring3& me) { me.call(nr::futex, Scene::kSharedPage, kWait, 0); });
    const u32 waker = s.function([&](Ring3& me) {
        early = me.call(nr::futex, Scene::kSharedPage, kWake, 1);
        me.wait_for(s.word[0]);
        late = me.call(nr::futex, Scene::kSharedPage, kWake, 1);
    });
    Process* const killed = s.program(waiter, cpus_of({1}));
    Process* const other = s.program(waker, cpus_of({0}));
    s.share_page({killed, other});
    Thread* const sleeper = s.thread_of_program(*other);
    s.main([&, sleeper] {
        process_kill(*killed, WaitStatus::killed(Signal::kill));
        s.reap(0);
        s.word[0].store(1);
        hal::unpark(ThreadId{sleeper->id.load()});
    });
    s.check = [&] {
        const bool in_time = s.status(0) == WaitStatus::exited(0);
        sim::expect(in_time || s.status(0) == WaitStatus::killed(Signal::kill), "it is killed, or has ended before");
        sim::expect(early == 1 || !in_time, "who is not woken does not go on");
        sim::expect(late == 0, "nobody waits any more");
    };
    s.explore(sim::reduced(schedules(500), 1, 0));
    s.explore(sim::random(schedules(1'500)));
}

TEST_CASE("threads: a word is changed, and threads at two words are woken", "[.threads][threads-futex]") {
    Scene s{3};
    int result[2]{1, 1}, woken = -1;
    const auto waiter = [&](u32 who, u32 word) {
        return s.function([&, who, word](Ring3& me) {
            result[who] = me.call(nr::futex, word, kWait | kPrivate, 0);
            sim::expect(me.load(word) == 1, "who comes back sees the new value");
        });
    };
    const u32 waker = s.function([&](Ring3& me) {
        me.exchange(kWord, 1);
        woken = wake_op(me, kWord, kOther, Change::set, 1);
    });
    Process* const p = s.program(waiter(0, kWord), cpus_of({0}));
    s.sibling(*p, waiter(1, kOther), cpus_of({1}));
    s.sibling(*p, waker, cpus_of({2}));
    s.check = [&] {
        for (const int one : result)
            sim::expect(one == 0 || one == kTooLate, "0, or EAGAIN if it came too late");
        sim::expect(woken == (result[0] == 0) + (result[1] == 0), "the number of those that were woken");
    };
    s.explored.copy_points = true; // a waiter has read its word, and is in no list yet
    s.explore(sim::reduced(schedules(500), 1, 0));
    s.explore(sim::random(schedules(1'500)));
}

TEST_CASE("threads: a word is changed by two threads, and by one of them in the kernel", "[.threads][threads-futex]") {
    Scene s{2};
    const u32 kernel = s.function([&](Ring3& me) {
        sim::expect(wake_op(me, kWord, kOther, Change::add, 1) == 0, "nobody waits");
        me.exchange(kTime, 1);
    });
    const u32 other = s.function([&](Ring3& me) {
        const u32 before = me.exchange(kOther, 4);
        while (me.load(kTime) == 0)
            hal::cpu_relax();
        sim::expect(me.load(kOther) == (before == 0 ? 5u : 4u), "no change is lost");
    });
    Process* const p = s.program(kernel, cpus_of({0}));
    s.sibling(*p, other, cpus_of({1}));
    s.explore(sim::reduced(schedules(1'000), 1, 0));
    s.explore(sim::random(schedules(500)));
}

TEST_CASE("threads: a word is changed while its page is unmapped", "[.threads][threads-futex]") {
    Scene s{2};
    int result = 1;
    const u32 changes = s.function([&](Ring3& me) { result = wake_op(me, kWord, Scene::kSharedPage, Change::set, 1); });
    const u32 unmaps = s.function([](Ring3& me) { me.call(nr::munmap, Scene::kSharedPage, kPageSize); });
    Process* const p = s.program(changes, cpus_of({0}));
    s.sibling(*p, unmaps, cpus_of({1}));
    s.share_page({p});
    s.check = [&] { sim::expect(result == 0 || result == failed(Errno::fault), "0, or EFAULT"); };
    s.explore(sim::reduced(schedules(500), 1, 0));
    s.explore(sim::random(schedules(500)));
}

TEST_CASE("threads: a futex's waiter is moved whatever its word is, and woken by its bits",
          "[.threads][threads-futex]") {
    Scene s{2};
    int result = 1;
    const u32 waiter =
        s.function([&](Ring3& me) { result = me.call(nr::futex, kWord, kWaitBits | kPrivate, 0, 0, 0, 1); });
    const u32 mover = s.function([&](Ring3& me) {
        me.exchange(kWord, 1);
        const int moved = me.call(nr::futex, kWord, kRequeue | kPrivate, 0, 1, kOther);
        sim::expect(me.call(nr::futex, kOther, kWakeBits | kPrivate, 1, 0, 0, 2) == 0, "nobody has these bits");
        sim::expect(me.call(nr::futex, kOther, kWakeBits | kPrivate, 1, 0, 0, 3) == moved, "who was moved is woken");
    });
    Process* const p = s.program(waiter, cpus_of({0}));
    s.sibling(*p, mover, cpus_of({1}));
    s.check = [&] { sim::expect(result == 0 || result == kTooLate, "it is woken, or came too late"); };
    s.explored.copy_points = true; // a waiter has read its word, and is in no list yet
    s.explore(sim::reduced(schedules(500), 1, 0));
    s.explore(sim::random(schedules(1'000)));
}
