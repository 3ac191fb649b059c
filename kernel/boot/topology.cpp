// Finding the CPUs and the I/O APIC. Contract: topology.hpp.
#include "kernel/boot/topology.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/firmware/find.hpp"
#include "arch/i386/irq/ioapic.hpp"
#include "arch/i386/irq/irq.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "kernel/boot/multiboot.hpp"
#include "kernel/boot/physical.hpp"
#include "mm/windows/fixmap.hpp"

namespace loft {
namespace {

constinit CpuTopology topology;

bool is_memory(PhysAddr begin, u64 bytes) {
    for (const FirmwareRange& range : multiboot_memory_map()) {
        const u64 end = range.base + range.length < range.base ? ~u64{0} : range.base + range.length;
        if (range.type == FirmwareRange::kUsable && range.base < begin.value() + bytes && begin.value() < end)
            return true;
    }
    return false;
}

// Why there cannot be an I/O APIC at this address; null if there can.
const char* why_no_io_apic(PhysAddr address) {
    constexpr u32 kAlignment = 16, kRegisterBytes = 0x20; // data sheet, 3.0
    if (address == PhysAddr{}) return "0 is not a valid address";
    if (address.page_offset() % kAlignment != 0 || address.page_offset() + kRegisterBytes > kPageSize)
        return "its registers are not on a border of 16 bytes within a page";
    if (address.pfn() == lapic_phys_base().pfn()) return "the local APIC is there";
    if (is_memory(address, kRegisterBytes)) return "the firmware's map has memory there";
    return nullptr;
}

// Maps the I/O APIC at an address, all its inputs masked; false if there is none.
bool init_io_apic(PhysAddr address) {
    const char* problem = why_no_io_apic(address);
    if (problem == nullptr) {
        const VirtAddr page = fixmap_set(layout::Fix::ioapic, address.pfn(), kernel_prot.device);
        const VirtAddr registers = page + address.page_offset();
        if (io_apic_answers(registers)) {
            io_apic_init(registers);
            return true;
        }
        fixmap_clear(layout::Fix::ioapic);
        problem = "nothing answers there";
    }
    log(LogLevel::warn, "irq", "the firmware names an I/O APIC at {}: {}; not used", address, problem);
    return false;
}

// Without an input for the PIT there may be no tick; then the 8259s are used, where the PIT always has one.
bool use_io_apic(PhysAddr address) {
    if (!init_io_apic(address)) return false;
    if (topology.isa_line(kTimerIrq).gsi < io_apic_inputs()) {
        irq_use_io_apic(topology, address);
        return true;
    }
    log(LogLevel::warn, "irq", "the firmware gives the timer none of the {} inputs of the I/O APIC at {}: not used",
        io_apic_inputs(), address);
    fixmap_clear(layout::Fix::ioapic);
    return false;
}

// Earlier software may have left an input unmasked, and its device may still raise it.
void mask_io_apic(PhysAddr address) {
    if (!init_io_apic(address)) return;
    log(LogLevel::info, "irq", "I/O APIC at {}: {} inputs, all masked", address, io_apic_inputs());
    fixmap_clear(layout::Fix::ioapic);
}

} // namespace

void read_topology() {
    if (!lapic_ready()) return;
    topology = find_topology(read_physical, lapic_id());
    log(LogLevel::info, "smp", "{} CPUs and {} I/O APICs by {}", topology.lapic_ids.size(), topology.io_apics_listed,
        topology.source);
    const auto count = [](u32 n, const char* what) {
        if (n != 0) log(LogLevel::notice, "smp", "{} {}", n, what);
    };
    count(topology.disabled_cpus, "CPUs are listed as not usable");
    count(topology.unreachable_cpus, "CPUs have an APIC id above 254: not used");
    count(topology.surplus_cpus, "CPUs exceed the number that this kernel supports: not used");

    for (const PhysAddr address : topology.other_io_apics)
        mask_io_apic(address);
    for (const CpuTopology::IoApic& io_apic : topology.io_apics)
        if (use_io_apic(io_apic.address)) return;
    log(LogLevel::notice, "irq", "no I/O APIC: interrupts come through the 8259s");
}

const CpuTopology& cpu_topology() { return topology; }

} // namespace loft
