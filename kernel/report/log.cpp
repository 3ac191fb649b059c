// Log lines and plain lines on the console; each line is printed as a whole.
#include "kernel/report/log.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/io/console.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/report/console_sink.hpp"

#include <hal/hal.hpp>

namespace loft {
namespace {

u32 shown_below = 7;

// The printing CPU + 1; 0: none. Not a SpinLock: a panic takes it from any CPU, and never releases it.
hal::Atomic<u32> printer;
constexpr u32 kTaken = ~u32{0};

// Interrupts off keep other code of this CPU from printing in between; the lock keeps other CPUs from it.
class ConsoleLine {
  public:
    ConsoleLine() : flags_{hal::irq_save()} {
        const u32 me = hal::this_cpu().value() + 1;
        u32 holder = 0;
        while (!printer.compare_exchange(holder, me)) {
            if (holder == kTaken) {
                locked_ = false;
                return;
            }
            holder = 0;
            hal::cpu_relax();
        }
    }
    ~ConsoleLine() {
        sink_.write("\n");
        u32 me = hal::this_cpu().value() + 1;
        if (locked_) printer.compare_exchange(me, 0); // a panic may have taken the lock
        hal::irq_restore(flags_);
    }
    ConsoleLine(const ConsoleLine&) = delete;
    Sink& sink() { return sink_; }

  private:
    ConsoleSink sink_;
    bool locked_ = true;
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

void take_console(u32 patience_ms) {
    const u32 me = hal::this_cpu().value() + 1;
    const hal::Deadline deadline = hal::deadline(patience_ms);
    u32 holder = 0;
    while (!printer.compare_exchange(holder, kTaken)) {
        if (holder == kTaken) return;
        if (holder == me || deadline.expired()) break;
        holder = 0;
        pause();
    }
    printer.store(kTaken);
}

void set_loglevel(u32 level) { shown_below = level; }

void print_args(std::string_view text, std::span<const fmt::Arg> args) {
    ConsoleLine line;
    fmt::format_args(line.sink(), text, args);
}

void log_args(LogLevel level, std::string_view room, std::string_view text, std::span<const fmt::Arg> args) {
    if (static_cast<u32>(level) >= shown_below) return;
    const u64 now = now_us() - kFirstUs;
    const u32 seconds = static_cast<u32>(now / 1'000'000), rest = static_cast<u32>(now % 1'000'000);

    ConsoleLine line;
    format(line.sink(), "[{:5}.{:06}] {}: {}", seconds, rest, room, level_mark(level));
    fmt::format_args(line.sink(), text, args);
}

} // namespace loft
