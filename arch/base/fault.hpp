// Faults on user addresses: the kind of the access, and what became of it.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

enum class FaultAccess : u8 { read, write, exec };

enum class FaultResult : u8 {
    resolved,    // the access may be retried
    bad_address, // no area of the program has this address
    no_access,   // one has it, without the right to this access
    no_memory,   // the machine has no memory left
    no_page,     // the object mapped there ends before the page, or cannot read it: SIGBUS
    lost,        // the page was swapped out, and the disk cannot read it: SIGBUS
};

// Up-call, defined by mm (mm/spaces/user_copy): an access to user address `va` faulted. The running program made it in
// ring 3, or the kernel on its behalf (user copies). bad_address also if the context cannot resolve faults: page faults
// are disabled, it may not sleep, the running thread has no address space, or `va` is a kernel address. Context: the
// faulting one, with interrupts on if they were on there.
FaultResult resolve_user_fault(VirtAddr va, FaultAccess access);

} // namespace loft
