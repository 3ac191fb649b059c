// Every system call with every kind of bad or odd argument, one line a case: "call: case -> result".
//
// The same file runs on Linux, and its output there is committed: answers/arguments.txt. That text is part of this
// program, which compares each of its lines with the next line of the text. Where loft answers otherwise on purpose,
// answers/differences.txt has the line and the reason. Without arguments the program prints only wrong lines; "print"
// prints every line (scripts/linux-answers).
#include "tests/user/user.hpp"

#include <initializer_list>

asm(".section .rodata\n"
    "recorded_answers: .incbin \"tests/user/answers/arguments.txt\"\n.byte 0\n"
    "explained_differences: .incbin \"tests/user/answers/differences.txt\"\n.byte 0\n"
    ".text\n");
extern "C" const char recorded_answers[], explained_differences[];

namespace {

// ------------------------------------------------------------------------------------------------------ lines of text

class Text {
  public:
    Text& operator<<(const char* text) {
        while (*text != '\0')
            put(*text++);
        return *this;
    }
    Text& operator<<(int number) {
        if (number < 0) put('-');
        u32 rest = number < 0 ? 0u - static_cast<u32>(number) : static_cast<u32>(number);
        char digits[10];
        u32 count = 0;
        do
            digits[count++] = static_cast<char>('0' + rest % 10);
        while ((rest /= 10) != 0);
        while (count != 0)
            put(digits[--count]);
        return *this;
    }
    const char* view() const { return text_; }
    u32 size() const { return size_; }

  private:
    void put(char c) {
        if (size_ + 1 < sizeof text_) text_[size_++] = c, text_[size_] = '\0';
    }
    char text_[160] = {};
    u32 size_ = 0;
};

bool starts_with(const char* text, const char* begin) {
    while (*begin != '\0')
        if (*text++ != *begin++) return false;
    return true;
}
const char* end_of_line(const char* at) {
    while (*at != '\0' && *at != '\n')
        ++at;
    return at;
}
// True if the line at `at`, up to its end or to "  # reason", is this text.
bool line_is(const char* at, const char* text) {
    while (*text != '\0')
        if (*at++ != *text++) return false;
    return *at == '\n' || *at == '\0' || starts_with(at, "  # ");
}

const char* next_answer = recorded_answers;
bool printing = false;
u32 lines = 0, explained = 0, unexplained = 0;

u32 count_differences() {
    u32 count = 0;
    for (const char* at = explained_differences; *at != '\0';) {
        count += *at != '#' && *at != '\n';
        at = end_of_line(at);
        at += *at == '\n';
    }
    return count;
}

bool is_explained(const char* line) {
    for (const char* at = explained_differences; *at != '\0';) {
        if (line_is(at, line)) return true;
        at = end_of_line(at);
        at += *at == '\n';
    }
    return false;
}

void say(const char* first, const char* line, const char* end) {
    Line text;
    text << first;
    char one[2] = {};
    for (; line != end && *line != '\0'; ++line) {
        one[0] = *line;
        text << one;
    }
}

void answer(const Text& line) {
    ++lines;
    if (printing) {
        say("", line.view(), nullptr);
        return;
    }
    const char* const linux = next_answer;
    const char* const end = end_of_line(linux);
    next_answer = *end == '\n' ? end + 1 : end;
    if (line_is(linux, line.view())) return;
    if (is_explained(line.view())) {
        ++explained;
        return;
    }
    if (++unexplained > 400) return;
    say("here:  ", line.view(), nullptr);
    say("Linux: ", linux, end);
}

struct Name {
    int value;
    const char* name;
};
constexpr Name kErrors[] = {
    {1, "EPERM"},      {2, "ENOENT"},     {3, "ESRCH"},    {4, "EINTR"},       {7, "E2BIG"},         {9, "EBADF"},
    {10, "ECHILD"},    {11, "EAGAIN"},    {12, "ENOMEM"},  {13, "EACCES"},     {14, "EFAULT"},       {16, "EBUSY"},
    {17, "EEXIST"},    {18, "EXDEV"},     {21, "EISDIR"},  {27, "EFBIG"},      {30, "EROFS"},        {34, "ERANGE"},
    {39, "ENOTEMPTY"}, {40, "ELOOP"},     {19, "ENODEV"},  {20, "ENOTDIR"},    {22, "EINVAL"},       {23, "ENFILE"},
    {24, "EMFILE"},    {25, "ENOTTY"},    {29, "ESPIPE"},  {32, "EPIPE"},      {36, "ENAMETOOLONG"}, {38, "ENOSYS"},
    {65, "ENOPKG"},    {75, "EOVERFLOW"}, {95, "ENOTSUP"}, {110, "ETIMEDOUT"},
};
Text& add_result(Text& text, int result) {
    if (!sys::failed(result)) return text << result;
    for (const Name& error : kErrors)
        if (error.value == -result) return text << error.name;
    return text << "error " << -result;
}

void result(const char* call, const char* what, int value, const char* more = "") {
    Text text;
    text << call << ": " << what << more << " -> ";
    answer(add_result(text, value));
}
// Any value that is not an error is right.
void works(const char* call, const char* what, int value, const char* more = "") {
    Text text;
    text << call << ": " << what << more << " -> ";
    answer(sys::failed(value) ? add_result(text, value) : text << "works");
}
void states(const char* call, const char* what, const char* value) {
    Text text;
    text << call << ": " << what << " -> " << value;
    answer(text);
}
void holds(const char* call, const char* what, bool value) { states(call, what, value ? "yes" : "no"); }
void ended(const char* call, const char* what, int status) {
    Text text;
    text << call << ": " << what << " -> ";
    if (status & 0x7f)
        text << "killed by " << (status & 0x7f);
    else
        text << "status " << (status >> 8 & 0xff);
    answer(text);
}

using sys::call6;
template <typename T> u32 w(T* pointer) { return reinterpret_cast<u32>(pointer); }
constexpr u32 u(int value) { return static_cast<u32>(value); }

// ------------------------------------------------------------------------------------------------------ the beginning

bool same(const char* a, const char* b) { return starts_with(a, b) && starts_with(b, a); }

void beginning(char** argv) {
    const auto told = [](const char* what, u32 type) { result("auxiliary", what, static_cast<int>(auxiliary(type))); };
    told("AT_PHENT", 4);
    told("AT_PHNUM", 5);
    told("AT_PAGESZ", 6);
    told("AT_BASE", 7);
    told("AT_FLAGS", 8);
    told("AT_UID", 11);
    told("AT_EUID", 12);
    told("AT_GID", 13);
    told("AT_EGID", 14);
    told("AT_CLKTCK", 17);
    told("AT_SECURE", 23);
    u32 a = 1, b, c, features;
    asm volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(features));
    holds("auxiliary", "AT_HWCAP is CPUID.1:EDX", auxiliary(16) == features);
    holds("auxiliary", "AT_PHDR: the first header is loaded at the beginning",
          load<u32>(auxiliary(3) + 8) + 52 == auxiliary(3));
    holds("auxiliary", "AT_RANDOM", auxiliary(25) != 0 && auxiliary(25) < kUserEnd);
    states("auxiliary", "AT_PLATFORM", reinterpret_cast<const char*>(auxiliary(15)));
    holds("auxiliary", "AT_EXECFN ends with the name", [] {
        const char* at = reinterpret_cast<const char*>(auxiliary(31));
        while (*at != '\0' && !same(at, "arguments"))
            ++at;
        return *at != '\0';
    }());
    result("stack", "its pointer is a multiple of 16 at first", static_cast<int>(reinterpret_cast<u32>(argv - 1) % 16));
    // The values of a processor without an FPU, or without SSE.
    u32 flags, control = 0x37f, mxcsr = 0x1f80;
    asm volatile("pushf\n\tpop %0" : "=r"(flags));
    if (features & 1) asm volatile("fnstcw %0" : "+m"(control));
    if (features & 1u << 25) asm volatile("stmxcsr %0" : "+m"(mxcsr));
    result("registers", "EFLAGS without the results of instructions", static_cast<int>(flags & ~0x8d5u));
    result("registers", "x87 control word", static_cast<int>(control & 0xffff));
    result("registers", "MXCSR", static_cast<int>(mxcsr));
}

// --------------------------------------------------------------------------------------------------- bad addresses

// Pages at fixed addresses, which neither kernel chooses by itself: writable, read-only, PROT_NONE, a hole, and a
// writable one after it.
constexpr u32 kBase = 0x2000'0000;
constexpr u32 kGood = kBase, kConst = kBase + kPage, kClosed = kBase + 2 * kPage, kHole = kBase + 3 * kPage,
              kBehind = kBase + 4 * kPage;
constexpr u32 kFree = 0x2800'0000; // not mapped: for mmap

