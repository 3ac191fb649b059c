// File systems and their inodes: what all of them do in the same way.
//
//     path            names with slashes, mounts, links that are followed                         above it
//     FileSystem      which directory has which entry; the table of inodes in use; rules, errors  this file
//     tmpfs, ext2     entries, inodes and blocks: the virtual functions                           below it
//
// An inode is a file, a directory, a symbolic link, or another thing that is only named (a device, a socket). It is a
// memory object, which for a file has its data. There is one object for each number in use; the table of its file
// system has a reference to it, and every user another one. So an inode that has lost its last name lives until the
// last file and the last area that use it have gone.
//
// Two kinds of mutexes, the first one outermost; then come those of a space and of memory objects (docs/locks.md):
//
//     names_     one for each file system: entries of directories, counts of links, the table
//     size_      one for each file: a thread writes to it, or changes its size
//
// Order that a power cut may not break: an entry refers to an inode that is ready; rename makes an inode durable before
// it gets the name of another one, and the new entry durable before it removes the old one; blocks and inodes that were
// freed are used again only after that is durable.
//
// All functions that return an Errno: Errno{} is success. They may sleep and wait for a disk: preemptible context, no
// mutex of a space or a memory object is held. Sources: the man pages (section 2) of the system calls, POSIX.1-2017.
#pragma once

#include "arch/base/chain.hpp"
#include "arch/base/near_wrap.hpp"
#include "kernel/tree/errno.hpp"
#include "mm/cache/memory_object.hpp"
#include "mm/ground/spinlock.hpp"

#include <optional>
#include <string_view>

namespace loft {

inline constexpr u32 kMostName = 255;  // bytes of a name
inline constexpr u32 kMostPath = 4096; // bytes of a path or a link's target, with the terminator

enum class InodeKind : u8 { file, directory, link, other };

// st_mode, stat(2).
inline constexpr u32 kModeKind = 0170000, kModeFile = 0100000, kModeDirectory = 0040000, kModeLink = 0120000,
                     kModeRights = 07777;
constexpr InodeKind kind_of_mode(u32 mode) {
    switch (mode & kModeKind) {
    case kModeFile:
        return InodeKind::file;
    case kModeDirectory:
        return InodeKind::directory;
    case kModeLink:
        return InodeKind::link;
    default:
        return InodeKind::other;
    }
}

// What chmod(2), chown(2) and utimensat(2) change of an inode: a field without a value stays.
struct InodeChange {
    std::optional<u32> rights{}; // of kModeRights
    std::optional<u32> uid{}, gid{};
    std::optional<u32> atime{}, mtime{}; // seconds since 1970
    bool gives_away = false; // by chown(2): a file that is not a directory loses set-user-ID and set-group-ID

    // The mode of an inode after it. set-group-ID without the group's right to execute has another meaning, and stays.
    constexpr u32 mode_after(u32 mode) const {
        constexpr u32 kSetUser = 04000, kSetGroup = 02000, kGroupExecutes = 010;
        if (rights) mode = (mode & ~kModeRights) | (*rights & kModeRights);
        if (!gives_away || kind_of_mode(mode) == InodeKind::directory) return mode;
        return mode & ~(kSetUser | (mode & kGroupExecutes ? kSetGroup : 0));
    }
};

// What is made in a directory with set-group-ID has its group, and a directory has set-group-ID as well (mkdir(2)).
constexpr bool gives_group(u32 mode_of_directory) { return (mode_of_directory & 02000) != 0; }
constexpr u32 mode_below(u32 mode_of_directory, u32 mode) {
    return mode | (kind_of_mode(mode) == InodeKind::directory ? mode_of_directory & 02000 : 0);
}

// What stat(2) says of an inode. Times: seconds since 1970. `sectors`: of 512 bytes, of all its blocks.
struct InodeStat {
    u32 number = 0, mode = 0, links = 0, uid = 0, gid = 0, device = 0;
    u64 bytes = 0, sectors = 0;
    u32 block_bytes = kPageSize;
    u32 atime = 0, mtime = 0, ctime = 0;
};
// statfs(2).
struct FileSystemStat {
    u32 type = 0, block_bytes = 0, blocks = 0, free_blocks = 0, inodes = 0, free_inodes = 0;
};

class BlockDevice;
class FileSystem;
class SwapArea;

class Inode : public MemoryObject {
  public:
    FileSystem& system() const { return system_; }
    u32 number() const { return number_; }
    InodeKind kind() const { return kind_; }
    bool is_directory() const { return kind_ == InodeKind::directory; }
    u32 links() const { return links_.load(); } // 0: it has no name any more
    // The size that programs see: while a write makes the file larger, that before its page. Preemptible context.
    u64 visible_bytes() { return visible(bytes()); }
    // The same for a size that the caller has just looked up. Any context but NMI.
    u64 visible(u64 bytes);

