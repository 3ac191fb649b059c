// The disks of the machine. Contract: disks.hpp.
#include "kernel/devices/disks.hpp"

#include "arch/base/fixed_list.hpp"
#include "arch/base/panic.hpp"
#include "kernel/devices/ide.hpp"
#include "kernel/devices/interrupt.hpp"
#include "kernel/devices/pci.hpp"
#include "kernel/devices/virtio_blk.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/frames/page.hpp"

namespace loft {
namespace {

constinit FixedList<FoundDisk, 4 + kMostVirtioDisks> list;

void add(const FoundDisk& disk) {
    const BlockDevice& device = *disk.device;
    const BlockLimits& limits = device.limits();
    const bool all = limits.reach.value() >= mem_map_count;
    log(LogLevel::info, "disk", "{}: {} sectors, {} MiB, {}{}{}; reaches {}", device.name(), device.sectors(),
        device.sectors() >> (20 - kSectorShift), disk.driver, *disk.model != 0 ? ", " : "", disk.model,
        all ? "every frame" : "frames below 4 GiB, others by bounce frames");
    LOFT_ASSERT(list.add(disk));
}

// A disk that is lost is taken away once; its requests end.
void watch(void*) {
    u32 taken = 0; // a bit for each
    for (;;) {
        sleep_ms(kDiskCheckMs);
        for (u32 i = 0; i < list.size(); ++i) {
            const FoundDisk& disk = list[i];
            if (taken >> i & 1) continue;
            if (!disk.is_lost(*disk.device)) disk.device->check_time();
            if (!disk.is_lost(*disk.device)) continue;
            log(LogLevel::error, "disk", "{} is gone", disk.device->name());
            disk.device->take_away();
            taken |= 1u << i;
        }
    }
}

} // namespace

void disks_init() {
    pci_init();
    for (const PciFunction& function : pci_functions()) {
        constexpr u8 kStorage = 0x01, kSata = 0x06;
        if (is_ide(function))
            ide_start(function, add);
        else if (is_virtio_blk(function))
            virtio_blk_start(function, add);
        else if (function.base_class == kStorage && function.sub_class == kSata)
            log(LogLevel::info, "disk", "a SATA controller: loft has no driver for its disks (use IDE or virtio)");
    }
    if (list.empty()) return;
    // It is never joined: it runs as long as the machine.
    if (thread_create("disks", watch, nullptr) == nullptr)
        log(LogLevel::error, "disk", "no memory for the thread that watches the disks: there are no time limits");
}

std::span<const FoundDisk> disks() { return list.view(); }

void report_disks() {
    for (const FoundDisk& disk : list.view()) {
        const BlockStats s = disk.device->stats();
        log(LogLevel::info, "disk",
            "{}: {} reads, {} writes, {} flushes, {} errors, {} resets, {} late, {} bounced, {} waits",
            disk.device->name(), since_start(s.reads), since_start(s.writes), since_start(s.flushes),
            since_start(s.errors), since_start(s.resets), since_start(s.late), since_start(s.bounced),
            since_start(s.waits));
    }
    if (!list.empty()) log(LogLevel::info, "disk", "{} interrupts of no device", since_start(unclaimed_interrupts()));
}

BlockDevice* find_disk(std::string_view name) {
    for (const FoundDisk& disk : list.view())
        if (name == disk.device->name()) return disk.device;
    return nullptr;
}

} // namespace loft
