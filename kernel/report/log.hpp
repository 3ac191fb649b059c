// Text on the screen: log lines ("[    1.234567] room: text", through log() of arch/base/panic.hpp) and plain
// lines from column 0 (KTAP, meminfo), both whole: no interrupt handler's line and no other CPU's gets into the
// middle of another one.
#pragma once

#include "arch/base/format.hpp"
#include "arch/base/types.hpp"

#include <string_view>

namespace loft {

// Lines with a level below `level` are printed, as with Linux's option of that name: 7 hides debug lines, 8
// shows all.
void set_loglevel(u32 level);

// For a panic: waits so long for the line that another CPU is printing, and takes the console for good. Who
// prints afterwards does so without asking. Any context.
void take_console(u32 patience_ms);

// One line from column 0; the newline is added. Any context but NMI.
void print_args(std::string_view format, std::span<const fmt::Arg> args);
template <typename... Args> void print(std::string_view text, const Args&... args) {
    const fmt::Arg list[sizeof...(Args) + 1]{fmt::Arg(args)..., fmt::Arg{}};
    print_args(text, {list, sizeof...(Args)});
}

} // namespace loft
