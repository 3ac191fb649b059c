// An ext2 file system below its files: superblock, groups, free blocks and inodes, and what is durable when.
//
// No number from the disk is used before it was checked. What contradicts the format is reported once in the log, the
// file system takes no changes any more, and the call ends with Error::corrupt.
//
// A power cut leaves what was durable, and of the later writes any sectors. So that e2fsck(8) then loses nothing that
// was durable, these rules hold:
//
//     1  A block that becomes an indirect block or one of a directory is initialised on the disk before anything refers
//        to it (take_block_for). So nothing interprets what it had before.
//     2  A block or inode that nothing refers to any more is *released*: it becomes free when all that was changed
//     until
//        then is durable (commit). So no two files have it on the disk, in no state.
//     3  A changed directory is valid if any of its sectors are old and the others new (directory.cpp).
//
// Bitmaps and counts of free blocks need no order: e2fsck makes them from the inodes. While a file system is mounted
// for writing it is not marked clean. One that is not clean is mounted read-only, because its bitmaps may be wrong.
#pragma once

#include "kernel/ext2/format.hpp"
#include "kernel/ext2/meta.hpp"

namespace loft::ext2 {

class Volume : NotCopyable<Volume> {
  public:
    // Reads and checks superblock and groups. Errors: invalid (no ext2), out_of_reach (a feature, a size or a block
    // size that loft does not have; the log says which), corrupt, no_memory, and those of the disk. Preemptible
    // context, like all calls here that may sleep.
    [[nodiscard]] Status open(BlockDevice& disk, bool read_only);
    // Makes all durable, and marks the file system clean if it was. No inode is in use. Then it can be opened again.
    Status close();

    BlockDevice& disk() const { return *disk_; }
    MetaObject& meta() const { return *meta_; }
    u32 block_bytes() const { return block_bytes_; }
    u32 sectors_per_block() const { return block_bytes_ / kSectorBytes; }
    u32 blocks() const { return blocks_; }
    u32 inodes() const { return inodes_; }
    bool has_types() const { return has_types_; }
    bool has_large_files() const { return revision_ != 0; }
    bool is_read_only() const { return read_only_.load() != 0; }
    bool is_damaged() const { return is_damaged_.load() != 0; } // damage was found since open()
    // A number that an entry may have.
    bool is_inode(u32 number) const { return number == kRootInode || (number >= first_inode_ && number <= inodes_); }
    // A block that can belong to a file: inside the file system, and none of its own. Reads the group's descriptor.
    [[nodiscard]] Result<bool> is_data(u32 block);
    // Damage: `what` is wrong at `where`. Returns Error::corrupt.
    Error damaged(const char* what, u64 where);

    // Where an inode is on the disk.
    struct Place {
        u32 block = 0, offset = 0;
    };
    [[nodiscard]] Result<Place> place_of(u32 inode);
    u32 inode_bytes() const { return inode_bytes_; }
    u32 extra_bytes() const { return extra_bytes_; } // of a new inode, behind the first 128
    u32 group_of_inode(u32 inode) const { return (inode - 1) / inodes_per_group_; }
    u32 first_block_of_group(u32 group) const { return first_block_ + group * blocks_per_group_; }

    // A free block, near `goal`, for data. Errors: full, corrupt, and those of the disk.
    [[nodiscard]] Result<u32> take_block(u32 goal);
    // The same for an indirect block or one of a directory: `init` fills the zeroed block, which then is durable.
    [[nodiscard]] Result<u32> take_block_for(u32 goal, void (*init)(MetaBlock&, const void*) = nullptr,
                                             const void* argument = nullptr);
    // Something may stay in use that nothing refers to, because memory was short or the disk has failed: the file
    // system is not marked clean, so e2fsck(8) looks for it.
    void leave_unclean() { is_unclean_.store(1); }
    // A block that was taken, and that nothing has referred to since, is free again, now or with a commit.
    void give_back(u32 block);
    // Nothing in memory refers any more to the tree of blocks below `root`: level 0 is a block of data, 1 to 3 are
    // indirect. It becomes free with the next commit, which may be now. A part that memory is too short for becomes
    // free with a later one.
    void release(u32 root, u32 level);
    // An inode that had this block of extended attributes is freed.
    void drop_attributes(u32 block);
    // The number of blocks in such a tree. Errors: corrupt, and those of the disk.
    [[nodiscard]] Result<u32> count(u32 root, u32 level);