  protected:
    Inode(FileSystem& system, u32 number, InodeKind kind, u32 links, u64 bytes, ObjectKind object)
        : MemoryObject{bytes, object}, system_{system}, number_{number}, kind_{kind}, links_{links} {}
    ~Inode() = default;

  private:
    friend class FileSystem;
    void show(u64 most) {
        const SpinGuard guard{growth_};
        shown_ = most;
    }

    FileSystem& system_;
    const u32 number_;
    const InodeKind kind_;
    hal::Plain<u32> links_;   // changed under names_
    bool covered_ = false;    // by a mount; guarded by names_
    Inode* parent_ = nullptr; // of a directory that was removed, with a reference; guarded by names_
    Mutex size_{"of a file's size"};
    SpinLock growth_{LockRank::last};
    u64 shown_ LOFT_GUARDED_BY(growth_) = ~u64{0}; // what lies behind is not written yet
    Inode* next_ = nullptr;                        // in the table

  public:
    using InTable = Chain<Inode, &Inode::next_>;
};

// An entry of a directory, for list(). `next`: the position behind it.
struct DirectoryEntry {
    std::string_view name;
    u32 number = 0;
    u32 mode = 0; // the bits of kModeKind; 0: not known
    u64 next = 0;
};
// False: the entry does not fit any more.
class ListVisitor {
  public:
    virtual bool entry(const DirectoryEntry& entry) = 0;

  protected:
    ~ListVisitor() = default;
};

class FileSystem : NotCopyable<FileSystem> {
  public:
    using Found = Result<Inode*, Errno>; // with a reference for the caller, who gives it back by release()

    // --- Names. `name` is one component, neither "." nor "..". Errors beside those that are named: io, uclean, nomem,
    // nametoolong, notdir (`directory` is none), noent (it has been removed); of changes also rofs and nospc.

    Found root();
    Found lookup(Inode& directory, std::string_view name); // noent
    // The root is its own parent. A directory that was removed has the one that it had: its user may go back.
    Found parent(Inode& directory);
    // A new file, or directory (the mode says which), or link with this target. `mine`: EEXIST if the name is there;
    // otherwise what is there is returned. exist, mlink; nametoolong for a target that does not fit.
    Found create(Inode& directory, std::string_view name, u32 mode, bool mine = true, std::string_view target = {});
    // exist, before rofs and these: xdev, perm (a directory), noent, mlink.
    Errno link(Inode& directory, std::string_view name, Inode& inode);
    Errno unlink(Inode& directory, std::string_view name); // noent, isdir
    Errno rmdir(Inode& directory, std::string_view name);  // noent, notempty, busy (the root, a mount)
    // Replaces what has the new name: a directory that is empty by a directory, a file by a file. noent, xdev, isdir,
    // notempty, mlink, inval (into itself), busy; exist if something has the new name, and `replaces` is false. Cost on
    // a disk: a flush of its cache, and one more if it replaces something.
    Errno rename(Inode& from, std::string_view old_name, Inode& to, std::string_view new_name, bool replaces = true);
    // Calls `visitor` for the entries from `position` on, which becomes that of the next call; 0 is the first entry.
    // "." and ".." are among them. No entry: the end. An entry that is neither added nor removed meanwhile is seen
    // once. The visitor runs under names_: it accesses no user memory.
    Errno list(Inode& directory, u64& position, ListVisitor& visitor);

