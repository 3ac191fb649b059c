// panic, refuse, log and assertions (arch/base/panic.hpp) of the simulated machine. They throw, so that a test can
// expect them and read the text.
#include "arch/base/panic.hpp"

#include "tests/sim/machine.hpp"

#include <cstdio>
#include <cstdlib>

namespace loft {
namespace {

std::string formatted(std::string_view format, std::span<const fmt::Arg> args) {
    sim::detail::StringSink sink;
    fmt::format_args(sink, format, args);
    return sink.out;
}

} // namespace

void panic_args(std::string_view format, std::span<const fmt::Arg> args) { throw sim::Panic{formatted(format, args)}; }
void refuse_args(std::string_view format, std::span<const fmt::Arg> args) {
    throw sim::Refused{formatted(format, args)};
}
void assertion_failed(const char* what, const char* file, int line) {
    throw sim::Panic{sim::text("assertion failed: {} ({}:{})", what, file, line)};
}

void log_args(LogLevel, std::string_view room, std::string_view format, std::span<const fmt::Arg> args) {
    std::string line = std::string{room} + ": " + formatted(format, args);
    static const bool print = std::getenv("LOFT_SIM_LOG") != nullptr;
    if (print) std::printf("%s\n", line.c_str());
    if (sim::has_machine()) sim::machine().log().push_back(std::move(line));
}

} // namespace loft
