// Directories of ext2: entries of variable size in blocks. Contract: inode.hpp.
//
// A power cut may leave any sectors of a block old and the others new. e2fsck then must find valid entries, or it gives
// up the rest of the block. So:
//
//     - An entry that loft makes, name included, lies in one sector, and so does the size field of the entry before it,
//       which is changed with it. New blocks begin with an empty entry in each sector.
//     - Where other systems have left an entry whose unused end spans sectors, the end is divided first: an empty entry
//       is written at the begin of a sector, durably; then the entry before it is made shorter.
//     - An entry is removed by its number alone, which becomes 0. Entries never move, so a position in a directory
//       stays valid. Empty entries of one sector are joined when there is need for room.
//
// Within a sector the stores have an order, too: what the disk reads in the middle of a change is valid.
//
// A directory with an index (dir_index) is searched like any other one: blocks of the index look like empty entries.
// Before its first change it is made one without an index, durably.
#include "kernel/ext2/inode.hpp"

#include <algorithm>

namespace loft::ext2 {
namespace {

constexpr u32 bytes_of_name(u32 name) { return entry::kHead + ((name + 3) & ~3u); }
constexpr u32 sector_of(u32 offset) { return offset / kSectorBytes; }

u8 type_of(u32 mode) {
    switch (mode >> 12) {
    case 1:
        return entry::kTypeFifo;
    case 2:
        return entry::kTypeCharacter;
    case 4:
        return entry::kTypeDirectory;
    case 6:
        return entry::kTypeBlock;
    case 8:
        return entry::kTypeFile;
    case 10:
        return entry::kTypeLink;
    case 12:
        return entry::kTypeSocket;
    default:
        return 0;
    }
}
constexpr u32 kModes[8] = {0, 0100000, 0040000, 0020000, 0060000, 0010000, 0140000, 0120000}; // of types

struct Head {
    u32 inode = 0, bytes = 0, name = 0, type = 0;
    u32 used() const { return inode != 0 ? bytes_of_name(name) : 0; } // bytes that are not free
};

// A block of a directory, mapped until the end of the scope.
class View : NotCopyable<View> {
  public:
    View(Volume& volume, MetaBlock& block) : volume_{volume}, block_{block}, map_{block.page()} {}

    u32 bytes() const { return volume_.block_bytes(); }
    // The entry at `offset`, which is that of an entry. corrupt: it is not valid.
    Result<Head> at(u32 offset) const {
        if (bytes() - offset < entry::kSmallest) return damaged(offset);
        const VirtAddr va = map_.addr() + offset;
        const u32 word = hal::load<u32>(va + entry::kBytes);
        Head head{hal::load<u32>(va + entry::kInode), word & 0xffff, word >> 16 & 0xff, word >> 24};
        if (!volume_.has_types() && head.type != 0) return damaged(offset);
        if (head.bytes % 4 != 0 || head.bytes < entry::kSmallest || head.bytes > bytes() - offset)
            return damaged(offset);
        if (head.inode != 0 &&
            (head.name == 0 || bytes_of_name(head.name) > head.bytes || head.inode > volume_.inodes()))
            return damaged(offset);
        return head;
    }
    Error damaged(u32 offset) const {
        return volume_.damaged("entry of a directory at byte", u64{block_.number()} * bytes() + offset);
    }
    std::string_view name(u32 offset, const Head& head, char (&buffer)[kMostName]) const {
        hal::copy_in(buffer, map_.addr() + offset + entry::kHead, head.name);
        return {buffer, head.name};
    }
    bool has_name(u32 offset, const Head& head, std::string_view name, char (&buffer)[kMostName]) const {
        return head.inode != 0 && head.name == name.size() && this->name(offset, head, buffer) == name;
    }

