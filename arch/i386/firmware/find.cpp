// ACPI before MP tables. Contract: find.hpp.
#include "arch/i386/firmware/find.hpp"

#include "arch/i386/firmware/acpi.hpp"
#include "arch/i386/firmware/firmware_scan.hpp"
#include "arch/i386/firmware/mp_table.hpp"

#include <algorithm>

namespace loft {

CpuTopology find_topology(PhysicalReader read, u32 boot_lapic_id) {
    CpuTopology topology;
    topology.add_cpu(boot_lapic_id, true);
    if (read_acpi(read, topology))
        topology.source = "ACPI";
    else if (read_mp_tables(read, topology))
        topology.source = "MP tables";
    return topology;
}

void find_firmware_tables(PhysicalReader read, RangeFound found) {
    const BiosAreas bios = bios_areas(read);
    u32 begin = kBaseMemoryEnd;
    for (const u32 told : {bios.extended_data, bios.base_end})
        if (told != 0) begin = std::min(begin, told);
    if (begin != kBaseMemoryEnd) found(PhysAddr{u64{begin}}, kBaseMemoryEnd - begin, "BIOS data");
    find_acpi_tables(read, found);
    find_mp_tables(read, found);
}

} // namespace loft
