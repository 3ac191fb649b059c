// A disk as a memory object. Contract: disk_object.hpp.
#include "mm/cache/disk_object.hpp"

#include "mm/windows/highmem.hpp"

#include <algorithm>

namespace loft {
namespace {

Cache<DiskObject> disk_cache{"disk_object", Gfp::kernel};

} // namespace

DiskObject::DiskObject(BlockDevice& disk, bool reads_ahead)
    : MemoryObject{std::min(disk.sectors() << kSectorShift, kMaxBytes), ObjectKind::written_back, reads_ahead},
      disk_{disk} {}

DiskObject* DiskObject::create(BlockDevice& disk) { return disk_cache.make(disk); }

// One request for as many pages as the disk takes at once, whose sectors follow one another. The last page of the disk
// may have fewer sectors.
Status DiskObject::transfer(BlockOp op, u32 first, std::span<Page* const> frames) {
    const u32 most = disk_.limits().parts;
    for (u32 done = 0; done < frames.size();) {
        const u64 begin = sector_of(first + done);
        BlockRequest request{op, begin};
        for (u32 parts = 0; parts < most && done < frames.size(); ++parts, ++done) {
            const u64 at = begin + u64{parts} * kSectorsPerPage;
            if (parts != 0 && sector_of(first + done) != at) break;
            const u32 bytes = static_cast<u32>(std::min<u64>(disk_.sectors() - at, kSectorsPerPage)) * kSectorBytes;
            LOFT_ASSERT(request.add(frames[done], 0, bytes));
            if (op == BlockOp::read) zero_user(frames[done], bytes, kPageSize);
        }
        if (const Status status = disk_.run(request); !status) return status;
    }
    return {};
}

Status DiskObject::fill(u32 first, std::span<Page* const> frames) { return transfer(BlockOp::read, first, frames); }
Status DiskObject::store(u32 first, std::span<Page* const> frames) { return transfer(BlockOp::write, first, frames); }

Status DiskObject::sync() {
    const Status written = write_back();
    BlockRequest flush{BlockOp::flush};
    const Status flushed = disk_.run(flush);
    return written ? flushed : written;
}

void DiskObject::destroy() { disk_cache.destroy(this); }

u32 disk_objects_in_use() { return disk_cache.stats().objects; }
void disk_object_init() { disk_cache.reset(); }

} // namespace loft
