// Probes: accesses that may fault without harm.
//
// Each probe is one instruction with an entry in the table of probes (extable.hpp). The trap dispatcher searches this
// table first for a fault of the kernel, before the hooks. The fault is not resolved: a probe reports what is mapped
// now.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

struct TrapFrame;

// Each returns false if the access faulted. Any context that allows a page fault: all but NMI. Also for memory-mapped
// I/O. Cost: no TLB operation; an exception if the access fails.
[[nodiscard]] bool probe_read32(VirtAddr address, u32& value);
[[nodiscard]] bool probe_write32(VirtAddr address, u32 value);

// The same for a model-specific register: false if the processor has no such register, or refuses the value (a general
// protection fault).
[[nodiscard]] bool probe_read_msr(u32 reg, u64& value);
[[nodiscard]] bool probe_write_msr(u32 reg, u64 value);

// The error code (SDM vol. 3, 4.7) of the last probe's fault. Boot CPU, before others run.
u32 probe_error();

// Calls `address`; the code there is a `ret` (0xC3), or a function without arguments. False if the first instruction
// fetch faulted (not present, or NX); later faults are not caught.
[[nodiscard]] bool probe_exec(VirtAddr address);

// For the trap dispatcher: if the faulting instruction is in the table, continues the frame at the fixup.
[[nodiscard]] bool apply_fixup(TrapFrame& frame);

} // namespace loft
