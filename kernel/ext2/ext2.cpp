// Inodes of ext2, and what a file system does for all. Contract: inode.hpp, ext2.hpp, kernel/tree/file_system.hpp.
#include "kernel/ext2/ext2.hpp"

#include "arch/base/panic.hpp"
#include "kernel/ext2/inode.hpp"
#include "mm/cache/swap_area.hpp"

#include <algorithm>
#include <cstring>

namespace loft::ext2 {
namespace {

Cache<Ext2Inode> inode_cache{"ext2_inode", Gfp::user_low};
Cache<Ext2> system_cache{"ext2", Gfp::kernel};

constexpr u32 kSuperMagic = 0xef53; // statfs(2)

u64 size_of(const RawInode& raw, InodeKind kind) {
    return kind == InodeKind::file ? raw.size | u64{raw.size_high} << 32 : raw.size;
}
// A link whose target is in the record has no block of its own.
bool is_fast_link(const RawInode& raw, u32 sectors_per_block) {
    return kind_of_mode(raw.mode) == InodeKind::link && raw.sectors == (raw.attributes != 0 ? sectors_per_block : 0);
}

} // namespace

// --- Inodes.

Ext2Inode::Ext2Inode(Ext2& system, u32 number, InodeKind kind, const Volume::Place& place, const RawInode& raw)
    : Inode{system,
            number,
            kind,
            raw.links,
            kind == InodeKind::file || kind == InodeKind::link ? size_of(raw, kind) : 0,
            ObjectKind::written_back},
      place_{place}, raw_{raw} {}

Volume& Ext2Inode::volume() const { return static_cast<Ext2&>(system()).volume(); }

void Ext2Inode::write_record(MetaBlock& record) {
    record.copy_in(place_.offset, &raw_, sizeof raw_);
    record.tell();
}

InodeStat Ext2Inode::stat() {
    const RawInode raw = record();
    return {.number = number(),
            .mode = raw.mode,
            .links = raw.links,
            .uid = raw.uid | u32{raw.uid_high} << 16,
            .gid = raw.gid | u32{raw.gid_high} << 16,
            .device = kind() == InodeKind::other ? raw.block[0] != 0 ? raw.block[0] : raw.block[1] : 0,
            .bytes = kind() == InodeKind::file ? visible_bytes() : raw.size,
            .sectors = raw.sectors,
            .block_bytes = volume().block_bytes(),
            .atime = raw.atime,
            .mtime = raw.mtime,
            .ctime = raw.ctime};
}

Status Ext2Inode::sync() {
    const Status written = write_back();
    if (!written) return written;
    if (volume().is_damaged()) return Error::corrupt; // pages may have been given up
    return volume().is_read_only() ? Status{} : volume().commit();
}

bool Ext2Inode::has_blocks() {
    return kind() != InodeKind::other && !is_fast_link(record(), volume().sectors_per_block());
}

Result<u32, Errno> Ext2Inode::read_target(char* to, u32 bytes) {
    const RawInode raw = record();
    const u32 length = std::min(raw.size, bytes);
    if (is_fast_link(raw, volume().sectors_per_block())) {
        std::memcpy(to, raw.block, length);
    } else if (const Status status = read(0, to, length); !status) {
        return errno_of(status.error());
    }
    return length;
}

// First the record refers to nothing any more; then its blocks, and the inode, are released.
void Ext2Inode::free() {
    const bool blocks = has_blocks();
    if (!resize(0)) return;              // nothing is written for it any more
    if (volume().is_read_only()) return; // damage was found since the last name has gone
    RawInode before{};
    const Status written = change([&](RawInode& raw) {
        before = raw;
        raw.links = 0;
        // e2fsck takes a smaller number for the number of an inode.
        raw.dtime = std::max(file_time(), volume().inodes() + 1);
        raw.size = raw.size_high = raw.sectors = raw.attributes = 0;
        std::fill_n(raw.block, kBlockSlots, 0);
    });
    if (!written) return volume().leave_unclean(); // it stays in use
    for (u32 slot = 0; blocks && slot < kBlockSlots; ++slot)
        if (before.block[slot] != 0)
            volume().release(before.block[slot], slot < kDirectBlocks ? 0 : slot - kDirectBlocks + 1);
    if (before.attributes != 0) volume().drop_attributes(before.attributes);
    volume().release_inode(number(), is_directory());
}

void Ext2Inode::destroy() { inode_cache.destroy(this); }

// --- The file system.

Status Ext2::open(BlockDevice& disk, bool read_only) {
    set_reloads();
    return volume_.open(disk, read_only);
}

Errno Ext2::close() {
    const Errno synced = sync(); // also what a damaged one still takes
    if (const Errno busy = empty_table(); is_error(busy)) return busy;
    const Errno closed = errno_of(volume_.close());
    return is_error(synced) ? synced : closed;
}

FileSystemStat Ext2::stat() {
    const Volume::Free free = volume_.free_counts();
    return {.type = kSuperMagic,
            .block_bytes = volume_.block_bytes(),
            .blocks = volume_.blocks(),
            .free_blocks = free.blocks,
            .inodes = volume_.inodes(),
            .free_inodes = free.inodes};
}

u64 Ext2::most_bytes() const {
    const u64 per_block = volume_.block_bytes() / 4;
    const u64 by_map =
        (kDirectBlocks + per_block + per_block * per_block + per_block * per_block * per_block) * volume_.block_bytes();
    // The number of its sectors, with those of indirect blocks, has 32 bits.
    constexpr u64 kBySectors = (u64{1} << 41) - (u64{1} << 32);
    return volume_.has_large_files() ? std::min(by_map, kBySectors) : (u64{1} << 31) - 1;
}

FileSystem::Found Ext2::load(u32 number) {
    const Result<Volume::Place> place = volume_.place_of(number);
    if (!place) return errno_of(place.error());
    RawInode raw{};
    {
        const MetaBlock block{volume_.meta(), place->block};
        if (!block) return errno_of(block.error());
        block.copy_out(&raw, place->offset, sizeof raw);
    }
    const auto damaged = [&](const char* what) { return errno_of(volume_.damaged(what, number)); };
    if (raw.links == 0) return damaged("an entry refers to an inode that is not in use");
    const InodeKind kind = kind_of_mode(raw.mode);
    const u32 type = raw.mode >> 12;
    if (kind == InodeKind::other && type != 1 && type != 2 && type != 6 && type != 12) return damaged("type of inode");
    if (kind == InodeKind::file && size_of(raw, kind) > most_bytes()) return damaged("size of file");
    if (kind == InodeKind::directory &&
        (raw.size == 0 || raw.size % volume_.block_bytes() != 0 || raw.size / volume_.block_bytes() > volume_.blocks()))
        return damaged("size of directory");
    if (kind == InodeKind::link) {
        const u32 most = is_fast_link(raw, volume_.sectors_per_block())
                             ? kFastLink - 1
                             : std::min(volume_.block_bytes(), kMostPath - 1);
        if (raw.size == 0 || raw.size > most) return damaged("size of link");
    }
    if (number == kRootInode && kind != InodeKind::directory) return damaged("type of inode");
    Ext2Inode* const inode = inode_cache.make(*this, number, kind, *place, raw);
    return inode != nullptr ? Found{inode} : Errno::nomem;
}

FileSystem::Found Ext2::make(Inode& parent, u32 mode, std::string_view target) {
    const InodeKind kind = kind_of_mode(mode);
    const bool is_directory = kind == InodeKind::directory;
    if (kind == InodeKind::link && target.size() >= std::min(volume_.block_bytes(), kMostPath))
        return Errno::nametoolong;
    const Result<u32> number = volume_.take_inode(parent.number(), is_directory);
    if (!number) return errno_of(number.error());
    const auto give_up = [&](Error error) {
        volume_.release_inode(*number, is_directory);
        return errno_of(error);
    };
    const Result<Volume::Place> place = volume_.place_of(*number);
    if (!place) return give_up(place.error());
    RawInode raw{};
    {
        MetaBlock block{volume_.meta(), place->block};
        if (!block) return give_up(block.error());
        block.copy_out(&raw, place->offset, sizeof raw);
        if (raw.links != 0) return errno_of(volume_.damaged("an inode in use is marked free", *number));
        const u32 more = volume_.inode_bytes() - kRawBytes;
        if (more != 0) {
            block.zero(place->offset + kRawBytes, more);
            block.put<u16>(place->offset + kRawBytes, static_cast<u16>(volume_.extra_bytes()));
        }
    }
    const u32 now = file_time();
    const RawInode above = of(parent).record();
    raw = {.mode = static_cast<u16>(mode_below(above.mode, mode)),
           .atime = now,
           .ctime = now,
           .mtime = now,
           .links = static_cast<u16>(is_directory ? 2 : 1),
           .generation = raw.generation + 1};
    if (gives_group(above.mode)) {
        raw.gid = above.gid;
        raw.gid_high = above.gid_high;
    }
    Status status;
    u32 first_block = 0;
    if (is_directory) {
        const NewDirectory directory{&volume_, *number, parent.number()};
        const u32 goal = volume_.first_block_of_group(volume_.group_of_inode(*number));
        const Result<u32> block = volume_.take_block_for(goal, init_directory, &directory);
        if (block) {
            first_block = raw.block[0] = *block;
            raw.size = volume_.block_bytes();
            raw.sectors = volume_.sectors_per_block();
        } else {
            status = block.error();
        }
    }
    if (kind == InodeKind::link && target.size() < kFastLink) {
        raw.size = static_cast<u32>(target.size());
        std::memcpy(raw.block, target.data(), target.size());
    }
    Ext2Inode* const inode = status ? inode_cache.make(*this, *number, kind, *place, raw) : nullptr;
    if (status && inode == nullptr) status = Error::no_memory;
    if (status) status = inode->change([](RawInode&) {});
    if (status && kind == InodeKind::link && raw.size == 0) { // a target that needs a block
        status = inode->resize(target.size());
        const Result<Page*> page = status ? inode->page(0) : Result<Page*>{status.error()};
        status = page ? Status{} : page.error();
        if (page) {
            const Result<u32> block = inode->allocate(0);
            if (block) memcpy_to_page(*page, 0, target.data(), static_cast<u32>(target.size()));
            if (!block) status = block.error();
            inode->stored_to(0);
            put_page(*page);
        }
        if (status) status = inode->set_size(target.size());
        if (status) status = inode->write_back(); // it is durable with the first flush, like the record
    }
    if (status) return inode;
    if (inode == nullptr) {
        if (first_block != 0) volume_.give_back(first_block);
        return give_up(status.error());
    }
    inode->free();
    inode->put();
    return errno_of(status.error());
}

Errno Ext2::write_links(Inode& inode, u32 links) {
    const Status status = of(inode).change([&](RawInode& raw) {
        raw.links = static_cast<u16>(links);
        raw.ctime = file_time();
    });
    if (!status) volume_.leave_unclean(); // entries may be changed already
    return errno_of(status);
}

Errno Ext2::write_change(Inode& inode, const InodeChange& what) {
    return errno_of(of(inode).change([&](RawInode& raw) {
        raw.mode = static_cast<u16>(what.mode_after(raw.mode));
        if (what.uid) {
            raw.uid = static_cast<u16>(*what.uid);
            raw.uid_high = static_cast<u16>(*what.uid >> 16);
        }
        if (what.gid) {
            raw.gid = static_cast<u16>(*what.gid);
            raw.gid_high = static_cast<u16>(*what.gid >> 16);
        }
        raw.atime = what.atime.value_or(raw.atime);
        raw.mtime = what.mtime.value_or(raw.mtime);
        raw.ctime = file_time();
    }));
}

void Ext2::free(Inode& inode) { of(inode).free(); }

Errno Ext2::allocate(Inode& file, u64 offset, u32 bytes) {
    const u32 in_block = volume_.block_bytes();
    for (u32 number = static_cast<u32>(offset / in_block); u64{number} * in_block < offset + bytes; ++number)
        if (const Result<u32> block = of(file).allocate(number); !block) return errno_of(block.error());
    return Errno{};
}

Result<u32> Ext2::sector_of(Inode& file, u32 page) {
    const u32 per_page = kPageSize / volume_.block_bytes();
    u32 first = 0;
    bool together = true;
    for (u32 i = 0; i < per_page; ++i) {
        const Result<u32> block = of(file).block(page * per_page + i);
        if (!block) return block;
        if (*block == 0) return Error::invalid;
        if (i == 0) first = *block;
        together &= *block == first + i;
    }
    // Sectors from 2^32 on are not used.
    together &= first < SwapFile::kScattered / volume_.sectors_per_block();
    return together ? first * volume_.sectors_per_block() : SwapFile::kScattered;
}

Errno Ext2::set_size(Inode& file, u64 bytes) { return errno_of(of(file).set_size(bytes)); }

// --- Entries.

Result<FileSystem::Entry, Errno> Ext2::find_entry(Inode& directory, std::string_view name) {
    const Result<FoundEntry> found = find_in(volume_, of(directory), name);
    return found ? Result<Entry, Errno>{Entry{found->inode}} : errno_of(found.error());
}

Errno Ext2::add_entry(Inode& directory, std::string_view name, Inode& inode) {
    return errno_of(add_to(volume_, of(directory), name, inode.number(), of(inode).record().mode));
}

Errno Ext2::change_entry(Inode& directory, std::string_view name, Inode& inode) {
    const Result<FoundEntry> found = find_in(volume_, of(directory), name);
    if (!found) return errno_of(found.error());
    if (found->inode == 0) return Errno::noent;
    return errno_of(change_in(volume_, of(directory), *found, inode.number(), of(inode).record().mode));
}

Errno Ext2::remove_entry(Inode& directory, std::string_view name) {
    const Result<FoundEntry> found = find_in(volume_, of(directory), name);
    if (!found) return errno_of(found.error());
    if (found->inode == 0) return Errno::noent;
    return errno_of(change_in(volume_, of(directory), *found, 0, 0));
}

Errno Ext2::list_entries(Inode& directory, u64& position, ListVisitor& visitor) {
    return errno_of(list_in(volume_, of(directory), position, visitor));
}

Result<bool, Errno> Ext2::is_empty(Inode& directory) {
    struct Names final : ListVisitor {
        bool entry(const DirectoryEntry& entry) override { return any = entry.name == "." || entry.name == ".."; }
        bool any = true; // only these
    } names;
    u64 position = 0;
    if (const Status status = list_in(volume_, of(directory), position, names); !status)
        return errno_of(status.error());
    return names.any;
}

Result<u32, Errno> Ext2::parent_number(Inode& directory) {
    const Result<FoundEntry> found = find_in(volume_, of(directory), "..");
    if (!found) return errno_of(found.error());
    return found->inode != 0 ? Result<u32, Errno>{found->inode}
                             : errno_of(volume_.damaged("no parent in directory", directory.number()));
}

Errno Ext2::set_parent(Inode& directory, Inode& parent) { return change_entry(directory, "..", parent); }

} // namespace loft::ext2

namespace loft {

Result<FileSystem*, Errno> ext2_mount(BlockDevice& disk, bool read_only) {
    ext2::Ext2* const system = ext2::system_cache.make();
    if (system == nullptr) return Errno::nomem;
    const Status status = system->open(disk, read_only);
    if (status) return system;
    ext2::system_cache.destroy(system);
    return status.error() == Error::out_of_reach ? Errno::inval : errno_of(status.error());
}

Errno ext2_unmount(FileSystem* system) {
    auto* const mounted = static_cast<ext2::Ext2*>(system);
    const Errno error = mounted->close();
    if (error != Errno::busy) ext2::system_cache.destroy(mounted);
    return error;
}

void ext2_init() {
    ext2::meta_init();
    ext2::inode_cache.reset();
    ext2::system_cache.reset();
}

} // namespace loft
