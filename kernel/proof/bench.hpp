// Measuring what a path costs: time, and what it does to TLBs, other CPUs and locks.
//
// A line is the median of 21 rounds of 4096 operations (of fewer where one is the life of a process), the loop around
// them included, divided by their number; a round before them is not counted. The unit is a tick of the TSC: under
// QEMU's `-icount shift=0` that is one instruction, and every run says the same. No tick of the timer falls into a
// round, because the CPU has none while a line is measured (TickPause), and the thread stays on that CPU.
//
// After the line come the counters: how much each has grown in all 21 rounds, on all CPUs, divided by the operations.
//
// Every operation goes through the calls that users of high memory have, on pages of the high zone (of what the kernel
// has instead, where there is none: a log line says so). A line NAME.touched is NAME with one load from what was
// mapped.
#pragma once

#include "arch/i386/isa/control.hpp"
#include "kernel/boot/cmdline.hpp"
#include "kernel/report/names.hpp"

#include <hal/mem.hpp>
#include <hal/pte.hpp>

#include <string_view>
#include <utility>

namespace loft::bench {

// Measures what `selection` names, and prints it. Items between commas are globs on the names of lines, or name a
// group:
//     boot     when the kernel began and when it had come to this point, since the counter was 0
//     paths    every path of high memory                                               (bench_paths.cpp)
//     cost     the same work on any kernel: what high memory costs in comparison       (bench_cost.cpp)
// False if there is not enough memory: then a line says so. Context: the boot thread, interrupts on.
bool run(std::string_view selection);

// Refuses the boot if an item of `selection` names no line and no group, and prints what comes closest.
void check_selection(std::string_view selection);

inline constexpr u32 kRounds = 21;
inline constexpr u32 kOperations = 4096;

class Meter {
  public:
    explicit Meter(std::string_view selection) : selection_{selection} {}
    // Only to see which names there are: shows them to `closest`, and measures nothing.
    Meter(std::string_view selection, Closest& closest)
        : selection_{selection}, closest_{&closest}, only_names_{true} {}

    void group(std::string_view name) { group_ = name; } // lines that follow belong to it
    u32 lines() const { return lines_; }                 // measured so far
    bool any() const { return any_; }                    // whether a line was wanted

    // Whether any line of those that measure_all() measures is wanted; nothing is measured, so none of what the
    // operations need has to be there.
    template <typename F> bool wants(const F& measure_all) {
        const u32 before = lines_;
        only_names_ = true;
        measure_all();
        only_names_ = closest_ != nullptr;
        return std::exchange(lines_, before) != before && !only_names_;
    }

    // One line: op(i) for i from 0 to kCount-1. With kAtOnce, op(i) is called for each kAtOnce-th i only, and does
    // kAtOnce operations.
    template <u32 kAtOnce = 1, u32 kCount = kOperations, typename Op>
    void measure(std::string_view name, const Op& op) {
        measure_line<kAtOnce, kCount>(name, "", op);
    }
    // Two lines, NAME and NAME.touched: op(i, touch) maps, calls touch(address), and unmaps.
    template <typename Op> void mapping(std::string_view name, const Op& op) {
        measure_line<1, kOperations>(name, "", [op](u32 i) { op(i, [](auto) {}); });
        measure_line<1, kOperations>(name, ".touched", [op](u32 i) { op(i, Touch{}); });
    }
    // A line that was measured elsewhere.
    void report(std::string_view name, u64 ticks);

  private:
    // One load.
    struct Touch {
        void operator()(VirtAddr at) const { (void)hal::load<u32>(at); }
        void operator()(const hal::PteCell* cell) const { (void)hal::pte_low(cell); }
    };

    template <u32 kAtOnce, u32 kCount, typename Op>
    void measure_line(std::string_view name, std::string_view ending, const Op& op) {
        if (!wanted(name, ending)) return;
        const auto round = [](const void* object) {
            const Op mine = *static_cast<const Op*>(object); // what it refers to is in registers, as far as it fits
            const u64 begin = read_tsc();
            for (u32 i = 0; i < kCount; i += kAtOnce)
                mine(i);
            return read_tsc() - begin;
        };
        rounds(name, ending, round, &op, kCount);
    }
    bool wanted(std::string_view name, std::string_view ending);
    void rounds(std::string_view name, std::string_view ending, u64 (*round)(const void*), const void* op,
                u32 operations);

    std::string_view selection_;
    std::string_view group_;
    Closest* closest_ = nullptr;
    u32 lines_ = 0;
    bool any_ = false;
    bool only_names_ = false;
};

// The lines of each group. False if there is not enough memory.
bool measure_paths(Meter& meter); // bench_paths.cpp
bool measure_cost(Meter& meter);  // bench_cost.cpp

} // namespace loft::bench