    void set_bytes(u32 offset, u32 bytes) {
        hal::store<u16>(map_.addr() + offset + entry::kBytes, static_cast<u16>(bytes));
        block_.changed();
    }
    void set_inode(u32 offset, u32 inode) {
        hal::store<u32>(map_.addr() + offset + entry::kInode, inode);
        block_.changed();
    }
    void set_type(u32 offset, u32 mode) {
        if (volume_.has_types()) hal::store<u8>(map_.addr() + offset + entry::kType, type_of(mode));
        block_.changed();
    }
    // Its number last: the place may be that of an empty entry, of the same size.
    void write(u32 offset, u32 bytes, std::string_view name, u32 inode, u32 mode) {
        const VirtAddr va = map_.addr() + offset;
        hal::copy_out(va + entry::kHead, name.data(), static_cast<u32>(name.size()));
        hal::store<u8>(va + entry::kNameBytes, static_cast<u8>(name.size()));
        hal::store<u8>(va + entry::kType, volume_.has_types() ? type_of(mode) : u8{0});
        set_bytes(offset, bytes);
        set_inode(offset, inode);
    }
    void write_empty(u32 offset, u32 bytes) {
        const VirtAddr va = map_.addr() + offset;
        hal::store<u32>(va + entry::kInode, 0);
        hal::store<u32>(va + entry::kBytes, bytes);
        block_.changed();
    }

