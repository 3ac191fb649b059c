// hal/user of the simulated machine: copies that may fault, through the TLB. Contract: arch/base/hal_contract.hpp.
//
// An access to a user page by the kernel obeys CR0.WP: writing asks for the right to write (SDM vol. 3, 4.6.1). What
// faults asks mm, as the kernel's trap handler does, and is tried again or ends the copy.
#pragma once

#include "arch/base/fault.hpp"
#include "tests/sim/machine.hpp"

namespace loft::hal {

u32 user_copy_in(void* to, VirtAddr from, u32 bytes);
u32 user_copy_out(VirtAddr to, const void* from, u32 bytes);
u32 user_copy_to_map(VirtAddr to, VirtAddr from, u32 bytes);
u32 user_copy_from_map(VirtAddr to, VirtAddr from, u32 bytes);
u32 user_clear(VirtAddr to, u32 bytes);

} // namespace loft::hal
