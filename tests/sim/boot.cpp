// The state of the machine when boot calls C++: the kernel's image at 1 MiB, first page tables, the firmware's map.
#include "tests/sim/machine.hpp"

#include <algorithm>

namespace loft::sim {
namespace {

constexpr u32 kDirectMap = 0xc000'0000, kLowmem = 896 * MiB, kIdentity = 16 * MiB;
constexpr u32 kImage = 0x10'0000, kRodata = 0x16'0000, kData = 0x18'0000, kImageEnd = 0x28'0000;
constexpr u32 kGuards[] = {0x19'0000, 0x1a'0000}; // below the boot stack and the double-fault stack
constexpr u32 kTables = 0x20'0000;                // in .bss

VirtAddr high(u32 phys) { return VirtAddr{kDirectMap + phys}; }

std::vector<FirmwareRange> describe(const std::vector<RamRange>& ram) {
    std::vector<FirmwareRange> map;
    for (const RamRange& r : ram) {
        if (r.base != 0 || r.size < 2 * MiB) {
            map.push_back({r.base, r.size, FirmwareRange::kUsable});
            continue;
        }
        // As SeaBIOS describes a PC: the EBDA, the ROMs, and ACPI tables at the end.
        map.push_back({0, 0x9'fc00, FirmwareRange::kUsable});
        map.push_back({0x9'fc00, 0x400, 2});
        map.push_back({0xf'0000, 0x1'0000, 2});
        map.push_back({MiB, r.size - MiB - 0x2'0000, FirmwareRange::kUsable});
        map.push_back({r.size - 0x2'0000, 0x2'0000, 2});
        map.push_back({0xfffc'0000, 0x4'0000, 2});
    }
    return map;
}

} // namespace

// Maps lowmem in the direct map, and its first kIdentity bytes also at 0, in large pages, writable, not global. One
// table for the last addresses, for fixmap.
void Machine::build_boot_tables() {
    u32 next = kTables;
    const auto new_page = [&next] {
        const u32 page = next;
        next += kPageSize;
        std::memset(ram_at(page), 0, kPageSize);
        return page;
    };
    const auto put = [](u32 table, u32 index, RawPte value) { *raw::cell(table >> kPageShift, index) = value; };

    boot_root_ = new_page();
    u32 directory[paging::kDirectories] = {static_cast<u32>(boot_root_)};
    if constexpr (config::kPae) {
        for (u32 i = 0; i < paging::kDirectories; ++i) {
            directory[i] = new_page();
            put(static_cast<u32>(boot_root_), i, directory[i] | raw::kPresent);
        }
    }
    const auto map = [&](u32 va, RawPte value) {
        const u32 slot = va >> paging::kLargeShift;
        put(directory[slot / kSpan], slot % kSpan, value);
    };
    for (u32 at = 0; at < kLowmem; at += paging::kLargeSize) {
        const RawPte entry = at | raw::kPresent | raw::kWrite | raw::kLarge;
        map(kDirectMap + at, entry);
        if (at < kIdentity) map(at, entry);
    }
    boot_last_table_ = new_page();
    map(0u - paging::kLargeSize, static_cast<RawPte>(boot_last_table_) | raw::kPresent | raw::kWrite);
}

BootInfo Machine::make_boot_info() {
    build_boot_tables();
    load_root(boot_root_);
    here().counters = {};

    firmware_ = options_.firmware.empty() ? describe(ram_) : options_.firmware;
    reserved_ = {{PhysAddr{u64{kImage}}, PhysAddr{u64{kImageEnd}}, "kernel"}};
    reserved_.insert(reserved_.end(), options_.modules.begin(), options_.modules.end());
    guards_.clear();
    for (const u32 page : kGuards)
        guards_.push_back(high(page));

    BootInfo info;
    info.firmware = firmware_;
    info.reserved = reserved_;
    map_ranges_.assign(firmware_.size(), {});
    map_borders_.assign(2 * firmware_.size(), {});
    info.room = {map_ranges_, map_borders_};
    info.text = {high(kImage), high(kRodata)};
    info.rodata = {high(kRodata), high(kData)};
    info.data = {high(kData), high(kImageEnd)};
    info.guard_pages = guards_;
    return info;
}

u64 Machine::usable_bytes() const {
    u64 sum = 0;
    for (const FirmwareRange& r : firmware_)
        if (r.type == FirmwareRange::kUsable) sum += r.length;
    return sum;
}

} // namespace loft::sim
