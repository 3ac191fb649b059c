// Pipes: pages of high memory between programs that write and programs that read.
//
// The bytes go from a page of one program to a page of the pipe and on to a page of another, with nothing in between:
// the pipe's page is reached through kmap_atomic while the program's side may fault (copy_user_to_page,
// copy_page_to_user). A page is taken when the first byte is put into it and given back when it has been read to its
// end.
//
// What is copied counts only when all of a step is there: a step that ends in a fault has put, or taken, nothing. So a
// write of at most kPipeAtomic bytes, which is one step, is all or nothing, and its bytes lie together. Sources:
// pipe(7); Linux 6.1 for how much a pipe holds, and for what a fault leaves.
#include "kernel/files/file.hpp"
#include "kernel/threads/sync.hpp"
#include "mm/frames/slab.hpp"
#include "mm/spaces/user_copy.hpp"

#include <algorithm>

namespace loft {
namespace {

struct Pipe;

class PipeEnd final : public File {
  public:
    PipeEnd() = default;
    SysResult read(UserAddr to, u32 bytes) override;
    SysResult write(UserSource& from) override;
    void share() override { users.fetch_add(1); }
    void release() override;
    bool may_read() const override;
    bool may_write() const override { return !may_read(); }
    SysResult readable_bytes() const override;
    void set_nonblocking(bool on) override { nonblocking.store(on); }

    Pipe* pipe = nullptr;
    hal::Atomic<u32> users{1};
    hal::Atomic<u32> nonblocking;
};

constexpr u32 kPages = 16;
constexpr u32 kRoom = kPages * kPageSize;

struct Pipe {
    PipeEnd reader, writer;
    Mutex mutex{"of a pipe"}; // what follows; held while bytes are copied
    Page* page[kPages]{};     // a ring; null where there are no bytes
    u32 begin = 0;            // of the bytes in it
    hal::Atomic<u32> bytes;   // looked at without the mutex, too
    WaitQueue readable, writable;
    hal::Atomic<u32> ends{2}; // that are still open

    bool nobody_reads() const { return reader.users.load() == 0; }
    bool nobody_writes() const { return writer.users.load() == 0; }
    SysResult put(UserSource& from, u32 step); // under the mutex; there is room
    bool take(UserAddr to, u32 step);          // under the mutex; so many are there
};
Cache<Pipe> pipes{"pipe", Gfp::user_low};

// visit(which page, offset in it, how many bytes before, how many here) for a part of the ring; until it returns false.
template <typename F> bool each_page(u32 at, u32 bytes, F&& visit) {
    for (u32 done = 0; done < bytes;) {
        const u32 here = (at + done) % kRoom, offset = here % kPageSize;
        const u32 step = std::min(bytes - done, kPageSize - offset);
        if (!visit(here / kPageSize, offset, done, step)) return false;
        done += step;
    }
    return true;
}

} // namespace

bool make_pipe(PipeEnds& ends) {
    Pipe* pipe = pipes.make();
    if (pipe == nullptr) return false;
    pipe->reader.pipe = pipe->writer.pipe = pipe;
    ends = {&pipe->reader, &pipe->writer};
    return true;
}

namespace {

bool PipeEnd::may_read() const { return this == &pipe->reader; }

SysResult PipeEnd::readable_bytes() const { return pipe->bytes.load(); }

SysResult Pipe::put(UserSource& from, u32 step) {
    Errno why = Errno::fault;
    const bool all = each_page((begin + bytes.load()) % kRoom, step, [&](u32 i, u32 offset, u32, u32 here) {
        if (page[i] == nullptr && (page[i] = alloc_page(Gfp::user)) == nullptr) {
            why = Errno::nomem;
            return false;
        }
        return from.copy_to_page(page[i], offset, here);
    });
    if (!all) return why; // a page that was taken for it stays for the next
    bytes.fetch_add(step);
    return step;
}

bool Pipe::take(UserAddr to, u32 step) {
    const bool all = each_page(begin, step, [&](u32 i, u32 offset, u32 done, u32 here) {
        return copy_page_to_user(to + done, page[i], offset, here) == 0;
    });
    if (!all) return false;
    each_page(begin, step, [&](u32 i, u32 offset, u32 done, u32 here) {
        // The newest bytes may lie in the lower part of the page whose upper part was the oldest.
        const bool used = bytes.load() - done - here > kRoom - kPageSize;
        if (offset + here != kPageSize || used) return true;
        put_page(page[i]);
        page[i] = nullptr;
        return true;
    });
    begin = (begin + step) % kRoom;
    bytes.fetch_sub(step);
    return true;
}

SysResult PipeEnd::read(UserAddr to, u32 wanted) {
    if (wanted == 0) return 0u;
    for (;;) {
        const auto something = [&] { return pipe->bytes.load() != 0 || pipe->nobody_writes(); };
        if (!something() && nonblocking.load() != 0) return Errno::again;
        if (!pipe->readable.wait(something, must_stop)) return Errno::intr;
        u32 got = 0;
        bool fault = false;
        {
            const MutexGuard guard{pipe->mutex};
            if (pipe->bytes.load() == 0) {
                if (pipe->nobody_writes()) return 0u;
                continue; // another reader was faster
            }
            while (got < wanted && pipe->bytes.load() != 0 && !fault) {
                const u32 step = std::min({wanted - got, pipe->bytes.load(), kPageSize});
                fault = !pipe->take(to + got, step);
                if (!fault) got += step;
            }
        }
        pipe->writable.wake_all();
        if (got == 0) return Errno::fault;
        return got;
    }
}

SysResult PipeEnd::write(UserSource& from) {
    const u32 all = from.left();
    u32 done = 0;
    const auto ended = [&](Errno why) { return done != 0 ? SysResult{done} : SysResult{why}; };
    while (done < all) {
        // What has to fit at once; of more than kPipeAtomic, any part.
        const u32 least = all <= kPipeAtomic ? all : 1;
        const auto room = [&] { return kRoom - pipe->bytes.load() >= least || pipe->nobody_reads(); };
        if (!room() && nonblocking.load() != 0) return ended(Errno::again);
        // Also where there is room: readers that are as fast as the writer make room as long as it writes.
        if (must_stop() || !pipe->writable.wait(room, must_stop)) return ended(Errno::intr);
        if (pipe->nobody_reads()) {
            signal_broken_pipe();
            return ended(Errno::pipe);
        }
        SysResult result = 0u;
        {
            const MutexGuard guard{pipe->mutex};
            const u32 free = kRoom - pipe->bytes.load();
            if (free < least) continue; // another writer was faster
            result = pipe->put(from, std::min({all - done, free, kPipeAtomic}));
        }
        pipe->readable.wake_all();
        if (result.failed()) return done != 0 ? SysResult{done} : result;
        done += static_cast<u32>(result.value());
    }
    return done;
}

void PipeEnd::release() {
    Pipe& all = *pipe;
    if (users.fetch_sub(1) != 1) return;
    // The other side has to see it before this one is gone for good.
    all.readable.wake_all();
    all.writable.wake_all();
    if (all.ends.fetch_sub(1) != 1) return;
    for (Page* page : all.page)
        if (page != nullptr) put_page(page);
    pipes.destroy(&all);
}

} // namespace
} // namespace loft
