// What the calls on paths share: the path of a program, and references for a scope.
#pragma once

#include "kernel/files/mounts.hpp"
#include "kernel/programs/call.hpp"
#include "kernel/tree/path.hpp"

#include <utility>

namespace loft {

inline constexpr u32 kHere = 0xffff'ff9c; // AT_FDCWD
// Flags of the calls that end in `at`.
inline constexpr u32 kNoFollow = 0x100, kRemoveDirectory = 0x200, kEffective = 0x200, kFollow = 0x400,
                     kNoAutomount = 0x800, kEmptyPath = 0x1000;

constexpr SysResult result_of(Errno error) { return is_error(error) ? SysResult{error} : SysResult{0u}; }

// A reference to an inode for a scope. Preemptible context.
class Node : NotCopyable<Node> {
  public:
    explicit Node(Inode* inode = nullptr) : inode_{inode} {}
    ~Node() { set(nullptr); }
    // Takes over the caller's reference.
    void set(Inode* inode) {
        if (inode_ != nullptr) FileSystem::release(inode_);
        inode_ = inode;
    }
    Inode* take() { return std::exchange(inode_, nullptr); }
    explicit operator bool() const { return inode_ != nullptr; }
    Inode& operator*() const { return *inode_; }
    Inode* operator->() const { return inode_; }

  private:
    Inode* inode_;
};

// A frame of text or other bytes for a scope.
class Buffer : NotCopyable<Buffer> {
  public:
    Buffer() : frame_{alloc_page(Gfp::user_low)} {
        if (frame_ != nullptr) bytes_ = hal::lowmem_ptr<char>(direct_addr(page_to_pfn(frame_)));
    }
    ~Buffer() {
        if (frame_ != nullptr) put_page(frame_);
    }
    char* bytes() const { return bytes_; } // kPageSize; null: no memory

  private:
    Page* frame_;
    char* bytes_ = nullptr;
};

// A path of the program. A relative one begins at the open directory `directory`, or at the current one (kHere).
// Preemptible context.
class UserPath : NotCopyable<UserPath> {
  public:
    UserPath(Call& call, u32 directory, UserAddr text, bool may_be_empty = false)
        : path_{file_tree(), nullptr}, error_{read(call, directory, text, may_be_empty)} {}

    Errno error() const { return error_; } // of its text, or its beginning; then there is nothing else to do
    bool is_empty() const { return empty_; }
    BlockDevice* disk() const { return disk_; } // that it names as /dev/NAME; null: none
    Path* operator->() { return &path_; }

    // To the directory of the last name.
    Errno to_parent() { return is_error(error_) ? error_ : path_.walk(Path::Stop::parent); }
    // To what it names. An empty one names the current directory.
    Errno find(bool follow, Node& found);

  private:
    Errno read(Call& call, u32 directory, UserAddr from, bool may_be_empty);

    Path path_;
    bool empty_ = false;
    BlockDevice* disk_ = nullptr;
    Errno error_;
};

} // namespace loft
