// Pipes, pipe(7): bytes, the end of file, a pipe without readers.
#include "tests/threads/rig.hpp"

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kRead = 3, kWrite = 4; // the descriptors of the pipe's ends
constexpr u32 kFrom = user_word(1), kTo = user_word(2);
constexpr u32 kCapacity = 16 * kPageSize; // pipe(7)

int read(Ring3& me, u32 bytes = 4) { return me.call(nr::read, kRead, kTo, bytes); }
int write(Ring3& me, u32 bytes = 4) { return me.call(nr::write, kWrite, kFrom, bytes); }

// A pipe with two ends, each of them in some processes.
struct Pipe {
    Pipe(std::initializer_list<Process*> readers, std::initializer_list<Process*> writers) {
        REQUIRE(make_pipe(ends));
        open(ends.read, readers, kRead);
        open(ends.write, writers, kWrite);
    }
    // Before an exploration. The bytes are those of the process's page.
    void fill(Process& from) const {
        use_space(from.space);
        for (u32 done = 0; done < kCapacity; done += kPageSize) {
            ByteSource page{UserAddr{kProgramPage}, kPageSize};
            REQUIRE(ends.write->write(page).value() == kPageSize);
        }
        use_space(nullptr);
    }
    PipeEnds ends;

  private:
    static void open(File* end, std::initializer_list<Process*> processes, u32 number) {
        for (Process* process : processes) {
            end->share();
            process->files.open(number, end);
        }
        end->release();
    }
};

} // namespace

