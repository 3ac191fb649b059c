// What a program reads and writes through a number: the console, and pipes.
#pragma once

#include "kernel/errno.hpp"
#include "mm/spinlock.hpp"

namespace loft {

struct Process;

// One end that is open somewhere. Counted: each number in each program is one user.
class File {
  public:
    // Bytes that went to, or came from, the program that runs; short where its memory or the file's end says so.
    // Preemptible context; may sleep until there is something to do, and returns Errno::intr if the program is to end.
    virtual SysResult read(UserAddr to, u32 bytes) = 0;
    virtual SysResult write(UserAddr from, u32 bytes) = 0;
    virtual void share() = 0;   // one user more
    virtual void release() = 0; // one less; preemptible context
    virtual bool is_console() const { return false; }

  protected:
    ~File() = default;
};

// Numbers 0, 1 and 2: nothing to read, and what is written becomes lines of the log, each marked with who wrote it.
File* console_file();

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
    void share_all(const FileTable& parent); // as fork does; this one is empty
    void close_all();                        // preemptible context

    // With a reference of its own, so that a thread that closes it meanwhile does no harm; release it. Null: no such
    // number.
    File* get(u32 number);
    // Takes over the reference. kMost: no number is free.
    u32 add(File* file);
    bool close(u32 number); // false: no such number

  private:
    SpinLock lock_;
    File* file_[kMost]{};
};

} // namespace loft
