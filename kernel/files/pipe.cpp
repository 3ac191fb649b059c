// Pipes: pages of high memory between writing and reading programs.
//
// Bytes are copied from a page of the writer to a page of the pipe and then to a page of the reader, without another
// buffer: the pipe's page is mapped by kmap_atomic, and the access to user memory may fault (copy_user_to_page,
// copy_page_to_user). What sendfile writes comes from a page of a file (ByteSource). A page is allocated when its first
// byte is written and freed when a reader has reached its end.
//
// Bytes count only when a whole step was copied: a step that faults has moved nothing. So a write of at most
// kPipeAtomic bytes, which is one step, is all or nothing, and its bytes are contiguous. Sources: pipe(7); Linux 6.1
// for the capacity of a pipe, and for what remains after a fault.
#include "kernel/files/file.hpp"
#include "kernel/threads/sync.hpp"
#include "mm/cache/memory_object.hpp"
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
    SysResult write(ByteSource& from) override;
    FileStat stat() override { return {.kind = FileKind::pipe}; }
    void share() override { users.fetch_add(1); }
    void release() override;
    bool may_read() const override;
    bool may_write() const override { return !may_read(); }
    SysResult readable_bytes() const override;
    SysResult wait_for_room(u32 least) override;
    u32 room() const override;
    void set_nonblocking(bool on) override { nonblocking.store(on); }

    Pipe* pipe = nullptr;
    hal::Atomic<u32> users{1};
    hal::Atomic<u32> nonblocking;
};

constexpr u32 kPages = 16;
constexpr u32 kRoom = kPages * kPageSize;

struct Pipe {
    PipeEnd reader, writer;
    Mutex mutex{"of a pipe"};                    // guards the ring; held while bytes are copied
    Page* page[kPages] LOFT_GUARDED_BY(mutex){}; // a ring; null: no page
    u32 begin LOFT_GUARDED_BY(mutex) = 0;        // of the bytes in the ring
    hal::Atomic<u32> bytes;                      // in the ring; also read without the mutex
    WaitQueue readable, writable;
    hal::Atomic<u32> ends{2}; // still open

    bool nobody_reads() const { return reader.users.load() == 0; }
    bool nobody_writes() const { return writer.users.load() == 0; }
    SysResult put(ByteSource& from, u32 step) LOFT_REQUIRES(mutex); // there is room for `step`
    bool take(UserAddr to, u32 step) LOFT_REQUIRES(mutex);          // `step` bytes are there
};
Cache<Pipe> pipes{"pipe", Gfp::user_low};

// Calls visit(page index, offset in it, bytes visited before, bytes in this page) for a range of the ring, until it
// returns false. The analysis of locks ends at the visitor, which says what it needs.
template <typename F> bool each_page(u32 at, u32 bytes, F&& visit) LOFT_UNCHECKED {
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

u32 PipeEnd::room() const { return kRoom - pipe->bytes.load(); }

SysResult Pipe::put(ByteSource& from, u32 step) {
    Errno why = Errno::fault;
    ByteSource source = from;
    const bool all =
        each_page((begin + bytes.load()) % kRoom, step, [&](u32 i, u32 offset, u32, u32 here) LOFT_REQUIRES(mutex) {
            if (page[i] == nullptr && (page[i] = alloc_page(Gfp::user)) == nullptr) {
                why = Errno::nomem;
                return false;
            }
            return source.copy_to_page(page[i], offset, here) == here;
        });
    if (!all) return why; // pages allocated for this step stay for the next
    from = source;
    bytes.fetch_add(step);
    return step;
}

bool Pipe::take(UserAddr to, u32 step) {
    const bool all = each_page(begin, step, [&](u32 i, u32 offset, u32 done, u32 here) LOFT_REQUIRES(mutex) {
        return copy_page_to_user(to + done, page[i], offset, here) == 0;
    });
    if (!all) return false;
    each_page(begin, step, [&](u32 i, u32 offset, u32 done, u32 here) LOFT_REQUIRES(mutex) {
        // If the ring is nearly full, the newest bytes may share the page of the oldest: then the page is still in use.
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
                continue; // another reader took them
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

SysResult PipeEnd::wait_for_room(u32 least) {
    const auto may_go_on = [&] { return room() >= least || pipe->nobody_reads(); };
    if (!may_go_on() && nonblocking.load() != 0) return Errno::again;
    // Checked even if there is room: readers as fast as the writer could otherwise keep it here forever.
    if (must_stop() || !pipe->writable.wait(may_go_on, must_stop)) return Errno::intr;
    if (!pipe->nobody_reads()) return 0u;
    signal_broken_pipe();
    return Errno::pipe;
}

SysResult PipeEnd::write(ByteSource& from) {
    const u32 all = from.left();
    u32 done = 0;
    ReclaimRounds rounds{Reclaimer::program};
    while (done < all) {
        // The free space that the next step needs: all of a write of at most kPipeAtomic bytes, any part of a longer
        // one.
        const u32 least = all <= kPipeAtomic ? all : 1;
        SysResult result = wait_for_room(least);
        if (result.failed()) return done != 0 ? SysResult{done} : result;
        {
            const MutexGuard guard{pipe->mutex};
            const u32 free = room();
            if (free < least) continue; // another writer took the room
            result = pipe->put(from, std::min({all - done, free, kPipeAtomic}));
        }
        pipe->readable.wake_all();
        if (result.value() == SysResult{Errno::nomem}.value() && rounds.another()) continue;
        if (result.failed()) return done != 0 ? SysResult{done} : result;
        rounds.begin_again();
        done += static_cast<u32>(result.value());
    }
    return done;
}

void PipeEnd::release() {
    Pipe& all = *pipe;
    if (users.fetch_sub(1) != 1) return;
    // The other end must see this before this end can be freed.
    all.readable.wake_all();
    all.writable.wake_all();
    if (all.ends.fetch_sub(1) != 1) return;
    for (Page* page : all.page)
        if (page != nullptr) put_page(page);
    pipes.destroy(&all);
}

} // namespace
} // namespace loft
