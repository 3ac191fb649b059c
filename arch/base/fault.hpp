// What an access that faulted wanted to do.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

enum class FaultAccess : u8 { read, write, exec };

// Up-call, defined by mm (mm/spaces/user_copy): the kernel has touched an address below layout::kUserEnd and the
// page-fault handler asks whether the access may be tried again. False: page faults are off here, or the context may
// not sleep, or the running thread has no address space, or its space has no such memory. Context: the one that
// faulted, its interrupts on again if they were on.
bool resolve_user_fault(VirtAddr va, FaultAccess access);

} // namespace loft
