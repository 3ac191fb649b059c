// Pipes: a page of high memory between a program that writes and one that reads.
//
// The bytes go from a page of one program to this page and on to a page of another, with nothing in between: the page
// is reached through kmap_atomic while the program's side may fault (copy_user_to_page, copy_page_to_user).
#include "kernel/file.hpp"
#include "kernel/process.hpp"
#include "kernel/sync.hpp"
#include "mm/slab.hpp"
#include "mm/user_copy.hpp"

#include <algorithm>

namespace loft {
namespace {

struct Pipe;

class PipeEnd final : public File {
  public:
    PipeEnd() = default;
    SysResult read(UserAddr to, u32 bytes) override;
    SysResult write(UserAddr from, u32 bytes) override;
    void share() override { users.fetch_add(1); }
    void release() override;

    Pipe* pipe = nullptr;
    hal::Atomic<u32> users{1};
};

struct Pipe {
    PipeEnd reader, writer;
    Page* page = nullptr;
    Mutex mutex{"of a pipe"}; // what follows; held while bytes are copied
    u32 begin = 0;            // of the bytes in the page: a ring
    hal::Atomic<u32> bytes;   // looked at without the mutex, too
    WaitQueue readable, writable;
    hal::Atomic<u32> ends{2}; // that are still open
};
Cache<Pipe> pipes{"pipe", Gfp::user_low};

} // namespace

bool make_pipe(PipeEnds& ends) {
    Pipe* pipe = pipes.make();
    if (pipe == nullptr) return false;
    pipe->page = alloc_page(Gfp::user);
    if (pipe->page == nullptr) {
        pipes.destroy(pipe);
        return false;
    }
    pipe->reader.pipe = pipe->writer.pipe = pipe;
    ends = {&pipe->reader, &pipe->writer};
    return true;
}

namespace {

SysResult PipeEnd::read(UserAddr to, u32 bytes) {
    if (this != &pipe->reader) return Errno::badf;
    if (bytes == 0) return 0u;
    const auto nobody_writes = [this] { return pipe->writer.users.load() == 0; };
    for (;;) {
        const auto something = [&] { return pipe->bytes.load() != 0 || nobody_writes(); };
        if (!pipe->readable.wait(something, must_stop)) return Errno::intr;
        u32 got = 0;
        bool fault = false;
        {
            const MutexGuard guard{pipe->mutex};
            if (pipe->bytes.load() == 0) {
                if (nobody_writes()) return 0u;
                continue; // somebody else was faster
            }
            while (got < bytes && pipe->bytes.load() != 0 && !fault) {
                const u32 step = std::min({bytes - got, pipe->bytes.load(), kPageSize - pipe->begin});
                const u32 left = copy_page_to_user(to + got, pipe->page, pipe->begin, step);
                fault = left != 0;
                got += step - left;
                pipe->begin = (pipe->begin + step - left) % kPageSize;
                pipe->bytes.fetch_sub(step - left);
            }
        }
        pipe->writable.wake_all();
        if (got == 0) return Errno::fault;
        return got;
    }
}

SysResult PipeEnd::write(UserAddr from, u32 bytes) {
    if (this != &pipe->writer) return Errno::badf;
    const auto nobody_reads = [this] { return pipe->reader.users.load() == 0; };
    u32 put = 0;
    bool fault = false;
    while (put < bytes && !fault) {
        const auto room = [&] { return pipe->bytes.load() != kPageSize || nobody_reads(); };
        if (!pipe->writable.wait(room, must_stop)) break;
        if (nobody_reads()) break;
        {
            const MutexGuard guard{pipe->mutex};
            while (put < bytes && pipe->bytes.load() != kPageSize && !fault) {
                const u32 end = (pipe->begin + pipe->bytes.load()) % kPageSize;
                const u32 room_here = std::min(kPageSize - pipe->bytes.load(), kPageSize - end);
                const u32 step = std::min(bytes - put, room_here);
                const u32 left = copy_user_to_page(pipe->page, end, from + put, step);
                fault = left != 0;
                put += step - left;
                pipe->bytes.fetch_add(step - left);
            }
        }
        pipe->readable.wake_all();
    }
    if (put != 0 || bytes == 0) return put;
    return fault ? Errno::fault : nobody_reads() ? Errno::pipe : Errno::intr;
}

void PipeEnd::release() {
    Pipe& all = *pipe;
    if (users.fetch_sub(1) != 1) return;
    // The other side has to see it before this one is gone for good.
    all.readable.wake_all();
    all.writable.wake_all();
    if (all.ends.fetch_sub(1) != 1) return;
    put_page(all.page);
    pipes.destroy(&all);
}

} // namespace
} // namespace loft
