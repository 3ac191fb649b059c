// Helpers of the self-tests that run programs of tests/user.
//
// The programs are multiboot modules, which make run and make test load; without them a test is skipped.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "kernel/programs/process.hpp"
#include "mm/ground/spinlock.hpp"
#include "tests/guest/support.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace loft::guest {

// The reason why this program cannot run; null: it can.
const char* needs_program(std::string_view name);

// Waits for the end of the process; kills it after `seconds`. An emulator may be slow.
inline constexpr u32 kPatienceSeconds = 240, kSleepsPerSecond = 50;
WaitStatus wait_for(Process* process, u32 seconds = kPatienceSeconds);

// The last part of a program's output.
class Text final : public Sink {
  public:
    void write(std::string_view text) override;
    std::string_view view() const { return {text_.data(), std::min<std::size_t>(size_, text_.size())}; }

  private:
    SpinLock lock_;
    std::array<char, 1024> text_{};
    u32 size_ = 0;
};

// Starts a program and waits for its end.
struct Outcome {
    bool started = false;
    WaitStatus status{};
};
Outcome run_program(std::string_view name, ProcessWatch watch, std::span<const std::string_view> arguments);
template <typename... Arguments> Outcome run(std::string_view name, ProcessWatch watch, Arguments... arguments) {
    const std::array<std::string_view, sizeof...(Arguments)> list{arguments...};
    return run_program(name, watch, {list.data(), list.size()});
}

// A number as an argument of a program.
class Decimal {
  public:
    explicit Decimal(u32 value) {
        u32 at = sizeof text_;
        do {
            text_[--at] = static_cast<char>('0' + value % 10);
            value /= 10;
        } while (value != 0);
        begin_ = at;
    }
    operator std::string_view() const { return {text_ + begin_, sizeof text_ - begin_}; }

  private:
    char text_[10];
    u32 begin_;
};

// Checks at its end that all memory of programs is free, in every zone, and that no page table is left.
class NothingIsLeft : NotCopyable<NothingIsLeft> {
  public:
    NothingIsLeft();
    ~NothingIsLeft();
};

// The program ends with status 0, and no frame is lost.
template <typename... Arguments> void expect_success(std::string_view name, Arguments... arguments) {
    const NothingIsLeft nothing;
    const KeepsFreeCounts counts;
    const Outcome outcome = run(name, {}, arguments...);
    if (!CHECK(outcome.started)) return;
    CHECK_EQ(outcome.status.value(), 0u);
    process_wait_for_all();
}

} // namespace loft::guest
