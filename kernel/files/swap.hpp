// Swap areas by their disks and files: the option swap=, and the calls swapon(2) and swapoff(2).
#pragma once

#include "kernel/tree/errno.hpp"

#include <string_view>

namespace loft {

class BlockDevice;
class Inode;

// Makes the disk a swap area, and logs its size. Errors: those of SwapArea::open; busy also for a disk that is mounted.
// Preemptible context.
[[nodiscard]] Status swap_on(BlockDevice& disk);
// Brings in all that is on the disk, which is no swap area any more then. Errors: not_found (it is none), no_memory,
// io (a page cannot be read): then it stays a swap area, and nothing is lost. Preemptible context; may take long.
[[nodiscard]] Status swap_off(BlockDevice& disk);

// The same for a file, in the terms of the calls. swap_on: FileSystem::swap_on. swap_off: inval (it is no swap area).
[[nodiscard]] Errno swap_on(Inode& file);
[[nodiscard]] Errno swap_off(Inode& file);

// swap=DISK[,DISK...]: a line of the log for each that cannot be used. Boot, once, after the disks were found.
void swap_start(std::string_view disks);

} // namespace loft
