// The system calls. Contract: syscalls.hpp. Sources: the man pages (section 2) of the calls.
#include "kernel/programs/syscalls.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/irq/timer.hpp"
#include "kernel/boot/random.hpp"
#include "kernel/programs/call.hpp"
#include "kernel/programs/file_calls.hpp"
#include "kernel/programs/futex.hpp"
#include "kernel/programs/process.hpp"
#include "kernel/threads/clock.hpp"
#include "kernel/threads/scheduler.hpp"
#include "kernel/threads/sleep.hpp"
#include "kernel/tree/file_system.hpp"
#include "mm/spaces/user_copy.hpp"

#include <algorithm>
#include <array>

namespace loft {
namespace {

// --- Exit, fork, clone, wait.

SysResult sys_exit(Call& call) { thread_leave(WaitStatus::exited(call.a())); }

SysResult sys_exit_group(Call& call) {
    process_end(WaitStatus::exited(call.a()));
    return 0u;
}

constexpr u32 kSigChild = static_cast<u32>(Signal::child);
SysResult sys_fork(Call& call) { return process_fork(call.frame, {.exit_signal = kSigChild}); }

SysResult sys_clone(Call& call) {
    constexpr u32 kSignal = 0xff, kVm = 0x100, kFs = 0x200, kFiles = 0x400, kSighand = 0x800, kPtrace = 0x2000,
                  kThread = 0x1'0000, kSysvsem = 0x4'0000, kSetTls = 0x8'0000, kParentSetTid = 0x10'0000,
                  kChildClearTid = 0x20'0000, kDetached = 0x40'0000, kUntraced = 0x80'0000, kChildSetTid = 0x100'0000,
                  kIo = 0x8000'0000;
    // loft has nothing that these would share or trace: they have no effect.
    constexpr u32 kNothing = kPtrace | kSysvsem | kDetached | kUntraced | kIo;
    constexpr u32 kOptions = kNothing | kSetTls | kParentSetTid | kChildClearTid | kChildSetTid | kSignal;
    constexpr u32 kOneProcess = kVm | kFs | kFiles | kSighand | kThread;
    const u32 flags = call.a();
    CloneArguments arguments{.exit_signal = flags & kSignal, .stack = call.b()};
    if (flags & kParentSetTid) arguments.parent_tid = call.pointer_c();
    if (flags & kSetTls) arguments.tls = call.pointer_d();
    if (flags & kChildSetTid) arguments.child_tid = call.pointer_e();
    if (flags & kChildClearTid) arguments.clear_tid = call.pointer_e();
    // A thread shares everything with its creator, a process nothing. No mixtures.
    if ((flags & ~kOptions) == kOneProcess) return process_clone_thread(call.frame, arguments);
    if ((flags & ~kOptions) == 0) return process_fork(call.frame, arguments);
    return Errno::inval;
}

SysResult wait_child(Call& call, UserAddr usage) {
    constexpr u32 kNoHang = 1, kUntraced = 2, kContinued = 8, kNoThread = 0x2000'0000, kAll = 0x4000'0000,
                  kClone = 0x8000'0000;
    constexpr u32 kUsageBytes = 72; // struct rusage; all values are 0
    const u32 options = call.c();
    if (options & ~(kNoHang | kUntraced | kContinued | kNoThread | kAll | kClone)) return Errno::inval;
    const int pid = static_cast<int>(call.a());
    if (call.a() == 0x8000'0000) return Errno::srch; // -pid would overflow
    const WaitFor what = options & kAll ? WaitFor::all : options & kClone ? WaitFor::clones : WaitFor::children;
    // pid 0: any child of the caller's process group; there is only one group.
    const WaitResult result = process_wait_child(pid == 0 ? -1 : pid, what, !(options & kNoHang));
    if (result.pid.failed() || result.pid.value() == 0) return result.pid;
    if (call.b() != 0 && !put_user<u32>(call.pointer_b(), result.status.value())) return Errno::fault;
    if (usage.value() != 0 && clear_user(usage, kUsageBytes) != 0) return Errno::fault;
    return result.pid;
}
SysResult sys_waitpid(Call& call) { return wait_child(call, UserAddr{}); }
SysResult sys_wait4(Call& call) { return wait_child(call, call.pointer_d()); }

// --- Signals.

SysResult sys_tgkill(Call& call) {
    if (static_cast<int>(call.a()) <= 0 || static_cast<int>(call.b()) <= 0) return Errno::inval;
    return signal_thread(call.a(), call.b(), call.c());
}

SysResult sys_tkill(Call& call) {
    return static_cast<int>(call.a()) <= 0 ? SysResult{Errno::inval} : signal_thread({}, call.a(), call.b());
}

constexpr u32 kSignalSetBytes = 8;

SysResult sys_rt_sigaction(Call& call) {
    // kFlags: those that Linux 6.1 knows. Signals 9 and 19 cannot be in a mask.
    constexpr u32 kFlags = 0xdc00'0807;
    constexpr u32 kMask = ~(1u << 8 | 1u << 18);
    if (call.d() != kSignalSetBytes) return Errno::inval;
    SignalAction next{}, before{};
    if (call.b() != 0) {
        if (copy_from_user(&next, call.pointer_b(), sizeof next) != 0) return Errno::fault;
        next.flags &= kFlags;
        next.mask[0] &= kMask;
    }
    const SysResult result = signal_set_action(call.a(), call.b() != 0 ? &next : nullptr, before);
    if (!result.failed() && call.c() != 0 && copy_to_user(call.pointer_c(), &before, sizeof before) != 0)
        return Errno::fault;
    return result;
}

SysResult sys_rt_sigprocmask(Call& call) {
    constexpr u32 kBlock = 0, kUnblock = 1, kSet = 2;
    if (call.d() != kSignalSetBytes) return Errno::inval;
    const u64 before = signal_blocked();
    if (call.b() != 0) {
        u64 set = 0;
        if (copy_from_user(&set, call.pointer_b(), sizeof set) != 0) return Errno::fault;
        if (call.a() > kSet) return Errno::inval;
        signal_set_blocked(call.a() == kBlock ? before | set : call.a() == kUnblock ? before & ~set : set);
    }
    if (call.c() != 0 && copy_to_user(call.pointer_c(), &before, sizeof before) != 0) return Errno::fault;
    return 0u;
}

// --- Identity.

SysResult sys_getpid(Call& call) { return call.process.pid; }
SysResult sys_gettid(Call& call) { return call.thread.tid; }
SysResult sys_getppid(Call&) { return parent_pid(); }
SysResult sys_zero(Call&) { return 0u; } // user and group 0 (root)

SysResult sys_set_tid_address(Call& call) {
    call.thread.clear_tid = call.pointer_a();
    return call.thread.tid;
}

SysResult sys_uname(Call& call) {
    struct Names {
        char text[6][65];
    };
    Names names{};
    // C libraries check the release; these calls are those of Linux 6.1.
    constexpr std::string_view kTexts[6] = {"Linux", "loft", "6.1.0-loft", "loft", "i686", "(none)"};
    for (u32 i = 0; i < 6; ++i)
        std::copy(kTexts[i].begin(), kTexts[i].end(), names.text[i]);
    if (copy_to_user(call.pointer_a(), &names, sizeof names) != 0) return Errno::fault;
    return 0u;
}

// --- Files.

// Checks the buffer of a read or write as Linux does; 0: valid.
SysResult check_range(UserAddr at, u32 bytes) {
    if (!in_reach(at, bytes)) return Errno::fault;
    return is_negative(bytes) ? SysResult{Errno::inval} : SysResult{0u};
}

SysResult sys_read(Call& call) {
    const OpenFile file{call.process, call.a()};
    if (!file || !file->may_read()) return Errno::badf;
    const SysResult range = check_range(call.pointer_b(), call.c());
    if (range.failed()) return range;
    return file->read(call.pointer_b(), std::min(call.c(), kMostBytes));
}

SysResult sys_write(Call& call) {
    const OpenFile file{call.process, call.a()};
    if (!file || !file->may_write()) return Errno::badf;
    const SysResult range = check_range(call.pointer_b(), call.c());
    if (range.failed()) return range;
    ByteSource source{call.pointer_b(), std::min(call.c(), kMostBytes)};
    return file->write(source);
}

// Checks a whole list before any of it is used. Returns the sum of the sizes, at most kMostBytes.
SysResult check_list(UserAddr list, u32 pieces) {
    bool negative = false, out_of_reach = false;
    u32 sum = 0;
    for (u32 i = 0; i < pieces; ++i) {
        UserPiece piece;
        if (copy_from_user(&piece, list + i * u32{sizeof piece}, sizeof piece) != 0) return Errno::fault;
        negative = negative || is_negative(piece.bytes);
        out_of_reach = out_of_reach || !in_reach(UserAddr{piece.base}, piece.bytes);
        sum += std::min(piece.bytes, kMostBytes - sum);
    }
    return negative ? SysResult{Errno::inval} : out_of_reach ? SysResult{Errno::fault} : SysResult{sum};
}

SysResult sys_writev(Call& call) {
    constexpr u32 kMostPieces = 1024;
    const OpenFile file{call.process, call.a()};
    if (!file) return Errno::badf;
    if (call.c() > kMostPieces) return Errno::inval;
    const SysResult sum = check_list(call.pointer_b(), call.c());
    if (sum.failed()) return sum;
    if (!file->may_write()) return Errno::badf;
    ByteSource source = ByteSource::of_list(call.pointer_b(), call.c(), static_cast<u32>(sum.value()));
    return file->write(source);
}

// The bytes of pread64 and pwrite64 end behind the greatest offset. Linux's check of a range (fs/read_write.c): EINVAL.
bool ends_too_far(u64 offset, u32 bytes) { return (offset + bytes) >> 63 != 0; }

SysResult sys_pread64(Call& call) {
    const OpenFile file{call.process, call.a()};
    if (is_negative(call.e())) return Errno::inval;
    if (!file) return Errno::badf;
    if (!file->has_offsets()) return Errno::spipe;
    if (!file->may_read()) return Errno::badf;
    const SysResult range = check_range(call.pointer_b(), call.c());
    if (range.failed()) return range;
    if (ends_too_far(wide(call.d(), call.e()), call.c())) return Errno::inval;
    return file->read_at(wide(call.d(), call.e()), call.pointer_b(), std::min(call.c(), kMostBytes));
}

SysResult sys_pwrite64(Call& call) {
    const OpenFile file{call.process, call.a()};
    if (is_negative(call.e())) return Errno::inval;
    if (!file) return Errno::badf;
    if (!file->has_offsets()) return Errno::spipe;
    if (!file->may_write()) return Errno::badf;
    const SysResult range = check_range(call.pointer_b(), call.c());
    if (range.failed()) return range;
    if (ends_too_far(wide(call.d(), call.e()), call.c())) return Errno::inval;
    ByteSource source{call.pointer_b(), std::min(call.c(), kMostBytes)};
    return file->write_at(wide(call.d(), call.e()), source);
}

// sendfile(2), to a's file from b's, d bytes. `position`: where in b's file to begin, and then where it has ended;
// null: the position of that open file, which moves. `end`: the first offset that is too large.
SysResult send_file(Call& call, u64* position, u64 end) {
    const OpenFile in{call.process, call.b()};
    if (!in || !in->may_read()) return Errno::badf;
    if (position != nullptr && !in->has_offsets()) return Errno::spipe;
    u64 begin = position != nullptr ? *position : 0;
    // What has no position has no pages either: send_at refuses it.
    if (position == nullptr) static_cast<void>(in->seek(0, Whence::current, begin));
    if (is_negative(call.d()) || begin >> 63 || (begin + call.d()) >> 63) return Errno::inval;
    const OpenFile out{call.process, call.a()};
    if (!out || !out->may_write()) return Errno::badf;
    if (begin >= end && begin + call.d() > end) return Errno::overflow;
    if (out->appends()) return Errno::inval;
    const u32 bytes = static_cast<u32>(std::min<u64>({call.d(), kMostBytes, end - begin}));
    // A pipe without room, or without a reader, is told before anything else, as Linux does since 5.12.
    const SysResult ready = out->wait_for_room(std::clamp(bytes, 1u, kPipeAtomic));
    const SysResult sent = ready.failed() ? ready : in->send_at(begin, *out.get(), bytes);
    if (sent.failed()) return sent;
    begin += static_cast<u32>(sent.value());
    if (position != nullptr)
        *position = begin;
    else
        static_cast<void>(in->seek(static_cast<i64>(begin), Whence::begin, begin));
    return sent;
}

// The offset in the program's memory is read before all checks, and written after every result, errors included, as
// Linux does.
template <typename Offset> SysResult send_file_at(Call& call, u64 end) {
    Offset offset{};
    if (call.c() == 0) return send_file(call, nullptr, MemoryObject::kMaxBytes);
    if (copy_from_user(&offset, call.pointer_c(), sizeof offset) != 0) return Errno::fault;
    u64 position = static_cast<u64>(i64{offset});
    const SysResult sent = send_file(call, &position, end);
    offset = static_cast<Offset>(position);
    return copy_to_user(call.pointer_c(), &offset, sizeof offset) != 0 ? SysResult{Errno::fault} : sent;
}
SysResult sys_sendfile(Call& call) { return send_file_at<int>(call, 0x7fff'ffff); }
SysResult sys_sendfile64(Call& call) { return send_file_at<i64>(call, MemoryObject::kMaxBytes); }

SysResult seek(Call& call, i64 offset, u32 whence, u64& position) {
    const OpenFile file{call.process, call.a()};
    if (!file) return Errno::badf;
    if (whence > 4) return Errno::inval; // up to SEEK_HOLE
    if (!file->has_offsets()) return Errno::spipe;
    const bool has_data = file->inode() != nullptr && file->inode()->kind() == InodeKind::file;
    if (whence > 2 && !has_data) return Errno::inval;
    const Errno error = file->seek(offset, static_cast<Whence>(whence), position);
    return error == Errno{} ? SysResult{0u} : SysResult{error};
}

SysResult sys_lseek(Call& call) {
    u64 position = 0;
    const SysResult result = seek(call, static_cast<int>(call.b()), call.c(), position);
    if (result.failed()) return result;
    // The position has moved all the same, as on Linux.
    return position > 0x7fff'ffff ? SysResult{Errno::overflow} : SysResult{static_cast<u32>(position)};
}

SysResult sys_llseek(Call& call) {
    u64 position = 0;
    const SysResult result = seek(call, static_cast<i64>(wide(call.c(), call.b())), call.e(), position);
    if (result.failed()) return result;
    return copy_to_user(call.pointer_d(), &position, sizeof position) != 0 ? Errno::fault : SysResult{0u};
}

SysResult sys_close(Call& call) {
    if (!call.process.files.close(call.a())) return Errno::badf;
    return 0u;
}

constexpr u32 kNonBlock = 04000, kCloseOnExec = 02000000;

SysResult new_pipe(Call& call, u32 flags) {
    PipeEnds ends;
    if (!make_pipe(ends)) return Errno::nomem;
    ends.read->set_nonblocking(flags & kNonBlock);
    ends.write->set_nonblocking(flags & kNonBlock);
    FileTable& files = call.process.files;
    // Both descriptors are reserved, and opened only after they were written to user memory.
    u32 numbers[2]{files.reserve(), FileTable::kMost};
    if (numbers[0] != FileTable::kMost) numbers[1] = files.reserve();
    const bool full = numbers[1] == FileTable::kMost;
    if (!full && copy_to_user(call.pointer_a(), numbers, sizeof numbers) == 0) {
        files.open(numbers[0], ends.read);
        files.open(numbers[1], ends.write);
        return 0u;
    }
    for (const u32 number : numbers)
        if (number != FileTable::kMost) files.cancel(number);
    ends.read->release();
    ends.write->release();
    return full ? Errno::mfile : Errno::fault;
}
SysResult sys_pipe(Call& call) { return new_pipe(call, 0); }

// There is no exec, so kCloseOnExec has no effect.
SysResult sys_pipe2(Call& call) {
    constexpr u32 kNotification = 0200; // the answer of a Linux without watch queues
    if (call.b() & ~(kNonBlock | kCloseOnExec | kNotification)) return Errno::inval;
    if (call.b() & kNotification) return Errno::nopkg;
    return new_pipe(call, call.b());
}

SysResult sys_ioctl(Call& call) {
    constexpr u32 kNonBlocking = 0x5421, kNoCloseOnExec = 0x5450, kCloseOnExec = 0x5451, kReadable = 0x541b;
    const OpenFile file{call.process, call.a()};
    if (!file) return Errno::badf;
    switch (call.b()) {
    case kCloseOnExec:
    case kNoCloseOnExec:
        return 0u;
    case kNonBlocking: {
        const Result<u32> on = get_user<u32>(call.pointer_c());
        if (!on) return Errno::fault;
        file->set_nonblocking(*on != 0);
        return 0u;
    }
    case kReadable: {
        const SysResult bytes = file->readable_bytes();
        if (bytes.failed()) return bytes;
        return SysResult{put_user<u32>(call.pointer_c(), static_cast<u32>(bytes.value()))};
    }
    default:
        return Errno::notty;
    }
}

// --- Memory.

constexpr u32 kPages = ~(kPageSize - 1);

Prot prot_of(const Process& process, u32 bits) {
    constexpr u32 kRead = 1, kWrite = 2, kExec = 4;
    Prot prot = Prot::none;
    if (bits & kRead) prot = prot | Prot::read;
    if ((bits & kRead) && process.read_exec) prot = prot | Prot::exec;
    if (bits & kWrite) prot = prot | Prot::write;
    if (bits & kExec) prot = prot | Prot::exec;
    return prot;
}

SysResult sys_brk(Call& call) {
    if (const Result<VirtAddr> end = call.process.space->brk(VirtAddr{call.a()})) return end->value();
    return call.process.space->brk(VirtAddr{}).value_or(VirtAddr{}).value(); // the current end
}

// mmap(2), MAP_POPULATE: missing memory is no error.
void populate(VirtAddr begin, u32 bytes, Prot prot) {
    constexpr u32 kStep = MiB;
    for (u32 done = 0; done < bytes && !must_stop(); done += kStep) {
        const UserAddr at{begin.value() + done};
        const u32 step = std::min(bytes - done, kStep);
        const u32 left = has(prot, Prot::write) ? fault_in_writeable(at, step) : fault_in_readable(at, step);
        if (left != 0) return;
    }
}

// Anonymous memory, private or shared with forked processes, or pages of a file. Order of the checks as on Linux.
SysResult sys_mmap2(Call& call) {
    constexpr u32 kWrite = 2, kShared = 1, kPrivate = 2, kSharedValidate = 3, kType = 0xf, kFixed = 0x10,
                  kAnonymous = 0x20, kGrowsDown = 0x100, kLocked = 0x2000, kPopulate = 0x8000, kNonBlock = 0x1'0000,
                  kHuge = 0x4'0000, kNoReplace = 0x10'0000;
    // What MAP_SHARED_VALIDATE accepts: the flags of Linux before it, MAP_FIXED_NOREPLACE is not one of them.
    constexpr u32 kKnown = 0x7c07'f973;
    const u32 flags = call.d(), where = call.a(), bytes = call.b(), type = flags & kType;
    const bool anonymous = flags & kAnonymous, fixed = flags & (kFixed | kNoReplace);
    const OpenFile file{call.process, anonymous ? FileTable::kMost : call.e()};
    if (!anonymous && !file) return Errno::badf;
    if (bytes == 0) return Errno::inval;
    const u32 length = round_up(bytes, kPageSize);
    if (length == 0) return Errno::nomem; // the sum overflowed
    if (call.f() + (length >> kPageShift) < call.f()) return Errno::overflow;
    if (length > layout::kUserEnd || (fixed && where > layout::kUserEnd - length)) return Errno::nomem;
    if (fixed && (where & ~kPages)) return Errno::inval;
    MemoryObject* const object = anonymous ? nullptr : file->object();
    if (object != nullptr && call.f() > PageIndex::kMaxPages - (length >> kPageShift)) return Errno::overflow;
    const bool validated = type == kSharedValidate && !anonymous;
    if (validated && (flags & ~kKnown)) return Errno::notsup;
    if (type != kShared && type != kPrivate && !validated) return Errno::inval;
    const bool shared = type != kPrivate;
    if (!anonymous) {
        if (!file->may_read()) return Errno::acces;
        if (shared && (call.c() & kWrite) && !file->may_write()) return Errno::acces;
        if (object == nullptr) return Errno::nodev;
        if (flags & kGrowsDown) return Errno::inval;
        if (shared && (call.c() & kWrite) && object->is_frozen()) return Errno::txtbsy;
    }
    if ((flags & kGrowsDown) && shared) return Errno::inval;
    if (flags & kHuge) return Errno::nomem;            // no huge pages, as on Linux by default
    const Prot prot = prot_of(call.process, call.c()); // mmap(2): other bits are ignored
    const MapKind kind = shared ? MapKind::shared : flags & kGrowsDown ? MapKind::grows : MapKind::anonymous;
    const Backing backing{object, object != nullptr ? call.f() : 0, anonymous || file->may_write(),
                          (flags & kLocked) != 0};
    const Result<VirtAddr> area =
        call.process.space->map(VirtAddr{where & kPages}, length, prot, kind, fixed, !(flags & kNoReplace), backing);
    if (!area) {
        if (area.error() == Error::busy) return Errno::exist;
        return area.error() == Error::no_access ? Errno::perm : errno_of(area.error());
    }
    // Locked memory is populated; its pages are not paged out afterwards.
    if ((flags & kLocked) || (flags & (kPopulate | kNonBlock)) == kPopulate) populate(*area, length, prot);
    return area->value();
}

// msync(2). MS_ASYNC does nothing, as on Linux: dirty pages are written from time to time anyway.
SysResult sys_msync(Call& call) {
    constexpr u32 kAsync = 1, kInvalidate = 2, kSync = 4;
    const u32 begin = call.a(), flags = call.c();
    if ((flags & ~(kAsync | kInvalidate | kSync)) || (flags & (kAsync | kSync)) == (kAsync | kSync))
        return Errno::inval;
    if (begin & ~kPages) return Errno::inval;
    const u32 length = round_up(call.b(), kPageSize);
    if (begin + length < begin || begin + length > layout::kUserEnd) return Errno::nomem;
    for (ReclaimRounds rounds{Reclaimer::program};;) {
        const Status status = call.process.space->sync({begin, begin + length}, flags & kSync);
        if (status || status.error() != Error::no_memory || !rounds.another()) return SysResult{status};
    }
}

SysResult sys_munmap(Call& call) { return call.process.space->unmap(VirtAddr{call.a()}, call.b()); }

SysResult sys_mprotect(Call& call) {
    constexpr u32 kAll = 7, kSemaphores = 8, kGrowsDown = 0x0100'0000, kGrowsUp = 0x0200'0000;
    const u32 begin = call.a(), bytes = call.b(), grows = call.c() & (kGrowsDown | kGrowsUp), prot = call.c() & ~grows;
    if (grows == (kGrowsDown | kGrowsUp) || (begin & ~kPages)) return Errno::inval;
    if (bytes == 0) return 0u;
    const u32 length = round_up(bytes, kPageSize);
    if (begin + length <= begin) return Errno::nomem; // the sum overflowed
    if (prot & ~(kAll | kSemaphores)) return Errno::inval;
    if (!layout::is_user_range(UserAddr{begin}, length)) return Errno::nomem;
    const Prot wanted = prot_of(call.process, prot);
    if (grows != kGrowsUp) return call.process.space->protect(VirtAddr{begin}, length, wanted, grows != 0);
    return Errno::inval; // no area grows up
}

// --- Time, sleeping, yielding, futexes.

constexpr u32 kNanosecondsPerSecond = 1'000'000'000, kNanosecondsPerMicrosecond = 1000;
constexpr u64 kMicrosecondsPerSecond = 1'000'000;

// struct timespec with 32-bit or 64-bit fields; with 64 bits, the upper half of the nanoseconds is padding.
struct TimeSpec {
    u32 seconds, nanoseconds;
};
struct TimeSpec64 {
    u64 seconds;
    u32 nanoseconds, padding;
};

// Converts to microseconds, rounded up; times beyond kMost become kMost. Errors: fault, inval; 0: success.
SysResult microseconds_of(u64 seconds, u32 nanoseconds, u64& us) {
    if (nanoseconds >= kNanosecondsPerSecond || static_cast<long long>(seconds) < 0) return Errno::inval;
    constexpr u64 kMost = kForever / 4;
    us = seconds >= kMost / kMicrosecondsPerSecond
             ? kMost
             : seconds * kMicrosecondsPerSecond +
                   (nanoseconds + kNanosecondsPerMicrosecond - 1) / kNanosecondsPerMicrosecond;
    return 0u;
}
template <typename Spec> SysResult read_time(UserAddr from, u64& us) {
    Spec time{};
    if (copy_from_user(&time, from, sizeof time) != 0) return Errno::fault;
    if constexpr (sizeof(time.seconds) == sizeof(u32))
        return microseconds_of(static_cast<u64>(static_cast<int>(time.seconds)), time.nanoseconds, us);
    else
        return microseconds_of(time.seconds, time.nanoseconds, us);
}
template <typename Spec> SysResult write_time(UserAddr to, u64 us) {
    Spec time{};
    time.seconds = static_cast<decltype(time.seconds)>(us / kMicrosecondsPerSecond);
    time.nanoseconds = static_cast<u32>(us % kMicrosecondsPerSecond) * kNanosecondsPerMicrosecond;
    return copy_to_user(to, &time, sizeof time) == 0 ? SysResult{0u} : SysResult{Errno::fault};
}

// Clocks: the date, and the time since boot. Neither is ever set or slewed, and the machine never suspends, so all of
// Linux's clocks of one kind are the same. CPU time of threads and processes is not counted.
enum class Clock : u8 { none, date, boot, date_no_sleep, boot_no_sleep }; // _no_sleep: not valid for clock_nanosleep(2)
Clock clock_of(u32 id) {
    constexpr u32 kRealtime = 0, kMonotonic = 1, kMonotonicRaw = 4, kRealtimeCoarse = 5, kMonotonicCoarse = 6,
                  kBoottime = 7, kRealtimeAlarm = 8, kBoottimeAlarm = 9, kTai = 11;
    switch (id) {
    case kRealtime:
    case kRealtimeAlarm:
    case kTai:
        return Clock::date;
    case kMonotonic:
    case kBoottime:
    case kBoottimeAlarm:
        return Clock::boot;
    case kRealtimeCoarse:
        return Clock::date_no_sleep;
    case kMonotonicRaw:
    case kMonotonicCoarse:
        return Clock::boot_no_sleep;
    default:
        return Clock::none;
    }
}
constexpr bool has_date(Clock clock) { return clock == Clock::date || clock == Clock::date_no_sleep; }
u64 read_clock(Clock clock) { return now_us() + (has_date(clock) ? boot_date_us() : 0); }

// Converts a time of `clock` to one of now_us().
u64 deadline_of(Clock clock, u64 us) {
    const u64 begin = has_date(clock) ? boot_date_us() : 0;
    return us > begin ? us - begin : 0;
}

template <typename Spec> SysResult clock_gettime(Call& call) {
    const Clock clock = clock_of(call.a());
    if (clock == Clock::none) return Errno::inval;
    return write_time<Spec>(call.pointer_b(), read_clock(clock));
}
template <typename Spec> SysResult clock_getres(Call& call) {
    if (clock_of(call.a()) == Clock::none) return Errno::inval;
    return call.b() == 0 ? SysResult{0u} : write_time<Spec>(call.pointer_b(), 1);
}

SysResult sleep_until(u64 until_us) {
    if (until_us <= now_us()) return 0u;
    const Alarm alarm{until_us};
    while (!alarm.rang()) {
        if (must_stop()) return Errno::intr; // the process ends, so the remaining time is not reported
        hal::park();
    }
    return 0u;
}

template <typename Spec> SysResult clock_nanosleep(Call& call) {
    constexpr u32 kAbsolute = 1;
    const Clock clock = clock_of(call.a());
    if (clock == Clock::none) return Errno::inval;
    if (clock != Clock::date && clock != Clock::boot) return Errno::notsup;
    u64 us = 0;
    const SysResult result = read_time<Spec>(call.pointer_c(), us);
    if (result.failed()) return result;
    return sleep_until(call.b() & kAbsolute ? deadline_of(clock, us) : now_us() + us);
}

SysResult sys_nanosleep(Call& call) {
    u64 us = 0;
    const SysResult result = read_time<TimeSpec>(call.pointer_a(), us);
    return result.failed() ? result : sleep_until(now_us() + us);
}

SysResult sys_time(Call& call) {
    const u32 seconds = static_cast<u32>(read_clock(Clock::date) / kMicrosecondsPerSecond);
    if (call.a() != 0 && !put_user(call.pointer_a(), seconds)) return Errno::fault;
    return seconds;
}

SysResult sys_gettimeofday(Call& call) {
    const u64 us = read_clock(Clock::date);
    const u32 time[2]{static_cast<u32>(us / kMicrosecondsPerSecond), static_cast<u32>(us % kMicrosecondsPerSecond)};
    constexpr u32 kZone[2]{}; // UTC
    if (call.a() != 0 && copy_to_user(call.pointer_a(), time, sizeof time) != 0) return Errno::fault;
    if (call.b() != 0 && copy_to_user(call.pointer_b(), kZone, sizeof kZone) != 0) return Errno::fault;
    return 0u;
}

SysResult sys_sched_yield(Call&) {
    yield();
    return 0u;
}

// There is no priority inheritance: its operations return ENOSYS.
template <typename Spec> SysResult futex(Call& call) {
    constexpr u32 kWait = 0, kWake = 1, kRequeue = 3, kCmpRequeue = 4, kWakeOp = 5, kWaitBits = 9, kWakeBits = 10,
                  kPrivate = 128, kRealtime = 256;
    const UserAddr word = call.pointer_a();
    const u32 operation = call.b() & ~(kPrivate | kRealtime);
    const bool shared = !(call.b() & kPrivate), date = call.b() & kRealtime;
    const int count = static_cast<int>(call.c());
    u64 until = kForever;
    if ((operation == kWait || operation == kWaitBits) && call.d() != 0) {
        u64 us = 0;
        const SysResult result = read_time<Spec>(call.pointer_d(), us);
        if (result.failed()) return result;
        until = operation == kWait ? now_us() + us : deadline_of(date ? Clock::date : Clock::boot, us);
    }
    if (date && operation != kWaitBits) return Errno::nosys;
    switch (operation) {
    case kWait:
        return futex_wait(word, call.c(), until, shared);
    case kWaitBits:
        return futex_wait(word, call.c(), until, shared, call.f());
    case kWake:
        return futex_wake(word, count, shared);
    case kWakeBits:
        return futex_wake(word, count, shared, call.f());
    case kRequeue:
        return futex_requeue(word, call.pointer_e(), count, static_cast<int>(call.d()), shared, nullptr);
    case kCmpRequeue: {
        const u32 expected = call.f();
        return futex_requeue(word, call.pointer_e(), count, static_cast<int>(call.d()), shared, &expected);
    }
    case kWakeOp:
        return futex_wake_op(word, call.pointer_e(), count, static_cast<int>(call.d()), call.f(), shared);
    default:
        return Errno::nosys;
    }
}

// --- Other calls that a C library makes before main.

SysResult sys_set_thread_area(Call& call) {
    UserDescriptor wanted{};
    if (copy_from_user(&wanted, call.pointer_a(), sizeof wanted) != 0) return Errno::fault;
    TlsDescriptors changed = call.thread.tls;
    if (!changed.set(0, wanted)) return Errno::inval; // inval, whatever entry was asked for
    changed = call.thread.tls;
    const bool any = wanted.entry == UserDescriptor::kAny;
    const u32 place = any ? changed.free_place() : wanted.entry - TlsDescriptors::kFirstEntry;
    if (place >= TlsDescriptors::kCount) return any ? Errno::srch : Errno::inval;
    static_cast<void>(changed.set(place, wanted));
    // `entry` is the first word of the structure.
    if (any && !put_user<u32>(call.pointer_a(), TlsDescriptors::kFirstEntry + place)) return Errno::fault;
    const IrqGuard same_cpu;
    call.thread.tls = changed;
    load_tls(changed);
    return 0u;
}

SysResult sys_getrandom(Call& call) {
    constexpr u32 kNonBlock = 1, kRandom = 2, kInsecure = 4;
    if ((call.c() & ~(kNonBlock | kRandom | kInsecure)) || (call.c() & (kRandom | kInsecure)) == (kRandom | kInsecure))
        return Errno::inval;
    std::array<u8, 64> bytes;
    const u32 wanted = std::min(call.b(), kMostBytes);
    if (!in_reach(call.pointer_a(), wanted)) return Errno::fault;
    for (u32 done = 0; done < wanted;) {
        const u32 step = std::min<u32>(wanted - done, bytes.size());
        fill_random({bytes.data(), step});
        const u32 left = copy_to_user(call.pointer_a() + done, bytes.data(), step);
        done += step - left;
        if (left != 0) return done != 0 ? SysResult{done} : SysResult{Errno::fault};
        if (must_stop()) return done;
    }
    return wanted;
}

// Resource limits: stack size and number of descriptors. They cannot be changed.
constexpr u32 kResources = 16, kStackResource = 3, kFilesResource = 7, kNoLimit = ~0u;
u32 limit_of(u32 resource) {
    return resource == kStackResource ? 8 * MiB : resource == kFilesResource ? FileTable::kMost : kNoLimit;
}

SysResult sys_prlimit64(Call& call) {
    u64 next[2]{};
    if (call.c() != 0 && copy_from_user(next, call.pointer_c(), sizeof next) != 0) return Errno::fault;
    if (call.a() != 0 && call.a() != call.process.pid) return Errno::srch; // no other process
    if (call.b() >= kResources) return Errno::inval;
    const u32 limit = limit_of(call.b());
    const u64 wide = limit == kNoLimit ? ~u64{0} : limit;
    const u64 limits[2]{wide, wide};
    if (call.c() != 0) {
        if (next[0] > next[1]) return Errno::inval;
        if (next[0] != wide || next[1] != wide) return Errno::perm;
    }
    if (call.d() != 0 && copy_to_user(call.pointer_d(), limits, sizeof limits) != 0) return Errno::fault;
    return 0u;
}
SysResult sys_ugetrlimit(Call& call) {
    if (call.a() >= kResources) return Errno::inval;
    const u32 limits[2]{limit_of(call.a()), limit_of(call.a())};
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
    {5, sys_open},
    {6, sys_close},
    {7, sys_waitpid},
    {8, sys_creat},
    {9, sys_link},
    {10, sys_unlink},
    {12, sys_chdir},
    {13, sys_time},
    {15, sys_chmod},
    {16, sys_lchown16},
    {18, sys_oldstat},
    {19, sys_lseek},
    {20, sys_getpid},
    {24, sys_zero}, // getuid
    {28, sys_oldfstat},
    {30, sys_utime},
    {33, sys_access},
    {36, sys_sync},
    {38, sys_rename},
    {39, sys_mkdir},
    {40, sys_rmdir},
    {42, sys_pipe},
    {45, sys_brk},
    {47, sys_zero}, // getgid
    {49, sys_zero}, // geteuid
    {50, sys_zero}, // getegid
    {54, sys_ioctl},
    {60, sys_umask},
    {64, sys_getppid},
    {78, sys_gettimeofday},
    {83, sys_symlink},
    {84, sys_oldlstat},
    {85, sys_readlink},
    {87, sys_swapon},
    {91, sys_munmap},
    {92, sys_truncate},
    {93, sys_ftruncate},
    {94, sys_fchmod},
    {95, sys_fchown16},
    {99, sys_statfs},
    {100, sys_fstatfs},
    {106, sys_stat},
    {107, sys_lstat},
    {108, sys_fstat},
    {114, sys_wait4},
    {115, sys_swapoff},
    {118, sys_fsync},
    {120, sys_clone},
    {122, sys_uname},
    {125, sys_mprotect},
    {133, sys_fchdir},
    {140, sys_llseek},
    {141, sys_getdents},
    {144, sys_msync},
    {146, sys_writev},
    {148, sys_fsync}, // fdatasync
    {158, sys_sched_yield},
    {162, sys_nanosleep},
    {174, sys_rt_sigaction},
    {175, sys_rt_sigprocmask},
    {180, sys_pread64},
    {181, sys_pwrite64},
    {182, sys_chown16},
    {183, sys_getcwd},
    {187, sys_sendfile},
    {191, sys_ugetrlimit},
    {192, sys_mmap2},
    {193, sys_truncate64},
    {194, sys_ftruncate64},
    {195, sys_stat64},
    {196, sys_lstat64},
    {197, sys_fstat64},
    {198, sys_lchown},
    {199, sys_zero}, // getuid32
    {200, sys_zero}, // getgid32
    {201, sys_zero}, // geteuid32
    {202, sys_zero}, // getegid32
    {207, sys_fchown},
    {212, sys_chown},
    {220, sys_getdents64},
    {224, sys_gettid},
    {238, sys_tkill},
    {239, sys_sendfile64},
    {240, futex<TimeSpec>},
    {243, sys_set_thread_area},
    {252, sys_exit_group},
    {258, sys_set_tid_address},
    {265, clock_gettime<TimeSpec>},
    {266, clock_getres<TimeSpec>},
    {267, clock_nanosleep<TimeSpec>},
    {268, sys_statfs64},
    {269, sys_fstatfs64},
    {270, sys_tgkill},
    {271, sys_utimes},
    {295, sys_openat},
    {296, sys_mkdirat},
    {298, sys_fchownat},
    {299, sys_futimesat},
    {300, sys_fstatat64},
    {301, sys_unlinkat},
    {302, sys_renameat},
    {303, sys_linkat},
    {304, sys_symlinkat},
    {305, sys_readlinkat},
    {306, sys_fchmodat},
    {307, sys_faccessat},
    {320, sys_utimensat},
    {331, sys_pipe2},
    {340, sys_prlimit64},
    {344, sys_syncfs},
    {353, sys_renameat2},
    {355, sys_getrandom},
    {383, sys_statx},
    {403, clock_gettime<TimeSpec64>},
    {406, clock_getres<TimeSpec64>},
    {407, clock_nanosleep<TimeSpec64>},
    {412, sys_utimensat_time64},
    {422, futex<TimeSpec64>},
    {439, sys_faccessat2},
};

constexpr u32 kNumbers = 512; // above all of Linux's numbers on i386
constexpr auto kTable = [] {
    std::array<SysResult (*)(Call&), kNumbers> table{};
    for (const Entry& entry : kCalls)
        table[entry.number] = entry.call;
    return table;
}();
static_assert(sizeof(Process::unknown_calls) * 8 == kNumbers);

// Logs each unknown number once per process, so that a program cannot flood the log.
SysResult unknown_call(Call& call, u32 number) {
    u32& word = call.process.unknown_calls[number % kNumbers / 32];
    const u32 bit = 1u << number % 32;
    if (!(word & bit)) {
        word |= bit;
        log(LogLevel::notice, "user", "{}[{}] calls system call {}, which is not implemented: ENOSYS",
            call.process.name_view(), call.process.pid, number);
    }
    return Errno::nosys;
}

} // namespace

u32 file_time() { return static_cast<u32>((boot_date_us() + now_us()) / kMicrosecondsPerSecond); }

void system_call(TrapFrame& frame) {
    UserThread& thread = *current_user_thread();
    Call call{frame, thread, *thread.process};
    const u32 number = frame.eax;
    const bool known = number < kNumbers && kTable[number] != nullptr;
    frame.eax = static_cast<u32>((known ? kTable[number](call) : unknown_call(call, number)).value());
}

} // namespace loft
