// Console output: log lines ("[    1.234567] room: text", by log() of arch/base/panic.hpp) and plain lines from column
// 0 (KTAP, meminfo). Each is printed as a whole: no line of an interrupt handler or of another CPU gets in between.
#pragma once

#include "arch/base/format.hpp"
#include "arch/base/types.hpp"

#include <string_view>

namespace loft {

// Lines with a level below `level` are printed, as with Linux's option of that name: 7 hides debug lines, 8 shows all.
void set_loglevel(u32 level);

// For a panic: waits at most this long for a line that another CPU is printing, then takes the console for good. Later
// lines are printed without the lock. Any context.
void take_console(u32 patience_ms);

// Prints one line from column 0 and a newline. Any context but NMI.
void print_args(std::string_view format, std::span<const fmt::Arg> args);
template <typename... Args> void print(std::string_view text, const Args&... args) {
    const fmt::Arg list[sizeof...(Args) + 1]{fmt::Arg(args)..., fmt::Arg{}};
    print_args(text, {list, sizeof...(Args)});
}

} // namespace loft
