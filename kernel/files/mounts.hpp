// The tree of files of this machine: a root in memory, and the disks that are mounted in it.
#pragma once

#include "kernel/tree/path.hpp"

#include <span>

namespace loft {

class BlockDevice;

// The tree. Any context; it has a root after mounts_init.
Tree& file_tree();

// Makes the root, a tmpfs whose files have at most half of the machine's frames. Refuses to go on without memory. Boot
// thread, once, with threads.
void mounts_init();

// Mounts the ext2 file system of a disk at a path from the root, whose last name is made if it is missing, and logs
// that, or why not: then it returns false. Both texts stay valid. Boot thread.
bool mount_disk(std::string_view disk, std::string_view path);
struct MountedDisk {
    BlockDevice* disk = nullptr;
    FileSystem* system = nullptr;
    std::string_view path;
};
std::span<const MountedDisk> mounted_disks(); // any context, after the boot
// True: its contents are those of a file system in use. Any context, after the boot.
bool is_mounted(const BlockDevice& disk);
// Unmounts all disks: everything is durable, and they are marked clean. Logs each, and those that are in use: they are
// made durable only. The thread that ends the machine; no program runs.
void unmount_disks();

} // namespace loft
