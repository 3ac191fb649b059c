// tmpfs: a file system in memory. Its inodes and entries are objects of lowmem, the data of its files are pages from
// high memory first.
#pragma once

#include "kernel/tree/file_system.hpp"

namespace loft {

// An empty file system, whose files have at most `pages` pages in all. nomem. Any context but NMI; it has no user yet.
[[nodiscard]] Result<FileSystem*, Errno> tmpfs_make(u32 pages);
// Frees it with all its files. busy: inodes are in use; then it stays. Preemptible context; no other thread uses it.
Errno tmpfs_destroy(FileSystem* system);

void tmpfs_init(); // boot; after the object cache

} // namespace loft
