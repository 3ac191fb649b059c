// Files of memory objects: reading, and the position. Contract: object_file.hpp.
#include "kernel/files/object_file.hpp"

#include "mm/spaces/user_copy.hpp"

namespace loft {

SysResult ObjectFile::read(UserAddr to, u32 bytes) {
    MutexGuard guard{mutex_};
    const SysResult moved = read_at(position_, to, bytes);
    if (!moved.failed()) position_ += static_cast<u32>(moved.value());
    return moved;
}

SysResult ObjectFile::write(UserSource& from) {
    MutexGuard guard{mutex_};
    u64 offset = position_;
    const SysResult moved = write_from(offset, from);
    if (!moved.failed()) position_ = offset + static_cast<u32>(moved.value());
    return moved;
}

SysResult ObjectFile::read_at(u64 offset, UserAddr to, u32 bytes) {
    if (const Errno error = may_be_read(); is_error(error)) return error;
    const u64 size = visible_bytes();
    if (offset >= size) return 0u;
    bytes = static_cast<u32>(std::min<u64>(bytes, size - offset));
    for (u32 done = 0; done < bytes;) {
        if (must_stop()) return done != 0 ? SysResult{done} : SysResult{Errno::intr};
        const u32 step = in_first_page(offset + done, bytes - done);
        const Result<Page*> page = object_.page(static_cast<u32>((offset + done) >> kPageShift));
        if (!page && page.error() == Error::not_found) return done; // the file became smaller meanwhile
        u32 left = 0;
        if (page) {
            left = copy_page_to_user(to + done, *page, offset_in_page(offset + done), step);
            put_page(*page);
        } else if (page.error() == Error::full) { // a hole, of a file system that has no page for it
            left = clear_user(to + done, step);
        } else {
            return done != 0 ? SysResult{done} : SysResult{page.error()};
        }
        done += step - left;
        if (left != 0) return done != 0 ? SysResult{done} : SysResult{Errno::fault};
    }
    return bytes;
}

Errno ObjectFile::seek(i64 offset, Whence whence, u64& position) {
    MutexGuard guard{mutex_};
    const i64 base = whence == Whence::begin     ? 0
                     : whence == Whence::current ? static_cast<i64>(position_)
                                                 : static_cast<i64>(visible_bytes());
    i64 wanted = 0;
    if (__builtin_add_overflow(base, offset, &wanted) || wanted < 0 || static_cast<u64>(wanted) > most_position())
        return Errno::inval;
    position = position_ = static_cast<u64>(wanted);
    return Errno{};
}

} // namespace loft
