// tmpfs. Contract: tmpfs.hpp, file_system.hpp.
//
// The table of the file system has all inodes, used or not: they are the only ones. A directory has its entries in the
// order in which they were made; each has a number that only grows, which is its position for list().
#include "kernel/tree/tmpfs.hpp"

#include "arch/base/panic.hpp"
#include "mm/frames/slab.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>
#include <cstring>

namespace loft {
namespace {

constexpr u32 kTmpfsMagic = 0x0102'1994; // statfs(2)
constexpr u32 kRootNumber = 1;
constexpr u32 kMostInodes = ~0u; // their numbers are not used again

struct TmpEntry {
    TmpEntry* next = nullptr;
    u64 position = 0;
    u32 number = 0, mode = 0;
    u8 bytes = 0;
    char name[kMostName];

    std::string_view text() const { return {name, bytes}; }
};
using TmpEntries = Chain<TmpEntry, &TmpEntry::next>;

class Tmpfs;

class TmpInode final : public Inode {
  public:
    TmpInode(Tmpfs& system, u32 number, u32 mode, u32 links);

    u32 mode, uid = 0, gid = 0, atime, mtime, ctime;
    TmpEntries entries{};   // of a directory
    u64 next_position = 2;  // 0 and 1 are "." and ".."
    u32 parent = 0;         // of a directory: its number
    Page* target = nullptr; // of a link: a frame with the text
    u32 target_bytes = 0;
    hal::Atomic<u32> charged{}; // its pages, among those of the file system

  private:
    Status fill(u32 first, std::span<Page* const> frames) override;
    bool charge(u32 pages) override;
    void uncharge(u32 pages) override;
    void destroy() override;
};

class Tmpfs final : public FileSystem {
  public:
    explicit Tmpfs(u32 pages) : most_pages_{pages} {}

    Errno make_root();
    Errno close() { return empty_table(); }
    InodeStat stat(Inode& inode) override;
    FileSystemStat stat() override;
    u64 most_bytes() const override { return MemoryObject::kMaxBytes - 1; }

    // For pages that a file is about to have. False: the limit.
    bool take_pages(u32 count);
    void give_pages(u32 count) { pages_.fetch_sub(count); }

  private:
    static TmpInode& of(Inode& inode) { return static_cast<TmpInode&>(inode); }
    static TmpEntry* entry_of(TmpInode& directory, std::string_view name);

    Result<Entry, Errno> find_entry(Inode& directory, std::string_view name) override;
    Errno add_entry(Inode& directory, std::string_view name, Inode& inode) override;
    Errno change_entry(Inode& directory, std::string_view name, Inode& inode) override;
    Errno remove_entry(Inode& directory, std::string_view name) override;
    Errno list_entries(Inode& directory, u64& position, ListVisitor& visitor) override;
    Result<bool, Errno> is_empty(Inode& directory) override { return of(directory).entries.empty(); }
    Result<u32, Errno> parent_number(Inode& directory) override { return of(directory).parent; }
    Result<u32, Errno> read_target(Inode& link, char* to, u32 bytes) override;
    Errno set_parent(Inode& directory, Inode& parent) override {
        of(directory).parent = parent.number();
        return Errno{};
    }
    u32 root_number() const override { return kRootNumber; }
    u32 most_links() const override { return 1u << 30; }
    Found load(u32) override { return Errno::uclean; } // an entry refers to an inode that does not exist: a defect
    Found make(Inode& parent, u32 mode, std::string_view target) override;
    Errno write_links(Inode& inode, u32) override {
        of(inode).ctime = file_time();
        return Errno{};
    }
    Errno write_change(Inode& inode, const InodeChange& what) override {
        TmpInode& mine = of(inode);
        mine.mode = what.mode_after(mine.mode);
        mine.uid = what.uid.value_or(mine.uid);
        mine.gid = what.gid.value_or(mine.gid);
        mine.atime = what.atime.value_or(mine.atime);
        mine.mtime = what.mtime.value_or(mine.mtime);
        mine.ctime = file_time();
        return Errno{};
    }
    void free(Inode& inode) override;
    Errno settle() override { return Errno{}; }
    Errno finish() override { return Errno{}; }
    Errno allocate(Inode&, u64, u32) override { return Errno{}; } // the page is there
    Errno set_size(Inode& file, u64) override {
        of(file).mtime = of(file).ctime = file_time();
        return Errno{};
    }

