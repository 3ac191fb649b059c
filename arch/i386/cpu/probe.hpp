// Touching an address that may fault, and living on.
//
// Each probe is one instruction with an entry in the table of probes (extable.hpp). The trap dispatcher looks there
// first for a fault of the kernel, before the hooks. Nothing is resolved for a probe: it tells what is there now.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

struct TrapFrame;

// Each returns false if the access faulted. Any context in which a page fault is bearable: all but NMI. An
// address in memory-mapped I/O is read or written like any other. Cost: no TLB operations; a fault when it
// fails.
[[nodiscard]] bool probe_read32(VirtAddr address, u32& value);
[[nodiscard]] bool probe_write32(VirtAddr address, u32 value);

// The same for a model-specific register: false where the processor has none of this number, or refuses the value (a
// general protection fault).
[[nodiscard]] bool probe_read_msr(u32 reg, u64& value);
[[nodiscard]] bool probe_write_msr(u32 reg, u64 value);

// The error code (SDM vol. 3, 4.7) of the fault that the last probe met. Boot CPU, before others run.
u32 probe_error();

// Calls `address`; the code there is a `ret` (0xC3), or a function without arguments. False if the very first
// fetch faulted (not present, or NX); what the called code does is its own affair.
[[nodiscard]] bool probe_exec(VirtAddr address);

// For the trap dispatcher: if the table knows the faulting instruction, lets the frame go on at the fixup.
[[nodiscard]] bool apply_fixup(TrapFrame& frame);

} // namespace loft
