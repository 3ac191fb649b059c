// Log lines and plain lines to the console, one at a time.
#include "kernel/log.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/console.hpp"
#include "arch/i386/timer.hpp"
#include <hal/cpu.hpp>

namespace loft {
namespace {

u32 shown_below = 7;

class ConsoleSink final : public Sink {
  public:
    void write(std::string_view text) override { console_write(text); }
};

// With interrupts off nobody on this CPU can print in between.
class ConsoleLine {
  public:
    ConsoleLine() : flags_{hal::irq_save()} {}
    ~ConsoleLine() {
        sink_.write("\n");
        hal::irq_restore(flags_);
    }
    ConsoleLine(const ConsoleLine&) = delete;
    Sink& sink() { return sink_; }

  private:
    ConsoleSink sink_;
    u32 flags_;
};

const char* level_mark(LogLevel level) {
    switch (level) {
    case LogLevel::error:
        return "error: ";
    case LogLevel::warn:
        return "warning: ";
    default:
        return "";
    }
}

} // namespace

void set_loglevel(u32 level) { shown_below = level; }

void print_args(std::string_view text, std::span<const fmt::Arg> args) {
    ConsoleLine line;
    fmt::format_args(line.sink(), text, args);
}

void log_args(LogLevel level, std::string_view room, std::string_view text, std::span<const fmt::Arg> args) {
    if (static_cast<u32>(level) >= shown_below) return;
    const u64 now = now_us();
    const u32 seconds = static_cast<u32>(now / 1'000'000), rest = static_cast<u32>(now % 1'000'000);

    ConsoleLine line;
    format(line.sink(), "[{:5}.{:06}] {}: {}", seconds, rest, room, level_mark(level));
    fmt::format_args(line.sink(), text, args);
}

} // namespace loft
