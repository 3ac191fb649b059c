// The end of a kernel that found itself broken: what panic() and the fault handlers print.
//
// Everything here works in any context, NMI and the double-fault task included, and with any amount of the
// kernel broken: what it prints it reads without trust, and a panic inside a panic is cut short and still
// ends the boot.
#pragma once

#include "arch/base/panic.hpp"
#include "arch/i386/cpu/descriptors.hpp"
#include "arch/i386/irq/traps.hpp"

#include <optional>

namespace loft {

// A panic about the code that `frame` interrupted, and, if there is one, about an address it touched: prints
// these registers, the stack from there, and the page walk of the address. Never returns, but see
// kernel/proof/catch.hpp.
[[noreturn]] void panic_at_args(const TrapFrame& frame, std::optional<VirtAddr> address, std::string_view text,
                                std::span<const fmt::Arg> args);
template <typename... Args>
[[noreturn]] void panic_at(const TrapFrame& frame, std::optional<VirtAddr> address, std::string_view text,
                           const Args&... args) {
    const fmt::Arg list[sizeof...(Args) + 1]{fmt::Arg(args)..., fmt::Arg{}};
    panic_at_args(frame, address, text, {list, sizeof...(Args)});
}

// The same for the contexts that no one can return from: NMI (`frame`), and the double-fault task.
[[noreturn]] void panic_in_nmi(const TrapFrame& frame, std::string_view text);
[[noreturn]] void panic_in_double_fault(const TssState& interrupted, VirtAddr address, std::string_view text);

// --- Up-call, defined by kernel/proof/catch.cpp: returns only if no one waits for this panic. Any context.
void deliver_expected_panic(std::string_view text, std::span<const fmt::Arg> args);

} // namespace loft
