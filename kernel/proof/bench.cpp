// Measures a benchmark line: rounds, median, counters.
#include "kernel/proof/bench.hpp"

#include "arch/i386/cpu/image.hpp"
#include "arch/i386/irq/timer.hpp"
#include "kernel/report/log.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/ground/remote.hpp"
#include "mm/ground/spinlock.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/pkmap.hpp"

#include <algorithm>
#include <array>

namespace loft::bench {
namespace {

// Events on all CPUs that are counted besides the time.
struct Counter {
    std::string_view name;
    u32 (*value)();
};
constexpr Counter kCounters[] = {
    {"invlpg", [] { return tlb_stats_sum().invlpg; }},
    {"full_flushes", [] { return tlb_stats_sum().full; }},
    {"non_global_flushes", [] { return tlb_stats_sum().non_global; }},
    {"ipis",
     [] {
         u32 sum = 0;
         hal::online_cpus().for_each([&](CpuId cpu) { sum += remote_stats.of(cpu).interrupts; });
         return sum;
     }},
    {"locks", [] { return lock_stats_sum().taken; }},
    // Waits for a lock that another CPU held, or for a slot of pkmap.
    {"waits", [] { return lock_stats_sum().waits + pkmap_stats().waits; }},
};
using CounterValues = std::array<u32, std::size(kCounters)>;

CounterValues count() {
    CounterValues values;
    for (std::size_t i = 0; i != values.size(); ++i)
        values[i] = kCounters[i].value();
    return values;
}

// The TSC was 0 at power-on. "done": everything before the benchmark, including the self-tests that ran.
bool measure_boot(Meter& meter) {
    const u64 now = read_tsc();
    meter.report("boot.first_instruction", boot_tsc);
    meter.report("boot.done", now);
    return true;
}

struct Group {
    std::string_view name;
    bool (*measure)(Meter& meter);
    const char* problem = "not enough memory"; // if it returns false
};
constexpr Group kGroups[] = {{"boot", measure_boot},
                             {"paths", measure_paths},
                             {"cost", measure_cost},
                             {"files", measure_files, "the program filecosts did not do it"}};

// `value` divided by `by`, rounded to four decimal places.
struct Ratio {
    u64 whole;
    u64 ten_thousandths;
};
Ratio ratio(u64 value, u32 by) {
    const u64 scaled = (value * 10'000 + by / 2) / by;
    return {scaled / 10'000, scaled % 10'000};
}

} // namespace

bool Meter::wanted(std::string_view name, std::string_view ending) {
    BufferSink<64> whole;
    format(whole, "{}{}", name, ending);
    if (closest_ != nullptr) closest_->offer(whole.view());
    const bool is =
        any_item(selection_, [&](std::string_view item) { return item == group_ || matches_glob(item, whole.view()); });
    any_ |= is;
    return is;
}

void Meter::report(std::string_view name, u64 ticks) {
    if (!wanted(name, "")) return;
    ++lines_;
    if (!only_names_) print("bench {} {} ticks", name, ticks);
}

bool Meter::asks_for(std::string_view name) {
    if (!wanted(name, "")) return false;
    ++lines_;
    return !only_names_;
}

void Meter::rounds(std::string_view name, std::string_view ending, u64 (*round)(const void*), const void* op,
                   u32 operations) {
    ++lines_;
    if (only_names_) return;
    std::array<u64, kRounds> took;
    CounterValues before, after;
    {
        const MigrateGuard here;
        const TickPause pause;
        (void)round(op);
        before = count();
        for (u64& ticks : took)
            ticks = round(op);
        after = count();
    }
    std::nth_element(took.begin(), took.begin() + kRounds / 2, took.end());
    const Ratio ticks = ratio(took[kRounds / 2], operations);
    print("bench {}{} {}.{:04} ticks", name, ending, ticks.whole, ticks.ten_thousandths);
    for (std::size_t i = 0; i != before.size(); ++i) {
        const Ratio grown = ratio(after[i] - before[i], kRounds * operations);
        print("bench {}{}.{} {}.{:04} per_op", name, ending, kCounters[i].name, grown.whole, grown.ten_thousandths);
    }
}

bool run(std::string_view selection) {
    Meter meter{selection};
    for (const Group& group : kGroups) {
        meter.group(group.name);
        if (group.measure(meter)) continue;
        print("bench: {}: {}", group.name, group.problem);
        return false;
    }
    return meter.lines() != 0;
}

void check_selection(std::string_view selection) {
    any_item(selection, [](std::string_view item) {
        Closest closest{item};
        Meter names{item, closest};
        for (const Group& group : kGroups) {
            closest.offer(group.name);
            names.group(group.name);
            static_cast<void>(group.measure(names));
        }
        if (names.any()) return false;
        print("{}bench={}: no line of the benchmark has this name", kCannotDo, item);
        if (!closest.name().empty()) print("Did you mean bench={}?", closest.name());
        print("The groups are boot, paths, cost and files; `bench` alone measures boot,paths and so shows the names.");
        refuse_request();
    });
}

} // namespace loft::bench
