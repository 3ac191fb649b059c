// Blocks that are not data of files. Contract: meta.hpp.
#include "kernel/ext2/meta.hpp"

#include <algorithm>

namespace loft::ext2 {
namespace {

Cache<MetaObject> meta_cache{"ext2_meta", Gfp::kernel};

} // namespace

Status BlockRun::add(u64 sector, Page* page, u32 offset, u32 bytes) {
    const u32 parts = request_.parts();
    const bool follows = parts != 0 && request_.sector() + request_.sectors() == sector;
    if (parts != 0 && (!follows || parts == disk_.limits().parts))
        if (const Status status = finish(); !status) return status;
    if (request_.parts() == 0) request_.reuse(request_.op(), sector);
    LOFT_ASSERT(request_.add(page, offset, bytes));
    return {};
}

Status BlockRun::finish() {
    if (request_.parts() == 0) return {};
    const Status status = disk_.run(request_);
    request_.reuse(request_.op(), 0);
    return status;
}

MetaObject* MetaObject::create(BlockDevice& disk, u32 blocks, u32 block_bytes) {
    return meta_cache.make(disk, blocks, block_bytes);
}

Status MetaObject::transfer(BlockOp op, u32 first, std::span<Page* const> frames) {
    BlockRun run{disk_, op};
    for (u32 i = 0; i < frames.size(); ++i) {
        const u64 sector = u64{first + i} * (block_bytes_ / kSectorBytes);
        if (op == BlockOp::read) zero_user(frames[i], block_bytes_, kPageSize);
        if (const Status status = run.add(sector, frames[i], 0, block_bytes_); !status) return status;
    }
    return run.finish();
}

void MetaObject::destroy() { meta_cache.destroy(this); }

void meta_init() { meta_cache.reset(); }

} // namespace loft::ext2
