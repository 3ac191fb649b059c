// Open files, and the table of a process.
#pragma once

#include "kernel/files/byte_source.hpp"
#include "kernel/tree/errno.hpp"
#include "mm/ground/spinlock.hpp"

#include <string_view>

namespace loft {

class Inode;
class ListVisitor;
class MemoryObject;

// What stat(2) says of a file.
enum class FileKind : u8 { console, pipe, disk, inode }; // inode: it has a stat of its own
struct FileStat {
    FileKind kind = FileKind::pipe;
    u64 bytes = 0;
};

enum class Whence : u8 { begin, current, end, data, hole }; // lseek(2)

// One open end. Reference-counted: each descriptor in each process is one user.
class File {
  public:
    // Return the number of bytes moved from or to the current program. It is smaller than asked for at the end of the
    // file, or if user memory ends after some bytes were moved. Preemptible context. May sleep (returns Errno::again
    // instead if non-blocking); returns Errno::intr if the program is to end.
    virtual SysResult read(UserAddr to, u32 bytes) = 0;
    virtual SysResult write(ByteSource& from) = 0;
    virtual bool is_large() const { return false; }    // O_LARGEFILE
    virtual bool has_offsets() const { return false; } // else lseek and pread fail: ESPIPE
    // At an offset, without the position of the file. A pipe and the console have none.
    virtual SysResult read_at(u64, UserAddr, u32) { return Errno::spipe; }
    virtual SysResult write_at(u64, ByteSource&) { return Errno::spipe; }
    // Waits until a write of so many bytes, at most kPipeAtomic, would not wait for a reader. Errors: those of write.
    virtual SysResult wait_for_room(u32) { return 0u; }
    // The bytes that a write takes without that wait.
    virtual u32 room() const { return ~0u; }
    // Writes `bytes` from an offset of this file to another one, page by page, and returns how many it has written.
    // Fewer: this file ends, or `to` takes no more, or has no room for one more page without a wait. Errors: inval if
    // this file has no pages that could be mapped; else those of reading this file and of writing to the other one, if
    // nothing was written. The caller has waited for room; if there is none for the first page any more, it waits, with
    // a reference to the page but without a map.
    virtual SysResult send_at(u64, File&, u32) { return Errno::inval; }
    // O_APPEND: each write goes to the end.
    virtual bool appends() const { return false; }
    // Sets the position, and returns it. Errno{}: success. Data and holes: of files of a file system only; nxio.
    virtual Errno seek(i64, Whence, u64&) { return Errno::spipe; }
    // Makes durable what was written. Error invalid: it is nothing that lasts (fsync(2): EINVAL).
    virtual Status sync() { return Error::invalid; }
    // The same for a caller that holds no mutex but that of the open file: if memory is short, reclaim may wait.
    Status sync_reclaiming();
    virtual FileStat stat() = 0;
    // The pages of the file, for mmap; null: it cannot be mapped. Valid as long as the file has a user.
    virtual MemoryObject* object() { return nullptr; }
    // The inode of a file that a path has named; null: it is another kind of file. Valid as long as the file has a
    // user.
    virtual Inode* inode() { return nullptr; }
    // Calls `visitor` for the entries of a directory from its position on, which moves (kernel/tree/file_system.hpp).
    virtual Errno list(ListVisitor&) { return Errno::notdir; }

    virtual void share() = 0;   // adds a user
    virtual void release() = 0; // removes a user; preemptible context

    virtual bool may_read() const = 0;
    virtual bool may_write() const = 0;
    // Pipe: number of bytes that can be read. Otherwise Errno::notty.
    virtual SysResult readable_bytes() const { return Errno::notty; }
    // O_NONBLOCK: applies to all users of this end.
    virtual void set_nonblocking(bool) {}

  protected:
    ~File() = default;
};

// --- Up-calls, defined by kernel/programs/process.cpp: what a file needs from the current program. Any thread context.

// True if the current program is to end: a sleeping system call must return. False for a kernel thread.
bool must_stop();
// Sends SIGPIPE to the current thread: it writes to a pipe without readers.
void signal_broken_pipe();
// Writes to the console of the current program. A thread of a program, preemptible context.
void write_output(std::string_view text);

// Descriptors 0, 1 and 2. Reads return end of file; written text becomes log lines, each marked with its program.
File* console_file();

// PIPE_BUF, pipe(7): the bytes of a write of at most this size are contiguous in the pipe.
inline constexpr u32 kPipeAtomic = 4096;

// Makes a pipe with two ends; false if there is no memory. Preemptible context.
struct PipeEnds {
    File* read = nullptr;
    File* write = nullptr;
};
[[nodiscard]] bool make_pipe(PipeEnds& ends);

// The file descriptors of a process.
class FileTable {
  public:
    static constexpr u32 kMost = 16;

    void open_console();
    void share_all(FileTable& parent); // for fork; this table is empty, and no other thread uses it yet
    void close_all();                  // preemptible context

    // Returns the file with a reference of its own, which the caller releases: another thread may close the descriptor
    // meanwhile. Null: no such descriptor.
    File* get(u32 number);
    // Reserves a descriptor: it is taken, but get and close do not find it yet. kMost: none is free. The caller then
    // calls open, which takes over the reference, or cancel.
    u32 reserve();
    void open(u32 number, File* file);
    void cancel(u32 number);
    bool close(u32 number); // false: no such descriptor

  private:
    SpinLock lock_;
    File* file_[kMost] LOFT_GUARDED_BY(lock_){};
    u32 reserved_ LOFT_GUARDED_BY(lock_) = 0; // one bit per descriptor
};

} // namespace loft