    // --- Data of files. Errors: io, uclean, nomem, rofs, nospc, fbig.

    // Makes a part of one page ready for a store to [offset, offset + bytes): the file gets the size and the blocks for
    // it. The caller has writer_of(file), stores to the page, and calls end_page in every case, with the number of
    // bytes that it has stored. The page has a reference for it. `whole`: a frame with all contents of a page that the
    // range covers and that is not in memory. It becomes the page, which then needs no store; the caller keeps its
    // reference. If it cannot, the page is another one.
    struct Part {
        Page* page = nullptr;
        u64 before = 0; // the size of the file
    };
    Result<Part, Errno> begin_page(Inode& file, u64 offset, u32 bytes, Page* whole = nullptr);
    Errno end_page(Inode& file, const Part& part, u64 offset, u32 stored);
    // One thread at a time writes to a file or changes its size.
    Mutex& writer_of(Inode& file) { return file.size_; }
    // Writes from the kernel's memory. Returns what was written if it is not 0.
    Result<u32, Errno> write(Inode& file, u64 offset, const void* from, u32 bytes);
    Errno truncate(Inode& file, u64 bytes);

    // Its time of change becomes the present. Errors: rofs, and those of the disk.
    Errno change(Inode& inode, const InodeChange& what);
    virtual InodeStat stat(Inode& inode) = 0;
    // The number of bytes of the target; inval. A target is a string: it ends before its first zero byte, which only an
    // archive or a damaged disk can have.
    Result<u32, Errno> read_link(Inode& link, char* to, u32 bytes);

    // --- Files as swap areas.

    // Makes a file a swap area, which has a reference to it. While it is one, and so frozen, its blocks stay where they
    // are: writes and smaller sizes are txtbsy, removing a name of it perm, stores through mappings SIGBUS. Errors:
    // busy (it is one), noent (it has no name any more), inval (not a file on a disk, or one with holes, or without a
    // header of mkswap), rofs, isdir, nomem, perm (too many areas), and those of the disk.
    Result<SwapArea*, Errno> swap_on(Inode& file);
    // After SwapArea::remove(). Gives the reference back.
    void swap_off(Inode& file);

    // --- The whole.

    // A user of the inode has gone. If it was the last one, and no name is left, inode and blocks become free. The file
    // system is mounted until the return.
    static void release(Inode* inode);
    // Frees inodes without names that the last user has given back otherwise, as an area of a program does. False:
    // there is none. For a caller who finds the disk full, and tries once more.
    bool free_unused();
    // Everything that was done before the call is durable.
    Errno sync();
    virtual FileSystemStat stat() = 0;
    virtual u64 most_bytes() const = 0; // of a file
    virtual bool is_read_only() const { return false; }
    u32 id() const { return id_; } // of each file system that was made, another one: the device of stat(2)
    // A directory that is covered by a mount cannot be removed or renamed; the caller keeps a reference to it.
    void set_covered(Inode& directory, bool covered);

  protected:
    FileSystem();
    ~FileSystem() = default;

    // --- What each file system does. names_ is held. Directories and names have been checked.

    struct Entry {
        u32 number = 0; // 0: there is none
    };
    virtual Result<Entry, Errno> find_entry(Inode& directory, std::string_view name) = 0;
    virtual Errno add_entry(Inode& directory, std::string_view name, Inode& inode) = 0; // the name is not there
    virtual Errno change_entry(Inode& directory, std::string_view name, Inode& inode) = 0;
    virtual Errno remove_entry(Inode& directory, std::string_view name) = 0;
    virtual Errno list_entries(Inode& directory, u64& position, ListVisitor& visitor) = 0;
    virtual Result<bool, Errno> is_empty(Inode& directory) = 0;
    virtual Result<u32, Errno> parent_number(Inode& directory) = 0;
    virtual Errno set_parent(Inode& directory, Inode& parent) = 0;

