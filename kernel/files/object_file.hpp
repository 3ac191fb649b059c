// Open files whose bytes are the pages of a memory object: the disks, by the names /dev/NAME.
//
// read and write copy between the program and the pages of the object: a page is mapped by kmap_atomic, where a fault
// of the program's memory ends the copy early; then nothing is held but a reference to the page, the fault is resolved,
// and the copy is tried again (mm/spaces/user_copy.hpp). So a program may read a file into a mapping of the same file.
// A write to a page that is not in memory and replaces all of it does not read it first.
//
// Sources: open(2), read(2), pread(2), lseek(2), fsync(2), mmap(2); Linux 6.1 for the errors of block devices.
#pragma once

#include "kernel/files/file.hpp"
#include "mm/cache/memory_object.hpp"

namespace loft {

class BlockDevice;

// The open file of a disk, with one user; null: no memory. All files of a disk share its pages. Preemptible context.
[[nodiscard]] File* open_disk(BlockDevice& disk, bool reads, bool writes, bool synchronous);

void object_file_init(); // boot; after mm_init

} // namespace loft