  private:
    Volume& volume_;
    MetaBlock& block_;
    KMap map_;
};

// Calls visit(number, MetaBlock&) for each block of the directory from `first` on until it returns other than `go_on`.
enum class Walk : u8 { go_on, end };
template <typename F> Status each_block(Volume& volume, Ext2Inode& directory, u32 first, F&& visit) {
    const u32 blocks = static_cast<u32>(directory.size() / volume.block_bytes());
    for (u32 i = first; i < blocks; ++i) {
        const Result<u32> number = directory.block(i);
        if (!number) return number.error();
        if (*number == 0) return volume.damaged("a hole in directory", directory.number());
        MetaBlock block{volume.meta(), *number};
        if (!block) return block.error();
        const Result<Walk> walk = visit(i, block);
        if (!walk) return walk.error();
        if (*walk == Walk::end) break;
    }
    return {};
}

// A place for an entry of `need` bytes: behind the used part of the entry at `host`, or in its place if it is empty.
struct Room {
    u32 host = 0, at = 0, end = 0; // `end`: of the free bytes
    bool found = false;
    bool divide = false; // an empty entry at `at` has to divide the host's free bytes first
};

// Looks for room in a block whose entries are valid. Joins empty entries of a sector.
Result<Room> room_in(View& view, u32 need) {
    Room later;
    for (u32 offset = 0; offset < view.bytes();) {
        const Result<Head> head = view.at(offset);
        if (!head) return head.error();
        u32 end = offset + head->bytes;
        while (end < view.bytes() && end % kSectorBytes != 0) {
            const Result<Head> next = view.at(end);
            if (!next) return next.error();
            if (next->inode != 0) break;
            end += next->bytes;
        }
        const u32 sector = sector_of(offset + entry::kBytes), limit = std::min(end, (sector + 1) * kSectorBytes);
        // In the place of an empty entry, all of which is in the sector; else behind what is used, or is at least a
        // head.
        const bool in_place = head->inode == 0 && sector_of(offset) == sector;
        const u32 behind = offset + (in_place ? 0 : std::max(head->used(), entry::kSmallest));
        const u32 at = std::max(behind, sector * kSectorBytes);
        if (at <= limit && need <= limit - at) return Room{offset, at, end, true, false};
        // The first sector that the free bytes reach.
        const u32 edge = round_up(offset + std::max(head->used(), entry::kSmallest), kSectorBytes);
        if (!later.found && edge < end && end - edge >= need && need <= kSectorBytes)
            later = {offset, edge, end, true, true};
        offset = end;
    }
    return later;
}

Status without_index(Volume& volume, Ext2Inode& directory) {
    if ((directory.record().flags & kIndexed) == 0) return {};
    const auto set_flag = [&](u32 flag) {
        return directory.change([flag](RawInode& raw) { raw.flags = (raw.flags & ~kIndexed) | flag; });
    };
    Status status = set_flag(0);
    if (status) status = volume.make_durable();
    if (!status) static_cast<void>(set_flag(kIndexed)); // the next change tries it again
    return status;
}

Status touched(Ext2Inode& directory) {
    return directory.change([](RawInode& raw) { raw.mtime = raw.ctime = file_time(); });
}

void init_empty(MetaBlock& block, const void* volume) {
    for (u32 offset = 0; offset < static_cast<const Volume*>(volume)->block_bytes(); offset += kSectorBytes)
        block.put<u32>(offset + entry::kBytes, kSectorBytes);
}

} // namespace

void init_directory(MetaBlock& block, const void* new_directory) {
    const auto& about = *static_cast<const NewDirectory*>(new_directory);
    init_empty(block, about.volume);
    View view{*about.volume, block};
    view.write(entry::kSmallest, kSectorBytes - entry::kSmallest, "..", about.parent, kModeDirectory);
    view.write(0, entry::kSmallest, ".", about.inode, kModeDirectory);
}

Result<FoundEntry> find_in(Volume& volume, Ext2Inode& directory, std::string_view name) {
    FoundEntry found;
    const Status status = each_block(volume, directory, 0, [&](u32, MetaBlock& block) -> Result<Walk> {
        const View view{volume, block};
        char buffer[kMostName];
        for (u32 offset = 0; offset < view.bytes();) {
            const Result<Head> head = view.at(offset);
            if (!head) return head.error();
            if (view.has_name(offset, *head, name, buffer)) {
                found = {head->inode, block.number(), offset};
                return Walk::end;
            }
            offset += head->bytes;
        }
        return Walk::go_on;
    });
    if (!status) return status.error();
    return found;
}

Status add_to(Volume& volume, Ext2Inode& directory, std::string_view name, u32 inode, u32 mode) {
    if (const Status status = without_index(volume, directory); !status) return status;
    const u32 need = bytes_of_name(static_cast<u32>(name.size()));
    bool done = false;
    const auto visit = [&](u32, MetaBlock& block) -> Result<Walk> {
        Room room;
        {
            View view{volume, block};
            const Result<Room> found = room_in(view, need);
            if (!found) return found.error();
            room = *found;
            if (!room.found) return Walk::go_on;
            if (room.divide) view.write_empty(room.at, room.end - room.at);
        }
        if (room.divide) {
            block.tell();
            if (const Status status = volume.make_durable(block.number(), block.number() + 1); !status)
                return status.error();
        }
        // Before the entry: from there on nothing fails.
        if (const Status status = touched(directory); !status) return status.error();
        View view{volume, block};
        if (room.divide) {
            view.set_bytes(room.host, room.at - room.host);
            room.host = room.at;
        }
        // The bytes of the entry may hold the heads of empty entries: first their size fields go, by one that covers
        // all of them. What is behind the new entry belongs to it. Then the entry, then the size that shows it.
        view.set_bytes(room.host, room.end - room.host);
        view.write(room.at, room.end - room.at, name, inode, mode);
        if (room.at != room.host) view.set_bytes(room.host, room.at - room.host);
        done = true;
        return Walk::end;
    };
    if (const Status status = each_block(volume, directory, 0, visit); !status) return status;
    if (!done) {
        const Result<u32> fresh = directory.append(init_empty, &volume);
        if (!fresh) return fresh.error();
        MetaBlock block{volume.meta(), *fresh};
        if (!block) return block.error();
        if (const Result<Walk> walk = visit(0, block); !walk) return walk.error();
    }
    return {};
}

Status change_in(Volume& volume, Ext2Inode& directory, const FoundEntry& found, u32 inode, u32 mode) {
    if (const Status status = without_index(volume, directory); !status) return status;
    MetaBlock block{volume.meta(), found.block};
    if (!block) return block.error();
    if (const Status status = touched(directory); !status) return status;
    View view{volume, block};
    if (inode != 0) view.set_type(found.offset, mode);
    view.set_inode(found.offset, inode);
    return {};
}

Status list_in(Volume& volume, Ext2Inode& directory, u64& position, ListVisitor& visitor) {
    const u32 bytes = volume.block_bytes();
    if (position >= directory.size()) return {};
    u32 skip = static_cast<u32>(position % bytes);
    return each_block(
        volume, directory, static_cast<u32>(position / bytes), [&](u32 number, MetaBlock& block) -> Result<Walk> {
            const View view{volume, block};
            char buffer[kMostName];
            for (u32 offset = 0; offset < bytes;) {
                const Result<Head> head = view.at(offset);
                if (!head) return head.error();
                const u64 next = u64{number} * bytes + offset + head->bytes;
                // A position from before entries were joined may lie inside of one.
                if (offset >= skip && head->inode != 0) {
                    const DirectoryEntry entry{.name = view.name(offset, *head, buffer),
                                               .number = head->inode,
                                               .mode = volume.has_types() && head->type < 8 ? kModes[head->type] : 0,
                                               .next = next};
                    if (!visitor.entry(entry)) return Walk::end;
                }
                if (offset >= skip) position = next;
                offset += head->bytes;
            }
            skip = 0;
            position = u64{number + 1} * bytes;
            return Walk::go_on;
        });
}

} // namespace loft::ext2
