// Paths: names with slashes between them, through directories, mounts and symbolic links.
//
//     Path path{tree, current};                    // where a relative path begins
//     strcpy(path.text(), "/mnt/folder/name")      // at most kMostPath bytes with the terminator
//     Errno error = path.walk(Path::Stop::parent)  // path.directory(), path.name(): for create, unlink, rename
//     Errno error = path.walk(Path::Stop::follow)  // path.take(): the inode
//
// The text is in a frame of its own, and is used up by the walk: a link's target takes the place of the link's name. So
// neither the depth of links nor their length needs the stack. A target and what is left of the path behind its name
// have to fit into kMostPath together, else nametoolong; Linux has this limit for each of them.
#pragma once

#include "kernel/tree/file_system.hpp"

#include <span>

namespace loft {

// The root, and the file systems that are mounted at directories.
class Tree : NotCopyable<Tree> {
  public:
    constexpr Tree() = default;

    // The first file system. Boot, once.
    void set_root(FileSystem& system) { root_ = &system; }
    FileSystem* root() const { return root_; }
    // Mounts a file system at a directory, which is not the root of one, and is not covered already.
    // From then on the directory shows the root of `system`. notdir, busy, nomem (there are kMostMounts).
    Errno mount(Inode& directory, FileSystem& system);
    // inval: it is not mounted. The caller then unmounts the file system itself; if that is busy, it mounts it again.
    Errno unmount(FileSystem& system);

    // Both take over the reference of the caller, and return one; they never return the covered directory. `down`: the
    // root of what is mounted at the directory. `up`: the directory of which this root is in the place.
    FileSystem::Found down(Inode* directory);
    FileSystem::Found up(Inode* root);
    // All file systems: sync(2). The first error.
    Errno sync();
    // The path of a directory from the root, for getcwd(2): ends, with a terminator, at the end of `text`. Returns
    // where it begins. noent: it has been removed, or something was renamed meanwhile; range: it does not fit. Cost:
    // lists each directory above it up to its name.
    Result<u32, Errno> path_of(Inode& directory, std::span<char> text);

    static constexpr u32 kMostMounts = 8;

  private:
    struct Mount {
        Inode* directory = nullptr; // with a reference; null: free
        FileSystem* system = nullptr;
    };
    FileSystem* root_ = nullptr;
    Mutex mutex_{"of the mounts"};
    Mount mounts_[kMostMounts] LOFT_GUARDED_BY(mutex_){};
};

class Path : NotCopyable<Path> {
  public:
    // `current`: null is the root. Context of all calls: as file_system.hpp.
    Path(Tree& tree, Inode* current);
    ~Path();

    // Where the path's text goes before the walk. Null: no memory.
    char* text() const { return text_; }
    // A relative path begins at this directory, instead of `current`. Before the walk.
    void begin_at(Inode& directory);

    // parent: to the directory of the last name. node: to what the last name names. follow: the same, and if that is a
    // link, to what it leads to. Errors: noent, notdir, loop (more than kMostLinks), nametoolong, and those of
    // FileSystem::lookup.
    enum class Stop : u8 { parent, node, follow };
    Errno walk(Stop stop);

    // After a walk to `parent`. A path without a last name ("/", "..", ".") has an empty name(), and directory() is
    // what it names; last_dot: its last component was ".", or ".." (rmdir(2), rename(2) give errors of their own).
    Inode& directory() const { return *here_; }
    std::string_view name() const { return name_; }
    enum class LastDot : u8 { none, dot, dots };
    LastDot last_dot() const { return last_dot_; }
    bool wants_directory() const { return wants_directory_; } // a slash at the end
    // After a walk to `parent`: goes on to the end, as by `node` or `follow`. noent with a name() that is not empty:
    // directory() has no such name, which O_CREAT makes; empty: a directory before it is missing.
    Errno go_on(Stop stop);
    // After a walk to the end: the inode, with a reference that the caller takes over.
    Inode* take() { return std::exchange(here_, nullptr); }

    static constexpr u32 kMostLinks = 40;

  private:
    std::string_view next_name();
    void rest_is(u32 begin) { at_ = begin; }
    Errno step(std::string_view name);
    Errno enter_link(Inode& link);
    Errno to_parent();

    Tree& tree_;
    Page* frame_ = nullptr;
    char* text_ = nullptr;
    u32 at_ = 0;
    u32 links_ = 0;
    Inode* here_ = nullptr;
    std::string_view name_{};
    LastDot last_dot_ = LastDot::none;
    bool wants_directory_ = false;
};

} // namespace loft
