// System calls on what an inode is: stat, statfs, access; and chmod, chown, utime. Contract: file_calls.hpp.
#include "kernel/programs/file_calls.hpp"
#include "kernel/programs/user_path.hpp"
#include "mm/spaces/user_copy.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace loft {
namespace {

// --- What stat says.

struct Stat {
    InodeStat inode;
    u32 system = 0; // the id of its file system, as the number of a device
};

Stat stat_of(Inode& inode) { return {inode.system().stat(inode), inode.system().id()}; }

// Of files without an inode. The console is a character device: for such a file a C library buffers output by lines.
InodeStat stat_of(FileKind kind) {
    constexpr auto device = [](u32 major, u32 minor) { return major << 8 | minor; };
    switch (kind) {
    case FileKind::console:
        return {.mode = 0020'620, .links = 1, .device = device(5, 1)};
    case FileKind::pipe:
        return {.mode = 0010'600, .links = 1};
    case FileKind::disk:
        return {.mode = 0060'660, .links = 1, .device = device(3, 0)};
    case FileKind::inode:
        break;
    }
    return {};
}

Stat stat_of(File& file) {
    if (Inode* const inode = file.inode()) return stat_of(*inode);
    return {stat_of(file.stat().kind)};
}

// What a path names; an empty one, if that is allowed, the open file `directory`, or the current directory.
Errno stat_at(Call& call, u32 directory, UserAddr name, bool follow, bool may_be_empty, Stat& stat) {
    UserPath path{call, directory, name, may_be_empty};
    if (is_error(path.error())) return path.error();
    if (path.disk() != nullptr) {
        stat = {stat_of(FileKind::disk)};
        return Errno{};
    }
    Node inode;
    if (path.is_empty() && directory != kHere) {
        const OpenFile file{call.process, directory};
        if (!file) return Errno::badf;
        stat = stat_of(*file.get());
        return Errno{};
    }
    if (const Errno error = path.find(follow, inode); is_error(error)) return error;
    stat = stat_of(*inode);
    return Errno{};
}

// --- The layouts of stat(2), oldest first.

constexpr u32 kMostOldBytes = 0x7fff'ffff;
constexpr bool fits_16(u32 number) { return number <= 0xffff; }
constexpr u32 pair(u32 low, u32 high) { return (low & 0xffff) | high << 16; }
// An id that does not fit is told as 65534, that of nobody: its low half may be that of another user, or root's.
constexpr u32 owner_16(const InodeStat& inode) {
    const auto cut = [](u32 id) { return fits_16(id) ? id : 65534u; };
    return pair(cut(inode.uid), cut(inode.gid));
}

template <typename T> SysResult give(UserAddr to, const T& what) {
    return copy_to_user(to, &what, sizeof what) != 0 ? Errno::fault : SysResult{0u};
}

SysResult write_oldest_stat(UserAddr to, const Stat& about) { // struct __old_kernel_stat
    const InodeStat& inode = about.inode;
    if (!fits_16(inode.number) || !fits_16(inode.links) || inode.bytes > kMostOldBytes) return Errno::overflow;
    return give(to, std::array<u32, 8>{pair(about.system, inode.number), pair(inode.mode, inode.links), owner_16(inode),
                                       inode.device & 0xffff, static_cast<u32>(inode.bytes), inode.atime, inode.mtime,
                                       inode.ctime});
}

SysResult write_old_stat(UserAddr to, const Stat& about) { // struct stat
    const InodeStat& inode = about.inode;
    if (!fits_16(inode.links) || inode.bytes > kMostOldBytes) return Errno::overflow;
    std::array<u32, 16> stat{};
    stat[0] = about.system;
    stat[1] = inode.number;
    stat[2] = pair(inode.mode, inode.links);
    stat[3] = owner_16(inode);
    stat[4] = inode.device;
    stat[5] = static_cast<u32>(inode.bytes);
    stat[6] = inode.block_bytes;
    stat[7] = static_cast<u32>(inode.sectors);
    stat[8] = inode.atime;
    stat[10] = inode.mtime;
    stat[12] = inode.ctime;
    return give(to, stat);
}

SysResult write_stat64(UserAddr to, const Stat& about) { // struct stat64
    std::array<u32, 24> stat{};
    const InodeStat& inode = about.inode;
    stat[0] = about.system;
    stat[3] = inode.number;
    stat[4] = inode.mode;
    stat[5] = inode.links;
    stat[6] = inode.uid;
    stat[7] = inode.gid;
    stat[8] = inode.device;
    stat[11] = static_cast<u32>(inode.bytes);
    stat[12] = static_cast<u32>(inode.bytes >> 32);
    stat[13] = inode.block_bytes;
    stat[14] = static_cast<u32>(inode.sectors);
    stat[15] = static_cast<u32>(inode.sectors >> 32);
    stat[16] = inode.atime;
    stat[18] = inode.mtime;
    stat[20] = inode.ctime;
    stat[22] = inode.number;
    return give(to, stat);
}

SysResult stat64_at(Call& call, u32 directory, UserAddr name, bool follow, bool may_be_empty, UserAddr to) {
    Stat stat;
    const Errno error = stat_at(call, directory, name, follow, may_be_empty, stat);
    return is_error(error) ? SysResult{error} : write_stat64(to, stat);
}

using WriteStat = SysResult (*)(UserAddr to, const Stat& about);

SysResult stat_path(Call& call, bool follow, WriteStat write) {
    Stat stat;
    const Errno error = stat_at(call, kHere, call.pointer_a(), follow, false, stat);
    return is_error(error) ? SysResult{error} : write(call.pointer_b(), stat);
}
SysResult stat_file(Call& call, WriteStat write) {
    const OpenFile file{call.process, call.a()};
    return file ? write(call.pointer_b(), stat_of(*file.get())) : SysResult{Errno::badf};
}

// --- What statfs says.

u32 mount_flags(FileSystem& system) {
    constexpr u32 kReadOnly = 1, kValid = 0x20, kNoAccessTimes = 0x400;
    return kValid | kNoAccessTimes | (system.is_read_only() ? kReadOnly : 0);
}

SysResult write_old_statfs(UserAddr to, FileSystem& system) { // struct statfs
    const FileSystemStat about = system.stat();
    return give(to, std::array<u32, 16>{about.type, about.block_bytes, about.blocks, about.free_blocks,
                                        about.free_blocks, about.inodes, about.free_inodes, system.id(), 0, kMostName,
                                        about.block_bytes, mount_flags(system)});
}

SysResult write_statfs64(UserAddr to, FileSystem& system) {
    const FileSystemStat about = system.stat();
    std::array<u32, 21> stat{}; // struct statfs64
    stat[0] = about.type;
    stat[1] = about.block_bytes;
    stat[2] = about.blocks;
    stat[4] = stat[6] = about.free_blocks;
    stat[8] = about.inodes;
    stat[10] = about.free_inodes;
    stat[12] = system.id();
    stat[14] = kMostName;
    stat[15] = about.block_bytes;
    stat[16] = mount_flags(system);
    return give(to, stat);
}
constexpr u32 kStatfsBytes = 84;

using WriteStatfs = SysResult (*)(UserAddr to, FileSystem& system);

SysResult statfs_path(Call& call, UserAddr to, WriteStatfs write) {
    UserPath path{call, kHere, call.pointer_a()};
    Node inode;
    if (const Errno error = path.find(true, inode); is_error(error)) return error;
    return write(to, inode->system());
}
SysResult statfs_file(Call& call, UserAddr to, WriteStatfs write) {
    const OpenFile file{call.process, call.a()};
    if (!file) return Errno::badf;
    return file->inode() != nullptr ? write(to, file->inode()->system()) : SysResult{Errno::nosys}; // it is in none
}

// --- Rights.

SysResult access_at(Call& call, u32 directory, UserAddr name, u32 wanted, u32 flags) {
    constexpr u32 kExecute = 1, kWrite = 2, kAll = 7, kAnyExecute = 0111;
    if ((wanted & ~kAll) || (flags & ~(kNoFollow | kEffective | kEmptyPath))) return Errno::inval;
    Stat stat;
    UserPath path{call, directory, name, (flags & kEmptyPath) != 0};
    if (is_error(path.error())) return path.error();
    Node inode;
    if (path.disk() != nullptr) {
        stat = {stat_of(FileKind::disk)};
    } else if (path.is_empty() && directory != kHere) {
        const OpenFile file{call.process, directory};
        if (!file) return Errno::badf;
        stat = stat_of(*file.get());
        if (file->inode() != nullptr) {
            file->inode()->get();
            inode.set(file->inode());
        }
    } else {
        if (const Errno error = path.find(!(flags & kNoFollow), inode); is_error(error)) return error;
        stat = stat_of(*inode);
    }
    if ((wanted & kWrite) && inode && inode->kind() != InodeKind::other && inode->system().is_read_only())
        return Errno::rofs;
    const bool is_directory = kind_of_mode(stat.inode.mode) == InodeKind::directory;
    // Also root needs one of the rights to execute.
    return (wanted & kExecute) && !is_directory && !(stat.inode.mode & kAnyExecute) ? Errno::acces : SysResult{0u};
}

// --- Changes.

Errno inode_of(Call& call, u32 number, Node& found) {
    const OpenFile file{call.process, number};
    if (!file) return Errno::badf;
    if (file->inode() == nullptr) return Errno::perm; // a pipe, a disk or the console: it has nothing to change
    file->inode()->get();
    found.set(file->inode());
    return Errno{};
}

SysResult change(Call& call, u32 directory, UserAddr name, u32 flags, const InodeChange& what) {
    if (flags & ~(kNoFollow | kEmptyPath)) return Errno::inval;
    UserPath path{call, directory, name, (flags & kEmptyPath) != 0};
    if (is_error(path.error())) return path.error();
    if (path.disk() != nullptr) return Errno::perm;
    Node inode;
    const Errno error = path.is_empty() && directory != kHere ? inode_of(call, directory, inode)
                                                              : path.find(!(flags & kNoFollow), inode);
    return result_of(is_error(error) ? error : inode->system().change(*inode, what));
}

SysResult change_file(Call& call, u32 number, const InodeChange& what) {
    Node inode;
    const Errno error = inode_of(call, number, inode);
    return result_of(is_error(error) ? error : inode->system().change(*inode, what));
}

InodeChange new_owner(u32 uid, u32 gid) {
    const auto given = [](u32 id) { return id != ~0u ? std::optional{id} : std::nullopt; };
    return {.uid = given(uid), .gid = given(gid), .gives_away = true};
}
// The calls with ids of 16 bits: the greatest one stands for none.
InodeChange new_owner_16(u32 uid, u32 gid) {
    const auto widened = [](u32 id) { return (id & 0xffff) == 0xffff ? ~0u : id & 0xffff; };
    return new_owner(widened(uid), widened(gid));
}

// --- New times. Both file systems keep seconds, of 32 bits with a sign.

constexpr u32 kTimeNow = 0x3fff'ffff, kTimeOmit = 0x3fff'fffe; // in the place of nanoseconds

struct NewTime {
    i64 seconds = 0;
    u32 nanoseconds = kTimeNow;

    bool is_valid() const { return nanoseconds < 1'000'000'000 || nanoseconds == kTimeNow || nanoseconds == kTimeOmit; }
    std::optional<u32> value() const {
        if (nanoseconds == kTimeOmit) return std::nullopt;
        constexpr i64 kMost = 0x7fff'ffff;
        return nanoseconds == kTimeNow ? file_time() : static_cast<u32>(std::clamp(seconds, -kMost - 1, kMost));
    }
};
struct NewTimes {
    NewTime access, modification;
};

// utimensat(2). Without a name it is about the open file itself.
SysResult set_times(Call& call, u32 directory, UserAddr name, u32 flags, const NewTimes& times) {
    const bool valid = times.access.is_valid() && times.modification.is_valid();
    const InodeChange what{.atime = times.access.value(), .mtime = times.modification.value()};
    if (name.value() == 0 && directory != kHere) {
        if (flags != 0) return Errno::inval;
        Node inode;
        if (const Errno error = inode_of(call, directory, inode); is_error(error)) return error;
        return valid ? result_of(inode->system().change(*inode, what)) : SysResult{Errno::inval};
    }
    // What does not exist is told before a time that is not valid: with such a time, nothing is changed.
    if (valid) return change(call, directory, name, flags, what);
    Stat stat;
    if (flags & ~(kNoFollow | kEmptyPath)) return Errno::inval;
    const Errno error = stat_at(call, directory, name, !(flags & kNoFollow), (flags & kEmptyPath) != 0, stat);
    return is_error(error) ? error : Errno::inval;
}

// Reads two of struct timespec, with fields of 32 or 64 bits.
template <typename T> bool read_times(UserAddr from, NewTimes& times) {
    T pair[2][2];
    if (from.value() == 0) return true; // the present
    if (copy_from_user(pair, from, sizeof pair) != 0) return false;
    for (u32 i = 0; i < 2; ++i)
        (i == 0 ? times.access : times.modification) = {pair[i][0], static_cast<u32>(pair[i][1])};
    return true;
}

template <typename T> SysResult utimensat(Call& call) {
    NewTimes times;
    if (!read_times<T>(call.pointer_c(), times)) return Errno::fault;
    if (times.access.nanoseconds == kTimeOmit && times.modification.nanoseconds == kTimeOmit) return 0u;
    return set_times(call, call.a(), call.pointer_b(), call.d(), times);
}

SysResult futimesat(Call& call, u32 directory, UserAddr name, UserAddr from) {
    constexpr u32 kMicroseconds = 1'000'000;
    int pair[2][2];
    if (from.value() != 0) {
        if (copy_from_user(pair, from, sizeof pair) != 0) return Errno::fault;
        for (const auto& one : pair)
            if (static_cast<u32>(one[1]) >= kMicroseconds) return Errno::inval;
    }
    NewTimes times;
    if (from.value() != 0) times = {{pair[0][0], 0}, {pair[1][0], 0}};
    return set_times(call, directory, name, 0, times);
}

} // namespace

// --- The calls.

SysResult sys_oldstat(Call& call) { return stat_path(call, true, write_oldest_stat); }
SysResult sys_oldlstat(Call& call) { return stat_path(call, false, write_oldest_stat); }
SysResult sys_oldfstat(Call& call) { return stat_file(call, write_oldest_stat); }
SysResult sys_stat(Call& call) { return stat_path(call, true, write_old_stat); }
SysResult sys_lstat(Call& call) { return stat_path(call, false, write_old_stat); }
SysResult sys_fstat(Call& call) { return stat_file(call, write_old_stat); }
SysResult sys_stat64(Call& call) { return stat_path(call, true, write_stat64); }
SysResult sys_lstat64(Call& call) { return stat_path(call, false, write_stat64); }
SysResult sys_fstat64(Call& call) { return stat_file(call, write_stat64); }
SysResult sys_fstatat64(Call& call) {
    const u32 flags = call.d();
    if (flags & ~(kNoFollow | kNoAutomount | kEmptyPath)) return Errno::inval;
    return stat64_at(call, call.a(), call.pointer_b(), !(flags & kNoFollow), (flags & kEmptyPath) != 0,
                     call.pointer_c());
}

SysResult sys_statx(Call& call) {
    constexpr u32 kBasicStats = 0x7ff, kReservedMask = 0x8000'0000, kSync = 0x6000;
    const u32 flags = call.c();
    if ((call.d() & kReservedMask) || (flags & kSync) == kSync ||
        (flags & ~(kNoFollow | kNoAutomount | kEmptyPath | kSync)))
        return Errno::inval;
    Stat about;
    if (const Errno error =
            stat_at(call, call.a(), call.pointer_b(), !(flags & kNoFollow), (flags & kEmptyPath) != 0, about);
        is_error(error))
        return error;
    std::array<u32, 64> stat{}; // struct statx
    const InodeStat& inode = about.inode;
    stat[0] = kBasicStats;
    stat[1] = inode.block_bytes;
    stat[4] = inode.links;
    stat[5] = inode.uid;
    stat[6] = inode.gid;
    stat[7] = inode.mode; // 16 bits
    stat[8] = inode.number;
    stat[10] = static_cast<u32>(inode.bytes);
    stat[11] = static_cast<u32>(inode.bytes >> 32);
    stat[12] = static_cast<u32>(inode.sectors);
    stat[13] = static_cast<u32>(inode.sectors >> 32);
    const auto set_time = [&](u32 at, u32 seconds) { // 64 bits with a sign
        stat[at] = seconds;
        stat[at + 1] = is_negative(seconds) ? ~0u : 0;
    };
    set_time(16, inode.atime);
    set_time(24, inode.ctime);
    set_time(28, inode.mtime);
    stat[32] = inode.device >> 8 & 0xfff; // device number
    stat[33] = (inode.device & 0xff) | (inode.device >> 12 & 0xf'ff00);
    stat[35] = about.system;
    return give(call.pointer_e(), stat);
}

SysResult sys_access(Call& call) { return access_at(call, kHere, call.pointer_a(), call.b(), 0); }
SysResult sys_faccessat(Call& call) { return access_at(call, call.a(), call.pointer_b(), call.c(), 0); }
SysResult sys_faccessat2(Call& call) { return access_at(call, call.a(), call.pointer_b(), call.c(), call.d()); }

SysResult sys_statfs(Call& call) { return statfs_path(call, call.pointer_b(), write_old_statfs); }
SysResult sys_fstatfs(Call& call) { return statfs_file(call, call.pointer_b(), write_old_statfs); }
SysResult sys_statfs64(Call& call) {
    if (call.b() != kStatfsBytes) return Errno::inval;
    return statfs_path(call, call.pointer_c(), write_statfs64);
}
SysResult sys_fstatfs64(Call& call) {
    if (call.b() != kStatfsBytes) return Errno::inval;
    return statfs_file(call, call.pointer_c(), write_statfs64);
}

SysResult sys_chmod(Call& call) { return change(call, kHere, call.pointer_a(), 0, {.rights = call.b()}); }
SysResult sys_fchmod(Call& call) { return change_file(call, call.a(), {.rights = call.b()}); }
SysResult sys_fchmodat(Call& call) { return change(call, call.a(), call.pointer_b(), 0, {.rights = call.c()}); }

SysResult sys_chown16(Call& call) { return change(call, kHere, call.pointer_a(), 0, new_owner_16(call.b(), call.c())); }
SysResult sys_lchown16(Call& call) {
    return change(call, kHere, call.pointer_a(), kNoFollow, new_owner_16(call.b(), call.c()));
}
SysResult sys_fchown16(Call& call) { return change_file(call, call.a(), new_owner_16(call.b(), call.c())); }
SysResult sys_chown(Call& call) { return change(call, kHere, call.pointer_a(), 0, new_owner(call.b(), call.c())); }
SysResult sys_lchown(Call& call) {
    return change(call, kHere, call.pointer_a(), kNoFollow, new_owner(call.b(), call.c()));
}
SysResult sys_fchown(Call& call) { return change_file(call, call.a(), new_owner(call.b(), call.c())); }
SysResult sys_fchownat(Call& call) {
    return change(call, call.a(), call.pointer_b(), call.e(), new_owner(call.c(), call.d()));
}

SysResult sys_umask(Call& call) { return call.process.umask.exchange(call.a() & 0777); }

SysResult sys_utime(Call& call) {
    int seconds[2];
    if (call.b() != 0 && copy_from_user(seconds, call.pointer_b(), sizeof seconds) != 0) return Errno::fault;
    NewTimes times;
    if (call.b() != 0) times = {{seconds[0], 0}, {seconds[1], 0}};
    return set_times(call, kHere, call.pointer_a(), 0, times);
}
SysResult sys_utimes(Call& call) { return futimesat(call, kHere, call.pointer_a(), call.pointer_b()); }
SysResult sys_futimesat(Call& call) { return futimesat(call, call.a(), call.pointer_b(), call.pointer_c()); }
SysResult sys_utimensat(Call& call) { return utimensat<int>(call); }
SysResult sys_utimensat_time64(Call& call) { return utimensat<i64>(call); }

} // namespace loft
