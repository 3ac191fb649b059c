// Swap areas by their disks. Contract: swap.hpp.
#include "kernel/files/swap.hpp"

#include "arch/base/panic.hpp"
#include "kernel/boot/cmdline.hpp"
#include "kernel/devices/disks.hpp"
#include "kernel/files/disk_file.hpp"
#include "kernel/files/mounts.hpp"
#include "kernel/threads/scheduler.hpp"
#include "kernel/tree/file_system.hpp"
#include "mm/cache/swap_area.hpp"
#include "mm/ground/mutex.hpp"
#include "mm/spaces/address_space.hpp"

namespace loft {
namespace {

constinit Mutex changing{"of the list of swap areas"}; // areas come and go one at a time

const char* why_not(Error error) {
    switch (error) {
    case Error::invalid:
        return "it has no header of mkswap, or one that does not fit it";
    case Error::busy:
        return "it is a swap area already, or mounted";
    case Error::no_space:
        return "there are too many swap areas";
    default:
        return error_name(error);
    }
}

} // namespace

Status swap_on(BlockDevice& disk) {
    if (is_mounted(disk)) return Error::busy;
    MutexGuard guard{changing};
    if (SwapArea::of_disk(disk) != nullptr) return Error::busy;
    // Its header may not be on the disk yet, and what is written later would be written over swapped pages.
    if (const Status status = freeze_disk(disk); !status) return status;
    const Result<SwapArea*> opened = SwapArea::open(disk);
    if (!opened) {
        thaw_disk(disk);
        return opened.error();
    }
    log(LogLevel::info, "swap", "{}: {} pages of swap", disk.name(), (*opened)->free_slots());
    return {};
}

Errno swap_on(Inode& file) {
    MutexGuard guard{changing};
    const Result<SwapArea*, Errno> opened = file.system().swap_on(file);
    if (!opened) return opened.error();
    log(LogLevel::info, "swap", "a file on {}: {} pages of swap", (*opened)->disk().name(), (*opened)->free_slots());
    return {};
}

namespace {

// Brings in all that is in the area, which is none any more then.
Status leave(SwapArea& area) {
    area.set_closed(true);
    // A fork that is under way gives a child slots that the walk over all spaces has not seen.
    while (!area.is_empty()) {
        const Status status = empty_swap_area(area);
        if (!status) {
            area.set_closed(false);
            return status;
        }
        if (!area.is_empty()) sleep_ms(1);
    }
    log(LogLevel::info, "swap", "{}{}: no swap area any more", area.file() != nullptr ? "a file on " : "",
        area.disk().name());
    area.remove();
    return {};
}

} // namespace

Status swap_off(BlockDevice& disk) {
    MutexGuard guard{changing};
    SwapArea* const area = SwapArea::of_disk(disk);
    if (area == nullptr) return Error::not_found;
    if (const Status status = leave(*area); !status) return status;
    thaw_disk(disk);
    return {};
}

Errno swap_off(Inode& file) {
    MutexGuard guard{changing};
    SwapArea* const area = SwapArea::of_file(file);
    if (area == nullptr) return Errno::inval;
    if (const Status status = leave(*area); !status) return errno_of(status.error());
    file.system().swap_off(file);
    return {};
}

void swap_start(std::string_view disks) {
    any_item(disks, [](std::string_view name) {
        BlockDevice* const disk = find_disk(name);
        if (disk == nullptr)
            log(LogLevel::error, "swap", "swap={}: there is no such disk", name);
        else if (const Status status = swap_on(*disk); !status)
            log(LogLevel::error, "swap", "swap={}: not used: {}", name, why_not(status.error()));
        return false;
    });
}

} // namespace loft
