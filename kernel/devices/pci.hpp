// The PCI bus: which functions there are, and their configuration (PCI Local Bus Specification 3.0, chapter 6;
// configuration mechanism 1 of 3.2.2.3.2). loft changes no resource that the firmware has assigned.
#pragma once

#include "arch/base/error.hpp"
#include "arch/base/types.hpp"
#include "kernel/devices/interrupt.hpp"

#include <span>

namespace loft {

struct PciAddress {
    u8 bus = 0, device = 0, function = 0;
};

struct PciFunction {
    PciAddress at{};
    u16 vendor = 0, id = 0;
    u8 base_class = 0, sub_class = 0, interface = 0;
    u8 pin = 0;  // 1 to 4: it uses interrupt line INTA# to INTD#; 0: none
    u8 line = 0; // the ISA interrupt to which the firmware has routed that line
};

// Finds all functions, behind bridges too, and logs them. Nothing is found if the machine has no PCI bus. Boot thread,
// once. Cost: one configuration read for each possible device of each bus.
void pci_init();
std::span<const PciFunction> pci_functions(); // in the order of the scan; constant after pci_init

// Registers of a function's configuration space; `offset` is a multiple of the size. Any context but NMI.
u8 pci_read8(PciAddress at, u32 offset);
u16 pci_read16(PciAddress at, u32 offset);
u32 pci_read32(PciAddress at, u32 offset);
void pci_write16(PciAddress at, u32 offset, u16 value);
void pci_write32(PciAddress at, u32 offset, u32 value);

// Bits of the command register (6.2.2).
namespace pci_command {
inline constexpr u16 ports = 1 << 0, memory = 1 << 1, bus_master = 1 << 2, no_line = 1 << 10;
}
void pci_set_command(PciAddress at, u16 set, u16 clear);

// A range of addresses to which the function answers (6.2.5.1).
struct PciBar {
    PhysAddr base{}; // or a port
    u64 bytes = 0;   // 0: there is none, or the firmware has assigned no address
    bool is_port = false;
};
// Measures BAR `index` (0 to 5), for which the function does not answer for a moment. Boot thread; the function is not
// in use.
PciBar pci_bar(PciAddress at, u32 index);

// The offset of the function's next capability with this id behind `after`, or of the first one; 0: there is none
// (6.7). Any context but NMI.
u32 pci_capability(PciAddress at, u8 id, u32 after = 0);

// Maps `bytes` of a BAR of memory from `offset` on (fixmap_device). Errors: not_found (no such BAR of memory), invalid
// (beyond its end), busy (the allocator has memory there: the firmware is wrong), or those of fixmap_device.
Result<VirtAddr> pci_map(PciAddress at, u32 index, u32 offset, u32 bytes);

// Makes `handler` the only one of the function's interrupts, by entry 0 of its MSI-X table (6.8.2); all others stay
// masked. Errors: not_found (no MSI-X, or no local APIC), or those of pci_map and interrupt_add_message. Boot thread.
[[nodiscard]] Status pci_use_message(PciAddress at, DeviceHandler& handler);

} // namespace loft
