// The blocks of an inode: the way to each, new ones, and those behind a smaller size. Contract: inode.hpp.
#include "kernel/ext2/inode.hpp"

#include <algorithm>
#include <optional>

namespace loft::ext2 {
namespace {

constexpr u64 kLargeFile = 1u << 31;

// True if the bytes of a page are zeros. Whole words.
bool is_zero(Page* page, u32 offset, u32 bytes) {
    const LocalMap map{page};
    u32 sum = 0;
    for (u32 at = 0; at < bytes && sum == 0; at += 4)
        sum |= hal::load<u32>(map.addr() + offset + at);
    return sum == 0;
}

} // namespace

// --- The way.

Result<Ext2Inode::Way> Ext2Inode::way_to(u32 number) const {
    const u32 shift = static_cast<u32>(__builtin_ctz(volume().block_bytes())) - 2, per_block = 1u << shift;
    if (number < kDirectBlocks) return Way{0, {number}};
    u64 left = number - kDirectBlocks;
    for (u32 levels = 1; levels <= 3; ++levels) {
        const u64 span = u64{1} << shift * levels;
        if (left < span) {
            Way way{levels, {kDirectBlocks + levels - 1}};
            for (u32 i = 1; i <= levels; ++i)
                way.at[i] = static_cast<u32>(left >> shift * (levels - i)) & (per_block - 1);
            return way;
        }
        left -= span;
    }
    return Error::invalid;
}

Result<u32> Ext2Inode::checked(u32 block) {
    if (block == 0) return 0u;
    const Result<bool> valid = volume().is_data(block);
    if (!valid) return valid.error();
    return *valid ? Result<u32>{block} : volume().damaged("number of a block of inode", number());
}

Result<u32> Ext2Inode::find(const Way& way) {
    Result<u32> block = checked(raw_.block[way.at[0]]);
    for (u32 level = 1; level <= way.levels && block && *block != 0; ++level) {
        const MetaBlock indirect{volume().meta(), *block};
        if (!indirect) return indirect.error();
        block = checked(indirect.get<u32>(way.at[level] * 4));
    }
    return block;
}

Result<u32> Ext2Inode::block(u32 number) {
    const Result<Way> way = way_to(number);
    if (!way) return way.error();
    MutexGuard guard{record_};
    return find(*way);
}

// Where to look for a free block: behind the last one, else in the inode's group.
u32 Ext2Inode::goal() {
    return last_block_ != 0 ? last_block_ + 1 : volume().first_block_of_group(volume().group_of_inode(number()));
}

// Makes the way, and enters `block` at its end; 0: a new one. A block on the way is ready on the disk before anything
// refers to it.
Result<u32> Ext2Inode::take(const Way& way, u32 block) {
    MetaBlock record{volume().meta(), place_.block};
    if (!record) return record.error();
    std::optional<MetaBlock> holder; // the indirect block with the entry; none: the record
    u32 at = raw_.block[way.at[0]];
    for (u32 level = 0;; ++level) {
        if (at == 0) {
            const bool last = level == way.levels;
            const Result<u32> fresh = last && block != 0 ? Result<u32>{block}
                                      : last             ? volume().take_block(goal())
                                                         : volume().take_block_for(goal());
            if (!fresh) return fresh;
            at = *fresh;
            if (!last || block == 0) last_block_ = at;
            if (holder)
                holder->put<u32>(way.at[level] * 4, at);
            else
                raw_.block[way.at[0]] = at;
            raw_.sectors += volume().sectors_per_block();
            write_record(record);
        } else if (const Result<u32> valid = checked(at); !valid) {
            return valid;
        }
        if (level == way.levels) return at;
        holder.emplace(volume().meta(), at);
        if (!*holder) return holder->error();
        at = holder->get<u32>(way.at[level + 1] * 4);
    }
}

Result<u32> Ext2Inode::allocate(u32 number) {
    const Result<Way> way = way_to(number);
    if (!way) return way.error();
    MutexGuard guard{record_};
    allocated_end_ = std::max(allocated_end_, number + 1);
    return take(*way, 0);
}

Result<u32> Ext2Inode::append(void (*init)(MetaBlock&, const void*), const void* argument) {
    MutexGuard guard{record_};
    MetaBlock record{volume().meta(), place_.block};
    if (!record) return record.error();
    const u32 bytes = volume().block_bytes();
    if (raw_.size > ~0u - bytes) return Error::full;
    const Result<Way> way = way_to(raw_.size / bytes);
    if (!way) return way.error();
    const Result<u32> there = find(*way);
    if (!there) return there;
    if (*there != 0) return volume().damaged("a block behind the end of directory", number());
    const Result<u32> fresh = volume().take_block_for(goal(), init, argument);
    if (!fresh) return fresh;
    last_block_ = *fresh;
    const Result<u32> entered = take(*way, *fresh);
    if (!entered) { // nothing refers to it yet
        volume().give_back(*fresh);
        return entered;
    }
    raw_.size += bytes;
    write_record(record);
    return fresh;
}

// --- The end.

// Releases a tree. clear() removes the reference to it from the record, or from an indirect block. These three
// functions change nothing if they are to look only: they read what the removal reads, and find the same errors.
template <typename F> Status Ext2Inode::drop(MetaBlock& record, u32 root, u32 level, Cut what, F&& clear) {
    const Result<u32> valid = checked(root);
    if (!valid) return valid.error();
    const Result<u32> blocks = level == 0 ? Result<u32>{1u} : volume().count(root, level);
    if (!blocks) return blocks.error();
    if (what == Cut::look) return {};
    clear();
    raw_.sectors -= std::min(raw_.sectors, *blocks * volume().sectors_per_block());
    write_record(record);
    volume().release(root, level);
    return {};
}

// Removes what an indirect block has from its block `first` on.
Status Ext2Inode::cut_tree(MetaBlock& record, u32 root, u32 level, u32 first, Cut what) {
    const Result<u32> valid = checked(root);
    if (!valid) return valid.error();
    const u32 shift = static_cast<u32>(__builtin_ctz(volume().block_bytes())) - 2;
    const u32 span_shift = shift * (level - 1);
    u32 at = first >> span_shift;
    MetaBlock indirect{volume().meta(), root};
    if (!indirect) return indirect.error();
    if (const u32 in_first = first & ((1u << span_shift) - 1); in_first != 0) {
        if (const u32 below = indirect.get<u32>(at * 4); below != 0)
            if (const Status status = cut_tree(record, below, level - 1, in_first, what); !status) return status;
        ++at;
    }
    for (; at < 1u << shift; ++at) {
        const u32 below = indirect.get<u32>(at * 4);
        if (below == 0) continue;
        const Status status = drop(record, below, level - 1, what, [&] {
            indirect.put<u32>(at * 4, 0);
            indirect.tell();
        });
        if (!status) return status;
    }
    return {};
}

// Removes all blocks from `first` on. What cannot be removed stays referred to.
Status Ext2Inode::cut(MetaBlock& record, u32 first, Cut what) {
    const u32 shift = static_cast<u32>(__builtin_ctz(volume().block_bytes())) - 2;
    Status result;
    u64 begin = 0;
    for (u32 slot = 0; slot < kBlockSlots; ++slot) {
        const u32 level = slot < kDirectBlocks ? 0 : slot - kDirectBlocks + 1;
        const u64 span = u64{1} << shift * level;
        if (const u32 root = raw_.block[slot]; root != 0 && begin + span > first) {
            const Status status =
                begin < first ? cut_tree(record, root, level, static_cast<u32>(first - begin), what)
                              : drop(record, root, level, what, [&]() LOFT_REQUIRES(record_) { raw_.block[slot] = 0; });
            if (!status) result = status;
        }
        begin += span;
    }
    return result;
}

// The number of blocks that a size needs.
u32 Ext2Inode::end_of(u64 bytes) const {
    const u32 in_block = volume().block_bytes();
    return static_cast<u32>((bytes + in_block - 1) / in_block);
}

u64 Ext2Inode::size() {
    MutexGuard guard{record_};
    return raw_.size | (kind() == InodeKind::file ? u64{raw_.size_high} << 32 : 0);
}

Status Ext2Inode::may_shrink(u64 bytes) {
    MutexGuard guard{record_};
    MetaBlock record{volume().meta(), place_.block};
    return record ? cut(record, end_of(bytes), Cut::look) : Status{record.error()};
}

Status Ext2Inode::set_size(u64 bytes) {
    const u32 end = end_of(bytes);
    MutexGuard guard{record_};
    const u64 before = raw_.size | u64{raw_.size_high} << 32;
    if (bytes >= kLargeFile && before < kLargeFile)
        if (const Status status = volume().note_large_file(); !status) return status;
    MetaBlock record{volume().meta(), place_.block};
    // Blocks may lie behind the end although the size does not change: those of a write that has failed. They go before
    // the size changes, so a file that keeps some of them keeps its size.
    Status removed = record ? Status{} : record.error();
    if (record && (bytes < before || allocated_end_ > end)) {
        removed = cut(record, end, Cut::remove);
        if (!removed) volume().leave_unclean();
    }
    // The pages of blocks that stay have gone, and may never have been written.
    if (!removed && bytes < before) static_cast<void>(volume().damaged("a file was cut by half, inode", number()));
    if (!removed) return removed;
    allocated_end_ = 0;
    raw_.size = static_cast<u32>(bytes);
    raw_.size_high = static_cast<u32>(bytes >> 32);
    raw_.mtime = raw_.ctime = file_time();
    write_record(record);
    return {};
}

// --- Pages of files.

Status Ext2Inode::fill(u32 first, std::span<Page* const> frames) {
    const u32 bytes = volume().block_bytes();
    const u64 size = this->bytes();
    BlockRun run{volume().disk(), BlockOp::read};
    for (u32 i = 0; i < frames.size(); ++i) {
        for (u32 offset = 0; offset < kPageSize; offset += bytes) {
            const u64 at = (u64{first + i} << kPageShift) + offset;
            const Result<u32> found = at < size ? block(static_cast<u32>(at / bytes)) : Result<u32>{0u};
            if (!found) {
                (void)run.finish();
                return found.error();
            }
            if (*found == 0) {
                zero_user(frames[i], offset, offset + bytes);
                continue;
            }
            if (const Status status = run.add(u64{*found} * volume().sectors_per_block(), frames[i], offset, bytes);
                !status)
                return status;
        }
    }
    if (const Status status = run.finish(); !status) return status;
    // What the last block has behind the end of the file.
    const u64 last = size - (u64{first} << kPageShift);
    if (size % kPageSize != 0 && last < frames.size() << kPageShift)
        zero_user(frames[last >> kPageShift], static_cast<u32>(size % kPageSize), kPageSize);
    return {};
}

// A page has been stored to by write(), which has allocated its blocks; or through a mapping: then a block that is not
// all zeros takes the place of a hole now.
Status Ext2Inode::store(u32 first, std::span<Page* const> frames) {
    const u32 bytes = volume().block_bytes();
    const u64 size = this->bytes();
    BlockRun run{volume().disk(), BlockOp::write};
    for (u32 i = 0; i < frames.size(); ++i) {
        for (u32 offset = 0; offset < kPageSize; offset += bytes) {
            const u64 at = (u64{first + i} << kPageShift) + offset;
            if (at >= size) break;
            Result<u32> found = block(static_cast<u32>(at / bytes));
            if (found && *found == 0 && !is_zero(frames[i], offset, bytes))
                found = allocate(static_cast<u32>(at / bytes));
            Status status = found ? Status{} : found.error();
            if (found && *found != 0)
                status = run.add(u64{*found} * volume().sectors_per_block(), frames[i], offset, bytes);
            if (!status) {
                (void)run.finish();
                // Damage was found: a page without a block stays dirty for ever, unless its object forgets it.
                return frames.size() == 1 && volume().is_read_only() ? Status{Error::gone} : status;
            }
        }
    }
    return run.finish();
}

} // namespace loft::ext2
