// Birth and death of processes and their threads: fork(2), wait(2), exit_group(2), set_tid_address(2).
#include "tests/threads/rig.hpp"

#include "mm/spaces/address_space.hpp"

using namespace loft;
using namespace loft::test;

// As for the kernel's own static objects, a schedule begins with its first value.
namespace loft::litmus {
namespace {

constinit Mutex held{"of both"};

} // namespace
} // namespace loft::litmus

namespace {

constexpr u32 kStatus = user_word(1), kTid = user_word(3);
constexpr u32 kAny = ~0u;
constexpr int kNoChild = failed(Errno::child);

} // namespace

TEST_CASE("threads: a parent waits for its child", "[.threads][threads-process]") {
    Scene s{2};
    int child = 0, waited = 0, again = 0;
    u32 status = 0;
    const u32 begins = s.function([](Ring3& me) { me.call(nr::exit, 7); });
    const u32 parent = s.function([&](Ring3& me) {
        child = me.fork(begins);
        waited = me.call(nr::waitpid, kAny, kStatus);
        status = me.load(kStatus);
        again = me.call(nr::waitpid, kAny, kStatus);
    });
    s.program(parent, cpus_of({0}));
    s.check = [&] {
        sim::expect(child > 0 && waited == child, "it gets the child's id");
        sim::expect(status == WaitStatus::exited(7).value(), "it gets the child's status");
        sim::expect(again == kNoChild, "it gets the child once");
    };
    s.explore(sim::reduced(schedules(1'000), 1, 0));
    s.explore(sim::random(schedules(1'500)));
}

TEST_CASE("threads: two threads wait for one child", "[.threads][threads-process]") {
    Scene s{2};
    int child = 0, waited[2]{};
    const u32 begins = s.function([](Ring3& me) { me.call(nr::exit, 0); });
    const u32 parent = s.function([&](Ring3& me) {
        child = me.fork(begins);
        waited[0] = me.call(nr::waitpid, kAny, 0);
    });
    const u32 other = s.function([&](Ring3& me) { waited[1] = me.call(nr::waitpid, kAny, 0); });
    Process* const p = s.program(parent, cpus_of({0}));
    s.sibling(*p, other, cpus_of({1}));
    s.check = [&] {
        sim::expect(waited[0] == child || waited[1] == child, "one gets the child");
        sim::expect(waited[0] == kNoChild || waited[1] == kNoChild, "the other one has none");
    };
    s.explore(sim::reduced(schedules(500), 1, 0));
    s.explore(sim::random(schedules(2'000)));
}

TEST_CASE("threads: a parent that does not wait, and ends before its child or after it",
          "[.threads][threads-process]") {
    Scene s{2};
    int self = 0, parents = -1;
    const u32 begins = s.function([&](Ring3& me) { parents = me.call(nr::getppid); });
    const u32 parent = s.function([&](Ring3& me) {
        self = me.call(nr::getpid);
        me.fork(begins);
    });
    s.program(parent, cpus_of({0}));
    s.check = [&] { sim::expect(parents == self || parents == 0, "its parent, or none"); };
    s.explore(sim::reduced(schedules(500), 1, 0));
    s.explore(sim::random(schedules(2'000)));
}

TEST_CASE("threads: a thread forks while another one ends the process", "[.threads][threads-process]") {
    Scene s{2};
    const u32 begins = s.function([](Ring3& me) { me.call(nr::exit, 1); });
    const u32 forks = s.function([&](Ring3& me) {
        me.fork(begins);
        me.call(nr::waitpid, kAny, 0);
        me.call(nr::exit, 2);
    });
    const u32 ends = s.function([](Ring3& me) { me.call(nr::exit_group, 5); });
    Process* const p = s.program(forks, cpus_of({0}));
    s.sibling(*p, ends, cpus_of({1}));
    s.check = [&] { sim::expect(s.status(0) == WaitStatus::exited(5), "the status of exit_group"); };
    s.explore(sim::reduced(schedules(500), 1, 0));
    s.explore(sim::random(schedules(2'000)));
}

TEST_CASE("threads: the last of two threads ends the process", "[.threads][threads-process]") {
    Scene s{2};
    const auto exits = [&](u32 code) { return s.function([code](Ring3& me) { me.call(nr::exit, code); }); };
    Process* const p = s.program(exits(1), cpus_of({0}));
    s.sibling(*p, exits(2), cpus_of({1}));
    s.check = [&] {
        sim::expect(s.status(0) == WaitStatus::exited(1) || s.status(0) == WaitStatus::exited(2), "the status of one");
    };
    s.explore(sim::reduced(schedules(2'000), 1, 0));
    s.explore(sim::random(schedules(2'000)));
}

TEST_CASE("threads: a thread waits for the end of another one by its id", "[.threads][threads-process]") {
    // As pthread_join does: the kernel clears the word, and wakes who waits there (clone(2), CLONE_CHILD_CLEARTID).
    constexpr u32 kWait = 0;
    Scene s{2};
    const u32 begins = s.function([](Ring3&) {});
    const u32 joins = s.function([&](Ring3& me) {
        sim::expect(me.clone_thread(begins, kTid) > 0, "there is memory for a thread");
        while (me.load(kTid) != 0)
            me.call(nr::futex, kTid, kWait, 1);
    });
    Process* const p = s.program(joins, cpus_of({0}));
    s.set_word(*p, kTid, 1);
    s.check = [&] { sim::expect(s.status(0) == WaitStatus::exited(0), "it ends well"); };
    s.explore(sim::reduced(schedules(1'000), 1, 0));
    s.explore(sim::random(schedules(2'000)));
}

TEST_CASE("threads: a process is killed, whatever it waits for", "[.threads][threads-process]") {
    Scene s{2};
    const u32 begins = s.function([](Ring3&) {});
    u32 first = 0;
    SECTION("a child") {
        first = s.function([&](Ring3& me) {
            me.fork(begins);
            me.call(nr::waitpid, kAny, 0);
            me.call(nr::exit, 1);
        });
    }
    SECTION("a change of a word") {
        first = s.function([&](Ring3& me) {
            me.call(nr::futex, kStatus, 0, 0);
            sim::expect(false, "nobody wakes it");
        });
    }
    Process* const p = s.program(first, cpus_of({1}));
    s.main([&] { process_kill(*p, WaitStatus::killed(Signal::kill)); });
    s.check = [&] {
        sim::expect(s.status(0) == WaitStatus::killed(Signal::kill) || s.status(0) == WaitStatus::exited(1),
                    "it is killed, or has ended before");
    };
    s.explore(sim::reduced(schedules(500), 1, 0));
    s.explore(sim::random(schedules(1'500)));
}

// Whoever looks for memory may hold a mutex that a thread of the largest program waits for.
TEST_CASE("threads: the largest program is ended by a thread that it waits for", "[.threads][threads-process]") {
    Scene s{2};
    bool again = false;
    u32 killed = 0; // in all schedules
    const u32 waits = s.function([](Ring3& me) {
        {
            const MutexGuard guard{loft::litmus::held}; // as in a system call
        }
        me.call(nr::exit, 2);
    });
    s.program(waits, cpus_of({1}));
    s.main([&] {
        const MutexGuard guard{loft::litmus::held};
        again = end_largest_program(spaces_cleared());
    });
    s.reset = [&] { again = false; };
    s.check = [&] {
        const bool ended = s.status(0) == WaitStatus::killed(Signal::kill);
        sim::expect(ended ? again : s.status(0) == WaitStatus::exited(2), "it is killed, or has ended before");
        killed += ended;
    };
    s.explore(sim::reduced(schedules(500), 1, 0));
    s.explore(sim::random(schedules(1'500)));
    CHECK(killed != 0);
}

TEST_CASE("threads: the largest program is killed while it ends by itself", "[.threads][threads-process]") {
    Scene s{2};
    bool again = false;
    const u32 exits = s.function([](Ring3& me) { me.call(nr::exit, 1); });
    const u32 waits = s.function([](Ring3& me) {
        me.call(nr::futex, kStatus, 0, 0);
        me.call(nr::exit, 2);
    });
    Process* const p = s.program(exits, cpus_of({1}));
    s.sibling(*p, waits, cpus_of({1}));
    s.main([&] { again = end_largest_program(spaces_cleared()); });
    s.reset = [&] { again = false; };
    s.check = [&] {
        sim::expect(s.status(0) == WaitStatus::killed(Signal::kill), "its other thread waits until it is killed");
        sim::expect(again, "whoever wants memory tries again");
    };
    s.explore(sim::reduced(schedules(500), 1, 0));
    s.explore(sim::random(schedules(1'500)));
}

TEST_CASE("threads: a program that ends by itself meanwhile is enough", "[.threads][threads-process]") {
    Scene s{2};
    bool again = false;
    const u32 exits = s.function([](Ring3& me) { me.call(nr::exit, 1); });
    const u32 waits = s.function([](Ring3& me) { me.call(nr::futex, kStatus, 0, 0); });
    Process* const large = s.program(exits, cpus_of({1}));
    Process* const small = s.program(waits, cpus_of({1}));
    s.more_pages(*large, 2);
    const u32 since = spaces_cleared();
    s.main([&] {
        again = end_largest_program(since);
        process_kill(*small, WaitStatus::exited(3));
    });
    s.reset = [&] { again = false; };
    s.check = [&] {
        sim::expect(again, "there is memory");
        sim::expect(s.status(1) == WaitStatus::exited(3), "the small program is not harmed");
    };
    s.explore(sim::reduced(schedules(2'000), 1, 0));
    s.explore(sim::random(schedules(1'500)));
}

TEST_CASE("threads: two threads without memory end one program, not two", "[.threads][threads-process]") {
    Scene s{2};
    const u32 waits = s.function([](Ring3& me) { me.call(nr::futex, kStatus, 0, 0); });
    Process* const programs[]{s.program(waits, cpus_of({0})), s.program(waits, cpus_of({1}))};
    const u32 since = spaces_cleared();
    bool again[2]{};
    s.thread(1, [&] {
        again[1] = end_largest_program(since);
        s.word[0].store(1);
        hal::unpark(s.main_id);
    });
    s.main([&] {
        again[0] = end_largest_program(since);
        wait_for(s.word[0]);
        for (Process* const program : programs)
            process_kill(*program, WaitStatus::exited(3));
    });
    s.reset = [&] { again[0] = again[1] = false; };
    s.check = [&] {
        sim::expect(again[0] && again[1], "both try again");
        const u32 killed =
            (s.status(0) == WaitStatus::killed(Signal::kill)) + (s.status(1) == WaitStatus::killed(Signal::kill));
        sim::expect(killed == 1, "one is killed");
    };
    s.explore(sim::reduced(schedules(500), 1, 0));
    s.explore(sim::random(schedules(3'000)));
}
