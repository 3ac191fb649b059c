// hal/user of the simulated machine: copies that may fault, through the TLB. Contract: arch/base/hal_contract.hpp.
//
// The kernel's access to a user page obeys CR0.WP: a write needs the right to write (SDM vol. 3, 4.6.1). On a fault the
// copy calls mm, like the kernel's trap handler, and is then repeated or ends.
#pragma once

#include "arch/base/fault.hpp"
#include "tests/sim/machine.hpp"

namespace loft::sim {

// Called when a copy has just accessed this aligned word of a program; `value` is what it has read or written.
inline void (*user_word_copied)(VirtAddr word, u32 value, FaultAccess access) = nullptr;

} // namespace loft::sim

namespace loft::hal {

u32 user_copy_in(void* to, VirtAddr from, u32 bytes);
u32 user_copy_out(VirtAddr to, const void* from, u32 bytes);
u32 user_copy_to_map(VirtAddr to, VirtAddr from, u32 bytes);
u32 user_copy_from_map(VirtAddr to, VirtAddr from, u32 bytes);
u32 user_clear(VirtAddr to, u32 bytes);

} // namespace loft::hal