    virtual Result<u32, Errno> read_target(Inode& link, char* to, u32 bytes) = 0; // without names_

    virtual u32 root_number() const = 0;
    virtual u32 most_links() const = 0;
    // The object of an inode that is not in the table; its one reference is the table's.
    virtual Found load(u32 number) = 0;
    // A new inode with one link, two for a directory; its one reference is the table's.
    virtual Found make(Inode& parent, u32 mode, std::string_view target) = 0;
    virtual Errno write_links(Inode& inode, u32 links) = 0;
    virtual Errno write_change(Inode& inode, const InodeChange& what) = 0;
    // The inode has neither names nor users: it becomes free with all its blocks.
    virtual void free(Inode& inode) = 0;
    // Entries and inodes are durable as they are now; finish(): all that the file system has.
    virtual Errno settle() = 0;
    virtual Errno finish() = 0;

    // The writer's mutex is held. Blocks for a store; all of the file's pages in the range are in memory.
    virtual Errno allocate(Inode& file, u64 offset, u32 bytes) = 0;
    // Reads all that set_size needs for this smaller size. An error: it cannot be set now.
    virtual Errno may_shrink(Inode&, u64) { return Errno{}; }
    // The size of a file, whose object has been resized. Frees the blocks behind it. If that fails after may_shrink,
    // the file system takes no changes any more: nobody may see what these blocks have.
    virtual Errno set_size(Inode& file, u64 bytes) = 0;

    // The disk on which its files lie; null: none.
    virtual BlockDevice* disk() { return nullptr; }
    // SwapFile::sector_of. The writer's mutex is held.
    virtual Result<u32> sector_of(Inode&, u32) { return Error::invalid; }

    // --- For them.

    // The table may forget inodes without users, because load() finds them again.
    void set_reloads() { reloads_ = true; }
    // Puts an inode into the table, which has none of its number, and takes over its reference. names_ is held, or no
    // other thread knows the file system.
    void insert(Inode& inode);
    // All inodes leave the table. busy: some have users, or pages that could not be written; then all stay.
    Errno empty_table();

  private:
    static constexpr u32 kChains = 16;
    static constexpr u32 kMostUnused = 256; // inodes in the table from which on unused ones are forgotten

    Inode::InTable& chain_of(u32 number) { return table_[number % kChains]; }
    Found get(u32 number);
    Found find(Inode& directory, std::string_view name); // noent
    Errno check(Inode& directory, std::string_view name, bool change);
    Errno set_links(Inode& inode, u32 links);
    Errno drop_link(Inode& inode, Inode& directory);
    Errno remove(Inode& directory, std::string_view name, bool is_directory);
    Errno move(Inode& from, std::string_view old_name, Inode& to, std::string_view new_name, bool replaces);
    Errno may_replace(Inode& to, Inode& target, Inode& inode);
    Result<bool, Errno> is_below(Inode& directory, Inode& above);
    void forget_unused();
    bool reap();
    bool put_whole(Inode& file, u32 number, Page* whole);
    Result<u32, Errno> write_once(Inode& file, u64 offset, const void* from, u32 bytes);
    Result<SwapArea*, Errno> open_swap(Inode& file);

    const u32 id_;
    Mutex names_{"of a file system's names"};
    Inode::InTable table_[kChains]; // guarded by names_
    u32 count_ = 0;                 // of inodes in the table
    u32 nameless_ = 0;              // of them, without a link
    bool reloads_ = false;
    hal::Atomic<u32> removed_{near_wrap<u32>()}; // inodes that have lost their last name
};

// Up-call, defined by kernel/programs: the date in seconds since 1970. Any context.
u32 file_time();

} // namespace loft
