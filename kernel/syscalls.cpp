// The system calls. Contract: syscalls.hpp. Sources: the man pages of section 2 that each is named after.
#include "kernel/syscalls.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/timer.hpp"
#include "kernel/futex.hpp"
#include "kernel/process.hpp"
#include "kernel/random.hpp"
#include "kernel/scheduler.hpp"
#include "kernel/sleep.hpp"
#include "mm/user_copy.hpp"

#include <algorithm>
#include <array>

namespace loft {
namespace {

// What a call may look at.
struct Call {
    TrapFrame& frame;
    UserThread& thread;
    Process& process;

    u32 a() const { return frame.ebx; }
    u32 b() const { return frame.ecx; }
    u32 c() const { return frame.edx; }
    u32 d() const { return frame.esi; }
    u32 e() const { return frame.edi; }
    UserAddr pointer_a() const { return UserAddr{a()}; }
    UserAddr pointer_b() const { return UserAddr{b()}; }
    UserAddr pointer_c() const { return UserAddr{c()}; }
    UserAddr pointer_d() const { return UserAddr{d()}; }
    UserAddr pointer_e() const { return UserAddr{e()}; }
};

constexpr u32 kPages = ~(kPageSize - 1);
constexpr u32 kMostBytes = 0x7fff'f000; // that one read or write moves, so that the count is not negative

// --- Beginning and ending.

SysResult sys_exit(Call& call) { thread_leave(WaitStatus::exited(call.a())); }

SysResult sys_exit_group(Call& call) {
    process_end(WaitStatus::exited(call.a()));
    return 0u;
}

SysResult sys_fork(Call& call) { return process_fork(call.frame, {}); }

SysResult sys_clone(Call& call) {
    constexpr u32 kSignal = 0xff, kVm = 0x100, kFs = 0x200, kFiles = 0x400, kSighand = 0x800,
                  kThread = 0x1'0000, kSysvsem = 0x4'0000, kSetTls = 0x8'0000, kParentSetTid = 0x10'0000,
                  kChildClearTid = 0x20'0000, kDetached = 0x40'0000, kChildSetTid = 0x100'0000;
    constexpr u32 kOptions = kSetTls | kParentSetTid | kChildClearTid | kChildSetTid | kDetached;
    constexpr u32 kOneProcess = kVm | kFs | kFiles | kSighand | kThread;
    const u32 flags = call.a();
    CloneArguments arguments{.stack = call.b()};
    if (flags & kParentSetTid) arguments.parent_tid = call.pointer_c();
    if (flags & kSetTls) arguments.tls = call.pointer_d();
    if (flags & kChildSetTid) arguments.child_tid = call.pointer_e();
    if (flags & kChildClearTid) arguments.clear_tid = call.pointer_e();
    // A thread shares everything, a process nothing; there is nothing in between.
    if ((flags & ~(kOptions | kSysvsem | kSignal)) == kOneProcess)
        return process_clone_thread(call.frame, arguments);
    if ((flags & ~((kOptions & ~kSetTls) | kSignal)) == 0) return process_fork(call.frame, arguments);
    return Errno::inval;
}

SysResult wait_child(Call& call, UserAddr usage) {
    constexpr u32 kNoHang = 1, kUntraced = 2, kContinued = 8;
    constexpr u32 kUsageBytes = 72; // struct rusage: nothing is counted
    const u32 options = call.c();
    if (options & ~(kNoHang | kUntraced | kContinued)) return Errno::inval;
    const int pid = static_cast<int>(call.a());
    const WaitResult result =
        process_wait_child(pid == 0 ? -1 : pid, !(options & kNoHang)); // all are of one group
    if (result.pid.failed() || result.pid.value() == 0) return result.pid;
    if (call.b() != 0 && !put_user<u32>(call.pointer_b(), result.status.value())) return Errno::fault;
    if (usage.value() != 0 && clear_user(usage, kUsageBytes) != 0) return Errno::fault;
    return result.pid;
}
SysResult sys_waitpid(Call& call) { return wait_child(call, UserAddr{}); }
SysResult sys_wait4(Call& call) { return wait_child(call, call.pointer_d()); }

// Nothing is delivered to anybody: a signal to oneself that would kill does.
SysResult sys_tgkill(Call& call) {
    if (call.a() != call.process.pid) return Errno::srch;
    if (call.c() > 64) return Errno::inval;
    if (call.c() != 0) process_end(WaitStatus::killed(static_cast<Signal>(call.c())));
    return 0u;
}

// --- Who.

SysResult sys_getpid(Call& call) { return call.process.pid; }
SysResult sys_gettid(Call& call) { return call.thread.tid; }
SysResult sys_getppid(Call&) { return parent_pid(); }
SysResult sys_zero(Call&) {
    return 0u;
} // everybody is root; no signal is ever delivered, so none needs to be blocked

SysResult sys_set_tid_address(Call& call) {
    call.thread.clear_tid = call.pointer_a();
    return call.thread.tid;
}

SysResult sys_uname(Call& call) {
    struct Names {
        char text[6][65];
    };
    Names names{};
    // Libraries look at the release: these calls are those of that time.
    constexpr std::string_view kTexts[6] = {"Linux", "loft", "6.1.0-loft", "loft", "i686", "(none)"};
    for (u32 i = 0; i < 6; ++i)
        std::copy(kTexts[i].begin(), kTexts[i].end(), names.text[i]);
    if (copy_to_user(call.pointer_a(), &names, sizeof names) != 0) return Errno::fault;
    return 0u;
}

// --- Files.

// A file for the length of a call.
class OpenFile {
  public:
    OpenFile(Process& process, u32 number) : file_{process.files.get(number)} {}
    ~OpenFile() {
        if (file_ != nullptr) file_->release();
    }
    OpenFile(const OpenFile&) = delete;
    OpenFile& operator=(const OpenFile&) = delete;
    explicit operator bool() const { return file_ != nullptr; }
    File* operator->() const { return file_; }

