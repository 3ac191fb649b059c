// Futexes, futex(2): who has seen the old value is woken, or moved to where it is woken; a waiter that gives up has
// left.
#include "tests/threads/rig.hpp"

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kWait = 0, kWake = 1, kCmpRequeue = 4, kPrivate = 128;
constexpr u32 kWord = user_word(1), kOther = user_word(2), kTime = user_word(4);
constexpr int kTooLate = failed(Errno::again), kTimedOut = failed(Errno::timedout);

int wake(Ring3& me, u32 word, u32 most) { return me.call(nr::futex, word, kWake | kPrivate, most); }

// A time of one tick, at kTime.
void set_time(Scene& s, Process& process) {
    s.set_word(process, kTime, 0);
    s.set_word(process, kTime + 4, 10'000'000);
}

} // namespace

TEST_CASE("threads: a futex's waiter is woken, or sees the new value", "[.threads][threads-futex]") {
    Scene s{2};
    int result = 1, woken = -1;
    const u32 waiter = s.function([&](Ring3& me) {
        result = me.call(nr::futex, kWord, kWait | kPrivate, 0);
        sim::expect(me.load(kWord) == 1, "who comes back sees the new value");
    });
    const u32 waker = s.function([&](Ring3& me) {
        me.exchange(kWord, 1);
        woken = wake(me, kWord, 1);
    });
    Process* const p = s.program(waiter, cpus_of({0}));
    s.sibling(*p, waker, cpus_of({1}));
    s.check = [&] {
        sim::expect(woken == 1 ? result == 0 : woken == 0 && result == kTooLate, "0, or EAGAIN if it came too late");
    };
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
