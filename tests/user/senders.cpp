// 200 threads send pages of a file to full pipes (sendfile), and wait for room. Meanwhile directories, sync, copies
// that need maps of their own, and memory work as ever; then all 200 finish, and each page arrives once.
//     senders DIRECTORY [MIB]
// The file is made in DIRECTORY. MIB: memory that a child fills while they wait; more than the machine has, if it has
// swap.
//
// Word i of the file is i * 2654435761 + 1, so a page in the wrong place is seen.
#include "tests/user/user.hpp"

namespace {

constexpr u32 kSenders = 200, kPipes = 4, kPipePages = 16, kBytes = kSenders * kPage;
constexpr u32 kReadWrite = 2, kCreate = 0100;

using sys::word;
int open(const char* path, u32 flags) { return sys::call(5, word(path), flags, 0644); }
int sendfile(u32 to, u32 from, u32* offset, u32 bytes) { return sys::call(187, to, from, word(offset), bytes); }
constexpr u32 word_at(u32 offset) { return offset / 4 * 2654435761u + 1; }
constexpr u8 byte_at(u32 offset) { return static_cast<u8>(word_at(offset) >> offset % 4 * 8); }

u32 file = 0;
u32 out[kPipes], in[kPipes];
u8* buffer; // two pages
volatile u32 started = 0, returned = 0;

struct Sender {
    u32 number = 0, offset = 0;
    int result = 0;
};
Sender sender[kSenders];
Thread threads[kSenders];

void send(void* argument) {
    Sender& me = *static_cast<Sender*>(argument);
    me.offset = me.number * kPage;
    add(started, 1);
    me.result = sendfile(out[me.number % kPipes], file, &me.offset, kPage);
    add(returned, 1);
}

bool holds(const u8* bytes, u32 size, u32 offset) {
    for (u32 i = 0; i < size; ++i)
        if (bytes[i] != byte_at(offset + i)) {
            Line{} << "byte " << offset + i << " is " << u32{bytes[i]} << ", not " << u32{byte_at(offset + i)};
            return false;
        }
    return true;
}
bool read_all(u32 from, u8* to, u32 bytes) {
    for (u32 done = 0; done < bytes;) {
        const int got = sys::read(from, to + done, bytes - done);
        if (got <= 0) return false;
        done += static_cast<u32>(got);
    }
    return true;
}
bool file_holds(u32 number) {
    for (u32 at = 0; at < kBytes; at += kPage) {
        if (sys::call(180, number, word(buffer), kPage, at, 0) != int{kPage}) return false;
        if (!holds(buffer, kPage, at)) return false;
    }
    return true;
}

void make_file() {
    const int made = open("sent", kCreate | kReadWrite);
    REQUIRE(made >= 0);
    file = static_cast<u32>(made);
    auto* words = reinterpret_cast<u32*>(buffer);
    for (u32 at = 0; at < kBytes; at += kPage) {
        for (u32 i = 0; i < kPage / 4; ++i)
            words[i] = word_at(at + i * 4);
        REQUIRE(sys::write(file, buffer, kPage) == int{kPage});
    }
}

void fill(u32 pipe) {
    int ends[2];
    REQUIRE(sys::pipe(ends) == 0);
    in[pipe] = static_cast<u32>(ends[0]);
    out[pipe] = static_cast<u32>(ends[1]);
    for (u32 i = 0; i < kPage; ++i)
        buffer[i] = 0;
    for (u32 i = 0; i < kPipePages; ++i)
        REQUIRE(sys::write(out[pipe], buffer, kPage) == int{kPage});
}

// --- While all of them wait.

u32 entries() {
    const int folder = open(".", 0);
    REQUIRE(folder >= 0);
    u32 count = 0;
    for (int got; (got = sys::call(220, static_cast<u32>(folder), word(buffer), kPage)) > 0;)
        for (int at = 0; at < got; at += buffer[at + 16] | buffer[at + 17] << 8)
            ++count;
    sys::close(static_cast<u32>(folder));
    return count;
}

void directories() {
    const u32 before = entries();
    CHECK(before != 0);
    CHECK_EQ(sys::call(39, word("beside"), 0755), 0);
    const int made = open("beside/file", kCreate | kReadWrite);
    CHECK(made >= 0);
    CHECK_EQ(entries(), before + 1);
    CHECK_EQ(sys::call(38, word("beside/file"), word("file")), 0);
    CHECK_EQ(entries(), before + 2);
    CHECK_EQ(sys::close(static_cast<u32>(made)), 0);
    CHECK_EQ(sys::call(10, word("file")), 0);
    CHECK_EQ(sys::call(40, word("beside")), 0);
    CHECK_EQ(entries(), before);
}

// A sendfile that need not wait.
void copies() {
    const int made = open("copy", kCreate | kReadWrite);
    REQUIRE(made >= 0);
    const auto copy = static_cast<u32>(made);
    u32 offset = 0;
    CHECK_EQ(sendfile(copy, file, &offset, kBytes + 1), kBytes);
    CHECK_EQ(offset, kBytes);
    CHECK_EQ(sys::call(118, copy), 0); // fsync
    CHECK(file_holds(copy));
    CHECK_EQ(sys::close(copy), 0);
    CHECK_EQ(sys::call(10, word("copy")), 0);
    int ends[2];
    REQUIRE(sys::pipe(ends) == 0);
    offset = 3 * kPage + 5;
    CHECK_EQ(sendfile(static_cast<u32>(ends[1]), file, &offset, 1000), 1000);
    CHECK(read_all(static_cast<u32>(ends[0]), buffer, 1000) && holds(buffer, 1000, 3 * kPage + 5));
    sys::close(static_cast<u32>(ends[0]));
    sys::close(static_cast<u32>(ends[1]));
}

void fill_memory(u32 mib) {
    const u32 pages = mib * 256;
    u8* const memory = new_memory(pages * kPage);
    u32 wrong = 0;
    for (u32 page = 0; page < pages; ++page)
        store<u32>(word(memory) + page * kPage, word_at(page * 4));
    for (u32 page = 0; page < pages; ++page)
        wrong += load<u32>(word(memory) + page * kPage) != word_at(page * 4);
    CHECK_EQ(wrong, 0);
}

void two_hundred_wait(u32 mib) {
    for (u32 pipe = 0; pipe < kPipes; ++pipe)
        fill(pipe);
    for (u32 i = 0; i < kSenders; ++i) {
        sender[i].number = i;
        REQUIRE(threads[i].start(send, &sender[i]));
    }
    while (started != kSenders)
        sys::yield();
    sys::sleep_ms(100);
    CHECK_EQ(returned, 0);
    directories();
    copies();
    CHECK_EQ(sys::call(36), 0); // sync
    CHECK_EQ(in_child([&] { fill_memory(mib); }), 0);
    directories();
    CHECK_EQ(returned, 0);
    Line{} << "senders: " << kSenders << " wait, and all else works";

    static u32 seen[kSenders];
    for (u32 pipe = 0; pipe < kPipes; ++pipe) {
        for (u32 i = 0; i < kPipePages; ++i) {
            REQUIRE(read_all(in[pipe], buffer, kPage));
            CHECK_EQ(load<u32>(word(buffer)) | load<u32>(word(buffer) + kPage - 4), 0);
        }
        for (u32 i = 0; i < kSenders / kPipes; ++i) {
            REQUIRE(read_all(in[pipe], buffer, kPage));
            u32 page = 0;
            while (page < kSenders && word_at(page * kPage) != load<u32>(word(buffer)))
                ++page;
            REQUIRE(page < kSenders);
            CHECK(page % kPipes == pipe && holds(buffer, kPage, page * kPage));
            ++seen[page];
        }
    }
    for (u32 i = 0; i < kSenders; ++i) {
        threads[i].join();
        CHECK_EQ(sender[i].result, kPage);
        CHECK_EQ(sender[i].offset, (i + 1) * kPage);
        CHECK_EQ(seen[i], 1);
    }
    for (u32 pipe = 0; pipe < kPipes; ++pipe) {
        sys::close(in[pipe]);
        sys::close(out[pipe]);
    }
}

// The whole file by one pipe, in pieces of another size at each end.
void a_stream() {
    int ends[2];
    REQUIRE(sys::pipe(ends) == 0);
    const auto from = static_cast<u32>(ends[0]), to = static_cast<u32>(ends[1]);
    const int pid = sys::fork();
    REQUIRE(!sys::failed(pid));
    if (pid == 0) {
        sys::close(from);
        u32 offset = 0;
        int sent = 0;
        for (u32 size = 1; (sent = sendfile(to, file, &offset, size)) > 0;)
            size = size * 3 % 30'011;
        CHECK_EQ(sent, 0); // the end of the file
        CHECK_EQ(offset, kBytes);
        sys::exit(failures != 0);
    }
    sys::close(to);
    u32 done = 0;
    for (u32 size = 1; done < kBytes; size = size * 5 % 7'919) {
        const int got = sys::read(from, buffer, size);
        if (got <= 0) break;
        if (!holds(buffer, static_cast<u32>(got), done)) break;
        done += static_cast<u32>(got);
    }
    CHECK_EQ(done, kBytes);
    CHECK_EQ(sys::read(from, buffer, 1), 0);
    int status = -1;
    CHECK_EQ(sys::waitpid(pid, &status), pid);
    CHECK_EQ(status, 0);
    sys::close(from);
}

} // namespace

int main(int argc, char** argv) {
    REQUIRE(argc >= 2);
    REQUIRE(sys::call(12, word(argv[1])) == 0);
    buffer = new_memory(2 * kPage);
    make_file();
    two_hundred_wait(argc > 2 ? number_of(argv[2]) : 1);
    a_stream();
    CHECK(file_holds(file));
    CHECK_EQ(sys::close(file), 0);
    CHECK_EQ(sys::call(10, word("sent")), 0);
    return 0;
}
