// Disks as files. Contract: disk_file.hpp.
#include "kernel/files/disk_file.hpp"

#include "kernel/files/write_back.hpp"
#include "mm/cache/disk_object.hpp"
#include "mm/ground/context.hpp"
#include "mm/windows/highmem.hpp"

#include <utility>

namespace loft {
namespace {

class DiskFile final : public ObjectFile {
  public:
    DiskFile(DiskObject& object, const OpenMode& mode) : ObjectFile{object, mode} {}

    FileStat stat() override { return {.kind = FileKind::disk, .bytes = 0}; }

  private:
    SysResult write_from(u64& offset, ByteSource& from) override;
    bool put_whole(u32 number, ByteSource& from);
    SysResult put(u64 offset, ByteSource& from, u32 bytes);
    u64 most_position() override { return object_.bytes(); }
    void destroy() override;
};
Cache<DiskFile> disk_files{"disk_file", Gfp::user_low};

// Writes a whole page that is not in memory, without reading it before. False: nothing was written, and `from` is
// unchanged: there is no memory, another thread has filled the page meanwhile, or the program's memory ends.
bool DiskFile::put_whole(u32 number, ByteSource& from) {
    ByteSource source = from;
    Page* const fresh = whole_page(source);
    if (fresh == nullptr) return false;
    if (object_.insert(number, fresh)) {
        from = source;
        return true;
    }
    put_page(fresh);
    return false;
}

// Writes `bytes` to one page; fewer if the program's memory ends.
SysResult DiskFile::put(u64 offset, ByteSource& from, u32 bytes) {
    const u32 number = static_cast<u32>(offset >> kPageShift);
    Result<Page*> page = object_.find(number);
    if (page && *page == nullptr) {
        if (bytes == kPageSize && put_whole(number, from)) return bytes;
        page = object_.page(number);
    }
    if (!page) return page.error();
    const u32 done = from.copy_to_page(*page, offset_in_page(offset), bytes);
    const bool kept = done == 0 || object_.stored_to(number);
    put_page(*page);
    return kept ? SysResult{done} : SysResult{Errno::txtbsy}; // it has just become a swap area
}

SysResult DiskFile::write_from(u64& offset, ByteSource& from) {
    const u64 size = object_.bytes();
    if (object_.is_frozen()) return Errno::txtbsy;
    if (from.left() == 0) return 0u;
    if (offset >= size) return Errno::nospc;
    return each_page(offset, static_cast<u32>(std::min<u64>(from.left(), size - offset)), [&](u64 at, u32 bytes) {
        const SysResult result = put(at, from, bytes);
        if (!result.failed()) limit_dirty_pages();
        return result;
    });
}

void DiskFile::destroy() {
    object_.put();
    disk_files.destroy(this);
}

// One object for each disk, from its first open on, or until it is no swap area any more.
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

File* open_disk(BlockDevice& disk, const OpenMode& mode) {
    DiskObject* const object = object_of(disk);
    if (object == nullptr) return nullptr;
    DiskFile* const file = disk_files.make(*object, mode);
    if (file == nullptr) object->put();
    return file;
}

Status freeze_disk(BlockDevice& disk) {
    DiskObject* const object = object_of(disk);
    if (object == nullptr) return Error::no_memory;
    object->set_frozen(true);
    const Status status = object->sync();
    object->put();
    if (!status) thaw_disk(disk);
    return status;
}

void thaw_disk(BlockDevice& disk) {
    MutexGuard guard{opening};
    for (OpenDisk& one : open_disks) {
        if (one.disk != &disk) continue;
        one.object->set_frozen(false);
        // Nobody else has it: its pages, older than what was swapped out, and the object go.
        if (one.object->leave_dirty_list()) std::exchange(one.object, nullptr)->put();
    }
}

void disk_file_init() { disk_files.reset(); }

} // namespace loft
