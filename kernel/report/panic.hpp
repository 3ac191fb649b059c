// The panic report: what panic() and the fault handlers print.
//
// Everything here works in any context, NMI and double-fault task included, whatever state the kernel is in: data is
// checked before use, and a panic within a panic is cut short and still ends the boot.
#pragma once

#include "arch/base/panic.hpp"
#include "arch/i386/cpu/descriptors.hpp"
#include "arch/i386/irq/traps.hpp"

#include <optional>

namespace loft {

// Panics about the code that `frame` interrupted, and optionally about an address that it accessed: prints these
// registers, the stack from there, and the page walk of the address. Never returns, except to kernel/proof/catch.hpp.
[[noreturn]] void panic_at_args(const TrapFrame& frame, std::optional<VirtAddr> address, std::string_view text,
                                std::span<const fmt::Arg> args);
template <typename... Args>
[[noreturn]] void panic_at(const TrapFrame& frame, std::optional<VirtAddr> address, std::string_view text,
                           const Args&... args) {
    const fmt::Arg list[sizeof...(Args) + 1]{fmt::Arg(args)..., fmt::Arg{}};
    panic_at_args(frame, address, text, {list, sizeof...(Args)});
}

// The same for contexts that cannot be caught: NMI (`frame`), and the double-fault task.
[[noreturn]] void panic_in_nmi(TrapFrame& frame, std::string_view text);
[[noreturn]] void panic_in_double_fault(const TssState& interrupted, VirtAddr address, std::string_view text);

// --- Up-call, defined by kernel/proof/catch.cpp: returns if no test expects this panic. Any context.
void deliver_expected_panic(std::string_view text, std::span<const fmt::Arg> args);

} // namespace loft
