// Putting the description of the machine together. Contract: topology.hpp, firmware_scan.hpp.
#include "arch/i386/topology.hpp"

#include "arch/i386/acpi.hpp"
#include "arch/i386/firmware_scan.hpp"
#include "arch/i386/mp_table.hpp"

#include <algorithm>

namespace loft {

void CpuTopology::add_cpu(u32 lapic_id, bool enabled) {
    constexpr u32 kBroadcast = 255;
    const auto known = lapic_ids.view();
    if (std::find(known.begin(), known.end(), lapic_id) != known.end()) return;
    if (!enabled)
        ++disabled_cpus;
    else if (lapic_id >= kBroadcast)
        ++unreachable_cpus;
    else if (!lapic_ids.add(static_cast<u8>(lapic_id)))
        ++surplus_cpus;
}

CpuTopology find_topology(PhysicalReader read, u32 boot_lapic_id) {
    CpuTopology topology;
    topology.add_cpu(boot_lapic_id, true);
    if (read_acpi(read, topology))
        topology.source = "ACPI";
    else if (read_mp_tables(read, topology))
        topology.source = "MP tables";
    return topology;
}

bool checksum_is_right(PhysicalReader read, PhysAddr from, u32 bytes) {
    std::array<u8, 512> chunk{};
    u8 sum = 0;
    for (u32 done = 0; done < bytes;) {
        const u32 step = std::min<u32>(bytes - done, chunk.size());
        if (!read(from + done, chunk.data(), step)) return false;
        sum = static_cast<u8>(sum + byte_sum({chunk.data(), step}));
        done += step;
    }
    return sum == 0;
}

} // namespace loft
