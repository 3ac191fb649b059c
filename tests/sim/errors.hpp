// The exceptions of the simulated machine. Each ends a host test that does not expect it; what() has the reason.
#pragma once

#include "arch/base/format.hpp"

#include <exception>
#include <string>

namespace loft::sim {

inline constexpr u32 kUserEnd = 0xc000'0000; // the addresses of programs

void explore_stop(const std::string& text); // explorer.cpp

// In an exploration it ends the schedule at once: the constructor does not return and no stack is unwound, because
// destructors of mm would take further steps.
class Stop : public std::exception {
  public:
    explicit Stop(std::string text, bool at_once = true) : text_{std::move(text)} {
        if (at_once) explore_stop(text_);
    }
    const char* what() const noexcept override { return text_.c_str(); }
    const std::string& text() const { return text_; }
    bool says(std::string_view part) const { return text_.find(part) != std::string::npos; }

  private:
    std::string text_;
};

// panic(), a failed LOFT_ASSERT, refuse(): the kernel has found an error.
struct Panic : Stop {
    using Stop::Stop;
};
struct Refused : Stop {
    using Stop::Stop;
};

// A fault that a real CPU always takes. Below kUserEnd it is normal: it ends a schedule only if it is not caught.
struct PageFault : Stop {
    PageFault(std::string text, VirtAddr at, bool was_present)
        : Stop{std::move(text), at.value() >= kUserEnd}, va{at}, present{was_present} {}
    VirtAddr va;
    bool present; // a protection violation; else the page is not present
};

// An access whose result depends on whether this CPU still holds an old translation: a flush is missing.
struct StaleAccess : Stop {
    using Stop::Stop;
};
// An access to a freed frame; also a page table that is freed while a CPU may walk it.
struct ReleasedAccess : Stop {
    using Stop::Stop;
};
// A program sees what no order of stores and calls allows (tests/host/spaces/program_memory.hpp).
struct NotAllowed : Stop {
    using Stop::Stop;
};
// Errors that no kernel makes on purpose: an access outside RAM or misaligned, reserved bits in an entry, a loop that
// waits for ever.
struct BadAccess : Stop {
    using Stop::Stop;
};

namespace detail {
class StringSink final : public Sink {
  public:
    void write(std::string_view text) override { out += text; }
    std::string out;
};
} // namespace detail

template <typename... Args> std::string text(std::string_view format, const Args&... args) {
    detail::StringSink sink;
    loft::format(sink, format, args...);
    return sink.out;
}

} // namespace loft::sim
