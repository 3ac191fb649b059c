// Interrupts of devices: the lines of the ISA and PCI buses, which devices may share, and messages (MSI-X).
//
// The boot CPU handles all of them. A message is a write to its local APIC: no board has to route it, so it works where
// the firmware's description of the lines (ACPI's _PRT, a program in AML) cannot be read.
#pragma once

#include "arch/base/error.hpp"
#include "arch/base/types.hpp"
#include <hal/hal.hpp>

namespace loft {

// A driver's handler. It is called in the interrupt, without a lock, and returns true if its device had asked for it:
// false for the interrupt of another device on its line. Never removed, so the object stays for ever.
struct DeviceHandler {
    bool (*handle)(void* device) = nullptr;
    void* device = nullptr;
    hal::Atomic<DeviceHandler*> next{}; // on the same line
};

enum class Trigger : u8 { edge, level };

// Adds a handler to a line, and unmasks the line. Lines of PCI are level triggered and may be shared. Errors: invalid
// (no number of a line that devices use), not_found (the line arrives nowhere), busy (it is in use with the other
// trigger, or edge triggered). Boot thread, interrupts on.
[[nodiscard]] Status interrupt_add_line(u32 irq, Trigger trigger, DeviceHandler& handler);

// What a device writes where, to raise its interrupt (SDM vol. 3, 10.11).
struct InterruptMessage {
    PhysAddr address{};
    u32 data = 0;
};
// A message of its own for a handler. Errors: not_found (this CPU has no local APIC), no_space (all are in use). Boot
// thread.
[[nodiscard]] Result<InterruptMessage> interrupt_add_message(DeviceHandler& handler);

// A level-triggered line that no device owns up to would interrupt for ever. After so many interrupts without a device
// it is masked, and an error logged; its devices then run into their time limits.
inline constexpr u32 kMostUnclaimed = 10'000;

u32 unclaimed_interrupts(); // on lines in use, of no device. Any context

} // namespace loft
