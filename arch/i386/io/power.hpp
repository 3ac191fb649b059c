// Stopping the machine or the emulator; the cause of an NMI.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// loft's exit statuses (QEMU's own status is twice the value, plus one).
namespace exit_status {
inline constexpr u8 passed = 0x10, failed = 0x11, panicked = 0x12, refused = 0x13;
}

// The cause of an NMI, as far as the board reports it (NMI status and control, port 61h; Intel 82371SB data sheet,
// 2.5.4). Acknowledges it, so that the next one can arrive. Context: NMI.
const char* nmi_reason();

// Interrupts off, then hlt in a loop: only an NMI or a reset ends it. Any context.
[[noreturn]] void halt_forever();

// Leaves the emulator: QEMU through isa-debug-exit at port 0xF4, Bochs through port 0x8900. Returns if there is neither
// device, as on a real machine, where both writes have no effect. Any context.
void exit_qemu(u8 status);

} // namespace loft
