// panic(), log() and the assertions: declared in the lowest room, defined by kernel and host tests.
//
// The kernel's definitions (kernel/report/panic.cpp, kernel/report/log.cpp) print and stop the machine; those of the
// simulated machine (tests/sim) throw, so that a host test can expect a panic and check its text.
#pragma once

#include "arch/base/config.hpp"
#include "arch/base/format.hpp"

namespace loft {

// Any context, interrupts and NMI included. Never returns.
[[noreturn, gnu::cold]] void panic_args(std::string_view format, std::span<const fmt::Arg> args);

template <typename... Args>
[[noreturn, gnu::cold, gnu::noinline]] void panic(std::string_view text, const Args&... args) {
    const fmt::Arg list[sizeof...(Args) + 1]{fmt::Arg(args)..., fmt::Arg{}};
    panic_args(text, {list, sizeof...(Args)});
}

// The machine or its input does not allow loft to start: prints the problem and the remedy, and ends with the status
// "refused". Boot only.
[[noreturn, gnu::cold]] void refuse_args(std::string_view format, std::span<const fmt::Arg> args);

template <typename... Args>
[[noreturn, gnu::cold, gnu::noinline]] void refuse(std::string_view text, const Args&... args) {
    const fmt::Arg list[sizeof...(Args) + 1]{fmt::Arg(args)..., fmt::Arg{}};
    refuse_args(text, {list, sizeof...(Args)});
}

enum class LogLevel : u8 { error = 3, warn = 4, notice = 5, info = 6, debug = 7 };

// Any context but NMI. One line: "room: text", without a newline; a time stamp is prepended.
[[gnu::cold]] void log_args(LogLevel level, std::string_view room, std::string_view format,
                            std::span<const fmt::Arg> args);

template <typename... Args>
[[gnu::cold, gnu::noinline]] void log(LogLevel level, std::string_view room, std::string_view text,
                                      const Args&... args) {
    const fmt::Arg list[sizeof...(Args) + 1]{fmt::Arg(args)..., fmt::Arg{}};
    log_args(level, room, text, {list, sizeof...(Args)});
}

[[noreturn, gnu::cold]] void assertion_failed(const char* what, const char* file, int line);

} // namespace loft

// Checked in every build: an invariant of the kernel.
#define LOFT_ASSERT(condition)                                                                                         \
    (__builtin_expect(static_cast<bool>(condition), true) ? static_cast<void>(0)                                       \
                                                          : ::loft::assertion_failed(#condition, __FILE__, __LINE__))

// Checked with DEBUG=1 only, but always compiled.
#define LOFT_DEBUG_ASSERT(condition)                                                                                   \
    do {                                                                                                               \
        if constexpr (::loft::config::kDebug) LOFT_ASSERT(condition);                                                  \
    } while (false)
