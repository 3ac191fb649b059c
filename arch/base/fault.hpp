// The kind of a faulting access.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

enum class FaultAccess : u8 { read, write, exec };

// Up-call, defined by mm (mm/spaces/user_copy): an access of the kernel to an address below layout::kUserEnd faulted.
// True: the access may be retried. False: page faults are disabled, or the context may not sleep, or the running thread
// has no address space, or that space has no such memory. Context: the faulting one; interrupts are on again if they
// were on.
bool resolve_user_fault(VirtAddr va, FaultAccess access);

} // namespace loft