    // A free inode; a directory comes into a group with many free blocks. Errors as take_block.
    [[nodiscard]] Result<u32> take_inode(u32 parent, bool directory);
    void release_inode(u32 inode, bool directory);

    // Writes the changed blocks of [begin, end) that are not data, and flushes the disk: what was written before is
    // durable. When a flush has failed, the file system takes no changes any more, and this is always an error.
    [[nodiscard]] Status make_durable(u32 begin = 0, u32 end = PageIndex::kMaxPages);
    // All changes so far are durable, and what was released is free.
    [[nodiscard]] Status commit();
    // The same, and so are bitmaps and counts.
    [[nodiscard]] Status sync();
    // A file has become larger than 2 GiB - 1.
    [[nodiscard]] Status note_large_file();

    struct Free {
        u32 blocks = 0, inodes = 0;
    };
    Free free_counts();

  private:
    struct Group {
        u32 block_bitmap = 0, inode_bitmap = 0, inode_table = 0;
        u32 free_blocks = 0, free_inodes = 0;
        u32 first = 0, blocks = 0;
        u32 own = 0; // blocks at its begin for the copies of superblock and descriptors
    };
    static constexpr u32 kInode = 4, kDirectoryInode = 5; // levels of what is not a block
    static constexpr u32 kMostReleased = kPageSize / sizeof(u64);

    Status read_super();
    Status check_groups();
    u32 descriptor_block(u32 group) const;
    Result<Group> group(u32 number);
    bool is_own(const Group& group, u32 block) const;
    // `descriptors`: the block with those of the group.
    void add_counts(MetaBlock& descriptors, u32 group, int blocks, int inodes, int directories) LOFT_REQUIRES(space_);
    Result<u32> take_in_group(u32 number, u32 from) LOFT_REQUIRES(space_);
    Result<u32> take_block_locked(u32 goal) LOFT_REQUIRES(space_);
    Result<u32> take_inode_in(u32 number, bool directory) LOFT_REQUIRES(space_);
    Status free_block(u32 block) LOFT_REQUIRES(space_);
    Status free_tree(u32 root, u32 level) LOFT_REQUIRES(space_);
    Status free_inode(u32 inode, bool directory) LOFT_REQUIRES(space_);
    u64 released(u32 at) const;
    void set_released(u32 at, u64 word);
    void add_released(u32 number, u32 level) LOFT_REQUIRES(space_);
    void keep(u32 number, u32 level) LOFT_REQUIRES(space_);
    Status commit_locked() LOFT_REQUIRES(space_);
    Status write_super(bool clean) LOFT_REQUIRES(space_);
    Result<u32> count_tree(u32 root, u32 level, u32& left);

    u32 super_block() const { return kSuperAt / block_bytes_; }
    u32 super_at(u32 field) const { return kSuperAt % block_bytes_ + field; }

    BlockDevice* disk_ = nullptr;
    MetaObject* meta_ = nullptr;
    u32 block_bytes_ = 0, blocks_ = 0, inodes_ = 0, first_block_ = 0, blocks_per_group_ = 0, inodes_per_group_ = 0;
    u32 inode_bytes_ = 0, first_inode_ = 0, extra_bytes_ = 0, groups_ = 0, descriptor_blocks_ = 0;
    u32 reserved_descriptors_ = 0, revision_ = 0;
    bool sparse_ = false, has_types_ = false;
    bool writable_ = false; // it was opened for writing, and marked as not clean
    hal::Plain<u32> read_only_;
    hal::Plain<u32> is_damaged_;
    hal::Plain<u32> is_unclean_;
    hal::Plain<u32> flush_failed_;

    Mutex space_{"of the free blocks of an ext2 file system"};
    u32 free_blocks_ LOFT_GUARDED_BY(space_) = 0, free_inodes_ LOFT_GUARDED_BY(space_) = 0;
    Page* released_ = nullptr; // a frame with kMostReleased words: a block or inode, and its level << 32
    u32 released_count_ LOFT_GUARDED_BY(space_) = 0;
    u32 kept_ LOFT_GUARDED_BY(space_) = 0; // in a commit: words from here to the end are for the next one
};

} // namespace loft::ext2
