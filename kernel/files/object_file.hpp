// Open files whose bytes are the pages of a memory object: what disks and the files of a file system have in common.
//
// read and write copy between the program and the pages of the object: a page is mapped by kmap_atomic, where a fault
// of the program's memory ends the copy early; then nothing is held but a reference to the page and the mutexes of the
// open file and of the file's size, which no fault needs; the fault is resolved, and the copy is tried again
// (mm/spaces/user_copy.hpp). So a program may read a file into a mapping of the same file.
//
// What a file does under the mutexes of its object may end without memory, because it waits for no other thread there.
// Here reclaim may wait, and the page is tried again (docs/disks.md, "Who may wait for whom").
//
// Sources: read(2), pread(2), lseek(2), fsync(2), mmap(2).
#pragma once

#include "kernel/files/file.hpp"
#include "mm/cache/memory_object.hpp"

#include <algorithm>

namespace loft {

// The size of a file above which open(2) asks for O_LARGEFILE, and to which others write.
inline constexpr u64 kMostSmallBytes = 0x7fff'ffff;

// What open(2) asked for.
struct OpenMode {
    bool reads = false, writes = false;
    bool appends = false;     // O_APPEND
    bool synchronous = false; // O_DSYNC: a write returns when its bytes are durable
    bool large = false;       // O_LARGEFILE: the program knows files of more than kMostSmallBytes
};

class ObjectFile : public File {
  public:
    SysResult read(UserAddr to, u32 bytes) final;
    SysResult write(ByteSource& from) final;
    SysResult read_at(u64 offset, UserAddr to, u32 bytes) final;
    SysResult write_at(u64 offset, ByteSource& from) final { return write_durable(offset, from); }
    SysResult send_at(u64 offset, File& to, u32 bytes) final;
    bool appends() const final { return mode_.appends; }
    Errno seek(i64 offset, Whence whence, u64& position) final;
    Status sync() override { return object_.sync(); }
    bool has_offsets() const final { return true; }
    MemoryObject* object() override { return &object_; }

    void share() final { users_.fetch_add(1); }
    void release() final {
        if (users_.fetch_sub(1) == 1) destroy();
    }
    bool may_read() const final { return mode_.reads; }
    bool may_write() const final { return mode_.writes; }
    bool is_large() const final { return mode_.large; }

  protected:
    ObjectFile(MemoryObject& object, const OpenMode& mode) : object_{object}, mode_{mode} {}
    ~ObjectFile() = default;

    // Writes at `offset`, or, with O_APPEND, at the end; `offset` becomes that of the first byte. The result is that of
    // write(2).
    virtual SysResult write_from(u64& offset, ByteSource& from) = 0;
    // Calls put(offset, bytes) for one page after the other, until it returns an error, or that it has written fewer
    // bytes because the program's memory ends. The result is that of write(2).
    template <typename F> SysResult each_page(u64 offset, u32 bytes, F&& put);
    // A new frame with the next page of bytes from `source`. Null: there is no memory, or that of the program ends;
    // then the source must not be used any more. Preemptible context; the caller has the only reference.
    static Page* whole_page(ByteSource& source);
    // Calls take(page, offset in it, bytes, bytes before) for one page of the file after the other, up to its end,
    // until it returns an error or fewer bytes. The page is null if it is a hole for which there is none. The result is
    // that of read(2).
    template <typename F> SysResult each_page_of_file(u64 offset, u32 bytes, F&& take);
    // The last user has gone. Preemptible context.
    virtual void destroy() = 0;
    // Errors of read(2) that the kind of file has; Errno{}: it can be read.
    virtual Errno may_be_read() const { return Errno{}; }
    // How much of the object's size reads see.
    virtual u64 visible(u64 bytes) { return bytes; }
    // The greatest position.
    virtual u64 most_position() = 0;

    MemoryObject& object_;
    const OpenMode mode_;
    Mutex mutex_{"of an open file"};
    u64 position_ LOFT_GUARDED_BY(mutex_) = 0;

  private:
    // write_from; with O_DSYNC its bytes are durable then. The mutex of the file's size is not held any more.
    SysResult write_durable(u64& offset, ByteSource& from);

    hal::Atomic<u32> users_{1};
};

constexpr u32 offset_in_page(u64 offset) { return static_cast<u32>(offset) & ~kPageMask; }
// The bytes of a range that lie in its first page.
constexpr u32 in_first_page(u64 offset, u32 bytes) { return std::min(bytes, kPageSize - offset_in_page(offset)); }

template <typename F> SysResult ObjectFile::each_page(u64 offset, u32 bytes, F&& put) {
    u32 done = 0;
    SysResult problem = 0u;
    ReclaimRounds rounds{Reclaimer::program};
    while (done < bytes && !problem.failed()) {
        if (must_stop()) {
            problem = Errno::intr;
            break;
        }
        const u32 step = in_first_page(offset + done, bytes - done);
        const SysResult here = put(offset + done, step);
        if (here.value() == SysResult{Errno::nomem}.value() && rounds.another()) continue;
        rounds.begin_again();
        const u32 written = here.failed() ? 0 : static_cast<u32>(here.value());
        done += written;
        problem = here.failed() || written == step ? here : Errno::fault;
    }
    return done != 0 ? SysResult{done} : problem;
}

} // namespace loft
