// ext2 on the disk: numbers and places of fields. All fields are little-endian.
//
// Sources: Poirier, "The Second Extended File System: Internal Layout" (2001-2011); Documentation/filesystems/ext4 of
// Linux, for the feature bits; e2fsprogs' e2fsck(8), for what it holds to be damage.
#pragma once

#include "arch/base/types.hpp"

namespace loft::ext2 {

// The superblock: 1024 bytes at byte 1024 of the disk.
inline constexpr u32 kSuperAt = 1024;
namespace super {
inline constexpr u32 kInodes = 0, kBlocks = 4, kFreeBlocks = 12, kFreeInodes = 16, kFirstBlock = 20, kLogBlock = 24,
                     kLogFragment = 28, kBlocksPerGroup = 32, kFragmentsPerGroup = 36, kInodesPerGroup = 40,
                     kMountTime = 44, kWriteTime = 48;
inline constexpr u32 kMounts = 52, kMagic = 56, kState = 58, kErrors = 60; // 16 bits
inline constexpr u32 kRevision = 76, kFirstInode = 84, kCompatible = 92, kIncompatible = 96, kReadOnlyCompatible = 100;
inline constexpr u32 kInodeBytes = 88, kReservedDescriptors = 206, kExtraBytes = 350; // 16 bits
} // namespace super

inline constexpr u32 kMagic = 0xef53;
inline constexpr u32 kStateClean = 1, kStateDamaged = 2;

// Feature bits. A file system with an unknown incompatible one is not mounted, one with an unknown read-only
// compatible one is mounted read-only.
inline constexpr u32 kIncompatibleTypes = 2; // entries have the type of their inode
inline constexpr u32 kReadOnlySparse = 1, kReadOnlyLarge = 2, kReadOnlyTree = 4;

// A group descriptor: 32 bytes.
inline constexpr u32 kGroupBytes = 32;
namespace group {
inline constexpr u32 kBlockBitmap = 0, kInodeBitmap = 4, kInodeTable = 8;
inline constexpr u32 kFreeBlocks = 12, kFreeInodes = 14, kDirectories = 16; // 16 bits
} // namespace group

// An inode: the first 128 of kInodeBytes.
inline constexpr u32 kDirectBlocks = 12, kBlockSlots = 15;
struct RawInode {
    u16 mode = 0, uid = 0;
    u32 size = 0, atime = 0, ctime = 0, mtime = 0, dtime = 0;
    u16 gid = 0, links = 0;
    u32 sectors = 0, flags = 0, version = 0;
    u32 block[kBlockSlots]{};
    u32 generation = 0, attributes = 0, size_high = 0, fragment = 0;
    u16 fragment_bits = 0, reserved = 0, uid_high = 0, gid_high = 0;
    u32 reserved_too = 0;
};
static_assert(sizeof(RawInode) == 128);
inline constexpr u32 kRawBytes = sizeof(RawInode);
inline constexpr u32 kIndexed = 0x1000; // flags: a directory with an index

inline constexpr u32 kRootInode = 2, kOldFirstInode = 11, kMostLinks = 32000;
inline constexpr u32 kFastLink = sizeof RawInode::block; // a shorter target is in the inode itself

// An entry of a directory: entry::kHead bytes, and the name. Entries are aligned to 4 bytes and fill a block.
namespace entry {
inline constexpr u32 kInode = 0;
inline constexpr u32 kBytes = 4;                // 16 bits: to the next entry
inline constexpr u32 kNameBytes = 6, kType = 7; // 8 bits; without kIncompatibleTypes, 16 bits at kNameBytes
inline constexpr u32 kHead = 8, kSmallest = 12;
inline constexpr u8 kTypeFile = 1, kTypeDirectory = 2, kTypeCharacter = 3, kTypeBlock = 4, kTypeFifo = 5,
                    kTypeSocket = 6, kTypeLink = 7;
} // namespace entry

// A block of extended attributes.
namespace attributes {
inline constexpr u32 kMagic = 0xea02'0000;
inline constexpr u32 kUsers = 4; // the number of inodes that have it
} // namespace attributes

} // namespace loft::ext2
