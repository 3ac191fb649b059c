// Superblock, groups, free blocks and inodes. Contract: volume.hpp.
#include "kernel/ext2/volume.hpp"

#include "arch/base/panic.hpp"
#include "kernel/tree/file_system.hpp"

#include <algorithm>
#include <bit>

namespace loft::ext2 {
namespace {

// The number of a zero bit of a bitmap in [begin, end), or `end`.
u32 zero_bit(const MetaBlock& bitmap, u32 begin, u32 end) {
    const LocalMap map{bitmap.page()};
    for (u32 at = begin; at < end;) {
        const u32 word = hal::load<u32>(map.addr() + at / 32 * 4) | ((1u << at % 32) - 1);
        if (word != ~0u) return std::min(end, at / 32 * 32 + static_cast<u32>(std::countr_one(word)));
        at = at / 32 * 32 + 32;
    }
    return end;
}
bool bit_is_set(const MetaBlock& bitmap, u32 bit) { return (bitmap.get<u32>(bit / 32 * 4) >> bit % 32 & 1) != 0; }
void set_bit(MetaBlock& bitmap, u32 bit, bool on) {
    const u32 word = bitmap.get<u32>(bit / 32 * 4), mask = 1u << bit % 32;
    bitmap.put<u32>(bit / 32 * 4, on ? word | mask : word & ~mask);
}

// With sparse_super, groups 0, 1 and the powers of 3, 5 and 7 have copies of superblock and descriptors.
bool has_copies(u32 group) {
    if (group <= 1) return true;
    for (const u32 base : {3u, 5u, 7u}) {
        u32 left = group;
        while (left % base == 0)
            left /= base;
        if (left == 1) return true;
    }
    return false;
}

} // namespace

// --- Opening and closing.

Status Volume::open(BlockDevice& disk, bool read_only) {
    LOFT_ASSERT(meta_ == nullptr);
    disk_ = &disk;
    read_only_.store(read_only ? 1 : 0);
    is_damaged_.store(0);
    is_unclean_.store(0);
    flush_failed_.store(0);
    writable_ = false;
    Status status = read_super();
    if (status) status = check_groups();
    if (status && !is_read_only()) {
        released_ = alloc_page(Gfp::kernel);
        if (released_ == nullptr) status = Error::no_memory;
    }
    if (status && !is_read_only()) {
        MutexGuard guard{space_};
        released_count_ = 0;
        status = write_super(false);
        if (status) status = make_durable();
        writable_ = true;
    }
    if (!status) {
        read_only_.store(1);
        (void)close();
    }
    return status;
}

Status Volume::close() {
    Status status;
    if (writable_ && !is_read_only()) {
        status = sync();
        MutexGuard guard{space_};
        if (released_count_ != 0) leave_unclean();
        if (is_unclean_.load() != 0)
            log(LogLevel::warn, "ext2", "{}: blocks or inodes were not freed; it is not clean, e2fsck can repair it",
                disk_->name());
        if (status) status = write_super(is_unclean_.load() == 0);
        if (status) status = make_durable();
    }
    if (released_ != nullptr) free_page(released_);
    released_ = nullptr;
    if (meta_ != nullptr) {
        // The list of dirty objects may still have it. What a failing disk does not take stays there.
        if (writable_) (void)write_back_all();
        meta_->put();
    }
    meta_ = nullptr;
    return status;
}

Status Volume::read_super() {
    // With the smallest blocks first: it is block 1 then.
    meta_ = MetaObject::create(*disk_, 2, KiB);
    if (meta_ == nullptr) return Error::no_memory;
    if (disk_->sectors() < 2 * kSuperAt / kSectorBytes) return Error::invalid;
    u32 log_block = 0;
    {
        const MetaBlock block{*meta_, 1};
        if (!block) return block.error();
        if (block.get<u16>(super::kMagic) != kMagic) return Error::invalid;
        log_block = block.get<u32>(super::kLogBlock);
        blocks_ = block.get<u32>(super::kBlocks);
    }
    const char* const name = disk_->name();
    if (log_block > 2) {
        log(LogLevel::error, "ext2", "{}: blocks of more than 4 KiB", name);
        return Error::out_of_reach;
    }
    block_bytes_ = KiB << log_block;
    const u64 there = disk_->sectors() / (block_bytes_ / kSectorBytes);
    if (blocks_ > there || blocks_ < 8) return damaged("number of blocks", blocks_);
    if (blocks_ > PageIndex::kMaxPages) {
        log(LogLevel::error, "ext2", "{}: {} blocks are too many", name, blocks_);
        return Error::out_of_reach;
    }
    meta_->put();
    meta_ = MetaObject::create(*disk_, blocks_, block_bytes_);
    if (meta_ == nullptr) return Error::no_memory;

    const MetaBlock block{*meta_, super_block()};
    if (!block) return block.error();
    const auto word = [&](u32 field) { return block.get<u32>(super_at(field)); };
    const auto half = [&](u32 field) { return u32{block.get<u16>(super_at(field))}; };
    revision_ = word(super::kRevision);
    if (revision_ > 1) {
        log(LogLevel::error, "ext2", "{}: revision {}", name, revision_);
        return Error::out_of_reach;
    }
    const bool has_features = revision_ == 1;
    const u32 incompatible = has_features ? word(super::kIncompatible) : 0;
    const u32 ro_compatible = has_features ? word(super::kReadOnlyCompatible) : 0;
    if (const u32 unknown = incompatible & ~kIncompatibleTypes; unknown != 0) {
        log(LogLevel::error, "ext2", "{}: incompatible features {:x}", name, unknown);
        return Error::out_of_reach;
    }
    if (const u32 unknown = ro_compatible & ~(kReadOnlySparse | kReadOnlyLarge | kReadOnlyTree);
        unknown != 0 && !is_read_only()) {
        log(LogLevel::warn, "ext2", "{}: read-only because of features {:x}", name, unknown);
        read_only_.store(1);
    }
    if (half(super::kState) != kStateClean && !is_read_only()) {
        log(LogLevel::warn, "ext2", "{}: read-only, because it is not clean; e2fsck can repair it", name);
        read_only_.store(1);
    }
    has_types_ = (incompatible & kIncompatibleTypes) != 0;
    sparse_ = (ro_compatible & kReadOnlySparse) != 0;
    inode_bytes_ = has_features ? half(super::kInodeBytes) : kRawBytes;
    first_inode_ = has_features ? word(super::kFirstInode) : kOldFirstInode;
    extra_bytes_ = 0;
    if (inode_bytes_ > kRawBytes) {
        extra_bytes_ = half(super::kExtraBytes) & ~3u;
        if (extra_bytes_ < 4 || extra_bytes_ > inode_bytes_ - kRawBytes) extra_bytes_ = 4;
    }
    inodes_ = word(super::kInodes);
    first_block_ = word(super::kFirstBlock);
    blocks_per_group_ = word(super::kBlocksPerGroup);
    inodes_per_group_ = word(super::kInodesPerGroup);
    reserved_descriptors_ = half(super::kReservedDescriptors);
    const u32 most = 8 * block_bytes_;
    if (!std::has_single_bit(inode_bytes_) || inode_bytes_ < kRawBytes || inode_bytes_ > block_bytes_)
        return damaged("size of an inode", inode_bytes_);
    if (first_block_ != super_block() - (block_bytes_ == KiB ? 0 : super_block()))
        return damaged("first block", first_block_);
    if (blocks_per_group_ == 0 || blocks_per_group_ > most || blocks_per_group_ % 8 != 0)
        return damaged("blocks in a group", blocks_per_group_);
    if (inodes_per_group_ == 0 || inodes_per_group_ > most || inodes_per_group_ % 8 != 0 ||
        inodes_per_group_ % (block_bytes_ / inode_bytes_) != 0)
        return damaged("inodes in a group", inodes_per_group_);
    if (word(super::kLogFragment) != log_block || word(super::kFragmentsPerGroup) != blocks_per_group_)
        return damaged("size of a fragment", word(super::kLogFragment));
    groups_ = (blocks_ - first_block_ + blocks_per_group_ - 1) / blocks_per_group_;
    if (u64{groups_} * inodes_per_group_ != inodes_) return damaged("number of inodes", inodes_);
    if (first_inode_ < kOldFirstInode || first_inode_ > inodes_) return damaged("first inode", first_inode_);
    descriptor_blocks_ = static_cast<u32>((u64{groups_} * kGroupBytes + block_bytes_ - 1) / block_bytes_);
    if (descriptor_blocks_ + reserved_descriptors_ + 1 >= blocks_per_group_)
        return damaged("descriptors in a group", reserved_descriptors_);
    return {};
}

Status Volume::check_groups() {
    MutexGuard guard{space_};
    free_blocks_ = free_inodes_ = 0;
    for (u32 i = 0; i < groups_; ++i) {
        const Result<Group> one = group(i);
        if (!one) return one.error();
        free_blocks_ += one->free_blocks;
        free_inodes_ += one->free_inodes;
    }
    return {};
}

Error Volume::damaged(const char* what, u64 where) {
    if (is_damaged_.load() == 0)
        log(LogLevel::error, "ext2", "{}: damaged: {} ({}); it takes no changes any more, e2fsck can repair it",
            disk_->name(), what, where);
    is_damaged_.store(1);
    read_only_.store(1);
    return Error::corrupt;
}

Status Volume::write_super(bool clean) {
    MetaBlock block{*meta_, super_block()};
    if (!block) return block.error();
    if (!writable_) { // it is being opened
        block.put<u32>(super_at(super::kMountTime), file_time());
        block.put<u16>(super_at(super::kMounts), static_cast<u16>(block.get<u16>(super_at(super::kMounts)) + 1));
    }
    block.put<u32>(super_at(super::kFreeBlocks), free_blocks_);
    block.put<u32>(super_at(super::kFreeInodes), free_inodes_);
    block.put<u32>(super_at(super::kWriteTime), file_time());
    block.put<u16>(super_at(super::kState), static_cast<u16>(clean ? kStateClean : 0));
    return {};
}

Status Volume::note_large_file() {
    MutexGuard guard{space_};
    MetaBlock block{*meta_, super_block()};
    if (!block) return block.error();
    const u32 features = block.get<u32>(super_at(super::kReadOnlyCompatible));
    if ((features & kReadOnlyLarge) != 0) return {};
    if (revision_ == 0) return Error::invalid;
    block.put<u32>(super_at(super::kReadOnlyCompatible), features | kReadOnlyLarge);
    return {};
}

// --- Groups.

u32 Volume::descriptor_block(u32 number) const { return first_block_ + 1 + number / (block_bytes_ / kGroupBytes); }

Result<Volume::Group> Volume::group(u32 number) {
    u32 word[5];
    {
        const MetaBlock block{*meta_, descriptor_block(number)};
        if (!block) return block.error();
        block.copy_out(word, number % (block_bytes_ / kGroupBytes) * kGroupBytes, sizeof word);
    }
    Group group{.block_bitmap = word[0],
                .inode_bitmap = word[1],
                .inode_table = word[2],
                .free_blocks = word[3] & 0xffff,
                .free_inodes = word[3] >> 16,
                .first = first_block_of_group(number)};
    group.blocks = std::min(blocks_per_group_, blocks_ - group.first);
    group.own = !sparse_ || has_copies(number) ? 1 + descriptor_blocks_ + reserved_descriptors_ : 0;
    const u32 table_blocks = inodes_per_group_ / (block_bytes_ / inode_bytes_);
    const auto inside = [&](u32 block, u32 count) {
        return block >= group.first + group.own && block - group.first < group.blocks &&
               count <= group.blocks - (block - group.first);
    };
    const auto in_table = [&](u32 block) {
        return block >= group.inode_table && block - group.inode_table < table_blocks;
    };
    if (!inside(group.block_bitmap, 1) || !inside(group.inode_bitmap, 1) || !inside(group.inode_table, table_blocks) ||
        group.block_bitmap == group.inode_bitmap || in_table(group.block_bitmap) || in_table(group.inode_bitmap))
        return damaged("descriptor of a group", number);
    if (group.free_blocks > group.blocks || group.free_inodes > inodes_per_group_)
        return damaged("counts of a group", number);
    return group;
}

bool Volume::is_own(const Group& group, u32 block) const {
    return block - group.first < group.own || block == group.block_bitmap || block == group.inode_bitmap ||
           (block >= group.inode_table &&
            block - group.inode_table < inodes_per_group_ / (block_bytes_ / inode_bytes_));
}

Result<bool> Volume::is_data(u32 block) {
    if (block < first_block_ || block >= blocks_) return false;
    const Result<Group> one = group((block - first_block_) / blocks_per_group_);
    if (!one) return one.error();
    return !is_own(*one, block);
}

Result<Volume::Place> Volume::place_of(u32 inode) {
    if (!is_inode(inode)) return damaged("number of an inode", inode);
    const Result<Group> one = group(group_of_inode(inode));
    if (!one) return one.error();
    const u32 index = (inode - 1) % inodes_per_group_, in_block = block_bytes_ / inode_bytes_;
    return Place{one->inode_table + index / in_block, index % in_block * inode_bytes_};
}

void Volume::add_counts(MetaBlock& descriptors, u32 number, int blocks, int inodes, int directories) {
    const u32 at = number % (block_bytes_ / kGroupBytes) * kGroupBytes;
    const auto add = [&](u32 field, int change) {
        if (change == 0) return;
        descriptors.put<u16>(at + field, static_cast<u16>(descriptors.get<u16>(at + field) + change));
    };
    add(group::kFreeBlocks, blocks);
    add(group::kFreeInodes, inodes);
    add(group::kDirectories, directories);
    free_blocks_ += static_cast<u32>(blocks);
    free_inodes_ += static_cast<u32>(inodes);
}

// --- Blocks.

// A free block of the group from bit `from` on, then before it. 0: none.
Result<u32> Volume::take_in_group(u32 number, u32 from) {
    const Result<Group> one = group(number);
    if (!one) return one.error();
    if (one->free_blocks == 0) return 0u;
    MetaBlock bitmap{*meta_, one->block_bitmap};
    if (!bitmap) return bitmap.error();
    MetaBlock descriptors{*meta_, descriptor_block(number)};
    if (!descriptors) return descriptors.error();
    if (from >= one->blocks) from = 0;
    u32 bit = zero_bit(bitmap, from, one->blocks);
    if (bit == one->blocks) {
        bit = zero_bit(bitmap, 0, from);
        if (bit == from) return damaged("count of free blocks of a group", number);
    }
    const u32 block = one->first + bit;
    if (is_own(*one, block)) return damaged("a block of the system is free", block);
    set_bit(bitmap, bit, true);
    add_counts(descriptors, number, -1, 0, 0);
    return block;
}

Result<u32> Volume::take_block_locked(u32 goal) {
    if (is_read_only()) return Error::corrupt; // it was writable when the call began
    if (goal < first_block_ || goal >= blocks_) goal = first_block_;
    const u32 first = (goal - first_block_) / blocks_per_group_;
    for (bool again = false;; again = true) {
        for (u32 i = 0; i < groups_; ++i) {
            const u32 number = (first + i) % groups_;
            const u32 from = i == 0 ? (goal - first_block_) % blocks_per_group_ : 0;
            const Result<u32> block = take_in_group(number, from);
            if (!block || *block != 0) return block;
        }
        if (again || released_count_ == 0) return Error::full;
        if (const Status status = commit_locked(); !status) return status.error();
    }
}

Result<u32> Volume::take_block(u32 goal) {
    MutexGuard guard{space_};
    return take_block_locked(goal);
}

Result<u32> Volume::take_block_for(u32 goal, void (*init)(MetaBlock&, const void*), const void* argument) {
    const Result<u32> taken = take_block(goal);
    if (!taken) return taken;
    {
        // Its old contents are not read if it is not in memory.
        if (Page* const fresh = alloc_page(Gfp::user)) {
            clear_highpage(fresh);
            if (!meta_->insert(*taken, fresh)) put_page(fresh);
        }
        MetaBlock block{*meta_, *taken};
        if (!block) {
            give_back(*taken);
            return block.error();
        }
        block.zero(0, block_bytes_);
        if (init != nullptr) init(block, argument);
    }
    const Status status = make_durable(*taken, *taken + 1);
    if (status) return taken;
    leave_unclean(); // it stays in use: its page is dirty, and would overwrite what the block has next
    return status.error();
}

void Volume::give_back(u32 block) {
    MutexGuard guard{space_};
    if (const Status status = free_block(block); !status && status.error() != Error::corrupt) add_released(block, 0);
}

Status Volume::free_block(u32 block) {
    const u32 number = (block - first_block_) / blocks_per_group_;
    const Result<Group> one = group(number);
    if (!one) return one.error();
    MetaBlock bitmap{*meta_, one->block_bitmap};
    if (!bitmap) return bitmap.error();
    MetaBlock descriptors{*meta_, descriptor_block(number)};
    if (!descriptors) return descriptors.error();
    if (!bit_is_set(bitmap, block - one->first)) return damaged("a block was free already", block);
    set_bit(bitmap, block - one->first, false);
    add_counts(descriptors, number, 1, 0, 0);
    return {};
}

// An indirect block is freed before those below it. So each is visited once, also in a tree with a circle. A tree below
// it that cannot be freed now is kept; an error says that the root is in use still.
Status Volume::free_tree(u32 root, u32 level) {
    const Result<bool> valid = is_data(root);
    if (!valid) return valid.error();
    if (!*valid) return damaged("number of a block", root);
    if (level == 0) return free_block(root);
    const MetaBlock block{*meta_, root};
    if (!block) return block.error();
    if (const Status status = free_block(root); !status) return status;
    for (u32 at = 0; at < block_bytes_; at += 4) {
        const u32 below = block.get<u32>(at);
        if (below == 0) continue;
        if (const Status status = free_tree(below, level - 1); !status && status.error() != Error::corrupt)
            keep(below, level - 1);
    }
    return {};
}

void Volume::drop_attributes(u32 number) {
    const Result<bool> valid = is_data(number);
    if (!valid) return leave_unclean();
    MetaBlock block{*meta_, *valid ? number : super_block()};
    if (!block) return leave_unclean();
    const u32 users = block.get<u32>(attributes::kUsers);
    if (!*valid || block.get<u32>(0) != attributes::kMagic || users == 0)
        static_cast<void>(damaged("block of attributes", number));
    else if (users > 1)
        block.put<u32>(attributes::kUsers, users - 1);
    else
        release(number, 0);
}

Result<u32> Volume::count_tree(u32 root, u32 level, u32& left) {
    const Result<bool> valid = is_data(root);
    if (!valid) return valid.error();
    if (!*valid || left == 0) return damaged("number of a block", root);
    --left;
    if (level == 0) return 1u;
    const MetaBlock block{*meta_, root};
    if (!block) return block.error();
    u32 sum = 1;
    for (u32 at = 0; at < block_bytes_; at += 4) {
        const u32 below = block.get<u32>(at);
        if (below == 0) continue;
        const Result<u32> one = count_tree(below, level - 1, left);
        if (!one) return one;
        sum += *one;
    }
    return sum;
}

Result<u32> Volume::count(u32 root, u32 level) {
    u32 left = blocks_;
    return count_tree(root, level, left);
}

// --- Inodes.

Result<u32> Volume::take_inode_in(u32 number, bool directory) {
    const Result<Group> one = group(number);
    if (!one) return one.error();
    if (one->free_inodes == 0) return 0u;
    MetaBlock bitmap{*meta_, one->inode_bitmap};
    if (!bitmap) return bitmap.error();
    MetaBlock descriptors{*meta_, descriptor_block(number)};
    if (!descriptors) return descriptors.error();
    const u32 begin = number == 0 ? first_inode_ - 1 : 0;
    const u32 bit = begin < inodes_per_group_ ? zero_bit(bitmap, begin, inodes_per_group_) : inodes_per_group_;
    if (bit == inodes_per_group_) return damaged("count of free inodes of a group", number);
    const u32 inode = number * inodes_per_group_ + bit + 1;
    set_bit(bitmap, bit, true);
    add_counts(descriptors, number, 0, -1, directory ? 1 : 0);
    return inode;
}

Result<u32> Volume::take_inode(u32 parent, bool directory) {
    MutexGuard guard{space_};
    if (is_read_only()) return Error::corrupt;
    for (bool again = false;; again = true) {
        u32 first = group_of_inode(parent);
        if (directory) {
            u32 most = 0;
            for (u32 i = 0; i < groups_; ++i) {
                const Result<Group> one = group(i);
                if (!one) return one.error();
                if (one->free_inodes == 0 || one->free_blocks <= most) continue;
                most = one->free_blocks;
                first = i;
            }
        }
        for (u32 i = 0; i < groups_; ++i) {
            const Result<u32> inode = take_inode_in((first + i) % groups_, directory);
            if (!inode || *inode != 0) return inode;
        }
        if (again || released_count_ == 0) return Error::full;
        if (const Status status = commit_locked(); !status) return status.error();
    }
}

Status Volume::free_inode(u32 inode, bool directory) {
    const u32 number = group_of_inode(inode), bit = (inode - 1) % inodes_per_group_;
    const Result<Group> one = group(number);
    if (!one) return one.error();
    MetaBlock bitmap{*meta_, one->inode_bitmap};
    if (!bitmap) return bitmap.error();
    MetaBlock descriptors{*meta_, descriptor_block(number)};
    if (!descriptors) return descriptors.error();
    if (!bit_is_set(bitmap, bit)) return damaged("an inode was free already", inode);
    set_bit(bitmap, bit, false);
    add_counts(descriptors, number, 0, 1, directory ? -1 : 0);
    return {};
}

// --- What is durable.

u64 Volume::released(u32 at) const {
    u64 word = 0;
    memcpy_from_page(&word, released_, at * sizeof word, sizeof word);
    return word;
}
void Volume::set_released(u32 at, u64 word) { memcpy_to_page(released_, at * sizeof word, &word, sizeof word); }

void Volume::add_released(u32 number, u32 level) {
    if (released_count_ == kMostReleased) (void)commit_locked();
    if (released_count_ == kMostReleased) return leave_unclean(); // the disk fails, or there is no memory
    set_released(released_count_++, u64{level} << 32 | number);
}

void Volume::release(u32 root, u32 level) {
    MutexGuard guard{space_};
    add_released(root, level);
}
void Volume::release_inode(u32 inode, bool directory) {
    MutexGuard guard{space_};
    add_released(inode, directory ? kDirectoryInode : kInode);
}

// Inside of a commit: what cannot be freed is tried again in the next one.
void Volume::keep(u32 number, u32 level) {
    if (kept_ == released_count_) return leave_unclean(); // no room
    set_released(--kept_, u64{level} << 32 | number);
}

// A flush that fails may lose what was written before, in any order, and these blocks are not dirty any more: what was
// released may have a user on the disk for ever. So nothing is durable from there on.
Status Volume::make_durable(u32 begin, u32 end) {
    const Status written = meta_->write_back(begin, end);
    BlockRequest flush{BlockOp::flush};
    if (const Status flushed = disk_->run(flush); !flushed) {
        static_cast<void>(damaged("flush of the disk", 0));
        flush_failed_.store(1);
    }
    return flush_failed_.load() != 0 ? Status{Error::io} : written;
}

Status Volume::commit_locked() {
    if (const Status status = make_durable(); !status) return status;
    kept_ = kMostReleased;
    while (released_count_ != 0) {
        const u64 word = released(--released_count_);
        const u32 number = static_cast<u32>(word), level = static_cast<u32>(word >> 32);
        const Status status = level < kInode ? free_tree(number, level) : free_inode(number, level == kDirectoryInode);
        // Damage has been logged; what it is about stays in use.
        if (!status && status.error() != Error::corrupt) keep(number, level);
    }
    while (kept_ != kMostReleased)
        set_released(released_count_++, released(kept_++));
    return {};
}

Status Volume::commit() {
    MutexGuard guard{space_};
    return commit_locked();
}

Status Volume::sync() {
    MutexGuard guard{space_};
    if (released_count_ != 0)
        if (const Status status = commit_locked(); !status) return status;
    if (writable_)
        if (const Status status = write_super(false); !status) return status;
    return make_durable();
}

Volume::Free Volume::free_counts() {
    MutexGuard guard{space_};
    return {free_blocks_, free_inodes_};
}

} // namespace loft::ext2
