// The end of a boot: loft's exit statuses, and the function that either leaves QEMU or halts.
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/io/power.hpp"

namespace loft {

// Written to isa-debug-exit; QEMU's own status is 2 * value + 1.
enum class ExitStatus : u8 {
    // 33: everything asked for was done without failure; if no self-test ran, a log line says so
    passed = exit_status::passed,
    failed = exit_status::failed,   // 35: a self-test failed, or a deliberate misuse was not caught
    panic = exit_status::panicked,  // 37
    refused = exit_status::refused, // 39: machine or input do not allow loft to start, or to do what was asked
};

// Whether the command line says `exit`. Once, when it is known.
void set_exit(bool wanted);

// Leaves QEMU with `status` if the command line says `exit` or is not known yet, and for a refusal; otherwise halts
// with the output still on the screen. Any context.
[[noreturn]] void end_of_boot(ExitStatus status);

} // namespace loft
