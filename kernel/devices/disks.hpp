// The disks of the machine: found and started at boot, and watched by a thread.
//
// Their names: hda to hdd by their place at the IDE controller, vda, vdb, ... in the order of the PCI bus.
#pragma once

#include "kernel/devices/driver.hpp"

#include <span>
#include <string_view>

namespace loft {

// Finds the PCI bus, starts the drivers, logs each disk, and starts the thread "disks" if there is one. Boot thread,
// once, with interrupts on and threads.
void disks_init();

// The disks, in the order in which they were found; constant after disks_init. A disk that was taken away stays: its
// requests end with an error. Any context.
std::span<const FoundDisk> disks();
BlockDevice* find_disk(std::string_view name); // null: there is none

// Logs the counters of each disk. Any context but NMI.
void report_disks();

// The thread calls check_time of each disk at this interval. So a request that gets no answer leads to a reset of the
// disk after four to five intervals, and ends with an error after twice the time. A flush of the disk's cache has four
// times as many (BlockDevice::kFlushPatience).
inline constexpr u32 kDiskCheckMs = 2000;

} // namespace loft
