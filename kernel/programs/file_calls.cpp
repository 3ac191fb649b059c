// System calls on paths and the contents of files. Contract: file_calls.hpp.
#include "kernel/programs/file_calls.hpp"

#include "kernel/files/disk_file.hpp"
#include "kernel/files/inode_file.hpp"
#include "kernel/files/swap.hpp"
#include "kernel/programs/user_path.hpp"
#include "mm/spaces/user_copy.hpp"

#include <algorithm>
#include <cstring>

namespace loft {
namespace {

// --- Opening.

constexpr u32 kAccess = 3, kCreate = 0100, kExclusive = 0200, kTruncate = 01000, kAppend = 02000, kDataSync = 010000,
              kDirect = 040000, kLarge = 0100000, kDirectory = 0200000, kLinkItself = 0400000, kPathOnly = 010000000,
              kUnnamed = 020000000; // O_TMPFILE is kUnnamed and kDirectory

// The inode that open(2) finds or makes.
Errno find_to_open(UserPath& path, u32 flags, u32 rights, Node& found) {
    if (!(flags & kCreate)) return path.find(!(flags & kLinkItself), found);
    if (flags & kDirectory) return Errno::inval;
    if (const Errno error = path.to_parent(); is_error(error)) return error;
    if (path->name().empty()) return flags & kExclusive ? Errno::exist : Errno::isdir;
    if (path->wants_directory()) return Errno::isdir;
    if (!(flags & kExclusive)) {
        const Errno error = path->go_on(flags & kLinkItself ? Path::Stop::node : Path::Stop::follow);
        if (!is_error(error)) found.set(path->take());
        if (error != Errno::noent || path->name().empty()) return error;
        if (path->wants_directory()) return Errno::isdir; // a link to a name with a slash
    }
    Inode& directory = path->directory();
    const FileSystem::Found inode =
        directory.system().create(directory, path->name(), kModeFile | rights, (flags & kExclusive) != 0);
    if (!inode) return inode.error();
    found.set(*inode); // without kExclusive, maybe of another thread, which has made it at this moment
    return Errno{};
}

Errno may_open(Inode& inode, u32 flags) {
    const bool writes = (flags & kAccess) != 0 || (flags & kTruncate);
    switch (inode.kind()) {
    case InodeKind::link:
        return flags & kDirectory ? Errno::notdir : Errno::loop;
    case InodeKind::directory:
        if (flags & kUnnamed) return Errno::notsup;
        if (writes || (flags & kCreate)) return Errno::isdir;
        break;
    case InodeKind::file:
        if (flags & kDirectory) return Errno::notdir;
        if (writes && inode.system().is_read_only()) return Errno::rofs;
        if (!(flags & kLarge) && inode.bytes() > kMostSmallBytes) return Errno::overflow;
        break;
    case InodeKind::other:
        return flags & kDirectory ? Errno::notdir : Errno::nxio; // no driver opens it
    }
    return flags & (kDirect | kPathOnly) ? Errno::inval : Errno{};
}

// Nothing is held: if memory is short for the page in which the file ends, reclaim may wait.
Errno resize(Inode& file, u64 bytes) {
    for (ReclaimRounds rounds{Reclaimer::program};;) {
        const Errno error = file.system().truncate(file, bytes);
        if (error != Errno::nomem || !rounds.another()) return error;
    }
}

Errno open_path(UserPath& path, u32 flags, u32 rights, File*& file) {
    const u32 access = flags & kAccess; // 3: neither to read nor to write (open(2))
    const OpenMode wanted{.reads = access == 0 || access == 2,
                          .writes = access == 1 || access == 2,
                          .appends = (flags & kAppend) != 0,
                          .synchronous = (flags & kDataSync) != 0,
                          .large = (flags & kLarge) != 0};
    if (BlockDevice* const disk = path.disk()) {
        if ((flags & kCreate) && (flags & kExclusive)) return Errno::exist;
        if (flags & kDirectory) return Errno::notdir;
        if (flags & kDirect) return Errno::inval;
        if (is_mounted(*disk)) return Errno::busy;
        file = open_disk(*disk, wanted);
        return file != nullptr ? Errno{} : Errno::nomem;
    }
    Node inode;
    if (const Errno error = find_to_open(path, flags, rights, inode); is_error(error)) return error;
    if (const Errno error = may_open(*inode, flags); is_error(error)) return error;
    if (flags & kTruncate)
        if (const Errno error = resize(*inode, 0); is_error(error)) return error;
    file = open_inode(*inode, wanted);
    if (file == nullptr) return Errno::nomem;
    static_cast<void>(inode.take());
    return Errno{};
}

SysResult open_at(Call& call, u32 directory, UserAddr name, u32 flags, u32 mode) {
    if ((flags & kUnnamed) && (!(flags & kDirectory) || (flags & kAccess) == 0)) return Errno::inval;
    UserPath path{call, directory, name};
    if (is_error(path.error())) return path.error();
    FileTable& files = call.process.files;
    const u32 number = files.reserve();
    if (number == FileTable::kMost) return Errno::mfile;
    File* file = nullptr;
    const u32 rights = mode & kModeRights & ~call.process.umask.load();
    if (const Errno error = open_path(path, flags, rights, file); is_error(error)) {
        files.cancel(number);
        return error;
    }
    files.open(number, file);
    return number;
}

// --- Names.

SysResult make_directory(Call& call, u32 directory, UserAddr name, u32 mode) {
    UserPath path{call, directory, name};
    if (const Errno error = path.to_parent(); is_error(error)) return error;
    if (path->name().empty()) return Errno::exist;
    Inode& above = path->directory();
    constexpr u32 kRights = 01777;
    const FileSystem::Found made =
        above.system().create(above, path->name(), kModeDirectory | (mode & kRights & ~call.process.umask.load()));
    if (!made) return made.error();
    FileSystem::release(*made);
    return 0u;
}

SysResult remove_file(Call& call, u32 directory, UserAddr name) {
    UserPath path{call, directory, name};
    if (const Errno error = path.to_parent(); is_error(error)) return error;
    if (path->name().empty()) return Errno::isdir;
    Inode& above = path->directory();
    if (!path->wants_directory()) return result_of(above.system().unlink(above, path->name()));
    const FileSystem::Found found = above.system().lookup(above, path->name());
    if (!found) return found.error();
    const Node inode{*found};
    return inode->is_directory() ? Errno::isdir : Errno::notdir;
}

SysResult remove_directory(Call& call, u32 directory, UserAddr name) {
    UserPath path{call, directory, name};
    if (const Errno error = path.to_parent(); is_error(error)) return error;
    if (path->last_dot() == Path::LastDot::dot) return Errno::inval;
    if (path->last_dot() == Path::LastDot::dots) return Errno::notempty;
    if (path->name().empty()) return Errno::busy; // the root
    Inode& above = path->directory();
    return result_of(above.system().rmdir(above, path->name()));
}

SysResult rename(Call& call, u32 from_directory, UserAddr from_name, u32 to_directory, UserAddr to_name, u32 flags) {
    constexpr u32 kNoReplace = 1; // that no file system has the others, is EINVAL as well
    if (flags & ~kNoReplace) return Errno::inval;
    UserPath from{call, from_directory, from_name}, to{call, to_directory, to_name};
    if (const Errno error = from.to_parent(); is_error(error)) return error;
    if (const Errno error = to.to_parent(); is_error(error)) return error;
    Inode &old_above = from->directory(), &new_above = to->directory();
    FileSystem& system = old_above.system();
    if (&system != &new_above.system()) return Errno::xdev;
    if (from->name().empty()) return Errno::busy;
    if (to->name().empty()) return flags & kNoReplace ? Errno::exist : Errno::busy;
    if (from->wants_directory() || to->wants_directory()) {
        const FileSystem::Found found = system.lookup(old_above, from->name());
        if (!found) return found.error();
        const Node inode{*found};
        if (!inode->is_directory()) {
            const Node there{flags & kNoReplace ? system.lookup(new_above, to->name()).value_or(nullptr) : nullptr};
            return there ? Errno::exist : Errno::notdir;
        }
    }
    return result_of(system.rename(old_above, from->name(), new_above, to->name(), !(flags & kNoReplace)));
}

// The directory and the name of a new link, or of a symbolic one.
Errno to_new_name(UserPath& path) {
    if (const Errno error = path.to_parent(); is_error(error)) return error;
    if (path->name().empty()) return Errno::exist;
    if (!path->wants_directory()) return Errno{};
    Inode& above = path->directory();
    const Node there{above.system().lookup(above, path->name()).value_or(nullptr)};
    return there ? Errno::exist : Errno::noent; // a name with a slash is that of a directory
}

SysResult link_at(Call& call, u32 from_directory, UserAddr from_name, u32 to_directory, UserAddr to_name, u32 flags) {
    if (flags & ~(kFollow | kEmptyPath)) return Errno::inval;
    UserPath from{call, from_directory, from_name, (flags & kEmptyPath) != 0};
    Node inode;
    if (is_error(from.error())) return from.error();
    if (from.is_empty()) { // the open file itself
        const OpenFile file{call.process, from_directory};
        if (!file) return from_directory == kHere ? Errno::perm : Errno::badf;
        if (file->inode() == nullptr) return Errno::xdev;
        file->inode()->get();
        inode.set(file->inode());
    } else if (const Errno error = from.find((flags & kFollow) != 0, inode); is_error(error)) {
        return error;
    }
    UserPath to{call, to_directory, to_name};
    if (const Errno error = to_new_name(to); is_error(error)) return error;
    Inode& above = to->directory();
    return result_of(above.system().link(above, to->name(), *inode));
}

SysResult symbolic_link(Call& call, UserAddr target, u32 directory, UserAddr name) {
    const Buffer text;
    if (text.bytes() == nullptr) return Errno::nomem;
    const Result<u32> length = strncpy_from_user(text.bytes(), target, kMostPath);
    if (!length) return Errno::fault;
    if (*length == kMostPath) return Errno::nametoolong;
    if (*length == 0) return Errno::noent;
    UserPath path{call, directory, name};
    if (const Errno error = to_new_name(path); is_error(error)) return error;
    Inode& above = path->directory();
    const FileSystem::Found made =
        above.system().create(above, path->name(), kModeLink | 0777, true, {text.bytes(), *length});
    if (!made) return made.error();
    FileSystem::release(*made);
    return 0u;
}

SysResult read_link(Call& call, u32 directory, UserAddr name, UserAddr to, u32 bytes) {
    if (bytes == 0 || is_negative(bytes)) return Errno::inval;
    UserPath path{call, directory, name, directory != kHere};
    if (is_error(path.error())) return path.error();
    if (path.is_empty()) return Errno::noent; // an open file is not a link
    if (path.disk() != nullptr) return Errno::inval;
    Node inode;
    if (const Errno error = path.find(false, inode); is_error(error)) return error;
    if (inode->kind() != InodeKind::link) return Errno::inval;
    const Buffer text;
    if (text.bytes() == nullptr) return Errno::nomem;
    const Result<u32, Errno> length = inode->system().read_link(*inode, text.bytes(), std::min(bytes, kMostPath));
    if (!length) return length.error();
    if (copy_to_user(to, text.bytes(), *length) != 0) return Errno::fault;
    return *length;
}

// --- Sizes.

SysResult truncate(Call& call, u64 bytes) {
    if (bytes >> 63) return Errno::inval;
    UserPath path{call, kHere, call.pointer_a()};
    if (is_error(path.error())) return path.error();
    if (path.disk() != nullptr) return Errno::inval;
    Node inode;
    if (const Errno error = path.find(true, inode); is_error(error)) return error;
    return result_of(resize(*inode, bytes));
}

SysResult ftruncate(Call& call, u64 bytes) {
    if (bytes >> 63) return Errno::inval;
    const OpenFile file{call.process, call.a()};
    if (!file) return Errno::badf;
    Inode* const inode = file->inode();
    if (inode == nullptr || inode->kind() != InodeKind::file || !file->may_write()) return Errno::inval;
    if (!file->is_large() && bytes > kMostSmallBytes) return Errno::inval;
    return result_of(resize(*inode, bytes));
}

constexpr u64 signed_word(u32 word) { return static_cast<u64>(static_cast<i64>(static_cast<int>(word))); }

// --- Entries of directories, as getdents(2) says.

// In the layout of getdents64(2), or in that of getdents(2), with fields of 32 bits.
struct EntryWriter final : ListVisitor {
    EntryWriter(char* to, u32 room, bool wide) : to{to}, room{room}, wide{wide} {}
    bool entry(const DirectoryEntry& entry) override {
        const u32 size = static_cast<u32>(entry.name.size()), head = wide ? 19 : 10;
        const u32 bytes = wide ? round_up(head + size + 1, 8u) : round_up(head + size + 2, 4u);
        if (bytes > room - used) {
            full = true;
            return false;
        }
        char* const at = to + used;
        std::memset(at, 0, bytes);
        const u32 word = wide ? 8 : 4;
        std::memcpy(at, &entry.number, 4);
        std::memcpy(at + word, &entry.next, word);
        at[2 * word] = static_cast<char>(bytes);
        at[2 * word + 1] = static_cast<char>(bytes >> 8);
        at[wide ? 18 : bytes - 1] = static_cast<char>((entry.mode & kModeKind) >> 12);
        std::memcpy(at + head, entry.name.data(), size);
        used += bytes;
        return true;
    }
    char* const to;
    const u32 room;
    const bool wide;
    u32 used = 0;
    bool full = false;
};

SysResult list(Call& call, bool wide) {
    const OpenFile file{call.process, call.a()};
    if (!file) return Errno::badf;
    if (file->inode() == nullptr || !file->inode()->is_directory()) return Errno::notdir;
    const Buffer buffer;
    if (buffer.bytes() == nullptr) return Errno::nomem;
    u64 position = 0;
    if (const Errno error = file->seek(0, Whence::current, position); is_error(error)) return error;
    for (u32 room = std::min(call.c(), kPageSize);;) {
        EntryWriter entries{buffer.bytes(), room, wide};
        if (const Errno error = file->list(entries); is_error(error)) return error;
        if (entries.used == 0)
            return !entries.full ? SysResult{0u} : room < std::min(call.c(), kPageSize) ? Errno::fault : Errno::inval;
        const u32 left = copy_to_user(call.pointer_b(), buffer.bytes(), entries.used);
        if (left == 0) return entries.used;
        // The program's memory ends: it gets the entries that fit.
        static_cast<void>(file->seek(static_cast<i64>(position), Whence::begin, position));
        room = entries.used - left;
    }
}

} // namespace

// --- The calls.

SysResult sys_open(Call& call) { return open_at(call, kHere, call.pointer_a(), call.b(), call.c()); }
SysResult sys_openat(Call& call) { return open_at(call, call.a(), call.pointer_b(), call.c(), call.d()); }
SysResult sys_creat(Call& call) { return open_at(call, kHere, call.pointer_a(), kCreate | kTruncate | 1, call.b()); }

SysResult sys_mkdir(Call& call) { return make_directory(call, kHere, call.pointer_a(), call.b()); }
SysResult sys_mkdirat(Call& call) { return make_directory(call, call.a(), call.pointer_b(), call.c()); }
SysResult sys_rmdir(Call& call) { return remove_directory(call, kHere, call.pointer_a()); }
SysResult sys_unlink(Call& call) { return remove_file(call, kHere, call.pointer_a()); }
SysResult sys_unlinkat(Call& call) {
    if (call.c() & ~kRemoveDirectory) return Errno::inval;
    return call.c() != 0 ? remove_directory(call, call.a(), call.pointer_b())
                         : remove_file(call, call.a(), call.pointer_b());
}
SysResult sys_rename(Call& call) { return rename(call, kHere, call.pointer_a(), kHere, call.pointer_b(), 0); }
SysResult sys_renameat(Call& call) { return rename(call, call.a(), call.pointer_b(), call.c(), call.pointer_d(), 0); }
SysResult sys_renameat2(Call& call) {
    return rename(call, call.a(), call.pointer_b(), call.c(), call.pointer_d(), call.e());
}
SysResult sys_link(Call& call) { return link_at(call, kHere, call.pointer_a(), kHere, call.pointer_b(), 0); }
SysResult sys_linkat(Call& call) {
    return link_at(call, call.a(), call.pointer_b(), call.c(), call.pointer_d(), call.e());
}
SysResult sys_symlink(Call& call) { return symbolic_link(call, call.pointer_a(), kHere, call.pointer_b()); }
SysResult sys_symlinkat(Call& call) { return symbolic_link(call, call.pointer_a(), call.b(), call.pointer_c()); }
SysResult sys_readlink(Call& call) { return read_link(call, kHere, call.pointer_a(), call.pointer_b(), call.c()); }
SysResult sys_readlinkat(Call& call) { return read_link(call, call.a(), call.pointer_b(), call.pointer_c(), call.d()); }

SysResult sys_truncate(Call& call) { return truncate(call, signed_word(call.b())); }
SysResult sys_truncate64(Call& call) { return truncate(call, wide(call.b(), call.c())); }
SysResult sys_ftruncate(Call& call) { return ftruncate(call, signed_word(call.b())); }
SysResult sys_ftruncate64(Call& call) { return ftruncate(call, wide(call.b(), call.c())); }

SysResult sys_getdents(Call& call) { return list(call, false); }
SysResult sys_getdents64(Call& call) { return list(call, true); }

// --- Swap areas: swapon(2). The flags are a priority, and whether freed slots are discarded: every area has the same
// priority here. A swap area is a disk, or a file of a file system on a disk.

namespace {

// The disk of the path, else its inode.
SysResult find_area(UserPath& path, BlockDevice*& disk, Node& file) {
    if (is_error(path.error())) return path.error();
    disk = path.disk();
    return disk != nullptr ? SysResult{0u} : result_of(path.find(true, file));
}

} // namespace

SysResult sys_swapon(Call& call) {
    constexpr u32 kKnown = 0x7'ffff;
    if (call.b() & ~kKnown) return Errno::inval;
    UserPath path{call, kHere, call.pointer_a()};
    BlockDevice* disk = nullptr;
    Node file;
    if (const SysResult found = find_area(path, disk, file); found.failed()) return found;
    if (disk == nullptr) return result_of(swap_on(*file));
    const Status status = swap_on(*disk);
    if (status) return 0u;
    return status.error() == Error::no_space ? Errno::perm
           : status.error() == Error::busy   ? Errno::busy
                                             : errno_of(status.error());
}

SysResult sys_swapoff(Call& call) {
    UserPath path{call, kHere, call.pointer_a()};
    BlockDevice* disk = nullptr;
    Node file;
    if (const SysResult found = find_area(path, disk, file); found.failed()) return found;
    if (disk == nullptr) return result_of(swap_off(*file));
    const Status status = swap_off(*disk);
    return !status && status.error() == Error::not_found ? SysResult{Errno::inval} : SysResult{status};
}

// --- The current directory.

SysResult sys_chdir(Call& call) {
    UserPath path{call, kHere, call.pointer_a()};
    if (is_error(path.error())) return path.error();
    if (path.disk() != nullptr) return Errno::notdir;
    Node inode;
    if (const Errno error = path.find(true, inode); is_error(error)) return error;
    if (!inode->is_directory()) return Errno::notdir;
    call.process.directory.set(inode.take());
    return 0u;
}

SysResult sys_fchdir(Call& call) {
    const OpenFile file{call.process, call.a()};
    if (!file) return Errno::badf;
    Inode* const inode = file->inode();
    if (inode == nullptr || !inode->is_directory()) return Errno::notdir;
    inode->get();
    call.process.directory.set(inode);
    return 0u;
}

SysResult sys_getcwd(Call& call) {
    const Buffer buffer;
    if (buffer.bytes() == nullptr) return Errno::nomem;
    const Node current{call.process.directory.get()};
    u32 begin = kPageSize - 2;
    std::memcpy(buffer.bytes() + begin, "/", 2);
    if (current) {
        const Result<u32, Errno> at = file_tree().path_of(*current, {buffer.bytes(), kPageSize});
        if (!at) return at.error() == Errno::range ? Errno::nametoolong : at.error();
        begin = *at;
    }
    const u32 length = kPageSize - begin;
    if (call.b() < length) return Errno::range;
    if (copy_to_user(call.pointer_a(), buffer.bytes() + begin, length) != 0) return Errno::fault;
    return length;
}

// --- Making durable.

SysResult sys_fsync(Call& call) {
    const OpenFile file{call.process, call.a()};
    if (!file) return Errno::badf;
    return file->sync_reclaiming();
}

SysResult sys_syncfs(Call& call) {
    const OpenFile file{call.process, call.a()};
    if (!file) return Errno::badf;
    return file->inode() != nullptr ? result_of(file->inode()->system().sync()) : SysResult{0u};
}

SysResult sys_sync(Call&) {
    (void)write_back_all(); // sync(2) always succeeds
    (void)file_tree().sync();
    return 0u;
}

} // namespace loft
