// An ext2 file system and its inodes, as this room sees them.
//
// Mutexes, between those of a file (size_, writing_, io_) and `space_` of the volume: `record_` of an inode guards its
// 128 bytes and the indirect blocks. Each change of the record is copied to the inode's block at once; the block
// reaches the disk at any time after that. Who changes the record or the map has the inode's block before, so nothing
// fails between a change and its copy.
#pragma once

#include "kernel/ext2/volume.hpp"
#include "kernel/tree/file_system.hpp"

namespace loft::ext2 {

class Ext2;

class Ext2Inode final : public Inode {
  public:
    Ext2Inode(Ext2& system, u32 number, InodeKind kind, const Volume::Place& place, const RawInode& raw);

    InodeStat stat();
    // It has a map of blocks: not a device, and not a link whose target is in the record.
    bool has_blocks();
    Result<u32, Errno> read_target(char* to, u32 bytes);
    // Makes pages and everything that leads to them durable.
    [[nodiscard]] Status sync() override;

    // --- The record.
    RawInode record() {
        MutexGuard guard{record_};
        return raw_;
    }
    // change(RawInode&), and the copy in its block.
    template <typename F> [[nodiscard]] Status change(F&& change) {
        MutexGuard guard{record_};
        MetaBlock record{volume().meta(), place_.block};
        if (!record) return record.error();
        change(raw_);
        write_record(record);
        return {};
    }
    // Size and map of what has blocks: a file, a directory, a long link.
    u64 size();
    [[nodiscard]] Status set_size(u64 bytes);
    [[nodiscard]] Status may_shrink(u64 bytes); // FileSystem::may_shrink

    // --- Blocks. `number`: of the inode's block. Errors: corrupt, full, and those of the disk.
    [[nodiscard]] Result<u32> block(u32 number); // 0: a hole
    // The block, a new one in place of a hole. Its contents are undefined then.
    [[nodiscard]] Result<u32> allocate(u32 number);
    // A directory's next block, initialised by `init`; the directory's size grows by it.
    [[nodiscard]] Result<u32> append(void (*init)(MetaBlock&, const void*), const void* argument);
    // All blocks are released, and the inode too. Nothing uses it.
    void free();

  private:
    struct Way { // to a block: slots of the record, then of indirect blocks
        u32 levels = 0, at[4]{};
    };
    Result<Way> way_to(u32 number) const;
    u32 end_of(u64 bytes) const;
    Status fill(u32 first, std::span<Page* const> frames) override;
    Status store(u32 first, std::span<Page* const> frames) override;
    void destroy() override;
    Volume& volume() const;
    void write_record(MetaBlock& record) LOFT_REQUIRES(record_); // `record`: the inode's block
    Result<u32> find(const Way& way) LOFT_REQUIRES(record_);
    Result<u32> take(const Way& way, u32 block) LOFT_REQUIRES(record_);
    Result<u32> checked(u32 block);
    u32 goal() LOFT_REQUIRES(record_);
    enum class Cut : u8 { look, remove };
    Status cut(MetaBlock& record, u32 first, Cut what) LOFT_REQUIRES(record_);
    Status cut_tree(MetaBlock& record, u32 root, u32 level, u32 first, Cut what) LOFT_REQUIRES(record_);
    template <typename F>
    Status drop(MetaBlock& record, u32 root, u32 level, Cut what, F&& clear) LOFT_REQUIRES(record_);

    Volume::Place place_;
    Mutex record_{"of an ext2 inode"};
    RawInode raw_ LOFT_GUARDED_BY(record_);
    u32 last_block_ LOFT_GUARDED_BY(record_) = 0;    // the one that was allocated last
    u32 allocated_end_ LOFT_GUARDED_BY(record_) = 0; // of the blocks allocated since the last change of the size
};

class Ext2 final : public FileSystem {
  public:
    [[nodiscard]] Status open(BlockDevice& disk, bool read_only);
    Errno close();
    Volume& volume() { return volume_; }
    bool is_read_only() const override { return volume_.is_read_only(); }
    InodeStat stat(Inode& inode) override { return of(inode).stat(); }
    FileSystemStat stat() override;
    u64 most_bytes() const override;

  private:
    static Ext2Inode& of(Inode& inode) { return static_cast<Ext2Inode&>(inode); }

    Result<Entry, Errno> find_entry(Inode& directory, std::string_view name) override;
    Errno add_entry(Inode& directory, std::string_view name, Inode& inode) override;
    Errno change_entry(Inode& directory, std::string_view name, Inode& inode) override;
    Errno remove_entry(Inode& directory, std::string_view name) override;
    Errno list_entries(Inode& directory, u64& position, ListVisitor& visitor) override;
    Result<bool, Errno> is_empty(Inode& directory) override;
    Result<u32, Errno> parent_number(Inode& directory) override;
    Errno set_parent(Inode& directory, Inode& parent) override;
    Result<u32, Errno> read_target(Inode& link, char* to, u32 bytes) override {
        return of(link).read_target(to, bytes);
    }

    u32 root_number() const override { return kRootInode; }
    u32 most_links() const override { return kMostLinks; }
    Found load(u32 number) override;
    Found make(Inode& parent, u32 mode, std::string_view target) override;
    Errno write_links(Inode& inode, u32 links) override;
    Errno write_change(Inode& inode, const InodeChange& what) override;
    void free(Inode& inode) override;
    Errno settle() override { return errno_of(volume_.commit()); }
    Errno finish() override { return errno_of(volume_.sync()); } // of a read-only one, too: nothing is dirty
    Errno allocate(Inode& file, u64 offset, u32 bytes) override;
    Errno may_shrink(Inode& file, u64 bytes) override { return errno_of(of(file).may_shrink(bytes)); }
    Errno set_size(Inode& file, u64 bytes) override;
    BlockDevice* disk() override { return &volume_.disk(); }
    Result<u32> sector_of(Inode& file, u32 page) override;

    Volume volume_;
};

// --- Directories: directory.cpp. The names' mutex is held.

struct FoundEntry {
    u32 inode = 0; // 0: there is none
    u32 block = 0, offset = 0;
};
[[nodiscard]] Result<FoundEntry> find_in(Volume& volume, Ext2Inode& directory, std::string_view name);
[[nodiscard]] Status add_to(Volume& volume, Ext2Inode& directory, std::string_view name, u32 inode, u32 mode);
// Of an entry that find_in has found. Inode 0: the entry becomes free.
[[nodiscard]] Status change_in(Volume& volume, Ext2Inode& directory, const FoundEntry& found, u32 inode, u32 mode);
[[nodiscard]] Status list_in(Volume& volume, Ext2Inode& directory, u64& position, ListVisitor& visitor);
// The contents of the first block of a new directory: "." and "..".
struct NewDirectory {
    Volume* volume = nullptr;
    u32 inode = 0, parent = 0;
};
void init_directory(MetaBlock& block, const void* new_directory);

} // namespace loft::ext2
