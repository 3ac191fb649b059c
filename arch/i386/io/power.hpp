// The ways in which the machine stops, or says that it should.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// The statuses that loft ends with (QEMU's own exit status is twice this, plus one).
namespace exit_status {
inline constexpr u8 passed = 0x10, failed = 0x11, panicked = 0x12, refused = 0x13;
}

// Why an NMI came, as far as the board knows (NMI status and control, port 61h; Intel 82371SB data sheet, 2.5.4); what
// it knows of is acknowledged, so that it can come again. NMI.
const char* nmi_reason();

// Interrupts off, then hlt in a loop: only an NMI or a reset gets through. Any context.
[[noreturn]] void halt_forever();

// Leaves the emulator: QEMU through isa-debug-exit at port 0xF4, Bochs through port 0x8900. Returns where neither
// listens, as on a real machine: both writes do nothing there. Any context.
void exit_qemu(u8 status);

} // namespace loft
