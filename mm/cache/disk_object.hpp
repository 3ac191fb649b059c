// A whole disk as a memory object: page n has the sectors from 8n on. What file systems read and write beside the pages
// of their files, and what a program sees that opens the disk itself.
#pragma once

#include "mm/cache/block.hpp"
#include "mm/cache/memory_object.hpp"

namespace loft {

class DiskObject : public MemoryObject {
  public:
    // An object of the whole disk, reference count 1; the disk must live longer. Of a disk beyond kMaxBytes, the first
    // kMaxBytes. Null: no memory. Context: any but NMI.
    [[nodiscard]] static DiskObject* create(BlockDevice& disk);

    // Writes all dirty pages, and then the disk's write cache: what was stored before the call is durable when it
    // returns success. Errors: io, timed_out, gone. Preemptible context as MemoryObject::page().
    [[nodiscard]] Status sync() override;
    BlockDevice& disk() const { return disk_; }

  protected:
    explicit DiskObject(BlockDevice& disk, bool reads_ahead = true);
    // The first sector of a page. Context as fill.
    virtual u64 sector_of(u32 page) const { return u64{page} * kSectorsPerPage; }
    static constexpr u32 kSectorsPerPage = kPageSize / kSectorBytes;
    ~DiskObject() = default;
    Status fill(u32 first, std::span<Page* const> frames) override;
    Status store(u32 first, std::span<Page* const> frames) override;
    void destroy() override;

  private:
    friend class Cache<DiskObject>;
    Status transfer(BlockOp op, u32 first, std::span<Page* const> frames);

    BlockDevice& disk_;
};

u32 disk_objects_in_use(); // of the whole machine; any context but NMI
void disk_object_init();   // boot; after the object cache

} // namespace loft
