// ext2: mounting a file system of a disk. docs/disks.md, "What is durable".
#pragma once

#include "kernel/tree/file_system.hpp"
#include "mm/cache/block.hpp"

namespace loft {

// The file system of a disk, which must live longer. It is read-only if `read_only`, if it is not marked clean, or if
// it has features that loft can only read; the log says so. Errors: inval (no ext2, or one with features or sizes that
// loft does not have), uclean (damaged), io, nomem. Preemptible context.
[[nodiscard]] Result<FileSystem*, Errno> ext2_mount(BlockDevice& disk, bool read_only);
// Makes all durable, marks the file system clean, and frees it. busy: inodes are in use, or have pages that could not
// be written; then it stays mounted. Other errors: it is unmounted, but not clean. Preemptible context; no other thread
// uses it.
Errno ext2_unmount(FileSystem* system);

void ext2_init(); // boot; after the object cache

} // namespace loft
