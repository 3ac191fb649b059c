// The console as a Sink, without a lock: for the log, which has one of its own, and for panics.
#pragma once

#include "arch/base/format.hpp"
#include "arch/i386/io/console.hpp"

namespace loft {

// Any context, NMI and panic included.
class ConsoleSink final : public Sink {
  public:
    void write(std::string_view text) override { console_write(text); }
};

} // namespace loft
