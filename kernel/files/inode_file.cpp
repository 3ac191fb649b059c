// Open inodes. Contract: inode_file.hpp.
#include "kernel/files/inode_file.hpp"

#include "kernel/files/write_back.hpp"

namespace loft {
namespace {

class InodeFile final : public ObjectFile {
  public:
    InodeFile(Inode& inode, const OpenMode& mode) : ObjectFile{inode, mode}, inode_{inode} {}

    FileStat stat() override { return {.kind = FileKind::inode, .bytes = 0}; }
    Status sync() override {
        const Status synced = inode_.sync();
        if (synced || synced.error() != Error::full || !inode_.system().free_unused()) return synced;
        return inode_.sync();
    }
    MemoryObject* object() override { return inode_.kind() == InodeKind::file ? &inode_ : nullptr; }
    Inode* inode() override { return &inode_; }
    Errno list(ListVisitor& visitor) override {
        MutexGuard guard{mutex_};
        return inode_.system().list(inode_, position_, visitor);
    }

  private:
    SysResult write_from(u64& offset, ByteSource& from) override;
    SysResult write_once(u64& offset, ByteSource& from);
    SysResult put(u64 offset, ByteSource& from, u32 bytes);
    Errno may_be_read() const override { return inode_.is_directory() ? Errno::isdir : Errno{}; }
    u64 visible(u64 bytes) override { return inode_.visible(bytes); }
    u64 most_position() override {
        return inode_.kind() == InodeKind::file ? inode_.system().most_bytes() : ~u64{0} >> 1;
    }
    void destroy() override;

    Inode& inode_;
};
Cache<InodeFile> inode_files{"inode_file", Gfp::user_low};

// Writes `bytes` to one page; fewer if the program's memory ends. The writer's mutex is held. A whole page behind the
// end is not in memory: it is copied to a frame, which becomes the page, so that nobody clears or reads it before.
SysResult InodeFile::put(u64 offset, ByteSource& from, u32 bytes) {
    FileSystem& system = inode_.system();
    ByteSource rest = from;
    Page* const whole = bytes == kPageSize && offset >= inode_.settled_bytes() ? whole_page(rest) : nullptr;
    const Result<FileSystem::Part, Errno> part = system.begin_page(inode_, offset, bytes, whole);
    if (whole != nullptr) put_page(whole);
    if (!part) return part.error();
    u32 copied = bytes;
    if (part->page == whole)
        from = rest;
    else
        copied = from.copy_to_page(part->page, offset_in_page(offset), bytes);
    const Errno error = system.end_page(inode_, *part, offset, copied);
    return is_error(error) ? SysResult{error} : SysResult{copied};
}

SysResult InodeFile::write_from(u64& offset, ByteSource& from) {
    const SysResult written = write_once(offset, from);
    const bool is_full = written.failed() && written.value() == SysResult{Errno::nospc}.value();
    return is_full && inode_.system().free_unused() ? write_once(offset, from) : written;
}

SysResult InodeFile::write_once(u64& offset, ByteSource& from) {
    if (from.left() == 0) return 0u;
    MutexGuard guard{inode_.system().writer_of(inode_)};
    if (mode_.appends) offset = inode_.settled_bytes();
    const u64 most = std::min(inode_.system().most_bytes(), mode_.large ? ~u64{0} : kMostSmallBytes);
    if (offset >= most) return Errno::fbig;
    return each_page(offset, static_cast<u32>(std::min<u64>(from.left(), most - offset)), [&](u64 at, u32 bytes) {
        const SysResult done = put(at, from, bytes);
        if (!done.failed() && inode_.is_written_back()) limit_dirty_pages();
        return done;
    });
}

void InodeFile::destroy() {
    FileSystem::release(&inode_);
    inode_files.destroy(this);
}

} // namespace

File* open_inode(Inode& inode, const OpenMode& mode) { return inode_files.make(inode, mode); }

void inode_file_init() { inode_files.reset(); }

} // namespace loft
