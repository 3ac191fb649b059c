// How a boot ends: the exit statuses of loft, and the one function that decides between leaving QEMU and
// halting.
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/io/power.hpp"

namespace loft {

// Written to isa-debug-exit; QEMU's own status is 2 * value + 1.
enum class ExitStatus : u8 {
    passed =
        exit_status::passed, // 33: what was asked for was done, and nothing failed; a line says if no self-test ran
    failed = exit_status::failed,  // 35: a self-test failed, or a deliberate misuse was not caught
    panic = exit_status::panicked, // 37
    refused =
        exit_status::refused, // 39: the machine or its input does not allow loft to start, or to do what was asked
};

// What the command line says about `exit`; once, when it is known.
void set_exit(bool wanted);

// Leaves QEMU with `status` if the command line says `exit`, or if it is not known yet; else halts with what
// is on the screen. Any context.
[[noreturn]] void end_of_boot(ExitStatus status);

} // namespace loft
