// Open files and directories of file systems (kernel/tree).
//
// A write holds the mutex of the file's size from its first byte to its last one, so writes to one file never mix, and
// O_APPEND finds the end. Blocks are allocated before the bytes are copied: the caller learns that the disk is full.
// Sources: open(2), write(2), pwrite(2), getdents(2).
#pragma once

#include "kernel/files/object_file.hpp"
#include "kernel/tree/file_system.hpp"

namespace loft {

// The open file of an inode that is a file or a directory, with one user. Takes over the caller's reference to the
// inode if it succeeds; null: no memory. Preemptible context.
[[nodiscard]] File* open_inode(Inode& inode, const OpenMode& mode);

void inode_file_init(); // boot; after the object cache

} // namespace loft
