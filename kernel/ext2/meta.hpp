// The blocks of an ext2 file system that are not data of files: superblock, descriptors, bitmaps, inodes, indirect
// blocks, directories.
//
// They are the pages of one memory object for each mounted file system: page n has block n, whatever the size of a
// block, and the rest of the page is unused. So what is written back is exactly the blocks that were changed. If a page
// had several blocks, a changed one would carry old contents of its neighbours to the disk, which may be data of files.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "mm/cache/block.hpp"
#include "mm/cache/memory_object.hpp"
#include "mm/windows/highmem.hpp"

#include <utility>

namespace loft::ext2 {

class MetaObject final : public MemoryObject {
  public:
    // The first `blocks` blocks of `block_bytes` bytes. They are on the disk. Null: no memory.
    [[nodiscard]] static MetaObject* create(BlockDevice& disk, u32 blocks, u32 block_bytes);

    u32 block_bytes() const { return block_bytes_; }
    bool serves_others() const override { return true; } // blocks are looked up while files are filled and stored
    bool has_reserve() const override { return true; }   // a change of several blocks must not end in its middle

  private:
    friend class Cache<MetaObject>;
    MetaObject(BlockDevice& disk, u32 blocks, u32 block_bytes)
        : MemoryObject{u64{blocks} << kPageShift, ObjectKind::written_back}, disk_{disk}, block_bytes_{block_bytes} {}
    Status fill(u32 first, std::span<Page* const> frames) override { return transfer(BlockOp::read, first, frames); }
    Status store(u32 first, std::span<Page* const> frames) override { return transfer(BlockOp::write, first, frames); }
    void destroy() override;
    Status transfer(BlockOp op, u32 first, std::span<Page* const> frames);

    BlockDevice& disk_;
    const u32 block_bytes_;
};

// A block, read if it is not in memory, with a reference until the end of the scope. Each access maps it for a moment,
// so accesses never nest and the caller may sleep between two of them.
class MetaBlock : NotCopyable<MetaBlock> {
  public:
    // Preemptible context; may wait for the disk. Errors: io, timed_out, gone, no_memory.
    MetaBlock(MetaObject& object, u32 number) : object_{object}, number_{number} {
        const Result<Page*> page = object.page(number);
        page ? static_cast<void>(page_ = *page) : static_cast<void>(status_ = page.error());
    }
    ~MetaBlock() {
        tell();
        if (page_ != nullptr) put_page(page_);
    }
    explicit operator bool() const { return page_ != nullptr; }
    Error error() const { return status_.error(); }
    u32 number() const { return number_; }
    Page* page() const { return page_; }
    void changed() { changed_ = true; }
    // The changes so far are part of the next sync. At the end of the scope, too.
    void tell() {
        if (std::exchange(changed_, false)) object_.stored_to(number_);
    }

    template <typename T> T get(u32 at) const {
        const LocalMap map{page_};
        return hal::load<T>(map.addr() + at);
    }
    template <typename T> void put(u32 at, T value) {
        const LocalMap map{page_};
        hal::store<T>(map.addr() + at, value);
        changed_ = true;
    }
    void copy_out(void* to, u32 at, u32 bytes) const { memcpy_from_page(to, page_, at, bytes); }
    void copy_in(u32 at, const void* from, u32 bytes) {
        memcpy_to_page(page_, at, from, bytes);
        changed_ = true;
    }
    void zero(u32 at, u32 bytes) {
        zero_user(page_, at, at + bytes);
        changed_ = true;
    }

  private:
    MetaObject& object_;
    const u32 number_;
    Page* page_ = nullptr;
    Status status_;
    bool changed_ = false;
};

// Requests for blocks that are appended in order: those that follow one another on the disk share a request.
class BlockRun : NotCopyable<BlockRun> {
  public:
    BlockRun(BlockDevice& disk, BlockOp op) : disk_{disk}, request_{op} {}
    // Appends sectors; runs the request so far if they do not continue it. The error of a request that has ended.
    [[nodiscard]] Status add(u64 sector, Page* page, u32 offset, u32 bytes);
    [[nodiscard]] Status finish(); // runs what is left

  private:
    BlockDevice& disk_;
    BlockRequest request_;
};

void meta_init(); // boot; after the object cache

} // namespace loft::ext2
