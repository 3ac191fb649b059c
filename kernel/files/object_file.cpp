// Files of memory objects: reading, and the position. Contract: object_file.hpp.
#include "kernel/files/object_file.hpp"

#include "mm/spaces/user_copy.hpp"
#include "mm/windows/highmem.hpp"

namespace loft {

SysResult ObjectFile::read(UserAddr to, u32 bytes) {
    MutexGuard guard{mutex_};
    const SysResult moved = read_at(position_, to, bytes);
    if (!moved.failed()) position_ += static_cast<u32>(moved.value());
    return moved;
}

SysResult ObjectFile::write(ByteSource& from) {
    MutexGuard guard{mutex_};
    u64 offset = position_;
    const SysResult moved = write_durable(offset, from);
    if (!moved.failed()) position_ = offset + static_cast<u32>(moved.value());
    return moved;
}

SysResult ObjectFile::write_durable(u64& offset, ByteSource& from) {
    const SysResult written = write_from(offset, from);
    if (!mode_.synchronous || written.failed() || written.value() == 0) return written;
    const Status synced = sync_reclaiming();
    return synced ? written : SysResult{synced.error()};
}

template <typename F> SysResult ObjectFile::each_page_of_file(u64 offset, u32 bytes, F&& take) {
    if (const Errno error = may_be_read(); is_error(error)) return error;
    ReclaimRounds rounds{Reclaimer::program};
    for (u32 done = 0; done < bytes;) {
        if (must_stop()) return done != 0 ? SysResult{done} : SysResult{Errno::intr};
        const u64 here = offset + done;
        if (here >= MemoryObject::kMaxBytes) return done;
        const u32 number = static_cast<u32>(here >> kPageShift);
        u64 size = 0;
        Result<Page*> page = object_.find(number, &size);
        size = visible(size);
        if (here >= size) {
            if (page && *page != nullptr) put_page(*page);
            return done;
        }
        if (page && *page == nullptr) page = object_.page(number);
        if (!page && page.error() == Error::not_found) return done; // the file became smaller meanwhile
        if (!page && page.error() == Error::no_memory && rounds.another()) continue;
        if (!page && page.error() != Error::full) return done != 0 ? SysResult{done} : SysResult{page.error()};
        rounds.begin_again();
        Page* const there = page ? *page : nullptr; // else a hole, of a file system that has no page for it
        const u32 wanted = in_first_page(here, bytes - done),
                  step = static_cast<u32>(std::min<u64>(wanted, size - here));
        const SysResult taken = take(there, offset_in_page(here), step, done);
        if (there != nullptr) put_page(there);
        if (taken.failed()) return done != 0 ? SysResult{done} : taken;
        done += static_cast<u32>(taken.value());
        if (static_cast<u32>(taken.value()) != wanted) return done;
    }
    return bytes;
}

SysResult ObjectFile::read_at(u64 offset, UserAddr to, u32 bytes) {
    return each_page_of_file(offset, bytes, [&](Page* page, u32 at, u32 step, u32 done) -> SysResult {
        const u32 left = page != nullptr ? copy_page_to_user(to + done, page, at, step) : clear_user(to + done, step);
        return left == step ? SysResult{Errno::fault} : SysResult{step - left};
    });
}

Page* ObjectFile::whole_page(ByteSource& source) {
    static_cast<void>(reclaim_frames(Reclaimer::transfer)); // before it takes the last frames
    Page* const fresh = alloc_page(Gfp::user);
    if (fresh == nullptr || source.copy_to_page(fresh, 0, kPageSize) == kPageSize) return fresh;
    put_page(fresh);
    return nullptr;
}

SysResult ObjectFile::send_at(u64 offset, File& to, u32 bytes) {
    if (object() == nullptr) return Errno::inval;
    return each_page_of_file(offset, bytes, [&](Page* page, u32 at, u32 step, u32 done) -> SysResult {
        if (done != 0 && to.room() < step) return 0u;
        Page* zeros = nullptr;
        if (page == nullptr) {
            for (ReclaimRounds rounds{Reclaimer::program};
                 (zeros = alloc_page(Gfp::user)) == nullptr && rounds.another();) {
            }
            if (zeros == nullptr) return Errno::nomem;
            clear_highpage(zeros);
        }
        ByteSource from = ByteSource::of_page(page != nullptr ? page : zeros, at, step);
        const SysResult written = to.write(from);
        if (zeros != nullptr) put_page(zeros);
        return written;
    });
}

Errno ObjectFile::seek(i64 offset, Whence whence, u64& position) {
    MutexGuard guard{mutex_};
    if (whence == Whence::data || whence == Whence::hole) { // as if all of it were data: the one hole is behind the end
        const u64 end = visible(object_.bytes());
        if (offset < 0 || static_cast<u64>(offset) >= end) return Errno::nxio;
        position = position_ = whence == Whence::data ? static_cast<u64>(offset) : end;
        return Errno{};
    }
    const i64 base = whence == Whence::begin     ? 0
                     : whence == Whence::current ? static_cast<i64>(position_)
                                                 : static_cast<i64>(visible(object_.bytes()));
    i64 wanted = 0;
    if (__builtin_add_overflow(base, offset, &wanted) || wanted < 0 || static_cast<u64>(wanted) > most_position())
        return Errno::inval;
    position = position_ = static_cast<u64>(wanted);
    return Errno{};
}

} // namespace loft