    const u32 most_pages_;
    hal::Atomic<u32> pages_, inodes_;
    u32 last_number_ = 0;
};

Cache<TmpInode> tmp_inodes{"tmpfs_inode", Gfp::user_low};
Cache<TmpEntry> tmp_entries{"tmpfs_entry", Gfp::user_low};
Cache<Tmpfs> tmp_systems{"tmpfs", Gfp::kernel};

TmpInode::TmpInode(Tmpfs& system, u32 number, u32 mode, u32 links)
    : Inode{system, number, kind_of_mode(mode), links, 0, ObjectKind::swapped}, mode{mode}, atime{file_time()},
      mtime{atime}, ctime{atime} {}

bool TmpInode::charge(u32 pages) {
    if (!static_cast<Tmpfs&>(system()).take_pages(pages)) return false;
    charged.fetch_add(pages);
    return true;
}

void TmpInode::uncharge(u32 pages) {
    charged.fetch_sub(pages);
    static_cast<Tmpfs&>(system()).give_pages(pages);
}

Status TmpInode::fill(u32, std::span<Page* const> frames) {
    for (Page* frame : frames)
        clear_highpage(frame);
    return {};
}

void TmpInode::destroy() {
    while (TmpEntry* const entry = entries.pop_front())
        tmp_entries.destroy(entry);
    if (target != nullptr) put_page(target);
    tmp_inodes.destroy(this);
}

bool Tmpfs::take_pages(u32 count) {
    if (pages_.fetch_add(count) + count <= most_pages_) return true;
    pages_.fetch_sub(count);
    return false;
}

Errno Tmpfs::make_root() {
    TmpInode* const root = tmp_inodes.make(*this, ++last_number_, kModeDirectory | 0755, 2u);
    if (root == nullptr) return Errno::nomem;
    LOFT_ASSERT(root->number() == kRootNumber);
    root->parent = kRootNumber;
    inodes_.store(1);
    insert(*root);
    return Errno{};
}

FileSystem::Found Tmpfs::make(Inode& parent, u32 mode, std::string_view target) {
    const bool is_directory = kind_of_mode(mode) == InodeKind::directory;
    if (target.size() >= kMostPath) return Errno::nametoolong;
    if (last_number_ == kMostInodes) return Errno::nospc;
    Page* text = nullptr;
    if (kind_of_mode(mode) == InodeKind::link) {
        text = alloc_page(Gfp::user);
        if (text == nullptr) return Errno::nomem;
        memcpy_to_page(text, 0, target.data(), static_cast<u32>(target.size()));
    }
    const TmpInode& above = of(parent);
    TmpInode* const inode =
        tmp_inodes.make(*this, last_number_ + 1, mode_below(above.mode, mode), is_directory ? 2u : 1u);
    if (inode == nullptr) {
        if (text != nullptr) put_page(text);
        return Errno::nomem;
    }
    ++last_number_;
    if (gives_group(above.mode)) inode->gid = above.gid;
    inode->target = text;
    inode->target_bytes = static_cast<u32>(target.size());
    inode->parent = parent.number();
    inodes_.fetch_add(1);
    return inode;
}

void Tmpfs::free(Inode& inode) {
    inodes_.fetch_sub(1);
    give_pages(of(inode).charged.load());
}

InodeStat Tmpfs::stat(Inode& inode) {
    TmpInode& mine = of(inode);
    return {.number = inode.number(),
            .mode = mine.mode,
            .links = inode.links(),
            .uid = mine.uid,
            .gid = mine.gid,
            .bytes = mine.kind() == InodeKind::link ? mine.target_bytes : inode.visible_bytes(),
            .sectors = u64{inode.pages()} * (kPageSize / 512),
            .atime = mine.atime,
            .mtime = mine.mtime,
            .ctime = mine.ctime};
}

FileSystemStat Tmpfs::stat() {
    const u32 used = std::min(pages_.load(), most_pages_);
    return {.type = kTmpfsMagic,
            .block_bytes = kPageSize,
            .blocks = most_pages_,
            .free_blocks = most_pages_ - used,
            .inodes = kMostInodes,
            .free_inodes = kMostInodes - inodes_.load()};
}

Result<u32, Errno> Tmpfs::read_target(Inode& link, char* to, u32 bytes) {
    const u32 length = std::min(of(link).target_bytes, bytes);
    memcpy_from_page(to, of(link).target, 0, length);
    return length;
}

// --- Entries.

TmpEntry* Tmpfs::entry_of(TmpInode& directory, std::string_view name) {
    TmpEntry* found = nullptr;
    directory.entries.each([&](TmpEntry& entry) {
        if (entry.text() == name) found = &entry;
        return found == nullptr;
    });
    return found;
}

Result<FileSystem::Entry, Errno> Tmpfs::find_entry(Inode& directory, std::string_view name) {
    const TmpEntry* const entry = entry_of(of(directory), name);
    return Entry{entry != nullptr ? entry->number : 0};
}

Errno Tmpfs::add_entry(Inode& directory, std::string_view name, Inode& inode) {
    TmpEntry* const entry = tmp_entries.make();
    if (entry == nullptr) return Errno::nomem;
    entry->position = of(directory).next_position++;
    entry->number = inode.number();
    entry->mode = of(inode).mode & kModeKind;
    entry->bytes = static_cast<u8>(name.size());
    std::memcpy(entry->name, name.data(), name.size());
    of(directory).entries.push_back(*entry);
    of(directory).mtime = of(directory).ctime = file_time();
    return Errno{};
}

Errno Tmpfs::change_entry(Inode& directory, std::string_view name, Inode& inode) {
    TmpEntry* const entry = entry_of(of(directory), name);
    if (entry == nullptr) return Errno::noent;
    entry->number = inode.number();
    entry->mode = of(inode).mode & kModeKind;
    of(directory).mtime = of(directory).ctime = file_time();
    return Errno{};
}

Errno Tmpfs::remove_entry(Inode& directory, std::string_view name) {
    TmpEntry* const entry = of(directory).entries.take([&](const TmpEntry& one) { return one.text() == name; });
    if (entry == nullptr) return Errno::noent;
    tmp_entries.destroy(entry);
    of(directory).mtime = of(directory).ctime = file_time();
    return Errno{};
}

Errno Tmpfs::list_entries(Inode& directory, u64& position, ListVisitor& visitor) {
    TmpInode& mine = of(directory);
    const std::string_view dots[2]{".", ".."};
    const u32 numbers[2]{mine.number(), mine.parent};
    while (position < 2) {
        if (!visitor.entry({dots[position], numbers[position], kModeDirectory, position + 1})) return Errno{};
        ++position;
    }
    mine.entries.each([&](TmpEntry& entry) {
        if (entry.position < position) return true;
        if (!visitor.entry({entry.text(), entry.number, entry.mode, entry.position + 1})) return false;
        position = entry.position + 1;
        return true;
    });
    return Errno{};
}

} // namespace

Result<FileSystem*, Errno> tmpfs_make(u32 pages) {
    Tmpfs* const system = tmp_systems.make(pages);
    if (system == nullptr) return Errno::nomem;
    const Errno error = system->make_root();
    if (!is_error(error)) return system;
    tmp_systems.destroy(system);
    return error;
}

Errno tmpfs_destroy(FileSystem* system) {
    auto* const mine = static_cast<Tmpfs*>(system);
    const Errno error = mine->close();
    if (!is_error(error)) tmp_systems.destroy(mine);
    return error;
}

void tmpfs_init() {
    tmp_inodes.reset();
    tmp_entries.reset();
    tmp_systems.reset();
}

} // namespace loft
