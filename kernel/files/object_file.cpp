// Files of memory objects. Contract: object_file.hpp.
#include "kernel/files/object_file.hpp"

#include "kernel/files/write_back.hpp"
#include "mm/cache/disk_object.hpp"
#include "mm/ground/context.hpp"
#include "mm/spaces/user_copy.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>

namespace loft {
namespace {

class ObjectFile final : public File {
  public:
    ObjectFile(MemoryObject& object, bool reads, bool writes, bool synchronous)
        : object_{object}, reads_{reads}, writes_{writes}, synchronous_{synchronous} {}

    SysResult read(UserAddr to, u32 bytes) override {
        MutexGuard guard{mutex_};
        const SysResult moved = read_at(position_, to, bytes);
        if (!moved.failed()) position_ += static_cast<u32>(moved.value());
        return moved;
    }
    SysResult write(UserSource& from) override {
        MutexGuard guard{mutex_};
        const SysResult moved = write_at(position_, from);
        if (!moved.failed()) position_ += static_cast<u32>(moved.value());
        return moved;
    }
    SysResult read_at(u64 offset, UserAddr to, u32 bytes) override;
    SysResult write_at(u64 offset, UserSource& from) override;
    Errno seek(i64 offset, Whence whence, u64& position) override;
    Status sync() override { return object_.sync(); }
    bool has_offsets() const override { return true; }
    FileStat stat() override { return {.kind = FileKind::disk, .bytes = 0}; }
    MemoryObject* object() override { return &object_; }

    void share() override { users_.fetch_add(1); }
    void release() override;
    bool may_read() const override { return reads_; }
    bool may_write() const override { return writes_; }

  private:
    bool put_whole(u32 number, UserSource& from);
    Status put(u64 offset, UserSource& from, u32 bytes, u32& done);

    hal::Atomic<u32> users_{1};
    MemoryObject& object_;
    const bool reads_, writes_, synchronous_;
    Mutex mutex_{"of an open file"};
    u64 position_ LOFT_GUARDED_BY(mutex_) = 0;
};
Cache<ObjectFile> object_files{"object_file", Gfp::user_low};

constexpr u32 page_number(u64 offset) { return static_cast<u32>(offset >> kPageShift); }
constexpr u32 offset_in_page(u64 offset) { return static_cast<u32>(offset) & ~kPageMask; }
// The bytes of a range that lie in its first page.
constexpr u32 in_first_page(u64 offset, u32 bytes) { return std::min(bytes, kPageSize - offset_in_page(offset)); }

SysResult ObjectFile::read_at(u64 offset, UserAddr to, u32 bytes) {
    const u64 size = object_.bytes();
    if (offset >= size) return 0u;
    bytes = static_cast<u32>(std::min<u64>(bytes, size - offset));
    for (u32 done = 0; done < bytes;) {
        if (must_stop()) return done != 0 ? SysResult{done} : SysResult{Errno::intr};
        const u32 step = in_first_page(offset + done, bytes - done);
        const Result<Page*> page = object_.page(page_number(offset + done));
        if (!page) return done != 0 ? SysResult{done} : SysResult{page.error()};
        const u32 left = copy_page_to_user(to + done, *page, offset_in_page(offset + done), step);
        put_page(*page);
        done += step - left;
        if (left != 0) return done != 0 ? SysResult{done} : SysResult{Errno::fault};
    }
    return bytes;
}

// Writes a whole page that is not in memory, without reading it before. False: nothing was written, and `from` is
// unchanged: there is no memory, another thread has filled the page meanwhile, or the program's memory ends.
bool ObjectFile::put_whole(u32 number, UserSource& from) {
    static_cast<void>(reclaim_frames(Reclaimer::transfer)); // before it takes the last frames
    Page* const fresh = alloc_page(Gfp::user);
    if (fresh == nullptr) return false;
    UserSource source = from;
    if (source.copy_to_page(fresh, 0, kPageSize) == kPageSize && object_.insert(number, fresh)) {
        from = source;
        return true;
    }
    put_page(fresh);
    return false;
}

// Writes `bytes` to one page; `done` becomes the number of those that were written: fewer if the program's memory ends.
Status ObjectFile::put(u64 offset, UserSource& from, u32 bytes, u32& done) {
    done = 0;
    const u32 number = page_number(offset);
    Result<Page*> page = object_.find(number);
    if (page && *page == nullptr) {
        if (bytes == kPageSize && put_whole(number, from)) {
            done = bytes;
            return {};
        }
        page = object_.page(number);
    }
    if (!page) return page.error();
    done = from.copy_to_page(*page, offset_in_page(offset), bytes);
    if (done != 0) object_.stored_to(number);
    put_page(*page);
    return {};
}

SysResult ObjectFile::write_at(u64 offset, UserSource& from) {
    const u64 size = object_.bytes();
    if (from.left() == 0) return 0u;
    if (offset >= size) return Errno::nospc;
    const u32 bytes = static_cast<u32>(std::min<u64>(from.left(), size - offset));
    u32 done = 0;
    Status status;
    bool faulted = false;
    while (done < bytes && !faulted) {
        if (must_stop()) break;
        const u32 step = in_first_page(offset + done, bytes - done);
        u32 here = 0;
        status = put(offset + done, from, step, here);
        if (!status) break;
        done += here;
        faulted = here < step;
        limit_dirty_pages();
    }
    if (synchronous_ && done != 0)
        if (const Status synced = sync(); !synced) return synced.error();
    if (done != 0) return done;
    return !status ? SysResult{status.error()} : faulted ? Errno::fault : Errno::intr;
}

Errno ObjectFile::seek(i64 offset, Whence whence, u64& position) {
    MutexGuard guard{mutex_};
    const i64 size = static_cast<i64>(object_.bytes());
    const i64 base = whence == Whence::begin ? 0 : whence == Whence::current ? static_cast<i64>(position_) : size;
    i64 wanted = 0;
    if (__builtin_add_overflow(base, offset, &wanted) || wanted < 0 || wanted > size) return Errno::inval;
    position = position_ = static_cast<u64>(wanted);
    return Errno{};
}

void ObjectFile::release() {
    if (users_.fetch_sub(1) != 1) return;
    object_.put();
    object_files.destroy(this);
}

// One object for each disk, from its first open on.
struct OpenDisk {
    BlockDevice* disk = nullptr;
    DiskObject* object = nullptr;
};
constexpr u32 kMostDisks = 16;
constinit Mutex opening{"of the disks' objects"};
OpenDisk open_disks[kMostDisks] LOFT_GUARDED_BY(opening);

DiskObject* object_of(BlockDevice& disk) {
    MutexGuard guard{opening};
    for (OpenDisk& one : open_disks) {
        if (one.disk != nullptr && one.disk != &disk) continue;
        if (one.object == nullptr) one.object = DiskObject::create(disk);
        if (one.object == nullptr) return nullptr;
        one.disk = &disk;
        one.object->get();
        return one.object;
    }
    return nullptr;
}

} // namespace

File* open_disk(BlockDevice& disk, bool reads, bool writes, bool synchronous) {
    DiskObject* const object = object_of(disk);
    if (object == nullptr) return nullptr;
    ObjectFile* const file = object_files.make(*object, reads, writes, synchronous);
    if (file == nullptr) object->put();
    return file;
}

void object_file_init() { object_files.reset(); }

} // namespace loft
