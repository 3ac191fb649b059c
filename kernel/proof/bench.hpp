// Measures the cost of code paths: time, TLB operations, requests to other CPUs, locks.
//
// A line is the median of 21 rounds, divided by the number of operations per round: 4096, fewer where an operation is
// the life of a process. The loop is included; a first round is not counted. The unit is a tick of the TSC: under
// QEMU's `-icount shift=0` that is one instruction, and every run gives the same figure. The thread stays on its CPU,
// which has no timer tick while a line is measured (TickPause).
//
// After each line come the counters: the growth over all 21 rounds on all CPUs, divided by the operations.
//
// Each operation goes through the public calls of high memory, on pages of the high zone (on lowmem pages if there is
// none; a log line says so). A line NAME.touched is NAME plus one load from the mapped page.
#pragma once

#include "arch/i386/isa/control.hpp"
#include "kernel/boot/cmdline.hpp"
#include "kernel/report/names.hpp"

#include <hal/mem.hpp>
#include <hal/pte.hpp>

#include <string_view>
#include <utility>

namespace loft::bench {

// Measures and prints the lines that `selection` names. Items between commas are globs on line names, or names of
// groups:
//     boot     TSC at the kernel's first instruction and now
//     paths    every path of high memory                                               (bench_paths.cpp)
//     cost     the same work on any kernel, to compare the cost of high memory         (bench_cost.cpp)
//     files    operations on files: a program measures them, and prints the lines      (bench_files.cpp)
// False if there is not enough memory; a line then says so. Context: the boot thread, interrupts on.
bool run(std::string_view selection);

// Refuses the boot if an item of `selection` matches no line and no group, and prints the closest name.
void check_selection(std::string_view selection);

inline constexpr u32 kRounds = 21;
inline constexpr u32 kOperations = 4096;

class Meter {
  public:
    explicit Meter(std::string_view selection) : selection_{selection} {}
    // Measures nothing; offers each line's name to `closest`.
    Meter(std::string_view selection, Closest& closest)
        : selection_{selection}, closest_{&closest}, only_names_{true} {}

    void group(std::string_view name) { group_ = name; } // group of the following lines
    u32 lines() const { return lines_; }                 // number of lines measured so far
    bool any() const { return any_; }                    // true if any line was selected

    // True if any line that measure_all() would measure is selected. Nothing is measured, so the data of the operations
    // need not exist yet.
    template <typename F> bool wants(const F& measure_all) {
        const u32 before = lines_;
        only_names_ = true;
        measure_all();
        only_names_ = closest_ != nullptr;
        return std::exchange(lines_, before) != before && !only_names_;
    }

    // One line: op(i) for i from 0 to kCount-1. With kAtOnce, op(i) is called for every kAtOnce-th i, and performs
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
    // A line with a value that the caller measured.
    void report(std::string_view name, u64 ticks);
    // True: lines of this name are to be measured now; the caller does it, and prints them.
    [[nodiscard]] bool asks_for(std::string_view name);

  private:
    // Loads one word of the mapping.
    struct Touch {
        void operator()(VirtAddr at) const { (void)hal::load<u32>(at); }
        void operator()(const hal::PteCell* cell) const { (void)hal::pte_low(cell); }
    };

    template <u32 kAtOnce, u32 kCount, typename Op>
    void measure_line(std::string_view name, std::string_view ending, const Op& op) {
        if (!wanted(name, ending)) return;
        const auto round = [](const void* object) {
            // A local copy, so that captured values stay in registers where possible.
            const Op mine = *static_cast<const Op*>(object);
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

// Measure the lines of a group. False: there is not enough memory, or (files) a program has failed.
bool measure_paths(Meter& meter); // bench_paths.cpp
bool measure_cost(Meter& meter);  // bench_cost.cpp
bool measure_files(Meter& meter); // bench_files.cpp

} // namespace loft::bench