TEST_CASE("threads: a reader gets what is written, and then the end of the file", "[.threads][threads-pipe]") {
    Scene s{2};
    int written = 0, first = 0, second = 1;
    Thread* writing = nullptr;
    const u32 reader = s.function([&](Ring3& me) {
        first = read(me);
        sim::expect(me.load(kTo) == 0x5eed, "it reads what was written");
        me.tell(s.word[0], ThreadId{writing->id.load()});
        second = read(me);
    });
    const u32 writer = s.function([&](Ring3& me) {
        written = write(me);
        me.wait_for(s.word[0]); // until then it keeps its end open
    });
    Process* const reads = s.program(reader, cpus_of({0}));
    Process* const writes = s.program(writer, cpus_of({1}));
    s.set_word(*writes, kFrom, 0x5eed);
    writing = s.thread_of_program(*writes);
    s.of_programs([&] { Pipe{{reads}, {writes}}; });
    s.check = [&] { sim::expect(written == 4 && first == 4 && second == 0, "four bytes, then 0"); };
    s.explore(sim::reduced(schedules(2'000), 1, 0));
    s.explore(sim::random(schedules(2'500)));
}

TEST_CASE("threads: a writer waits until a full pipe has room", "[.threads][threads-pipe]") {
    Scene s{2};
    int written = 0, got = 0;
    const u32 reader = s.function([&](Ring3& me) {
        got = read(me, 8);
        sim::expect(me.load(kTo) == 0x464c'457f, "the oldest bytes come first");
    });
    const u32 writer = s.function([&](Ring3& me) {
        written = write(me, 8); // it has the other end, too: a reader that ends is not the last one
    });
    Process* const reads = s.program(reader, cpus_of({0}));
    Process* const writes = s.program(writer, cpus_of({1}));
    s.of_programs([&] {
        const Pipe pipe{{reads, writes}, {writes}};
        pipe.fill(*writes);
    });
    s.check = [&] { sim::expect(written == 8 && got == 8, "all bytes"); };
    s.explore(sim::reduced(schedules(1'000), 1, 0));
    s.explore(sim::random(schedules(2'000)));
}

TEST_CASE("threads: a writer that waits gets SIGPIPE when the last reader has closed", "[.threads][threads-pipe]") {
    Scene s{3};
    const u32 reader = s.function([](Ring3& me) { me.call(nr::close, kRead); });
    const u32 writer = s.function([](Ring3& me) {
        write(me);
        sim::expect(false, "nobody reads it");
    });
    Process* const one = s.program(reader, cpus_of({0}));
    Process* const two = s.program(reader, cpus_of({2}));
    Process* const writes = s.program(writer, cpus_of({1}));
    s.of_programs([&] {
        const Pipe pipe{{one, two}, {writes}};
        pipe.fill(*writes);
    });
    s.check = [&] { sim::expect(s.status(2) == WaitStatus::killed(Signal::pipe), "it is killed by SIGPIPE"); };
    s.explore(sim::reduced(schedules(1'000), 1, 0));
    s.explore(sim::random(schedules(2'500)));
}

TEST_CASE("threads: a writer that ignores SIGPIPE gets EPIPE when the last reader has closed",
          "[.threads][threads-pipe]") {
    constexpr u32 kSigPipe = 13, kIgnore = 1, kAction = user_word(4); // its words but the first one are 0
    Scene s{2};
    int first = 0, second = 0;
    const u32 reader = s.function([](Ring3& me) {
        read(me);
        me.call(nr::close, kRead);
    });
    const u32 writer = s.function([&](Ring3& me) {
        sim::expect(me.call(nr::rt_sigaction, kSigPipe, kAction, 0, 8) == 0, "it can be ignored");
        first = write(me, 8);
        second = write(me, 8);
    });
    Process* const reads = s.program(reader, cpus_of({0}));
    Process* const writes = s.program(writer, cpus_of({1}));
    s.set_word(*writes, kAction, kIgnore);
    SECTION("of an empty pipe") {
        s.of_programs([&] { Pipe{{reads}, {writes}}; });
        s.check = [&] { sim::expect(first == 8, "the first bytes are there before the reader has read some"); };
    }
    SECTION("of a full one") {
        s.of_programs([&] {
            const Pipe pipe{{reads}, {writes}};
            pipe.fill(*writes);
        });
        s.check = [&] { sim::expect(first == failed(Errno::pipe), "four bytes have room, eight have none"); };
    }
    const auto of_the_section = s.check;
    s.check = [&, of_the_section] {
        of_the_section();
        sim::expect(s.status(1) == WaitStatus::exited(0), "it is not killed");
        sim::expect(second == failed(Errno::pipe) || (second == 8 && first == 8), "EPIPE, for good");
    };
    s.explore(sim::reduced(schedules(500), 1, 0));
    s.explore(sim::random(schedules(1'000)));
}

TEST_CASE("threads: two readers, and bytes for one of them", "[.threads][threads-pipe]") {
    Scene s{3};
    int got[2]{};
    const auto reader = [&](u32 who) { return s.function([&got, who](Ring3& me) { got[who] = read(me); }); };
    const u32 writer = s.function([](Ring3& me) { write(me); });
    Process* const one = s.program(reader(0), cpus_of({0}));
    Process* const two = s.program(reader(1), cpus_of({1}));
    Process* const writes = s.program(writer, cpus_of({2}));
    s.of_programs([&] { Pipe{{one, two}, {writes}}; });
    s.check = [&] {
        sim::expect(got[0] + got[1] == 4 && got[0] * got[1] == 0, "one gets the bytes, the other the end of the file");
    };
    s.explore(sim::reduced(schedules(1'000), 1, 0));
    s.explore(sim::random(schedules(2'500)));
}

TEST_CASE("threads: short writes are not mixed", "[.threads][threads-pipe]") {
    Scene s{2};
    int written[2]{}, got = 0;
    const auto writer = [&](u32 who) {
        return s.function([&written, who](Ring3& me) { written[who] = write(me, 8); });
    };
    Process* const one = s.program(writer(0), cpus_of({0}));
    Process* const two = s.program(writer(1), cpus_of({1}));
    const u32 reader = s.function([&](Ring3& me) {
        got = read(me, 16);
        const u32 first = me.load(kTo), third = me.load(kTo + 8);
        sim::expect(got == 8 || got == 16, "it gets what one has written, or both");
        sim::expect(first == me.load(kTo + 4) && third == me.load(kTo + 12), "each is whole");
        sim::expect(got == 8 || first + third == 3, "each is there once");
    });
    Process* const reads = s.program(reader);
    for (const u32 i : {0u, 1u}) {
        s.set_word(*one, kFrom + 4 * i, 1);
        s.set_word(*two, kFrom + 4 * i, 2);
    }
    Thread* const late = s.thread_of_program(*reads);
    s.of_programs([&] { Pipe{{reads}, {one, two}}; });
    late->affinity = cpus_of({0}); // behind the first writer
    s.check = [&] { sim::expect(written[0] == 8 && written[1] == 8 && got != 0, "all is written"); };
    s.explore(sim::reduced(schedules(1'000), 1, 0));
    s.explore(sim::random(schedules(2'000)));
}

TEST_CASE("threads: a thread reads from a descriptor that another one closes", "[.threads][threads-pipe]") {
    Scene s{3};
    int got = 0, closed = 1;
    const u32 reader = s.function([&](Ring3& me) { got = read(me); });
    const u32 closer = s.function([&](Ring3& me) { closed = me.call(nr::close, kRead); });
    const u32 writer = s.function([](Ring3& me) { sim::expect(write(me) == 4, "somebody reads it"); });
    Process* const reads = s.program(reader, cpus_of({0}));
    s.sibling(*reads, closer, cpus_of({2}));
    Process* const writes = s.program(writer, cpus_of({1}));
    s.of_programs([&] { Pipe{{reads}, {writes}}; });
    s.check = [&] {
        sim::expect(closed == 0, "it was open");
        const bool killed = s.status(1) == WaitStatus::killed(Signal::pipe);
        sim::expect(got == 4 || (got == failed(Errno::badf)), "the bytes, or EBADF");
        sim::expect(killed || s.status(1) == WaitStatus::exited(0), "SIGPIPE without a reader");
        sim::expect(!(killed && got == 4), "who has been read from had a reader");
    };
    s.explore(sim::reduced(schedules(1'000), 1, 0));
    s.explore(sim::random(schedules(3'000)));
}
