// The root, and mounted disks. Contract: mounts.hpp.
#include "kernel/files/mounts.hpp"

#include "arch/base/fixed_list.hpp"
#include "arch/base/panic.hpp"
#include "kernel/devices/disks.hpp"
#include "kernel/ext2/ext2.hpp"
#include "kernel/files/disk_file.hpp"
#include "kernel/files/inode_file.hpp"
#include "kernel/threads/scheduler.hpp"
#include "kernel/tree/cpio.hpp"
#include "kernel/tree/tmpfs.hpp"
#include "mm/frames/page_alloc.hpp"

#include <cstring>

namespace loft {
namespace {

constinit Tree tree;

constinit FixedList<MountedDisk, Tree::kMostMounts> mounted;

constexpr const char* why(Errno error) {
    switch (error) {
    case Errno::noent:
        return "a directory of the path does not exist";
    case Errno::notdir:
        return "the path leads through, or to, what is no directory";
    case Errno::loop:
        return "the path leads through too many symbolic links";
    case Errno::nametoolong:
        return "the path is too long";
    case Errno::busy:
        return "another file system is mounted there";
    case Errno::nomem:
        return "there is not enough memory, or too much is mounted";
    case Errno::inval:
        return "it has no ext2 file system that loft can use";
    case Errno::uclean:
        return "its file system is damaged";
    case Errno::io:
        return "it cannot be read";
    case Errno::rofs:
        return "its directory cannot be made on a file system that is read-only";
    case Errno::nospc:
        return "there is no room for its directory";
    default:
        return "the path cannot be used";
    }
}

// The directory at `text`; its last name is made if it is missing.
FileSystem::Found directory_at(std::string_view text) {
    Path path{tree, nullptr};
    if (path.text() == nullptr) return Errno::nomem;
    if (text.size() >= kMostPath) return Errno::nametoolong;
    std::memcpy(path.text(), text.data(), text.size());
    path.text()[text.size()] = '\0';
    Errno error = path.walk(Path::Stop::parent);
    if (!is_error(error)) error = path.go_on(Path::Stop::follow);
    if (error == Errno::noent && !path.name().empty()) {
        Inode& above = path.directory();
        return above.system().create(above, path.name(), kModeDirectory | 0755);
    }
    if (is_error(error)) return error;
    return path.take();
}

Errno mount_at(BlockDevice& disk, Inode& directory, std::string_view path) {
    const Result<FileSystem*, Errno> system = ext2_mount(disk, false);
    if (!system) return system.error();
    Errno error = tree.mount(directory, **system);
    if (!is_error(error) && !mounted.add({&disk, *system, path})) {
        (void)tree.unmount(**system);
        error = Errno::nomem;
    }
    if (is_error(error)) (void)ext2_unmount(*system);
    return error;
}

} // namespace

Tree& file_tree() { return tree; }

void mounts_init() {
    tmpfs_init();
    cpio_init();
    ext2_init();
    disk_file_init();
    inode_file_init();
    u32 frames = 0;
    for (const ZoneId zone : {ZoneId::dma, ZoneId::normal, ZoneId::high})
        frames += zone_info(zone).managed;
    const Result<FileSystem*, Errno> root = tmpfs_make(frames / 2);
    if (!root) refuse("not enough memory for the root of the files");
    tree.set_root(**root);
}

bool mount_disk(std::string_view disk, std::string_view path) {
    const auto refused = [&](const char* reason) {
        log(LogLevel::warn, "mount", "{} is not mounted at {}: {}", disk, path, reason);
        return false;
    };
    BlockDevice* const device = find_disk(disk);
    if (device == nullptr) return refused("there is no such disk");
    if (is_mounted(*device)) return refused("it is mounted already");
    if (!path.starts_with('/')) return refused("the path does not begin with a slash");
    const FileSystem::Found directory = directory_at(path);
    if (!directory) return refused(why(directory.error()));
    const Errno error = mount_at(*device, **directory, path);
    FileSystem::release(*directory);
    if (is_error(error)) return refused(why(error));
    FileSystem& system = *mounted[mounted.size() - 1].system;
    const FileSystemStat stat = system.stat();
    log(LogLevel::info, "mount", "{} is mounted at {}{}: ext2, {} of {} blocks of {} bytes are free", disk, path,
        system.is_read_only() ? ", read-only" : "", stat.free_blocks, stat.blocks, stat.block_bytes);
    return true;
}

std::span<const MountedDisk> mounted_disks() { return mounted.view(); }

bool is_mounted(const BlockDevice& disk) {
    for (const MountedDisk& one : mounted)
        if (one.disk == &disk) return true;
    return false;
}

void unmount_disks() {
    for (u32 i = mounted.size(); i-- > 0;) {
        const MountedDisk& one = mounted[i];
        if (is_error(tree.unmount(*one.system))) continue; // it was unmounted by an earlier call
        // Write-back and reclaim have references for a moment.
        constexpr u32 kTries = 100, kPauseMs = 10;
        Errno error = ext2_unmount(one.system);
        for (u32 tries = 0; error == Errno::busy && tries < kTries; ++tries) {
            sleep_ms(kPauseMs);
            error = ext2_unmount(one.system);
        }
        if (!is_error(error))
            log(LogLevel::info, "mount", "{} is unmounted from {}", one.disk->name(), one.path);
        else
            log(LogLevel::error, "mount", "{} at {}: {}", one.disk->name(), one.path,
                error == Errno::busy ? "it is in use, and stays mounted; what could be written is durable"
                                     : "not all could be written; e2fsck has to check it");
    }
}

} // namespace loft