  private:
    File* file_;
};

SysResult sys_read(Call& call) {
    const OpenFile file{call.process, call.a()};
    if (!file) return Errno::badf;
    return file->read(call.pointer_b(), std::min(call.c(), kMostBytes));
}

SysResult sys_write(Call& call) {
    const OpenFile file{call.process, call.a()};
    if (!file) return Errno::badf;
    return file->write(call.pointer_b(), std::min(call.c(), kMostBytes));
}

SysResult sys_writev(Call& call) {
    struct Piece {
        u32 base, bytes;
    };
    constexpr u32 kMostPieces = 1024;
    const OpenFile file{call.process, call.a()};
    if (!file) return Errno::badf;
    if (call.c() > kMostPieces) return Errno::inval;
    u32 sum = 0;
    for (u32 i = 0; i < call.c(); ++i) {
        Piece piece{};
        if (copy_from_user(&piece, call.pointer_b() + i * u32{sizeof piece}, sizeof piece) != 0)
            return sum != 0 ? SysResult{sum} : SysResult{Errno::fault};
        if (piece.bytes > kMostBytes - sum) return sum != 0 ? SysResult{sum} : SysResult{Errno::inval};
        if (piece.bytes == 0) continue;
        const SysResult result = file->write(UserAddr{piece.base}, piece.bytes);
        if (result.failed()) return sum != 0 ? SysResult{sum} : result;
        sum += static_cast<u32>(result.value());
        if (static_cast<u32>(result.value()) != piece.bytes) break;
    }
    return sum;
}

SysResult sys_close(Call& call) {
    if (!call.process.files.close(call.a())) return Errno::badf;
    return 0u;
}

SysResult sys_pipe(Call& call) {
    PipeEnds ends;
    if (!make_pipe(ends)) return Errno::nomem;
    FileTable& files = call.process.files;
    u32 numbers[2]{files.add(ends.read), FileTable::kMost};
    if (numbers[0] != FileTable::kMost) numbers[1] = files.add(ends.write);
    const bool full = numbers[1] == FileTable::kMost;
    if (!full && copy_to_user(call.pointer_a(), numbers, sizeof numbers) == 0) return 0u;
    if (numbers[0] == FileTable::kMost)
        ends.read->release();
    else
        files.close(numbers[0]);
    if (full)
        ends.write->release();
    else
        files.close(numbers[1]);
    return full ? Errno::mfile : Errno::fault;
}

// There are no names of files.
SysResult sys_no_entry(Call&) { return Errno::noent; }

SysResult sys_ioctl(Call& call) {
    const OpenFile file{call.process, call.a()};
    return file ? Errno::notty : Errno::badf;
}

// The console is a character device, which is what makes a library write line by line.
constexpr u32 kCharacterDevice = 0020'620, kFifo = 0010'600;
constexpr u32 kConsoleMajor = 5, kConsoleMinor = 1;

SysResult sys_fstat64(Call& call) {
    const OpenFile file{call.process, call.a()};
    if (!file) return Errno::badf;
    std::array<u32, 24> stat{}; // struct stat64
    stat[4] = file->is_console() ? kCharacterDevice : kFifo;
    stat[5] = 1; // links
    stat[8] = file->is_console() ? kConsoleMajor << 8 | kConsoleMinor : 0;
    stat[13] = kPageSize; // block size
    if (copy_to_user(call.pointer_b(), stat.data(), sizeof stat) != 0) return Errno::fault;
    return 0u;
}

// Of an open file only: its name is empty.
SysResult sys_statx(Call& call) {
    constexpr u32 kEmptyPath = 0x1000, kBasicStats = 0x7ff;
    char first = 0;
    if (copy_from_user(&first, call.pointer_b(), 1) != 0) return Errno::fault;
    if (first != '\0' || !(call.c() & kEmptyPath)) return Errno::noent;
    const OpenFile file{call.process, call.a()};
    if (!file) return Errno::badf;
    std::array<u32, 64> stat{}; // struct statx
    stat[0] = kBasicStats;
    stat[1] = kPageSize;
    stat[4] = 1;                                             // links
    stat[7] = file->is_console() ? kCharacterDevice : kFifo; // a half-word
    stat[32] = file->is_console() ? kConsoleMajor : 0;       // of the device that it is
    stat[33] = file->is_console() ? kConsoleMinor : 0;
    if (copy_to_user(call.pointer_e(), stat.data(), sizeof stat) != 0) return Errno::fault;
    return 0u;
}

// --- Memory.

Prot prot_of(u32 bits) {
    constexpr u32 kRead = 1, kWrite = 2, kExec = 4;
    Prot prot = Prot::none;
    if (bits & kRead) prot = prot | Prot::read;
    if (bits & kWrite) prot = prot | Prot::write;
    if (bits & kExec) prot = prot | Prot::exec;
    return prot;
}
constexpr u32 kAllProt = 7;

SysResult sys_brk(Call& call) {
    if (const Result<VirtAddr> end = call.process.space->brk(VirtAddr{call.a()})) return end->value();
    return call.process.space->brk(VirtAddr{}).value_or(VirtAddr{}).value(); // where it was
}

// Memory of its own, or shared with those it forks; there are no files to map.
SysResult sys_mmap2(Call& call) {
    constexpr u32 kShared = 1, kPrivate = 2, kType = 0xf, kFixed = 0x10, kAnonymous = 0x20;
    const u32 flags = call.d(), bytes = call.b();
    if (!(flags & kAnonymous)) return Errno::nodev;
    if ((flags & kType) != kShared && (flags & kType) != kPrivate) return Errno::inval;
    if (bytes == 0 || (call.c() & ~kAllProt)) return Errno::inval;
    if (bytes > layout::kUserEnd) return Errno::nomem;
    const bool fixed = flags & kFixed;
    if (fixed && (call.a() & ~kPages)) return Errno::inval;
    const VirtAddr where{call.a() & kPages};
    const MapKind kind = (flags & kType) == kShared ? MapKind::shared : MapKind::anonymous;
    const Result<VirtAddr> area = call.process.space->map(where, bytes, prot_of(call.c()), kind, fixed);
    if (!area) return area.error() == Error::no_access ? Errno::perm : errno_of(area.error());
    return area->value();
}

SysResult sys_munmap(Call& call) { return call.process.space->unmap(VirtAddr{call.a()}, call.b()); }

SysResult sys_mprotect(Call& call) {
    if (call.c() & ~kAllProt) return Errno::inval;
    if (call.b() == 0) return call.a() & ~kPages ? SysResult{Errno::inval} : SysResult{0u};
    return call.process.space->protect(VirtAddr{call.a()}, call.b(), prot_of(call.c()));
}

// --- Time, turns, and waiting.

struct TimeSpec {
    u32 seconds, nanoseconds;
};
constexpr u32 kNanosecondsPerSecond = 1'000'000'000;

// Rounded up; as late as there are numbers if it is later. False: it is none.
bool deadline_of(const TimeSpec& time, u64& until_us) {
    if (time.nanoseconds >= kNanosecondsPerSecond || static_cast<int>(time.seconds) < 0) return false;
    until_us = now_us() + u64{time.seconds} * 1'000'000 + (time.nanoseconds + 999) / 1000;
    return true;
}

SysResult sys_nanosleep(Call& call) {
    TimeSpec time{};
    if (copy_from_user(&time, call.pointer_a(), sizeof time) != 0) return Errno::fault;
    u64 until = 0;
    if (!deadline_of(time, until)) return Errno::inval;
    const Alarm alarm{until};
    while (!alarm.rang()) {
        if (must_stop()) return Errno::intr;
        hal::park();
    }
    return 0u;
}

SysResult sys_sched_yield(Call&) {
    yield();
    return 0u;
}

SysResult sys_futex(Call& call) {
    constexpr u32 kWait = 0, kWake = 1, kPrivate = 128;
    const bool shared = !(call.b() & kPrivate);
    switch (call.b() & ~kPrivate) {
    case kWait: {
        u64 until = kForever;
        if (call.d() != 0) {
            TimeSpec time{};
            if (copy_from_user(&time, call.pointer_d(), sizeof time) != 0) return Errno::fault;
            if (!deadline_of(time, until)) return Errno::inval;
        }
        return futex_wait(call.pointer_a(), call.c(), until, shared);
    }
    case kWake:
        return futex_wake(call.pointer_a(), call.c(), shared);
    default:
        return Errno::nosys;
    }
}

// --- The rest of what a C library asks before it lets main begin.

SysResult sys_set_thread_area(Call& call) {
    UserDescriptor wanted{};
    if (copy_from_user(&wanted, call.pointer_a(), sizeof wanted) != 0) return Errno::fault;
    const bool any = wanted.entry == UserDescriptor::kAny;
    const u32 place = any ? call.thread.tls.free_place() : wanted.entry - TlsDescriptors::kFirstEntry;
    if (place >= TlsDescriptors::kCount) return any ? Errno::srch : Errno::inval;
    TlsDescriptors changed = call.thread.tls;
    if (!changed.set(place, wanted)) return Errno::inval;
    // `entry` is its first word.
    if (any && !put_user<u32>(call.pointer_a(), TlsDescriptors::kFirstEntry + place)) return Errno::fault;
    const IrqGuard same_cpu;
    call.thread.tls = changed;
    load_tls(changed);
    return 0u;
}

SysResult sys_getrandom(Call& call) {
    std::array<u8, 64> bytes;
    const u32 wanted = std::min(call.b(), kMostBytes);
    for (u32 done = 0; done < wanted;) {
        const u32 step = std::min<u32>(wanted - done, bytes.size());
        fill_random({bytes.data(), step});
        if (copy_to_user(call.pointer_a() + done, bytes.data(), step) != 0)
            return done != 0 ? SysResult{done} : SysResult{Errno::fault};
        done += step;
        if (must_stop()) return done;
    }
    return wanted;
}

// How large a stack may grow is all that anybody wants to know; nothing can be changed.
constexpr u32 kStackLimit = 3, kNoLimit = ~0u;
SysResult sys_prlimit64(Call& call) {
    if (call.c() != 0) return Errno::perm;
    if (call.d() == 0) return 0u;
    const u64 limit = call.b() == kStackLimit ? u64{8 * MiB} : ~u64{0};
    const u64 limits[2]{limit, limit};
    if (copy_to_user(call.pointer_d(), limits, sizeof limits) != 0) return Errno::fault;
    return 0u;
}
SysResult sys_ugetrlimit(Call& call) {
    const u32 limit = call.a() == kStackLimit ? 8 * MiB : kNoLimit;
    const u32 limits[2]{limit, limit};
    if (copy_to_user(call.pointer_b(), limits, sizeof limits) != 0) return Errno::fault;
    return 0u;
}

struct Entry {
    u32 number;
    SysResult (*call)(Call&);
};
constexpr Entry kCalls[] = {
    {1, sys_exit},
    {2, sys_fork},
    {3, sys_read},
    {4, sys_write},
    {5, sys_no_entry}, // open
    {6, sys_close},
    {7, sys_waitpid},
    {20, sys_getpid},
    {24, sys_zero},     // getuid
    {33, sys_no_entry}, // access
    {42, sys_pipe},
    {45, sys_brk},
    {47, sys_zero}, // getgid
    {49, sys_zero}, // geteuid
    {50, sys_zero}, // getegid
    {54, sys_ioctl},
    {64, sys_getppid},
    {85, sys_no_entry}, // readlink
    {91, sys_munmap},
    {114, sys_wait4},
    {120, sys_clone},
    {122, sys_uname},
    {125, sys_mprotect},
    {146, sys_writev},
    {158, sys_sched_yield},
    {162, sys_nanosleep},
    {174, sys_zero}, // rt_sigaction
    {175, sys_zero}, // rt_sigprocmask
    {191, sys_ugetrlimit},
    {192, sys_mmap2},
    {197, sys_fstat64},
    {199, sys_zero}, // getuid32
    {200, sys_zero}, // getgid32
    {201, sys_zero}, // geteuid32
    {202, sys_zero}, // getegid32
    {224, sys_gettid},
    {240, sys_futex},
    {243, sys_set_thread_area},
    {252, sys_exit_group},
    {258, sys_set_tid_address},
    {270, sys_tgkill},
    {295, sys_no_entry}, // openat
    {305, sys_no_entry}, // readlinkat
    {340, sys_prlimit64},
    {355, sys_getrandom},
    {383, sys_statx},
};

constexpr u32 kNumbers = 512; // all that Linux has on i386 are below
constexpr auto kTable = [] {
    std::array<SysResult (*)(Call&), kNumbers> table{};
    for (const Entry& entry : kCalls)
        table[entry.number] = entry.call;
    return table;
}();
static_assert(sizeof(Process::unknown_calls) * 8 == kNumbers);

// Once for each: a program that asks all the time must not fill the log.
SysResult unknown_call(Call& call, u32 number) {
    u32& word = call.process.unknown_calls[number % kNumbers / 32];
    const u32 bit = 1u << number % 32;
    if (!(word & bit)) {
        word |= bit;
        log(LogLevel::notice, "user", "{}[{}] asks for system call {}, which there is not: ENOSYS",
            call.process.name_view(), call.process.pid, number);
    }
    return Errno::nosys;
}

} // namespace

void system_call(TrapFrame& frame) {
    UserThread& thread = *current_user_thread();
    Call call{frame, thread, *thread.process};
    const u32 number = frame.eax;
    const bool known = number < kNumbers && kTable[number] != nullptr;
    frame.eax = static_cast<u32>((known ? kTable[number](call) : unknown_call(call, number)).value());
}

} // namespace loft