struct Bad {
    const char* name;
    u32 address;
};
constexpr Bad kBad[] = {
    {"null", 0},
    {"4", 4},
    {"page 1", 0x1000},
    {"unmapped", kHole},
    {"end of unmapped", kHole + kPage - 2},
    {"PROT_NONE", kClosed},
    {"border", 0xbfff'fffeu},
    {"kernel", 0xc000'0000u},
    {"kernel text", 0xc010'0001u},
    {"last page", 0xffff'f000u},
    {"wraps", 0xffff'fffeu},
};
template <typename F> void pointers(const char* call, const char* what, F&& make) {
    for (const Bad& bad : kBad)
        works(call, what, make(bad.address), bad.name);
}
template <typename F> void outputs(const char* call, const char* what, F&& make) {
    pointers(call, what, make);
    works(call, what, make(kConst), "read-only");
    works(call, what, make(kClosed - 2), "half of it read-only, then PROT_NONE");
    works(call, what, make(kHole + kPage - 1), "end of unmapped, odd");
    works(call, what, make(kGood + 1), "odd");
}

void* map_at(u32 where, u32 bytes, u32 prot, u32 flags) {
    return sys::mmap(reinterpret_cast<void*>(where), bytes, prot, flags);
}
int mmap(u32 where, u32 bytes, u32 prot, u32 flags, u32 file = ~0u, u32 page = 0) {
    return call6(192, where, bytes, prot, flags, file, page);
}
constexpr u32 kPrivateNew = sys::kPrivate | sys::kAnonymous, kRw = sys::kRead | sys::kWrite;

void make_pages() {
    for (const u32 page : {kGood, kConst, kClosed, kBehind})
        REQUIRE(!sys::failed(map_at(page, kPage, kRw, kPrivateNew | sys::kFixed)));
    for (u32 i = 0; i < kPage; ++i)
        store<u8>(kGood + i, static_cast<u8>(i));
    store<u32>(kConst, 0);
    REQUIRE(sys::mprotect(reinterpret_cast<void*>(kConst), kPage, sys::kRead) == 0);
    REQUIRE(sys::mprotect(reinterpret_cast<void*>(kClosed), kPage, sys::kNone) == 0);
}

constexpr u32 kBadNumbers[] = {77, 1023, 1024, 0x7fff'ffff, 0x8000'0000, 0xffff'ff9c, 0xffff'ffff};
template <typename F> void bad_numbers(const char* call, F&& make) {
    for (const u32 number : kBadNumbers) {
        Text what;
        what << "number " << static_cast<int>(number);
        works(call, what.view(), make(number));
    }
}

// ------------------------------------------------------------------------------------------------------------- files

u32 in, out; // a pipe

void drain(u32 bytes) {
    char buffer[64];
    while (bytes != 0) {
        const int got = sys::read(in, buffer, bytes < sizeof buffer ? bytes : sizeof buffer);
        if (got <= 0) return;
        bytes -= static_cast<u32>(got);
    }
}

void reading_and_writing() {
    bad_numbers("read", [](u32 n) { return sys::call(3, n, kGood, 1); });
    bad_numbers("write", [](u32 n) { return sys::call(4, n, kGood, 1); });
    result("read", "number 77, null", sys::call(3, 77, 0, 1));
    result("write", "number 77, null", sys::call(4, 77, 0, 1));
    result("read", "the writing end", sys::call(3, out, kGood, 1));
    result("read", "the writing end, nothing", sys::call(3, out, kGood, 0));
    result("write", "the reading end", sys::call(4, in, kGood, 1));
    result("write", "the reading end, nothing", sys::call(4, in, kGood, 0));
    pointers("write", "pipe, 4 bytes: ", [](u32 p) { return sys::call(4, out, p, 4); });
    pointers("write", "pipe, no bytes: ", [](u32 p) { return sys::call(4, out, p, 0); });
    pointers("write", "console, 4 bytes: ", [](u32 p) { return sys::call(4, 1, p, 4); });
    pointers("write", "pipe, 2 GiB: ", [](u32 p) { return sys::call(4, out, p, 0x8000'0000); });
    pointers("write", "pipe, all but one: ", [](u32 p) { return sys::call(4, out, p, 0xffff'ffff); });
    result("write", "pipe, 2 GiB of good memory", sys::call(4, out, kGood, 0x8000'0000));
    result("write", "pipe, all addresses", sys::call(4, out, kGood, 0xffff'ffff));
    result("write", "pipe, half of it PROT_NONE", sys::call(4, out, kClosed - 16, 64));
    REQUIRE(sys::call(4, out, kGood, 8) == 8);
    outputs("read", "pipe, 4 bytes of 8: ", [](u32 p) {
        const int got = sys::call(3, in, p, 4);
        if (got > 0) sys::call(4, out, kGood, u(got));
        return got;
    });
    pointers("read", "pipe, no bytes: ", [](u32 p) { return sys::call(3, in, p, 0); });
    result("read", "pipe, 2 GiB", sys::call(3, in, kGood, 0x8000'0000));
    result("read", "pipe, all addresses", sys::call(3, in, kGood, 0xffff'ffff));
    result("read", "pipe, 8 bytes, half of them read-only", sys::call(3, in, kConst - 5, 8));
    result("read", "pipe, more than there is", sys::call(3, in, kGood, 100));
    // A mapped page, then an unmapped one.
    result("write", "pipe, a page and then nothing: two pages", sys::call(4, out, kBehind, 2 * kPage));
    drain(kPage);
    result("write", "pipe, a page less 16 and then nothing: a page", sys::call(4, out, kBehind + 16, kPage));
    result("write", "pipe, over the end of the memory by one", sys::call(4, out, kBehind + kPage - 1, 2));

    int ends[2];
    REQUIRE(sys::pipe(ends) == 0);
    REQUIRE(sys::close(u(ends[1])) == 0);
    result("read", "pipe without a writer", sys::call(3, u(ends[0]), kGood, 10));
    result("read", "pipe without a writer, bad address", sys::call(3, u(ends[0]), 0, 10));
    sys::close(u(ends[0]));
    REQUIRE(sys::pipe(ends) == 0);
    sys::call(4, u(ends[1]), kGood, 3);
    sys::close(u(ends[1]));
    result("read", "the rest of a pipe without a writer", sys::call(3, u(ends[0]), kGood, 10));
    result("read", "and behind it", sys::call(3, u(ends[0]), kGood, 10));
    sys::close(u(ends[0]));
    ended("write", "pipe without a reader, SIGPIPE by default", in_child([] {
              int files[2];
              REQUIRE(sys::pipe(files) == 0);
              sys::close(u(files[0]));
              sys::call(4, u(files[1]), kGood, 1);
              sys::exit(42);
          }));
    ended("write", "pipe without a reader, no bytes", in_child([] {
              int files[2];
              REQUIRE(sys::pipe(files) == 0);
              sys::close(u(files[0]));
              sys::exit(sys::call(4, u(files[1]), kGood, 0) == 0 ? 42 : 43);
          }));
    ended("write", "pipe without a reader, bad address", in_child([] {
              int files[2];
              REQUIRE(sys::pipe(files) == 0);
              sys::close(u(files[0]));
              sys::exit(-sys::call(4, u(files[1]), 0, 1));
          }));
    // More than any pipe holds: no byte is lost; the writer waits for the reader.
    ended("write", "pipe, 64 KiB without a reader at work", in_child([] {
              int files[2];
              REQUIRE(sys::pipe(files) == 0);
              u32 sum = 0;
              for (u32 i = 0; i < 16; ++i)
                  sum += u(sys::call(4, u(files[1]), kGood, kPage));
              sys::exit(sum == 16 * kPage ? 42 : 43);
          }));
}

struct Piece {
    u32 base, bytes;
};

void writing_pieces() {
    bad_numbers("writev", [](u32 n) {
        const Piece one[]{{kGood, 1}};
        return sys::call(146, n, w(one), 1);
    });
    pointers("writev", "pipe, list of 1: ", [](u32 p) { return sys::call(146, out, p, 1); });
    pointers("writev", "pipe, list of 0: ", [](u32 p) { return sys::call(146, out, p, 0); });
    pointers("writev", "pipe, piece of 4: ", [](u32 p) {
        const Piece one[]{{p, 4}};
        return sys::call(146, out, w(one), 1);
    });
    pointers("writev", "pipe, piece of none: ", [](u32 p) {
        const Piece one[]{{p, 0}};
        return sys::call(146, out, w(one), 1);
    });
    const Piece good[]{{kGood, 3}, {kGood, 0}, {kGood + 8, 5}};
    result("writev", "three pieces, one empty", sys::call(146, out, w(good), 3));
    result("writev", "count -1", sys::call(146, out, w(good), ~0u));
    result("writev", "count 1025", sys::call(146, out, w(good), 1025));
    result("writev", "count 0x20000001, which wraps", sys::call(146, out, w(good), 0x2000'0001));
    result("writev", "the reading end", sys::call(146, in, w(good), 3));
    result("writev", "the reading end, count 0", sys::call(146, in, w(good), 0));
    const Piece middle[]{{kGood, 3}, {kClosed, 4}, {kGood, 5}};
    result("writev", "a bad piece in the middle", sys::call(146, out, w(middle), 3));
    const Piece kernel[]{{kGood, 3}, {0xc000'0000u, 4}, {kGood, 5}};
    result("writev", "a piece of the kernel in the middle", sys::call(146, out, w(kernel), 3));
    const Piece negative[]{{kGood, 3}, {kGood, 0x8000'0000}};
    result("writev", "a negative length", sys::call(146, out, w(negative), 2));
    const Piece much[]{{kGood, 3}, {kGood, 0x7fff'ffff}};
    result("writev", "a sum of more than 2 GiB, console", sys::call(146, 77, w(much), 2));
    // The list ends at the end of mapped memory.
    store<u32>(kBehind + kPage - 8, kGood), store<u32>(kBehind + kPage - 4, 2);
    result("writev", "the list runs into nothing", sys::call(146, out, kBehind + kPage - 8, 2));
    drain(8);
}

void pipes() {
    outputs("pipe", "", [](u32 p) {
        const int made = sys::call(42, p);
        if (made == 0) {
            u32 ends[2];
            for (u32 i = 0; i < 8; ++i)
                reinterpret_cast<u8*>(ends)[i] = load<u8>(p + i);
            sys::close(ends[0]);
            sys::close(ends[1]);
        }
        return made;
    });
    outputs("pipe2", "no flags, ", [](u32 p) {
        const int made = sys::call(331, p, 0);
        if (made == 0) {
            u32 ends[2];
            for (u32 i = 0; i < 8; ++i)
                reinterpret_cast<u8*>(ends)[i] = load<u8>(p + i);
            sys::close(ends[0]);
            sys::close(ends[1]);
        }
        return made;
    });
    for (const u32 flags : {1u, 2u, 0100u, 0200u, 01000u, 02000u, 04000u, 010000u, 040000u, 0200000u, 02000000u,
                            02004000u, 010000000u, 0x8000'0000u, ~0u}) {
        Text what;
        what << "flags " << static_cast<int>(flags);
        int ends[2];
        const int made = sys::call(331, w(ends), flags);
        result("pipe2", what.view(), made);
        if (made == 0) {
            sys::close(u(ends[0]));
            sys::close(u(ends[1]));
        }
    }
    result("pipe2", "bad flags, bad address", sys::call(331, 0, 1));
    int ends[2];
    REQUIRE(sys::call(331, w(ends), 04000) == 0); // O_NONBLOCK
    result("read", "O_NONBLOCK, nothing there", sys::call(3, u(ends[0]), kGood, 10));
    result("read", "O_NONBLOCK, nothing there, no bytes", sys::call(3, u(ends[0]), kGood, 0));
    int sum = 0;
    for (int put = 0; sum < 1 << 20 && put >= 0; sum += put)
        if ((put = sys::call(4, u(ends[1]), kGood, kPage)) < 0) break;
    result("write", "O_NONBLOCK, pages until it is full", sum);
    result("write", "O_NONBLOCK, full", sys::call(4, u(ends[1]), kGood, 10));
    result("write", "O_NONBLOCK, full, no bytes", sys::call(4, u(ends[1]), kGood, 0));
    result("write", "O_NONBLOCK, full, bad address", sys::call(4, u(ends[1]), 0, 10));
    sys::call(3, u(ends[0]), kGood, kPage);
    result("write", "O_NONBLOCK, room for a page: two pages", sys::call(4, u(ends[1]), kBase - 0, 2 * kPage));
    sys::close(u(ends[0]));
    sys::close(u(ends[1]));

    bad_numbers("close", [](u32 n) { return sys::call(6, n); });
    REQUIRE(sys::pipe(ends) == 0);
    result("close", "a number", sys::call(6, u(ends[0])));
    result("close", "the same again", sys::call(6, u(ends[0])));
    sys::close(u(ends[1]));
    int many = 0;
    u32 first = 0;
    int last = 0;
    for (; many < 2000; ++many) {
        if ((last = sys::pipe(ends)) != 0) break;
        if (many == 0) first = u(ends[0]);
    }
    result("pipe", "as many as there are numbers, and one more", last);
    for (u32 i = 0; i < 2 * u(many); ++i)
        sys::close(first + i);
}

void names() {
    constexpr u32 kHere = 0xffff'ff9c; // AT_FDCWD
    constexpr u32 kNo = 0;
    const char* const none = "/no/such/file";
    // Limits: 255 bytes for a name, 4095 for a path.
    u8* long_name = new_memory(3 * kPage);
    for (u32 i = 0; i < 2 * kPage; ++i)
        long_name[i] = i % 128 == 0 ? '/' : 'a';
    u8* long_part = new_memory(kPage);
    for (u32 i = 0; i < 300; ++i)
        long_part[i] = i == 0 ? '/' : 'a';
    for (u32 i = 0; i < 16; ++i)
        store<u8>(kBehind + kPage - 16 + i, i == 0 ? '/' : 'a'); // not terminated

    const struct {
        const char* call;
        int (*make)(u32 name, u32 directory);
        bool at;
    } calls[]{
        {"open", [](u32 name, u32) { return sys::call(5, name, 0, 0); }, false},
        {"access", [](u32 name, u32) { return sys::call(33, name, 0); }, false},
        {"readlink", [](u32 name, u32) { return sys::call(85, name, kGood, 100); }, false},
        {"openat", [](u32 name, u32 at) { return sys::call(295, at, name, 0, 0); }, true},
        {"readlinkat", [](u32 name, u32 at) { return sys::call(305, at, name, kGood, 100); }, true},
        {"statx", [](u32 name, u32 at) { return sys::call(383, at, name, 0, 0x7ff, kGood); }, true},
        {"unlink", [](u32 name, u32) { return sys::call(10, name); }, false},
        {"chdir", [](u32 name, u32) { return sys::call(12, name); }, false},
        {"chmod", [](u32 name, u32) { return sys::call(15, name, 0600); }, false},
        {"lchown16", [](u32 name, u32) { return sys::call(16, name, 0, 0); }, false},
        {"oldstat", [](u32 name, u32) { return sys::call(18, name, kGood); }, false},
        {"utime", [](u32 name, u32) { return sys::call(30, name, 0); }, false},
        {"rmdir", [](u32 name, u32) { return sys::call(40, name); }, false},
        {"truncate", [](u32 name, u32) { return sys::call(92, name, 0); }, false},
        {"statfs", [](u32 name, u32) { return sys::call(99, name, kGood); }, false},
        {"stat", [](u32 name, u32) { return sys::call(106, name, kGood); }, false},
        {"lstat64", [](u32 name, u32) { return sys::call(196, name, kGood); }, false},
        {"chown", [](u32 name, u32) { return sys::call(212, name, 0, 0); }, false},
        {"utimes", [](u32 name, u32) { return sys::call(271, name, 0); }, false},
        {"fchownat", [](u32 name, u32 at) { return sys::call(298, at, name, 0, 0, 0); }, true},
        {"fstatat64", [](u32 name, u32 at) { return sys::call(300, at, name, kGood, 0); }, true},
        {"unlinkat", [](u32 name, u32 at) { return sys::call(301, at, name, 0); }, true},
        {"fchmodat", [](u32 name, u32 at) { return sys::call(306, at, name, 0600); }, true},
        {"faccessat", [](u32 name, u32 at) { return sys::call(307, at, name, 0); }, true},
        {"renameat2", [](u32 name, u32 at) { return sys::call(353, at, name, at, w("/x"), 1); }, true},
    };
    for (const auto& one : calls) {
        pointers(one.call, "", [&](u32 p) { return one.make(p, kHere); });
        result(one.call, "no name", one.make(w(""), kHere));
        result(one.call, "no such file", one.make(w(none), kHere));
        result(one.call, "no such file, relative", one.make(w("no-such-file"), kHere));
        result(one.call, "a path of 8 KiB", one.make(w(long_name), kHere));
        result(one.call, "a name of 299 bytes", one.make(w(long_part), kHere));
        result(one.call, "a name without an end", one.make(kBehind + kPage - 16, kHere));
        if (!one.at) continue;
        result(one.call, "relative to number 77", one.make(w("file"), 77));
        result(one.call, "relative to number -1", one.make(w("file"), ~0u));
        result(one.call, "relative to a pipe", one.make(w("file"), in));
        result(one.call, "absolute, number 77", one.make(w(none), 77));
        result(one.call, "no name, number 77", one.make(w(""), 77));
        result(one.call, "no name, a pipe", one.make(w(""), in));
        result(one.call, "bad address, number 77", one.make(kNo, 77));
    }
    for (const u32 mode : {1u, 7u, 8u, ~0u}) {
        Text what;
        what << "mode " << static_cast<int>(mode);
        result("access", what.view(), sys::call(33, w(none), mode));
    }
    for (const u32 size : {0u, 0x8000'0000u, ~0u}) {
        Text what;
        what << "size " << static_cast<int>(size);
        result("readlink", what.view(), sys::call(85, w(none), kGood, size));
        result("readlinkat", what.view(), sys::call(305, kHere, w(none), kGood, size));
    }
    for (const u32 flags : {3u, 0x40u | 0x80u, 0200000u, 020200000u, 0x8000'0000u, 0x7f00'0000u}) {
        if (flags & 0x40) continue; // would make a file
        Text what;
        what << "flags " << static_cast<int>(flags);
        result("open", what.view(), sys::call(5, w(none), flags, 0));
    }
    for (const u32 flags : {1u, 0x100u, 0x400u, 0x800u, 0x1000u, 0x2000u, 0x4000u, 0x6000u, 0x8000u, 0x8000'0000u}) {
        Text what;
        what << "flags " << static_cast<int>(flags);
        result("statx", what.view(), sys::call(383, in, w(none), flags, 0x7ff, kGood));
        what << ", no name";
        result("statx", what.view(), sys::call(383, in, w(""), flags, 0x7ff, kGood));
    }
    result("statx", "mask with the reserved bit", sys::call(383, in, w(""), 0x1000, 0x8000'0000, kGood));
    result("statx", "mask 0", sys::call(383, in, w(""), 0x1000, 0, kGood));
    result("statx", "number 77, AT_EMPTY_PATH", sys::call(383, 77, w(""), 0x1000, 0, kGood));
    result("statx", "number 77, AT_EMPTY_PATH, bad buffer", sys::call(383, 77, w(""), 0x1000, 0, 0));
    outputs("statx", "of a pipe: ", [](u32 p) { return sys::call(383, in, w(""), 0x1000, 0x7ff, p); });
    result("statx", "of a pipe, its mode", load<u16>(kGood + 1 + 28));
    result("statx", "of a pipe, its size", load<int>(kGood + 1 + 40));
    result("statx", "of a pipe, its links", load<int>(kGood + 1 + 16));
    result("statx", "of a pipe, its block size", load<int>(kGood + 1 + 4));

    bad_numbers("fstat64", [](u32 n) { return sys::call(197, n, kGood); });
    outputs("fstat64", "", [](u32 p) { return sys::call(197, in, p); });
    result("fstat64", "of a pipe, its mode", load<int>(kGood + 1 + 16));
    result("fstat64", "of a pipe, its size", load<int>(kGood + 1 + 44));
    result("fstat64", "of a pipe, its block size", load<int>(kGood + 1 + 52));
    result("fstat64", "number 77, null", sys::call(197, 77, 0));
    result("fstat64", "the console", sys::call(197, 1, kGood));
    holds("fstat64", "the console is a character device", (load<u32>(kGood + 16) & 0170000) == 0020000);

    bad_numbers("ioctl", [](u32 n) { return sys::call(54, n, 0x5401, kGood); });
    result("ioctl", "TCGETS of a pipe", sys::call(54, in, 0x5401, kGood));
    result("ioctl", "TCGETS of a pipe, null", sys::call(54, in, 0x5401, 0));
    result("ioctl", "TIOCGWINSZ of a pipe", sys::call(54, in, 0x5413, kGood));
    result("ioctl", "0 of a pipe", sys::call(54, in, 0, kGood));
    result("ioctl", "-1 of a pipe", sys::call(54, in, ~0u, kGood));
    result("ioctl", "-1 of the console", sys::call(54, 1, ~0u, kGood));
    result("ioctl", "TCGETS of the console", sys::call(54, 1, 0x5401, kGood));
    sys::call(4, out, kGood, 5);
    outputs("ioctl", "FIONREAD of a pipe, ", [](u32 p) { return sys::call(54, in, 0x541b, p); });
    result("ioctl", "FIONREAD of a pipe, its value", load<int>(kGood + 1));
    drain(5);
    pointers("ioctl", "FIONBIO of a pipe, ", [](u32 p) { return sys::call(54, in, 0x5421, p); });
    store<u32>(kGood, 1);
    result("ioctl", "FIONBIO of a pipe, 1", sys::call(54, in, 0x5421, kGood));
    result("ioctl", "and a read of it", sys::call(3, in, kGood, 1));
    store<u32>(kGood, 0);
    result("ioctl", "FIONBIO of a pipe, 0", sys::call(54, in, 0x5421, kGood));
    result("ioctl", "FIOCLEX", sys::call(54, in, 0x5451, 0));
    result("ioctl", "FIONCLEX", sys::call(54, in, 0x5450, 0));
}

// ------------------------------------------------------------------------------------------------------------- files

// From a file of 100 KiB, whose words are their offsets. `reader` and `writer` are open for one of both; all of them
// are closed by the caller.
void sending(u32 file, u32 reader, u32 writer, u32 folder) {
    constexpr u32 kBytes = 100 * 1024, kNonBlock = 04000, kAppend = 02000;
    const auto send = [](u32 to, u32 from, u32 offset, u32 bytes) { return sys::call(187, to, from, offset, bytes); };
    const auto send64 = [](u32 to, u32 from, u32 offset, u32 bytes) { return sys::call(239, to, from, offset, bytes); };
    const auto at = [](u32 low, u32 high = 0) {
        store<u32>(kGood, low), store<u32>(kGood + 4, high);
        return kGood;
    };
    const auto position = [](u32 of) { return sys::call(19, of, 0, 1); };
    for (u32 i = 0; i < kBytes; i += 4) {
        store<u32>(kBehind + i % kPage, i);
        if (i % kPage == kPage - 4) REQUIRE(sys::call(181, file, kBehind, kPage, i + 4 - kPage, 0) == kPage);
    }
    int ends[2];
    REQUIRE(sys::call(331, w(ends), kNonBlock) == 0);
    const u32 from_pipe = u(ends[0]), to_pipe = u(ends[1]);
    u8* const buffer = new_memory(kBytes);
    const auto empty = [&] {
        int sum = 0;
        for (int got; (got = sys::read(from_pipe, buffer + sum, kBytes - u(sum))) > 0;)
            sum += got;
        return sum;
    };
    const int copy = sys::call(5, w("copy"), 0102, 0644), appender = sys::call(5, w("copy"), kAppend | 2, 0);
    REQUIRE(copy >= 0 && appender >= 0);
    const u32 to = u(copy);

    bad_numbers("sendfile", [&](u32 n) { return send(n, reader, 0, 1); });
    bad_numbers("sendfile64", [&](u32 n) { return send64(to, n, 0, 1); });
    result("sendfile", "both numbers bad, bad offset", send(77, 77, 4, 1));
    result("sendfile", "number 77, offset -1", send(to, 77, at(~0u), 1));
    result("sendfile", "to number 77, offset -1", send(77, reader, at(~0u), 1));
    result("sendfile", "to number 77, offset 2 GiB - 1", send(77, reader, at(0x7fff'ffff), 1));
    result("sendfile", "from a file for writing", send(to, writer, 0, 1));
    result("sendfile", "to a file for reading", send(reader, file, 0, 1));
    result("sendfile", "to the reading end", send(from_pipe, file, at(0), 1));
    result("sendfile", "from the writing end", send(to, to_pipe, 0, 1));
    for (const u32 bytes : {0u, 1u}) {
        const char* const many = bytes != 0 ? "" : ", no bytes";
        result("sendfile", "from a pipe to a file", send(to, from_pipe, 0, bytes), many);
        result("sendfile", "from a pipe to a file, offset", send(to, from_pipe, at(0), bytes), many);
        result("sendfile", "from a pipe to a pipe", send(to_pipe, from_pipe, 0, bytes), many);
        result("sendfile", "from the console to a file", send(to, 0, 0, bytes), many);
        result("sendfile", "from the console to a file, offset", send(to, 0, at(0), bytes), many);
        result("sendfile", "from a directory to a file", send(to, folder, 0, bytes), many);
        result("sendfile", "from a directory to a file, offset", send(to, folder, at(0), bytes), many);
        result("sendfile", "from a directory to a pipe", send(to_pipe, folder, 0, bytes), many);
        result("sendfile", "O_APPEND", send(u(appender), reader, 0, bytes), many);
        result("sendfile", "at the end, to a file", send(to, reader, at(kBytes), bytes), many);
        result("sendfile", "at the end, to a pipe", send(to_pipe, reader, at(kBytes), bytes), many);
        result("sendfile", "behind the end", send(to, reader, at(kBytes + 77), bytes), many);
        result("sendfile", "offset -1", send(to, reader, at(~0u), bytes), many);
        result("sendfile", "offset 2 GiB - 1", send(to, reader, at(0x7fff'ffff), bytes), many);
        result("sendfile", "offset 2 GiB - 2", send(to, reader, at(0x7fff'fffe), bytes), many);
        result("sendfile64", "offset -1", send64(to, reader, at(~0u, ~0u), bytes), many);
        result("sendfile64", "offset 2 GiB", send64(to, reader, at(0x8000'0000), bytes), many);
        result("sendfile64", "offset 4 GiB", send64(to, reader, at(0, 1), bytes), many);
        result("sendfile64", "the largest offset", send64(to, reader, at(~0u, 0x7fff'ffff), bytes), many);
        result("sendfile64", "half of the largest offset", send64(to, reader, at(0, 0x4000'0000), bytes), many);
    }
    result("sendfile", "to the console, no bytes", send(1, reader, at(0), 0));
    result("sendfile", "2 GiB", send(to, reader, at(0), 0x8000'0000));
    result("sendfile", "all but one", send(to, reader, at(0), ~0u));
    result("sendfile", "2 GiB of a pipe", send(to, from_pipe, 0, 0x8000'0000));
    result("sendfile", "offset -1, 2 GiB, to number 77", send(77, reader, at(~0u), 0x8000'0000));
    outputs("sendfile", "offset: ", [&](u32 p) { return send(to_pipe, reader, p, 4); });
    outputs("sendfile64", "offset: ", [&](u32 p) { return send64(to_pipe, reader, p, 4); });
    outputs("sendfile", "from number 77, offset: ", [&](u32 p) { return send(to_pipe, 77, p, 4); });
    result("sendfile", "sent, although the offset was read-only", empty());
    result("sendfile", "the position afterwards", position(reader));

    // Positions, and what an offset becomes.
    result("sendfile", "10 bytes to a file", send(to, reader, 0, 10));
    result("sendfile", "the position of the source", position(reader));
    result("sendfile", "the position of the target", position(to));
    result("sendfile", "10 bytes from offset 4000", send(to, reader, at(4000), 10));
    result("sendfile", "the offset afterwards", load<int>(kGood));
    result("sendfile", "the position of the source afterwards", position(reader));
    result("sendfile64", "200 bytes to the end and no further", send64(to, reader, at(kBytes - 100), 200));
    result("sendfile64", "the offset afterwards", load<int>(kGood));
    result("sendfile", "an error and the offset", send(77, reader, at(33), 10));
    result("sendfile", "the offset afterwards", load<int>(kGood));
    result("sendfile", "the file to itself, other description", send(to, u(appender), at(0), 120));
    result("sendfile", "the file to itself, same description", send(to, to, at(100), 40));
    result("sendfile", "the position afterwards", position(to));
    result("sendfile", "the same without an offset", send(to, to, 0, 40));
    result("sendfile", "the same at its begin", (sys::call(19, to, 0, 0), send(to, to, 0, 40)));
    result("sendfile", "the position afterwards", position(to));
    const int size = sys::call(19, to, 0, 2);
    result("sendfile", "the size", size);
    u32 sum = 0;
    REQUIRE(sys::call(180, to, w(buffer), u(size), 0, 0) == size);
    for (u32 i = 0; i < u(size); ++i)
        sum = sum * 31 + buffer[i];
    result("sendfile", "its bytes", static_cast<int>(sum % 1'000'000));
    result("sendfile", "all of it to a file", send(to, reader, at(0), 0x7fff'ffff));
    result("sendfile", "the size", sys::call(19, to, 0, 2));

    // A pipe has room for 16 pages.
    result("sendfile", "100 KiB to an empty pipe", send(to_pipe, reader, at(0), kBytes));
    result("sendfile", "the offset afterwards", load<int>(kGood));
    result("sendfile", "more to the full pipe", send(to_pipe, reader, kGood, kBytes));
    result("sendfile", "the offset afterwards", load<int>(kGood));
    result("sendfile", "at the end to the full pipe", send(to_pipe, reader, at(kBytes), 10));
    result("sendfile", "nothing to the full pipe", send(to_pipe, reader, at(0), 0));
    result("sendfile", "a bad number to the full pipe", send(to_pipe, 77, at(0), 10));
    result("sendfile", "a directory to the full pipe", send(to_pipe, folder, at(0), 10));
    REQUIRE(sys::read(from_pipe, buffer, 3 * kPage) == 3 * kPage);
    result("sendfile", "to a pipe with room for 3 pages", send(to_pipe, reader, at(kPage), kBytes));
    result("sendfile", "bytes in the pipe", empty());
    u32 wrong = 0;
    for (u32 i = 0; i < 13 * kPage; i += 4)
        wrong += load<u32>(w(buffer) + i) != i + 3 * kPage;
    for (u32 i = 0; i < 3 * kPage; i += 4)
        wrong += load<u32>(w(buffer) + 13 * kPage + i) != i + kPage;
    result("sendfile", "wrong words", static_cast<int>(wrong));
    const auto without_reader = [&](u32 bytes, u32 offset) {
        return in_child([&] {
            int files[2];
            REQUIRE(sys::pipe(files) == 0);
            sys::close(u(files[0]));
            sys::exit(-send(u(files[1]), reader, at(offset), bytes));
        });
    };
    ended("sendfile", "a pipe without a reader, SIGPIPE by default", without_reader(10, 0));
    ended("sendfile", "a pipe without a reader, no bytes", without_reader(0, 0));
    ended("sendfile", "a pipe without a reader, at the end", without_reader(10, kBytes));
    for (const u32 one : {from_pipe, to_pipe, to, u(appender)})
        sys::close(one);
    sys::munmap(buffer, kBytes);
    result("unlink", "copy", sys::call(10, w("copy")));
}

// In a folder of the root, which is in memory on both systems.
void files_and_folders() {
    constexpr u32 kHere = 0xffff'ff9c; // AT_FDCWD
    constexpr u32 kCreate = 0100, kExclusive = 0200, kTruncate = 01000, kDirectory = 0200000, kNoFollow = 0400000,
                  kUnnamed = 020200000;
    REQUIRE(sys::call(39, w("/arguments.d"), 0755) == 0);
    REQUIRE(sys::call(12, w("/arguments.d")) == 0);
    sys::call(60, 022);
    const auto open = [](const char* name, u32 flags) { return sys::call(5, w(name), flags, 0644); };
    const auto opens = [&](const char* what, const char* name, u32 flags) {
        const int file = open(name, flags);
        works("open", what, file);
        if (!sys::failed(file)) sys::close(u(file));
    };
    const int file = open("f", kCreate | kExclusive | 2);
    REQUIRE(file >= 0);
    REQUIRE(sys::call(39, w("d"), 0755) == 0);
    REQUIRE(sys::call(83, w("f"), w("link")) == 0);
    REQUIRE(sys::call(83, w("nowhere"), w("broken")) == 0);
    REQUIRE(sys::call(83, w("loop"), w("loop")) == 0);
    REQUIRE(sys::call(83, w("d"), w("to_d")) == 0);
    const int folder = open("d", kDirectory);
    REQUIRE(folder >= 0);

    for (const u32 flags :
         {0u, 1u, 2u, 3u, kCreate, kCreate | kExclusive, kDirectory, kNoFollow, kUnnamed, kUnnamed | 2}) {
        for (const char* name :
             {"f", "d", "link", "broken", "loop", "to_d", "f/", "d/", "link/", "to_d/", "f/x", ".", "/"}) {
            if ((flags & kCreate) && same(name, "broken")) continue; // would make a file
            if ((flags & kUnnamed) == kUnnamed && flags & 2 && (same(name, "d") || same(name, "to_d"))) continue;
            Text what;
            what << name << ", flags " << static_cast<int>(flags);
            opens(what.view(), name, flags);
        }
    }
    opens("f, O_TRUNC, for reading", "f", kTruncate);
    opens("d, O_TRUNC", "d", kTruncate);
    opens("new/, O_CREAT", "new/", kCreate);
    opens("missing/f, O_CREAT", "missing/f", kCreate);
    opens("d, O_TMPFILE", "d", kUnnamed | 2);
    const auto names = [](const char* call, auto&& make) {
        for (const char* name : {"f", "d", "link", "broken", "loop", "to_d", "f/", "to_d/", "f/x", "missing",
                                 "missing/", ".", "..", "d/.", "d/..", "/"})
            works(call, name, make(w(name)));
    };
    names("mkdir",
          [](u32 name) { return sys::call(39, name, 0755) == 0 ? sys::call(40, name) : sys::call(39, name, 0755); });
    names("readlink", [](u32 name) { return sys::call(85, name, kGood, 10); });
    names("stat64", [](u32 name) { return sys::call(195, name, kGood); });
    names("lstat64", [](u32 name) { return sys::call(196, name, kGood); });
    names("access, W_OK", [](u32 name) { return sys::call(33, name, 2); });
    names("access, X_OK", [](u32 name) { return sys::call(33, name, 1); });
    names("truncate", [](u32 name) { return sys::call(92, name, 0); });
    names("chmod", [](u32 name) { return sys::call(15, name, 0755); });
    names("lchown", [](u32 name) { return sys::call(198, name, ~0u, ~0u); });
    names("utimes", [](u32 name) { return sys::call(271, name, 0); });
    names("link to new", [](u32 name) {
        const int made = sys::call(9, name, w("new"));
        if (made == 0) sys::call(10, w("new"));
        return made;
    });
    names("link of f",
          [](u32 name) { return sys::call(9, w("f"), name) == 0 ? sys::call(10, name) : sys::call(9, w("f"), name); });
    names("symlink", [](u32 name) {
        return sys::call(83, w("x"), name) == 0 ? sys::call(10, name) : sys::call(83, w("x"), name);
    });
    names("renameat2 of f, RENAME_NOREPLACE", [](u32 name) {
        const int moved = sys::call(353, kHere, w("f"), kHere, name, 1);
        if (moved == 0) sys::call(38, name, w("f"));
        return moved;
    });
    names("renameat2 of d, RENAME_NOREPLACE", [](u32 name) {
        const int moved = sys::call(353, kHere, w("d"), kHere, name, 1);
        if (moved == 0) sys::call(38, name, w("d"));
        return moved;
    });
    names("renameat2 to new", [](u32 name) {
        const int moved = sys::call(353, kHere, name, kHere, w("new"), 1);
        if (moved == 0) sys::call(38, w("new"), name);
        return moved;
    });
    for (const char* name : {"d", "to_d/", "missing", ".", "..", "/", "d/", "d/x", "f/"}) // all of them are refused
        works("unlink", name, sys::call(10, w(name)));
    for (const char* name : {"f", "link", "to_d", "to_d/", "missing", ".", "..", "d/.", "/", "f/x"})
        works("rmdir", name, sys::call(40, w(name)));
    for (const u32 flags : {2u, 3u, 6u, 8u, ~0u}) { // 4 leaves something behind on Linux
        Text what;
        what << "flags " << static_cast<int>(flags);
        works("renameat2", what.view(), sys::call(353, kHere, w("f"), kHere, w("missing"), flags));
    }
    for (const u32 flags : {1u, 0x100u, 0x200u, 0x400u, 0x1000u, 0x8000'0000u}) {
        Text what;
        what << "flags " << static_cast<int>(flags);
        works("fchownat", what.view(), sys::call(298, kHere, w("f"), ~0u, ~0u, flags));
        works("utimensat", what.view(), sys::call(320, kHere, w("f"), 0, flags));
        works("unlinkat", what.view(), sys::call(301, kHere, w("missing"), flags));
        works("fstatat64", what.view(), sys::call(300, kHere, w("f"), kGood, flags));
        works("linkat", what.view(), sys::call(303, kHere, w("missing"), kHere, w("new"), flags));
        what << ", no name";
        works("fchownat", what.view(), sys::call(298, u(file), w(""), ~0u, ~0u, flags));
        works("utimensat", what.view(), sys::call(320, u(file), w(""), 0, flags));
        works("fstatat64", what.view(), sys::call(300, u(file), w(""), kGood, flags));
        works("utimensat", what.view(), sys::call(320, u(file), 0, 0, flags), ", null");
    }
    works("utimensat", "AT_FDCWD, null", sys::call(320, kHere, 0, 0, 0));
    works("utimensat", "f, bad time", [] {
        store<u32>(kGood, 1), store<u32>(kGood + 4, 1'000'000'000), store<u32>(kGood + 8, 1), store<u32>(kGood + 12, 0);
        return sys::call(320, kHere, w("f"), kGood, 0);
    }());
    works("utimensat", "missing, bad time", sys::call(320, kHere, w("missing"), kGood, 0));
    works("utimes", "missing, bad time", sys::call(271, w("missing"), kGood));
    store<u32>(kGood + 4, 0x3fff'fffe), store<u32>(kGood + 12, 0x3fff'fffe);
    works("utimensat", "missing, UTIME_OMIT twice", sys::call(320, 77, w("missing"), kGood, 0));
    pointers("utimensat", "times: ", [](u32 p) { return sys::call(320, kHere, w("f"), p, 0); });
    pointers("utimensat_time64", "times: ", [](u32 p) { return sys::call(412, kHere, w("f"), p, 0); });
    pointers("utime", "times: ", [](u32 p) { return sys::call(30, w("f"), p); });
    pointers("utimes", "times: ", [](u32 p) { return sys::call(271, w("f"), p); });
    bad_numbers("fchmod", [](u32 n) { return sys::call(94, n, 0600); });
    bad_numbers("fchown", [](u32 n) { return sys::call(207, n, 0, 0); });
    bad_numbers("fstatfs", [](u32 n) { return sys::call(100, n, kGood); });
    bad_numbers("ftruncate", [](u32 n) { return sys::call(93, n, 0); });
    bad_numbers("getdents", [](u32 n) { return sys::call(141, n, kGood, 100); });
    bad_numbers("getdents64", [](u32 n) { return sys::call(220, n, kGood, 100); });
    bad_numbers("fsync", [](u32 n) { return sys::call(118, n); });
    bad_numbers("syncfs", [](u32 n) { return sys::call(344, n); });
    bad_numbers("fchdir", [](u32 n) { return sys::call(133, n); });
    result("getdents", "a file", sys::call(141, u(file), kGood, 100));
    result("getdents64", "a file", sys::call(220, u(file), kGood, 100));
    result("getdents", "7 bytes", sys::call(141, u(folder), kGood, 7));
    result("getdents64", "7 bytes", sys::call(220, u(folder), kGood, 7));
    outputs("stat64", "", [](u32 p) { return sys::call(195, w("f"), p); });
    outputs("stat", "", [](u32 p) { return sys::call(106, w("f"), p); });
    outputs("statfs", "", [](u32 p) { return sys::call(99, w("f"), p); });
    outputs("statfs64", "", [](u32 p) { return sys::call(268, w("f"), 84, p); });
    result("statfs64", "83 bytes", sys::call(268, w("f"), 83, kGood));
    result("statfs64", "83 bytes, missing", sys::call(268, w("missing"), 83, kGood));
    result("getcwd", "13 bytes", sys::call(183, kGood, 13));
    result("getcwd", "14 bytes", sys::call(183, kGood, 14));
    outputs("getcwd", "", [](u32 p) { return sys::call(183, p, 100); });
    result("ftruncate", "-1", sys::call(93, u(file), ~0u));
    result("truncate", "-1, missing", sys::call(92, w("missing"), ~0u));
    result("truncate64", "-1", sys::call(193, w("f"), ~0u, ~0u));
    result("ftruncate", "a directory", sys::call(93, u(folder), 0));
    result("read", "a directory", sys::call(3, u(folder), kGood, 10));
    result("write", "a directory", sys::call(4, u(folder), kGood, 10));
    result("pread64", "offset -1", sys::call(180, u(file), kGood, 10, ~0u, ~0u));
    result("pwrite64", "offset -1", sys::call(181, u(file), kGood, 10, ~0u, ~0u));
    result("pwrite64", "of a directory", sys::call(181, u(folder), kGood, 10, 0, 0));
    result("lseek", "-1 from the start", sys::call(19, u(file), ~0u, 0));
    result("lseek", "whence 5", sys::call(19, u(file), 0, 5));
    result("lseek", "2 GiB - 1", sys::call(19, u(file), 0x7fff'ffff, 0));
    result("lseek", "one more", sys::call(19, u(file), 1, 1));
    result("lseek", "back", sys::call(19, u(file), 0, 0));
    pointers("read", "a file, ", [&](u32 p) { return sys::call(180, u(file), p, 0, 0, 0); });
    for (const u32 type : {1u, 2u, 3u, 0u, 4u, 8u, 15u})
        for (const u32 flag : {0u, 0x20'0000u, 0x4000u, 0x8'0000u, 0x8000'0000u}) {
            Text what;
            what << "a file, type " << static_cast<int>(type) << ", flag " << static_cast<int>(flag);
            const int at = mmap(0, kPage, sys::kRead, type | flag, u(file));
            works("mmap2", what.view(), at);
            if (!sys::failed(at)) sys::call(91, u(at), kPage);
        }
    const auto map = [&](const char* what, u32 of, u32 rights, u32 flags, u32 page = 0, u32 bytes = kPage) {
        const int at = mmap(0, bytes, rights, flags, of, page);
        works("mmap2", what, at);
        if (!sys::failed(at)) sys::call(91, u(at), bytes);
    };
    const int reader = open("f", 0), writer = open("f", 1);
    REQUIRE(reader >= 0 && writer >= 0);
    map("a file for reading, shared, to write", u(reader), kRw, sys::kShared);
    map("a file for reading, private, to write", u(reader), kRw, sys::kPrivate);
    map("a file for writing, private", u(writer), sys::kRead, sys::kPrivate);
    map("a directory", u(folder), sys::kRead, sys::kPrivate);
    map("a file, the last page of all", u(file), sys::kRead, sys::kPrivate, ~0u);
    map("a file, behind the last page", u(file), sys::kRead, sys::kPrivate, ~0u, 2 * kPage);
    map("a file, MAP_GROWSDOWN", u(file), kRw, sys::kPrivate | 0x100);
    sending(u(file), u(reader), u(writer), u(folder));
    for (const int one : {reader, writer, file, folder})
        sys::close(u(one));
    for (const char* name : {"f", "link", "broken", "loop", "to_d"})
        result("unlink", name, sys::call(10, w(name)));
    result("rmdir", "d", sys::call(40, w("d")));
    REQUIRE(sys::call(12, w("/")) == 0);
    result("rmdir", "the folder", sys::call(40, w("/arguments.d")));
}

// ------------------------------------------------------------------------------------------------------------ memory

const char* rights(u32 page) {
    static char text[3];
    const int seen = in_child([&] { static_cast<void>(load<u8>(page)), sys::exit(0); });
    const int written = in_child([&] { store<u8>(page, load<u8>(page)), sys::exit(0); });
    text[0] = seen == 0 ? 'r' : '-';
    text[1] = written == 0 ? 'w' : '-';
    return text;
}

void mapping() {
    constexpr u32 kNew = kPrivateNew, kFixed = sys::kFixed, kNoReplace = 0x10'0000;
    const auto take = [](const char* what, u32 where, u32 bytes, u32 prot, u32 flags, u32 file = ~0u, u32 page = 0) {
        const int at = mmap(where, bytes, prot, flags, file, page);
        works("mmap2", what, at);
        if (!sys::failed(at)) sys::call(91, u(at), bytes);
    };
    take("a page", 0, kPage, kRw, kNew);
    take("a byte", 0, 1, kRw, kNew);
    take("nothing", 0, 0, kRw, kNew);
    take("nothing, bad flags", 0, 0, kRw, 0);
    take("all but one", 0, 0xffff'ffff, kRw, kNew);
    take("all but a page", 0, 0xffff'f000, kRw, kNew);
    take("3 GiB", 0, 0xc000'0000, kRw, kNew);
    take("3 GiB and a page", 0, 0xc000'1000, kRw, kNew);
    take("PROT_NONE", 0, kPage, 0, kNew);
    for (const u32 prot : {2u, 4u, 6u, 8u, 0x10u, 0x100u, 0x0100'0000u, 0x0200'0000u, 0x8000'0000u, ~0u}) {
        Text what;
        what << "rights " << static_cast<int>(prot);
        take(what.view(), 0, kPage, prot, kNew);
    }
    for (const u32 type : {0u, 3u, 4u, 8u, 15u}) {
        Text what;
        what << "type " << static_cast<int>(type);
        take(what.view(), 0, kPage, kRw, sys::kAnonymous | type);
    }
    for (const u32 flag : {0x40u, 0x80u, 0x100u, 0x200u, 0x400u, 0x800u, 0x1000u, 0x2000u, 0x4000u, 0x8000u, 0x1'0000u,
                           0x2'0000u, 0x4'0000u, 0x8'0000u, 0x20'0000u, 0x80'0000u, 0x400'0000u, 0x8000'0000u}) {
        Text what;
        what << "flag " << static_cast<int>(flag);
        take(what.view(), 0, kPage, kRw, kNew | flag);
    }
    take("MAP_SHARED and MAP_GROWSDOWN", 0, kPage, kRw, sys::kShared | sys::kAnonymous | 0x100);
    take("shared", 0, kPage, kRw, sys::kShared | sys::kAnonymous);
    take("an offset, anonymous", 0, kPage, kRw, kNew, ~0u, 77);
    take("an offset, shared and anonymous", 0, kPage, kRw, sys::kShared | sys::kAnonymous, ~0u, 77);
    take("an offset that wraps", 0, 2 * kPage, kRw, kNew, ~0u, ~0u);
    take("an offset that just does not", 0, kPage, kRw, kNew, ~0u, 0xffff'fffe);
    take("anonymous with a number", 0, kPage, kRw, kNew, in);
    take("a file, number -1", 0, kPage, kRw, sys::kPrivate, ~0u);
    take("a file, number 77", 0, kPage, kRw, sys::kShared, 77);
    take("a file, number 77, nothing", 0, 0, kRw, sys::kShared, 77);
    take("a pipe's reading end", 0, kPage, sys::kRead, sys::kPrivate, in);
    take("a pipe's writing end", 0, kPage, sys::kRead, sys::kPrivate, out);
    take("a pipe, nothing", 0, 0, sys::kRead, sys::kPrivate, in);
    take("a pipe, type 0", 0, kPage, sys::kRead, 0, in);
    take("the console", 0, kPage, sys::kRead, sys::kShared, 1);
    // Addresses without MAP_FIXED are hints.
    take("hint at an odd address", kFree + 1, kPage, kRw, kNew);
    take("hint in the kernel", 0xc000'0000u, kPage, kRw, kNew);
    take("hint at 4096", 0x1000, kPage, kRw, kNew);
    take("hint over memory", kGood, kPage, kRw, kNew);
    holds("mmap2", "a hint over memory leaves it", load<u8>(kGood + 8) == 8);
    holds("mmap2", "a free hint is taken", u(mmap(kFree, kPage, kRw, kNew)) == kFree);
    sys::call(91, kFree, kPage);
    take("fixed, odd", kFree + 1, kPage, kRw, kNew | kFixed);
    take("fixed, in the kernel", 0xc000'0000u, kPage, kRw, kNew | kFixed);
    take("fixed, over the border", 0xbfff'f000u, 2 * kPage, kRw, kNew | kFixed);
    take("fixed, wraps", 0xffff'f000u, 2 * kPage, kRw, kNew | kFixed);
    take("fixed, 3 GiB long", kFree, 0xc000'0000, kRw, kNew | kFixed);
    take("fixed at 0", 0, kPage, kRw, kNew | kFixed);
    take("fixed at 4096", 0x1000, kPage, kRw, kNew | kFixed);
    holds("mmap2", "fixed is there", u(mmap(kFree, 3 * kPage, kRw, kNew | kFixed)) == kFree);
    store<u8>(kFree + kPage, 77);
    holds("mmap2", "fixed over it", u(mmap(kFree + kPage, kPage, kRw, kNew | kFixed)) == kFree + kPage);
    result("mmap2", "fixed over it is new", load<u8>(kFree + kPage));
    store<u8>(kFree + kPage, 78);
    result("mmap2", "MAP_FIXED_NOREPLACE over memory", mmap(kFree + kPage, kPage, kRw, kNew | kNoReplace));
    result("mmap2", "MAP_FIXED_NOREPLACE over the end of memory",
           mmap(kFree + 2 * kPage, 4 * kPage, kRw, kNew | kNoReplace));
    result("mmap2", "MAP_FIXED_NOREPLACE and MAP_FIXED over memory",
           mmap(kFree + kPage, kPage, kRw, kNew | kFixed | kNoReplace));
    result("mmap2", "MAP_FIXED_NOREPLACE, shared, over memory",
           mmap(kFree + kPage, kPage, kRw, sys::kShared | sys::kAnonymous | kNoReplace));
    result("mmap2", "MAP_FIXED_NOREPLACE, odd", mmap(kFree + 1, kPage, kRw, kNew | kNoReplace));
    result("mmap2", "MAP_FIXED_NOREPLACE, in the kernel", mmap(0xc000'0000u, kPage, kRw, kNew | kNoReplace));
    result("mmap2", "MAP_FIXED_NOREPLACE leaves it", load<u8>(kFree + kPage));
    sys::call(91, kFree + kPage, kPage);
    holds("mmap2", "MAP_FIXED_NOREPLACE in a hole",
          u(mmap(kFree + kPage, kPage, kRw, kNew | kNoReplace)) == kFree + kPage);
    sys::call(91, kFree, 3 * kPage);
    holds("mmap2", "MAP_FIXED_NOREPLACE where nothing is", u(mmap(kFree, kPage, kRw, kNew | kNoReplace)) == kFree);
    sys::call(91, kFree, kPage);

    result("munmap", "odd address", sys::call(91, kFree + 1, kPage));
    result("munmap", "nothing", sys::call(91, kFree, 0));
    result("munmap", "a hole", sys::call(91, kFree, kPage));
    result("munmap", "null", sys::call(91, 0, kPage));
    result("munmap", "the kernel", sys::call(91, 0xc000'0000u, kPage));
    result("munmap", "the kernel, nothing", sys::call(91, 0xc000'0000u, 0));
    result("munmap", "over the border", sys::call(91, 0xbfff'f000u, 2 * kPage));
    result("munmap", "wraps", sys::call(91, 0xffff'f000u, 2 * kPage));
    result("munmap", "3 GiB from a page", sys::call(91, kFree, 0xc000'0000));
    result("munmap", "all but one", sys::call(91, kFree, 0xffff'ffff));
    result("munmap", "a length of one byte", sys::call(91, kFree, 1));
    REQUIRE(u(mmap(kFree, 3 * kPage, kRw, kNew | kFixed)) == kFree);
    result("munmap", "a byte of a page", sys::call(91, kFree + kPage, 1));
    states("munmap", "is gone", rights(kFree + kPage));
    states("munmap", "and what is before it is not", rights(kFree));
    result("munmap", "holes and memory", sys::call(91, kFree - kPage, 6 * kPage));

    REQUIRE(u(mmap(kFree, 3 * kPage, kRw, kNew | kFixed)) == kFree);
    const auto protect = [](const char* what, u32 at, u32 bytes, u32 prot) {
        result("mprotect", what, sys::call(125, at, bytes, prot));
    };
    protect("odd address", kFree + 1, kPage, kRw);
    protect("odd address, nothing", kFree + 1, 0, kRw);
    protect("nothing", kFree, 0, kRw);
    protect("nothing, bad rights", kFree, 0, ~0x0300'0000u);
    protect("nothing, in the kernel", 0xc000'0000u, 0, kRw);
    protect("a hole", kFree + 4 * kPage, kPage, kRw);
    protect("a hole, bad rights", kFree + 4 * kPage, kPage, 0x100);
    protect("the kernel", 0xc000'0000u, kPage, kRw);
    protect("null", 0, kPage, kRw);
    protect("wraps", kFree, 0xf000'0000u, kRw);
    protect("all but one", kFree, 0xffff'ffff, kRw);
    protect("wraps to nothing", 0xffff'f000u, kPage, kRw);
    for (const u32 prot :
         {1u, 2u, 4u, 7u, 8u, 0x10u, 0x100u, 0x0100'0000u, 0x0200'0000u, 0x0300'0000u, 0x0300'0003u, 0x8000'0000u}) {
        Text what;
        what << "rights " << static_cast<int>(prot);
        protect(what.view(), kFree, kPage, prot);
    }
    protect("a byte of a page", kFree + kPage, 1, sys::kRead);
    states("mprotect", "a byte of a page: that page", rights(kFree + kPage));
    states("mprotect", "a byte of a page: the next one", rights(kFree + 2 * kPage));
    protect("write only", kFree + kPage, kPage, sys::kWrite);
    states("mprotect", "write only is", rights(kFree + kPage));
    protect("execute only", kFree + kPage, kPage, sys::kExec);
    states("mprotect", "execute only is", rights(kFree + kPage));
    protect("back", kFree, 3 * kPage, kRw);
    sys::call(91, kFree + kPage, kPage);
    protect("memory with a hole in it", kFree, 3 * kPage, sys::kRead);
    states("mprotect", "memory with a hole in it: the page before", rights(kFree));
    states("mprotect", "memory with a hole in it: the page behind", rights(kFree + 2 * kPage));
    // The stack, from one of its pages down to its end.
    u32 here = 0;
    const u32 page = w(&here) & ~(kPage - 1);
    protect("PROT_GROWSDOWN, the stack", page, kPage, kRw | 0x0100'0000);
    protect("PROT_GROWSUP, the stack", page, kPage, kRw | 0x0200'0000);
    sys::call(91, kFree, 3 * kPage);
}

void heap() {
    const u32 begin = sys::brk(0);
    holds("brk", "0 asks", begin != 0 && sys::brk(0) == begin);
    holds("brk", "below its beginning", sys::brk(0x1000) == begin);
    holds("brk", "one byte below its beginning", sys::brk(begin - 1) == begin);
    holds("brk", "in the kernel", sys::brk(0xc000'0000u) == begin);
    holds("brk", "the last byte", sys::brk(~0u) == begin);
    holds("brk", "over other memory", sys::brk(kGood + kPage) == begin);
    holds("brk", "an odd end", sys::brk(begin + 5) == begin + 5);
    store<u8>(begin, 9);
    holds("brk", "within the same page", sys::brk(begin + 4000) == begin + 4000);
    result("brk", "within the same page nothing is lost", load<u8>(begin));
    holds("brk", "two pages more", sys::brk(begin + 3 * kPage) == begin + 3 * kPage);
    states("brk", "is there", rights(begin + 2 * kPage));
    holds("brk", "back", sys::brk(begin) == begin);
    states("brk", "is gone", rights(begin + kPage));
    holds("brk", "and again", sys::brk(begin + kPage) == begin + kPage);
    result("brk", "is zero again", load<u8>(begin));
    sys::brk(begin);
}

// --------------------------------------------------------------------------------------------------------- processes

int wait(u32 pid, u32 status, u32 options) { return sys::call(7, pid, status, options); }
int wait4(u32 pid, u32 status, u32 options, u32 usage) { return sys::call(114, pid, status, options, usage); }

void children() {
    result("waitpid", "no children, -1", wait(~0u, 0, 0));
    result("waitpid", "no children, -1, WNOHANG", wait(~0u, 0, 1));
    result("waitpid", "no children, 0", wait(0, 0, 0));
    result("waitpid", "oneself", wait(u(sys::getpid()), 0, 0));
    result("waitpid", "pid 1", wait(1, 0, 0));
    result("waitpid", "a pid that is none", wait(0x7fff'ffff, 0, 0));
    result("waitpid", "a group that is none", wait(u(-0x7fff'fffe), 0, 0));
    result("waitpid", "the lowest number", wait(0x8000'0000, 0, 0));
    result("wait4", "the lowest number", wait4(0x8000'0000, 0, 0, 0));
    for (const u32 options :
         {1u, 2u, 4u, 8u, 0x10u, 0x0100'0000u, 0x1000'0000u, 0x2000'0000u, 0x4000'0000u, 0x8000'0000u, ~0u}) {
        Text what;
        what << "no children, options " << static_cast<int>(options);
        result("waitpid", what.view(), wait(~0u, 0, options));
        result("wait4", what.view(), wait4(~0u, 0, options, 0));
    }
    outputs("waitpid", "status: ", [](u32 p) {
        const int pid = sys::fork();
        if (pid == 0) sys::exit(3);
        return wait(~0u, p, 0);
    });
    result("waitpid", "status of exit(3)", load<int>(kGood + 1));
    result("waitpid", "children after that", wait(~0u, 0, 0));
    outputs("wait4", "usage: ", [](u32 p) {
        const int pid = sys::fork();
        if (pid == 0) sys::exit(3);
        return wait4(~0u, kGood, 0, p);
    });
    result("wait4", "children after that", wait4(~0u, 0, 0, 0));
    ended("exit", "256 + 3", in_child([] { sys::exit(256 + 3); }));
    ended("exit", "-1", in_child([] { sys::exit(-1); }));
    ended("exit_group", "-2", in_child([] { sys::exit_group(-2); }));
    // A child that has not ended.
    int files[2];
    REQUIRE(sys::pipe(files) == 0);
    const int pid = sys::fork();
    if (pid == 0) {
        char byte;
        sys::close(u(files[1]));
        sys::read(u(files[0]), &byte, 1);
        sys::exit(0);
    }
    sys::close(u(files[0]));
    store<u32>(kGood, 0x1234'5678);
    result("waitpid", "a child that runs, WNOHANG", wait(u(pid), kGood, 1));
    holds("waitpid", "WNOHANG leaves the status", load<u32>(kGood) == 0x1234'5678);
    result("waitpid", "a child that runs, WNOHANG, bad status", wait(u(pid), 0xc000'0000u, 1));
    result("waitpid", "not this child, WNOHANG", wait(u(pid + 1000), kGood, 1));
    result("waitpid", "a child that runs, WNOHANG, WUNTRACED, WCONTINUED", wait(u(pid), kGood, 1 | 2 | 8));
    result("waitpid", "__WCLONE, of a child by fork", wait(~0u, 0, 0x8000'0001));
    result("waitpid", "__WALL, of a child by fork", wait(~0u, 0, 0x4000'0001));
    sys::close(u(files[1]));
    holds("waitpid", "its pid", wait(u(pid), kGood, 0) == pid);

    holds("getpid", "gettid of the first thread", sys::getpid() == sys::gettid());
    for (const u32 number : {24u, 47u, 49u, 50u, 199u, 200u, 201u, 202u})
        result("get*id", "user and group", sys::call(number));
    holds("getppid", "not oneself", sys::getppid() != sys::getpid());
    result("sched_yield", "", sys::call(158));
    outputs("uname", "", [](u32 p) { return sys::call(122, p); });
    result("uname", "over the end of the memory", sys::call(122, kBehind + kPage - 389));
    result("uname", "just within", sys::call(122, kBehind + kPage - 390));
    for (const Bad& bad : kBad)
        holds("set_tid_address", bad.name, sys::call(258, bad.address) == sys::gettid());
    sys::call(258, 0);
}

int clone(u32 flags, u32 stack = 0, u32 parent = 0, u32 tls = 0, u32 child = 0) {
    const int pid = sys::call(120, flags, stack, parent, tls, child);
    if (pid == 0) sys::exit(0);
    if (!sys::failed(pid)) sys::call(114, ~0u, 0, 0x4000'0000, 0); // __WALL
    return pid;
}

struct Descriptor {
    u32 entry, base, limit, flags;
};

void cloning() {
    constexpr u32 kVm = 0x100, kFs = 0x200, kFiles = 0x400, kSighand = 0x800, kThread = 0x1'0000, kSetTls = 0x8'0000,
                  kParentTid = 0x10'0000, kChildTid = 0x100'0000;
    works("clone", "SIGCHLD", clone(17));
    works("clone", "no signal", clone(0));
    for (const u32 signal : {10u, 18u, 64u, 65u, 255u}) {
        Text what;
        what << "a child that ends with signal " << static_cast<int>(signal);
        ended("clone", what.view(), in_child([=] {
                  const int pid = clone(signal);
                  sys::exit(pid > 0 ? 42 : -pid);
              }));
    }
    for (const u32 flag : {kFs, kFiles, 0x2000u, 0x4'0000u, 0x40'0000u, 0x80'0000u, 0x8000'0000u}) {
        Text what;
        what << "SIGCHLD and flag " << static_cast<int>(flag);
        works("clone", what.view(), clone(17 | flag));
    }
    works("clone", "CLONE_SIGHAND without CLONE_VM", clone(17 | kSighand));
    works("clone", "CLONE_THREAD without CLONE_SIGHAND", clone(17 | kVm | kThread));
    works("clone", "CLONE_THREAD and CLONE_SIGHAND without CLONE_VM", clone(kThread | kSighand));
    works("clone", "CLONE_NEWNS and CLONE_FS", clone(17 | 0x2'0000 | kFs));
    works("clone", "CLONE_NEWUSER and CLONE_FS", clone(17 | 0x1000'0000 | kFs));
    works("clone", "CLONE_PIDFD and CLONE_PARENT_SETTID", clone(17 | 0x1000 | kParentTid, 0, kGood));
    works("clone", "CLONE_PIDFD and CLONE_DETACHED", clone(17 | 0x1000 | 0x40'0000, 0, kGood));
    works("clone", "every flag", clone(~0u));
    pointers("clone", "parent's tid: ", [](u32 p) { return clone(17 | kParentTid, 0, p); });
    pointers("clone", "child's tid: ", [](u32 p) { return clone(17 | kChildTid, 0, 0, 0, p); });
    pointers("clone", "tid to clear: ", [](u32 p) { return clone(17 | 0x20'0000, 0, 0, 0, p); });
    pointers("clone", "TLS: ", [](u32 p) { return clone(17 | kSetTls, 0, 0, p); });
    const Descriptor any{~0u, 0, 0xfffff, 0x51}, low{5, 0, 0xfffff, 0x51}, high{9, 0, 0xfffff, 0x51},
        good{6, 0, 0xfffff, 0x51};
    works("clone", "TLS, entry -1", clone(17 | kSetTls, 0, 0, w(&any)));
    works("clone", "TLS, entry 5", clone(17 | kSetTls, 0, 0, w(&low)));
    works("clone", "TLS, entry 9", clone(17 | kSetTls, 0, 0, w(&high)));
    works("clone", "TLS, entry 6", clone(17 | kSetTls, 0, 0, w(&good)));
    store<u32>(kGood, 0);
    const int pid = sys::call(120, 17 | kParentTid, 0, kGood, 0, 0);
    if (pid == 0) sys::exit(0);
    holds("clone", "the parent's tid is the child's pid", load<int>(kGood) == pid);
    sys::waitpid(pid, nullptr);
    ended("clone", "the child's tid, in the child", in_child([] {
              store<u32>(kGood, 0);
              const int child = sys::call(120, 17 | 0x100'0000, 0, 0, 0, kGood);
              if (child == 0) sys::exit(load<int>(kGood) == sys::gettid() ? 7 : 8);
              int status = 0;
              sys::waitpid(child, &status);
              sys::exit(load<u32>(kGood) == 0 ? status >> 8 : 9);
          }));
    ended("clone", "a child that sends no signal is waited for by __WALL only", in_child([] {
              const int child = sys::call(120, 0);
              if (child == 0) sys::exit(0);
              int bad = wait(~0u, 0, 0) != -kEchild;
              bad |= (wait(~0u, 0, 0x4000'0000) != child) << 1;
              sys::exit(bad);
          }));
    ended("clone", "and by __WCLONE", in_child([] {
              const int child = sys::call(120, 0);
              if (child == 0) sys::exit(0);
              sys::exit(wait(~0u, 0, 0x8000'0000) != child);
          }));
}

// ----------------------------------------------------------------------------------------------------------- signals

struct Action {
    u32 handler, flags, restorer, mask[2];
};
int sigaction(u32 signal, const Action* now, Action* old, u32 size = 8) {
    return sys::call(174, signal, w(now), w(old), size);
}
int sigmask(u32 how, const u64* now, u64* old, u32 size = 8) { return sys::call(175, how, w(now), w(old), size); }
int tgkill(int group, int thread, u32 signal) { return sys::call(270, u(group), u(thread), signal); }
int raise(u32 signal) { return tgkill(sys::getpid(), sys::gettid(), signal); }

void signals() {
    const Action ignore{1, 0, 0, {0, 0}}, standard{};
    Action old{};
    for (const u32 signal : {0u, 1u, 9u, 19u, 31u, 32u, 33u, 64u, 65u, 128u, 0x7fff'ffffu, ~0u}) {
        Text what;
        what << "signal " << static_cast<int>(signal);
        result("rt_sigaction", what.view(), sigaction(signal, &standard, &old));
        what << ", only asked";
        result("rt_sigaction", what.view(), sigaction(signal, nullptr, &old));
    }
    for (const u32 size : {0u, 4u, 16u, 128u, ~0u}) {
        Text what;
        what << "set of " << static_cast<int>(size);
        result("rt_sigaction", what.view(), sigaction(10, &standard, &old, size));
        result("rt_sigprocmask", what.view(), sigmask(0, nullptr, nullptr, size));
    }
    pointers("rt_sigaction", "new: ", [](u32 p) { return sys::call(174, 10, p, 0, 8); });
    outputs("rt_sigaction", "old: ", [](u32 p) { return sys::call(174, 10, 0, p, 8); });
    result("rt_sigaction", "bad signal, bad address", sys::call(174, 65, 0xc000'0000u, 0, 8));
    result("rt_sigaction", "bad signal, bad size", sys::call(174, 65, 0, 0, 4));
    result("rt_sigaction", "SIGUSR1 ignored", sigaction(10, &ignore, &old));
    result("rt_sigaction", "the action before that", static_cast<int>(old.handler));
    old = Action{77, 77, 77, {77, 77}};
    result("rt_sigaction", "default again", sigaction(10, &standard, &old));
    result("rt_sigaction", "it was ignored", static_cast<int>(old.handler));
    result("rt_sigaction", "with these flags", static_cast<int>(old.flags));
    result("rt_sigaction", "and this mask", static_cast<int>(old.mask[0] | old.mask[1]));
    const Action all{kGood, ~0u, 0x1234, {~0u, ~0u}};
    sigaction(12, &all, nullptr);
    sigaction(12, &standard, &old);
    result("rt_sigaction", "flags that are kept of all", static_cast<int>(old.flags));
    result("rt_sigaction", "mask that is kept of all", static_cast<int>(old.mask[0]));
    result("rt_sigaction", "handler and restorer", static_cast<int>(old.handler == kGood && old.restorer == 0x1234));
    sigaction(12, &ignore, nullptr);
    result("rt_sigaction", "bad address of the old one", sys::call(174, 12, w(&standard), 0xc000'0000u, 8));
    sigaction(12, nullptr, &old);
    result("rt_sigaction", "and the new one is there all the same", static_cast<int>(old.handler));
    ended("rt_sigaction", "a child has what its parent has", in_child([&] {
              sigaction(10, &ignore, nullptr);
              const int status = in_child([] {
                  Action seen{};
                  sigaction(10, nullptr, &seen);
                  sys::exit(static_cast<int>(seen.handler) + 5);
              });
              sys::exit(status >> 8);
          }));

    u64 set = 0, before = 0;
    for (const u32 how : {0u, 1u, 2u, 3u, 0x8000'0000u, ~0u}) {
        Text what;
        what << "how " << static_cast<int>(how);
        result("rt_sigprocmask", what.view(), sigmask(how, &set, &before));
        what << ", no set";
        result("rt_sigprocmask", what.view(), sigmask(how, nullptr, &before));
    }
    pointers("rt_sigprocmask", "new: ", [](u32 p) { return sys::call(175, 0, p, 0, 8); });
    outputs("rt_sigprocmask", "old: ", [](u32 p) { return sys::call(175, 0, 0, p, 8); });
    set = ~u64{0};
    result("rt_sigprocmask", "block all", sigmask(0, &set, nullptr));
    sigmask(0, nullptr, &before);
    result("rt_sigprocmask", "all that can be, low", static_cast<int>(before));
    result("rt_sigprocmask", "all that can be, high", static_cast<int>(before >> 32));
    set = 1u << 9;
    result("rt_sigprocmask", "unblock one", sigmask(1, &set, &before));
    sigmask(0, nullptr, &before);
    result("rt_sigprocmask", "then it is", static_cast<int>(before));
    set = 0;
    sigmask(2, &set, nullptr);

    const int me = sys::getpid(), thread = sys::gettid();
    result("tgkill", "signal 0", tgkill(me, thread, 0));
    result("tgkill", "signal 65", tgkill(me, thread, 65));
    result("tgkill", "signal -1", tgkill(me, thread, ~0u));
    result("tgkill", "process 0", tgkill(0, thread, 0));
    result("tgkill", "process -1", tgkill(-1, thread, 0));
    result("tgkill", "thread 0", tgkill(me, 0, 0));
    result("tgkill", "thread -1", tgkill(me, -1, 0));
    result("tgkill", "thread that is none", tgkill(me, 0x7fff'fffe, 0));
    result("tgkill", "thread that is none, signal 65", tgkill(me, 0x7fff'fffe, 65));
    result("tgkill", "another process", tgkill(me + 1000, thread, 0));
    result("tgkill", "process that is none", tgkill(0x7fff'fffe, 0x7fff'fffe, 0));
    const auto tkill = [](int to, u32 signal) { return sys::call(238, u(to), signal); };
    result("tkill", "signal 0", tkill(thread, 0));
    result("tkill", "signal 65", tkill(thread, 65));
    result("tkill", "thread 0", tkill(0, 0));
    result("tkill", "thread -1", tkill(-1, 0));
    result("tkill", "thread that is none", tkill(0x7fff'fffe, 0));
    result("tkill", "thread that is none, signal 65", tkill(0x7fff'fffe, 65));
    ended("tkill", "signal 15 to oneself", in_child([&] { tkill(sys::gettid(), 15), sys::exit(42); }));
    ended("tkill", "signal 23 to oneself", in_child([&] { tkill(sys::gettid(), 23), sys::exit(42); }));
    for (const u32 signal :
         {1u, 2u, 3u, 6u, 9u, 10u, 13u, 14u, 15u, 16u, 17u, 18u, 23u, 24u, 28u, 29u, 30u, 31u, 34u, 64u}) {
        Text what;
        what << "signal " << static_cast<int>(signal) << " to oneself";
        ended("tgkill", what.view(), in_child([=] { raise(signal), sys::exit(42); }));
    }
    ended("tgkill", "an ignored signal", in_child([&] { sigaction(15, &ignore, nullptr), raise(15), sys::exit(42); }));
    ended("tgkill", "SIGKILL cannot be ignored",
          in_child([&] { sigaction(9, &ignore, nullptr), raise(9), sys::exit(42); }));
    ended("tgkill", "a blocked signal waits", in_child([] {
              const u64 term = 1u << 14;
              sigmask(0, &term, nullptr);
              raise(15);
              sys::exit(42);
          }));
    ended("tgkill", "and comes when it is not blocked", in_child([] {
              const u64 term = 1u << 14;
              sigmask(0, &term, nullptr);
              raise(15);
              sigmask(1, &term, nullptr);
              sys::exit(42);
          }));
    ended("tgkill", "unless it is ignored by then", in_child([&] {
              const u64 term = 1u << 14;
              sigmask(0, &term, nullptr);
              raise(15);
              sigaction(15, &ignore, nullptr);
              sigmask(1, &term, nullptr);
              sys::exit(42);
          }));
    ended("tgkill", "SIGKILL cannot be blocked", in_child([] {
              const u64 every = ~u64{0};
              sigmask(0, &every, nullptr);
              raise(9);
              sys::exit(42);
          }));
    ended("tgkill", "an ignored SIGPIPE leaves EPIPE", in_child([&] {
              int files[2];
              REQUIRE(sys::pipe(files) == 0);
              sys::close(u(files[0]));
              sigaction(13, &ignore, nullptr);
              sys::exit(-sys::write(u(files[1]), "x", 1));
          }));
    ended("rt_sigaction", "SIGCHLD ignored: nothing is left of children", in_child([&] {
              sigaction(17, &ignore, nullptr);
              if (sys::fork() == 0) sys::exit(0);
              sys::exit(-sys::waitpid(-1, nullptr));
          }));
    // Signals from the parent to a child.
    int files[2];
    REQUIRE(sys::pipe(files) == 0);
    const int pid = sys::fork();
    if (pid == 0) {
        char byte;
        sys::close(u(files[1]));
        sys::read(u(files[0]), &byte, 1);
        sys::exit(0);
    }
    result("tgkill", "a child, signal 0", tgkill(pid, pid, 0));
    result("tgkill", "a child, in the wrong process", tgkill(me, pid, 0));
    result("tgkill", "a child, SIGCHLD", tgkill(pid, pid, 17));
    result("tgkill", "a child, SIGTERM", tgkill(pid, pid, 15));
    int status = 0;
    sys::waitpid(pid, &status);
    ended("tgkill", "its status", status);
    result("tgkill", "a child that has been waited for", tgkill(pid, pid, 15));
    sys::close(u(files[0]));
    sys::close(u(files[1]));
}

// -------------------------------------------------------------------------------------------------------------- time

struct Time64 {
    u64 seconds;
    u32 nanoseconds, rest;
};

void time() {
    constexpr int kClocks[] = {0,  1,  2,  3,  4,   5,           6,  7,  8,  9,  10,
                               11, 12, 15, 16, 100, 0x7fff'ffff, -1, -2, -3, -6, -100};
    for (const int clock : kClocks) {
        Text what;
        what << "clock " << clock;
        result("clock_gettime", what.view(), sys::call(265, u(clock), kGood));
        result("clock_gettime64", what.view(), sys::call(403, u(clock), kGood));
        result("clock_getres", what.view(), sys::call(266, u(clock), kGood));
        result("clock_getres_time64", what.view(), sys::call(406, u(clock), kGood));
        result("clock_getres", what.view(), sys::call(266, u(clock), 0), ", null");
        const sys::TimeSpec none{0, 0};
        const Time64 none64{};
        result("clock_nanosleep", what.view(), sys::call(267, u(clock), 0, w(&none), 0), ", no time");
        result("clock_nanosleep_time64", what.view(), sys::call(407, u(clock), 1, w(&none64), 0), ", a time long past");
        result("clock_nanosleep", what.view(), sys::call(267, u(clock), 0, 0, 0), ", null");
    }
    outputs("clock_gettime", "", [](u32 p) { return sys::call(265, 1, p); });
    outputs("clock_gettime64", "", [](u32 p) { return sys::call(403, 1, p); });
    outputs("clock_getres", "", [](u32 p) { return sys::call(266, 1, p); });
    outputs("clock_getres_time64", "", [](u32 p) { return sys::call(406, 1, p); });
    result("clock_gettime", "bad clock, bad address", sys::call(265, 100, 0));
    const auto read = [](u32 clock) {
        Time64 now{};
        sys::call(403, clock, w(&now));
        return now;
    };
    const Time64 first = read(1), second = read(1);
    holds("clock_gettime64", "does not go back",
          second.seconds > first.seconds || second.nanoseconds >= first.nanoseconds);
    holds("clock_gettime64", "nanoseconds are less than a second",
          first.nanoseconds < 1'000'000'000 && first.rest == 0);
    holds("clock_gettime64", "the year is 2020 or later", read(0).seconds > 1'577'836'000);
    sys::TimeSpec narrow{};
    sys::call(265, 0, w(&narrow));
    holds("clock_gettime", "the same as 64 bits", read(0).seconds - narrow.seconds < 2);
    outputs("gettimeofday", "time: ", [](u32 p) { return sys::call(78, p, 0); });
    outputs("gettimeofday", "zone: ", [](u32 p) { return sys::call(78, 0, p); });
    holds("gettimeofday", "microseconds", sys::call(78, kGood, 0) == 0 && load<u32>(kGood + 4) < 1'000'000);
    outputs("time", "", [](u32 p) { return sys::call(13, p); });
    holds("time", "the seconds of the clock", read(0).seconds - u(sys::call(13, 0)) < 2);

    pointers("nanosleep", "", [](u32 p) { return sys::call(162, p, 0); });
    pointers("clock_nanosleep", "", [](u32 p) { return sys::call(267, 1, 0, p, 0); });
    pointers("clock_nanosleep_time64", "", [](u32 p) { return sys::call(407, 1, 0, p, 0); });
    const struct {
        const char* name;
        sys::TimeSpec time;
    } times[]{
        {"zero", {0, 0}},
        {"one nanosecond", {0, 1}},
        {"a second of nanoseconds", {0, 1'000'000'000}},
        {"-1 nanoseconds", {0, ~0u}},
        {"-1 seconds", {~0u, 0}},
        {"-1 and -1", {~0u, ~0u}},
        {"lowest", {0x8000'0000, 0}},
    };
    for (const auto& one : times) {
        const Time64 wide{static_cast<u64>(static_cast<long long>(static_cast<int>(one.time.seconds))),
                          one.time.nanoseconds, 0};
        result("nanosleep", one.name, sys::call(162, w(&one.time), 0));
        result("nanosleep", one.name, sys::call(162, w(&one.time), 0xc000'0000u), ", rest to nowhere");
        result("clock_nanosleep", one.name, sys::call(267, 1, 0, w(&one.time), 0));
        result("clock_nanosleep", one.name, sys::call(267, 0, 1, w(&one.time), 0), ", absolute");
        result("clock_nanosleep_time64", one.name, sys::call(407, 1, 0, w(&wide), 0));
        result("clock_nanosleep_time64", one.name, sys::call(407, 0, 1, w(&wide), 0), ", absolute");
    }
    const sys::TimeSpec zero{0, 0};
    const Time64 padded{0, 0, ~0u};
    result("clock_nanosleep_time64", "rubbish behind the nanoseconds", sys::call(407, 1, 0, w(&padded), 0));
    for (const u32 flags : {2u, 0x100u, 0xffff'fffeu}) {
        Text what;
        what << "flags " << static_cast<int>(flags);
        result("clock_nanosleep", what.view(), sys::call(267, 1, flags, w(&zero), 0));
    }
}

// ------------------------------------------------------------------------------------------------------------ futexes

int futex(u32 word, u32 operation, u32 value, u32 limit = 0, u32 word2 = 0, u32 value3 = 0) {
    return call6(240, word, operation, value, limit, word2, value3);
}

void futexes() {
    constexpr u32 kPrivate = 128, kRealtime = 256;
    store<u32>(kGood, 5);
    store<u32>(kGood + 4, 6);
    const sys::TimeSpec none{0, 0};
    const u32 soon = w(&none);
    for (const u32 flag : {0u, kPrivate}) {
        const char* const more = flag != 0 ? ", private" : "";
        for (const Bad& bad : kBad) {
            const auto one = [&](const char* what, int value) {
                Text text;
                text << what << bad.name;
                result("futex", text.view(), value, more);
            };
            one("WAIT ", futex(bad.address, flag | 0, 0, soon));
            one("WAKE ", futex(bad.address, flag | 1, 1));
            one("WAIT_BITSET ", futex(bad.address, flag | 9, 0, soon, 0, ~0u));
            one("WAKE_BITSET ", futex(bad.address, flag | 10, 1, 0, 0, ~0u));
            one("REQUEUE from ", futex(bad.address, flag | 3, 1, 1, kGood));
            one("REQUEUE to ", futex(kGood, flag | 3, 1, 1, bad.address));
            one("CMP_REQUEUE from ", futex(bad.address, flag | 4, 1, 1, kGood, 5));
            one("CMP_REQUEUE to ", futex(kGood, flag | 4, 1, 1, bad.address, 5));
            one("WAKE_OP first ", futex(bad.address, flag | 5, 1, 1, kGood + 4, 0));
            one("WAKE_OP second ", futex(kGood, flag | 5, 1, 1, bad.address, 0));
            one("WAIT limit ", futex(kGood, flag | 0, 5, bad.address == 0 ? soon : bad.address));
            one("WAKE limit ", futex(kGood, flag | 1, 1, bad.address));
        }
        const auto one = [&](const char* what, int value) { result("futex", what, value, more); };
        one("WAIT odd", futex(kGood + 1, flag | 0, 5, soon));
        one("WAKE odd", futex(kGood + 2, flag | 1, 5));
        one("WAIT odd in the kernel", futex(0xc000'0001u, flag | 0, 5, soon));
        one("REQUEUE to odd", futex(kGood, flag | 3, 1, 1, kGood + 2));
        one("WAIT another value", futex(kGood, flag | 0, 4, soon));
        one("WAIT, no time", futex(kGood, flag | 0, 5, soon));
        one("WAIT read-only, another value", futex(kConst, flag | 0, 4, soon));
        one("WAIT read-only, no time", futex(kConst, flag | 0, 0, soon));
        one("WAKE read-only", futex(kConst, flag | 1, 1));
        one("WAKE_OP read-only", futex(kGood, flag | 5, 1, 1, kConst, 0));
        one("CMP_REQUEUE read-only", futex(kConst, flag | 4, 1, 1, kGood, 0));
        one("WAKE none", futex(kGood, flag | 1, 0));
        one("WAKE -1", futex(kGood, flag | 1, ~0u));
        one("WAIT_BITSET no bits", futex(kGood, flag | 9, 5, soon, 0, 0));
        one("WAIT_BITSET no bits, another value", futex(kGood, flag | 9, 4, soon, 0, 0));
        one("WAKE_BITSET no bits", futex(kGood, flag | 10, 1, 0, 0, 0));
        one("WAIT_BITSET another value", futex(kGood, flag | 9, 4, soon, 0, 1));
        one("WAIT_BITSET a time long past", futex(kGood, flag | 9, 5, soon, 0, 1));
        one("WAIT_BITSET a time long past by CLOCK_REALTIME", futex(kGood, flag | 9 | kRealtime, 5, soon, 0, 1));
        one("WAIT by CLOCK_REALTIME", futex(kGood, flag | 0 | kRealtime, 5, soon));
        one("WAKE by CLOCK_REALTIME", futex(kGood, flag | 1 | kRealtime, 5));
        one("REQUEUE by CLOCK_REALTIME", futex(kGood, flag | 3 | kRealtime, 1, 1, kGood + 4));
        one("REQUEUE nobody", futex(kGood, flag | 3, 1, 1, kGood + 4));
        one("REQUEUE to itself", futex(kGood, flag | 3, 1, 1, kGood));
        one("REQUEUE -1 to wake", futex(kGood, flag | 3, ~0u, 1, kGood + 4));
        one("REQUEUE -1 to move", futex(kGood, flag | 3, 1, ~0u, kGood + 4));
        one("CMP_REQUEUE nobody", futex(kGood, flag | 4, 1, 1, kGood + 4, 5));
        one("CMP_REQUEUE another value", futex(kGood, flag | 4, 1, 1, kGood + 4, 6));
        one("CMP_REQUEUE another value, -1", futex(kGood, flag | 4, ~0u, 1, kGood + 4, 6));
        for (const u32 operation : {2u, 14u, 15u, 16u, 64u, 127u, 512u, 0x7fff'fe00u}) {
            Text what;
            what << "operation " << static_cast<int>(operation);
            one(what.view(), futex(kGood, flag | operation, 5, soon, kGood + 4, 1));
        }
        one("operation 127, odd", futex(kGood + 1, flag | 127, 5));
        for (const sys::TimeSpec& time :
             {sys::TimeSpec{0, 1'000'000'000}, sys::TimeSpec{~0u, 0}, sys::TimeSpec{0, ~0u}}) {
            Text what;
            what << "limit of " << static_cast<int>(time.seconds) << " s " << static_cast<int>(time.nanoseconds)
                 << " ns";
            result("futex", "WAIT, ", futex(kGood, flag | 0, 5, w(&time)), what.view());
            result("futex", "WAIT another value, ", futex(kGood, flag | 0, 4, w(&time)), what.view());
            result("futex", "WAIT_BITSET, ", futex(kGood, flag | 9, 5, w(&time), 0, 1), what.view());
            result("futex", "WAKE, ", futex(kGood, flag | 1, 5, w(&time)), what.view());
            const Time64 wide{static_cast<u64>(static_cast<long long>(static_cast<int>(time.seconds))),
                              time.nanoseconds, 0};
            result("futex_time64", "WAIT, ", call6(422, kGood, flag | 0, 5, w(&wide), 0, 0), what.view());
        }
    }
    pointers("futex_time64", "WAIT limit ", [&](u32 p) {
        const Time64 wide{};
        return call6(422, kGood, 0, 5, p == 0 ? w(&wide) : p, 0, 0);
    });
    result("futex_time64", "WAKE", call6(422, kGood, 1, 1, 0, 0, 0));
    // WAKE_OP: the new value of the second word.
    const struct {
        const char* name;
        u32 code;
    } operations[]{
        {"set 7", 0u << 28 | 7 << 12},
        {"add 3", 1u << 28 | 3 << 12},
        {"or 8", 2u << 28 | 8 << 12},
        {"and not 2", 3u << 28 | 2 << 12},
        {"xor 15", 4u << 28 | 15 << 12},
        {"add -1", 1u << 28 | 0xfff << 12},
        {"or 1 << 4", 10u << 28 | 4 << 12},
        {"or 1 << 31", 10u << 28 | 31 << 12},
        {"operation 5", 5u << 28 | 1 << 12},
        {"operation 7", 7u << 28 | 1 << 12},
        {"add 1, if more than 5", 1u << 28 | 4u << 24 | 1 << 12 | 5},
        {"add 1, comparison 6", 1u << 28 | 6u << 24 | 1 << 12 | 5},
        {"add 1, comparison 15", 1u << 28 | 15u << 24 | 1 << 12 | 5},
        {"or 1 << 32", 10u << 28 | 32 << 12},
    };
    for (const auto& one : operations) {
        store<u32>(kGood + 4, 6);
        result("futex", "WAKE_OP ", futex(kGood, 5, 1, 1, kGood + 4, one.code), one.name);
        result("futex", "WAKE_OP leaves, ", static_cast<int>(load<u32>(kGood + 4)), one.name);
    }
}

// ---------------------------------------------------------------------------------------------------------- the rest

void segments() {
    outputs("set_thread_area", "", [](u32 p) { return sys::call(243, p); });
    const auto area = [](const char* what, Descriptor descriptor) {
        result("set_thread_area", what, sys::call(243, w(&descriptor)));
    };
    for (const int entry : {-2, -1, 0, 1, 5, 6, 7, 8, 9, 100}) {
        Text what;
        what << "entry " << entry;
        area(what.view(), {u(entry), 0, 0xfffff, 0x51});
    }
    for (u32 flags = 0; flags < 128; flags += flags < 64 ? 1 : 9) {
        Text what;
        what << "flags " << static_cast<int>(flags);
        area(what.view(), {6, 0x1000, 0xfffff, flags});
    }
    area("flags 0x80", {6, 0x1000, 0xfffff, 0x80 | 0x51});
    area("flags above", {6, 0x1000, 0xfffff, 0xffff'ff00 | 0x51});
    area("a limit of more than 20 bits", {6, 0x1000, 0x1f'ffff, 0x51});
    area("a limit of more than 20 bits in bytes", {6, 0x1000, 0x1f'ffff, 0x41});
    area("all zeros", {6, 0, 0, 0});
    area("empty", {6, 0, 0, 0x28});
    area("a base in the kernel", {6, 0xc000'0000, 0xfffff, 0x51});
    area("and none again", {6, 0, 0, 0x28});
    area("entry 7 and none", {7, 0, 0, 0x28});
    area("entry 8 and none", {8, 0, 0, 0x28});
    // One more than the kernel has.
    for (u32 i = 0; i < 4; ++i) {
        Descriptor any{~0u, 0, 0xfffff, 0x51};
        const int made = sys::call(243, w(&any));
        result("set_thread_area", "any entry", made);
        if (made == 0) result("set_thread_area", "its number", static_cast<int>(any.entry));
    }
}

void limits() {
    outputs("getrandom", "", [](u32 p) { return sys::call(355, p, 4, 0); });
    pointers("getrandom", "no bytes: ", [](u32 p) { return sys::call(355, p, 0, 0); });
    for (const u32 flags : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 0x100u, 0x8000'0000u, ~0u}) {
        Text what;
        what << "flags " << static_cast<int>(flags);
        result("getrandom", what.view(), sys::call(355, kGood, 4, flags));
    }
    result("getrandom", "over the end of the memory", sys::call(355, kBehind + kPage - 2, 4, 0));
    result("getrandom", "a page and then nothing", sys::call(355, kBehind, 2 * kPage, 0));
    result("getrandom", "all addresses", sys::call(355, kGood, 0xffff'ffff, 0));
    result("getrandom", "bad flags, bad address", sys::call(355, 0, 4, 0x100));

    outputs("prlimit64", "old: ", [](u32 p) { return sys::call(340, 0, 3, 0, p); });
    pointers("prlimit64", "new: ", [](u32 p) { return sys::call(340, 0, 3, p, 0); });
    outputs("getrlimit", "", [](u32 p) { return sys::call(191, 3, p); });
    for (const u32 resource : {0u, 3u, 7u, 15u, 16u, 17u, 0x8000'0000u, ~0u}) {
        Text what;
        what << "resource " << static_cast<int>(resource);
        result("prlimit64", what.view(), sys::call(340, 0, resource, 0, kGood));
        result("getrlimit", what.view(), sys::call(191, resource, kGood));
        what << ", null";
        result("prlimit64", what.view(), sys::call(340, 0, resource, 0, 0));
    }
    result("prlimit64", "oneself", sys::call(340, u(sys::getpid()), 3, 0, kGood));
    result("prlimit64", "the stack", load<int>(kGood));
    result("prlimit64", "process -1", sys::call(340, ~0u, 3, 0, kGood));
    result("prlimit64", "process that is none", sys::call(340, 0x7fff'fffe, 3, 0, kGood));
    result("prlimit64", "process that is none, resource 16", sys::call(340, 0x7fff'fffe, 16, 0, kGood));
    u64 same[2];
    REQUIRE(sys::call(340, 0, 3, 0, w(same)) == 0);
    result("prlimit64", "what it is already", sys::call(340, 0, 3, w(same), 0));
    same[0] = same[1], same[1] = 0;
    result("prlimit64", "more than the most", sys::call(340, 0, 3, w(same), 0));
    result("getrlimit", "bad resource, bad address", sys::call(191, 16, 0));
}

} // namespace

int main(int argc, char** argv) {
    printing = argc > 1 && starts_with(argv[1], "print");
    beginning(argv);
    make_pages();
    int files[2];
    REQUIRE(sys::pipe(files) == 0);
    in = u(files[0]), out = u(files[1]);
    reading_and_writing();
    make_pages();
    writing_pieces();
    make_pages();
    pipes();
    make_pages();
    names();
    make_pages();
    files_and_folders();
    make_pages();
    mapping();
    heap();
    make_pages();
    children();
    make_pages();
    cloning();
    make_pages();
    signals();
    make_pages();
    time();
    make_pages();
    futexes();
    make_pages();
    segments();
    make_pages();
    limits();
    if (printing) return 0;
    Line{} << "arguments: " << lines << " cases, " << unexplained << " unlike Linux, " << explained << " explained";
    CHECK_EQ(unexplained, 0);
    CHECK_EQ(explained, count_differences());
    CHECK_EQ(*next_answer, '\0');
    return failures != 0;
}
