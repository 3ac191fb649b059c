// Building the description of the machine. Contract: topology.hpp.
#include "arch/i386/firmware/topology.hpp"

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

void CpuTopology::add_io_apic(const IoApic& io_apic) {
    ++io_apics_listed;
    if (io_apic.first_gsi != 0) {
        const auto others = other_io_apics.view();
        if (std::find(others.begin(), others.end(), io_apic.address) == others.end())
            static_cast<void>(other_io_apics.add(io_apic.address)); // full: more than a board with 32 CPUs has
        return;
    }
    for (const IoApic& known : io_apics)
        if (known.address == io_apic.address) return;
    static_cast<void>(io_apics.add(io_apic)); // full: eight with the same inputs are enough
}

CpuTopology::IsaLine CpuTopology::isa_line(u32 irq) const {
    IsaLine line{irq, {}};
    for (const Override& over : overrides) {
        if (over.irq == irq) return {over.gsi, over.mode};
        if (over.gsi == irq) line.gsi = IsaLine::kNowhere;
    }
    return line;
}

void CpuTopology::add_override(const Override& over) {
    if (over.irq >= 16) return;
    for (const Override& known : overrides)
        if (known.irq == over.irq) return;
    overrides.add(over);
}

void CpuTopology::add_local_nmi(const LocalNmi& nmi) {
    if (nmi.pin > 1) return; // there are no other pins
    const auto ids = lapic_ids.view();
    if (nmi.lapic_id != LocalNmi::kEvery && std::find(ids.begin(), ids.end(), nmi.lapic_id) == ids.end()) return;
    for (const LocalNmi& known : local_nmis)
        if (known.lapic_id == nmi.lapic_id && known.pin == nmi.pin) return;
    local_nmis.add(nmi);
}

bool CpuTopology::add_nmi_source(const NmiSource& added) {
    for (const NmiSource& known : nmi_sources)
        if (known.gsi == added.gsi) return true;
    return nmi_sources.add(added);
}

} // namespace loft
