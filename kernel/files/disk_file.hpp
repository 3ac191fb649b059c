// Open disks, by the names /dev/NAME: their bytes are the pages of one memory object for each disk.
//
// A write to a page that is not in memory and replaces all of it does not read it first. Sources: open(2); Linux 6.1
// for the errors of block devices.
#pragma once

#include "kernel/files/object_file.hpp"

namespace loft {

class BlockDevice;

// The open file of a disk, with one user; null: no memory. All files of a disk share its pages. Preemptible context.
[[nodiscard]] File* open_disk(BlockDevice& disk, const OpenMode& mode);

// The disk becomes a swap area. Writes what programs have stored to it by its name, and its write cache; from here on
// write is ETXTBSY, as on Linux, and a store through a mapping SIGBUS (MemoryObject::set_frozen). Errors: no_memory,
// and those of the disk; then nothing has changed. Preemptible context; takes the mutexes of an object's write-back.
[[nodiscard]] Status freeze_disk(BlockDevice& disk);
void thaw_disk(BlockDevice& disk); // after freeze_disk; the same context

void disk_file_init(); // boot; after mm_init

} // namespace loft
