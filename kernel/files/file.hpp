// What a program reads and writes through a number: the console, and pipes.
#pragma once

#include "kernel/files/errno.hpp"
#include "kernel/files/user_source.hpp"
#include "mm/ground/spinlock.hpp"

#include <string_view>

namespace loft {

// One end that is open somewhere. Counted: each number in each program is one user.
class File {
  public:
    // Bytes that went to, or came from, the program that runs; fewer where the file's end says so, or where its memory
    // ends after some have been moved. Preemptible context; may sleep until there is something to do (again, if
    // nonblocking), and returns Errno::intr if the program is to end.
    virtual SysResult read(UserAddr to, u32 bytes) = 0;
    virtual SysResult write(UserSource& from) = 0;
    virtual void share() = 0;   // one user more
    virtual void release() = 0; // one less; preemptible context

    virtual bool is_console() const { return false; }
    virtual bool may_read() const = 0;
    virtual bool may_write() const = 0;
    // A pipe: how many bytes can be read. Errno::notty elsewhere.
    virtual SysResult readable_bytes() const { return Errno::notty; }
    // O_NONBLOCK, of all who have this end.
    virtual void set_nonblocking(bool) {}

  protected:
    ~File() = default;
};

// --- Up-calls, defined by kernel/programs/process.cpp: what a file asks of the program that calls. Any thread context.

// The program is to end: whoever sleeps for it stops. False for a thread of the kernel.
bool must_stop();
// Nobody reads what it writes: SIGPIPE.
void signal_broken_pipe();
// To its console. A thread of a program, preemptible context.
void write_output(std::string_view text);

// Numbers 0, 1 and 2: nothing to read, and what is written becomes lines of the log, each marked with who wrote it.
File* console_file();

// pipe(7): a write of so many bytes or fewer is not mixed with those of others.
inline constexpr u32 kPipeAtomic = 4096;

// Two ends of a new pipe; false if there is no memory. Preemptible context.
struct PipeEnds {
    File* read = nullptr;
    File* write = nullptr;
};
[[nodiscard]] bool make_pipe(PipeEnds& ends);

// The numbers of a program.
class FileTable {
  public:
    static constexpr u32 kMost = 16;

    void open_console();
    void share_all(FileTable& parent); // as fork does; this one is empty, and nobody else knows it
    void close_all();                  // preemptible context

    // With a reference of its own, so that a thread that closes it meanwhile does no harm; release it. Null: no such
    // number.
    File* get(u32 number);
    // A number that is nobody's yet: it is not free any more, and get and close do not know it. kMost: none is free.
    // Then open it, which takes over the reference, or cancel it.
    u32 reserve();
    void open(u32 number, File* file);
    void cancel(u32 number);
    bool close(u32 number); // false: no such number

  private:
    SpinLock lock_;
    File* file_[kMost] LOFT_GUARDED_BY(lock_){};
    u32 reserved_ LOFT_GUARDED_BY(lock_) = 0; // a bit for each number
};

} // namespace loft
