// Runs the self-tests and prints KTAP: selection, context checks, time, totals.
#include "kernel/proof/selftest.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/boot/cmdline.hpp"
#include "kernel/proof/catch.hpp"
#include "kernel/report/log.hpp"
#include "kernel/report/names.hpp"
#include "mm/ground/context.hpp"
#include "mm/windows/kmap_local.hpp"

#include <algorithm>
#include <array>

extern "C" {
extern const loft::selftest::Test* const __selftests_begin[];
extern const loft::selftest::Test* const __selftests_end[];
}

namespace loft::selftest {
namespace {

constexpr u32 kMaxTests = 1024;

std::array<const Test*, kMaxTests> sorted;

// Sorted by file and line (the linker's order is arbitrary), or in the order that arrange() has made.
std::span<const Test* const> all_tests() {
    static u32 count = 0;
    if (count == 0) {
        count = static_cast<u32>(__selftests_end - __selftests_begin);
        LOFT_ASSERT(count <= kMaxTests);
        std::copy(__selftests_begin, __selftests_end, sorted.begin());
        std::sort(sorted.begin(), sorted.begin() + count, [](const Test* a, const Test* b) {
            const int files = std::string_view{a->file}.compare(b->file);
            return files != 0 ? files < 0 : a->line < b->line;
        });
    }
    return {sorted.data(), count};
}

// Applies `order=`. A suite runs where its first test is. Fisher and Yates' shuffle (Knuth, vol. 2, 3.4.2, algorithm
// P).
void arrange() {
    const auto first = sorted.begin(), last = first + all_tests().size();
    switch (options().order) {
    case TestOrder::file:
        break;
    case TestOrder::reverse:
        std::reverse(first, last);
        print("# order: from the end");
        break;
    case TestOrder::random:
        Rng by_seed{options().order_seed};
        for (u32 left = static_cast<u32>(last - first); left > 1; --left)
            std::swap(first[left - 1], first[by_seed.below(left)]);
        print("# order: random, order={} makes it again", options().order_seed);
        break;
    }
}

// State of the running test.
struct Current {
    u32 failures = 0;
    const char* skip_reason_data = nullptr;
    std::size_t skip_reason_size = 0;
    u64 progress_at = 0; // when the last progress line was printed

    bool skipped() const { return skip_reason_data != nullptr; }
    std::string_view skip_reason() const { return {skip_reason_data, skip_reason_size}; }
};
Current current;
bool full_run = false;
Rng generator{0};

std::string_view selection_text;

bool is_mode(std::string_view item) { return item == "quick" || item == "full"; }

bool glob_names(std::string_view glob, const Test& test) {
    if (matches_glob(glob, test.suite)) return true;
    BufferSink<128> name;
    format(name, "{}.{}", test.suite, test.name);
    return matches_glob(glob, name.view());
}

// `soak=` runs the soak test whatever else is selected.
bool is_wanted_soak(const Test& test) {
    return options().soak != 0 && test.suite == std::string_view{"stress"} && test.name == std::string_view{"soak"};
}

// "quick" and "full" alone select everything; beside globs they only set how thorough the tests are.
bool selected(const Test& test) {
    if (is_wanted_soak(test)) return true;
    if (selection_text == "off") return false;
    const bool has_glob = any_item(selection_text, [](std::string_view item) { return !is_mode(item); });
    if (!has_glob) return true;
    return any_item(selection_text, [&](std::string_view item) { return !is_mode(item) && glob_names(item, test); });
}

bool same_suite(const Test& a, const Test& b) { return std::string_view{a.suite} == b.suite; }

// True if no selected test before `index` belongs to the same suite.
bool first_of_suite(u32 index) {
    const std::span<const Test* const> tests = all_tests();
    for (u32 i = 0; i != index; ++i)
        if (same_suite(*tests[i], *tests[index]) && selected(*tests[i])) return false;
    return true;
}

// An item without a dot names a suite; with a dot, a test of the suite before the dot.
[[noreturn]] void refuse_item(std::string_view item) {
    static std::array<std::string_view, kMaxTests> names;
    u32 count = 0;
    const std::span<const Test* const> tests = all_tests();
    for (u32 i = 0; i != tests.size(); ++i)
        if (i == 0 || !same_suite(*tests[i], *tests[i - 1])) names[count++] = tests[i]->suite;
    const std::size_t dot = item.find('.');
    print("{}selftest={}: no self-test has this name", kCannotDo, item);
    const std::string_view suite = item.substr(0, dot);
    const bool is_suite = std::find(names.begin(), names.begin() + count, suite) != names.begin() + count;
    if (dot == std::string_view::npos || !is_suite) {
        offer_names("selftest=", suite, "The suites", {names.data(), count});
    } else {
        count = 0;
        for (const Test* test : tests)
            if (suite == test->suite) names[count++] = test->name;
        BufferSink<64> prefix;
        format(prefix, "selftest={}.", suite);
        offer_names(prefix.view(), item.substr(dot + 1), "The tests of this suite", {names.data(), count});
    }
    print("A name may have * and ?, several are separated by commas; quick, full and off are no names of tests.");
    refuse_request();
}

// FNV-1a of the name: the random numbers of a test depend on the seed and its name, not on earlier tests.
u64 seed_for(const Test& test) {
    u64 hash = 0xcbf2'9ce4'8422'2325ull ^ options().seed;
    const auto add = [&](std::string_view text) {
        for (char c : text)
            hash = (hash ^ static_cast<u8>(c)) * 0x100'0000'01b3ull;
    };
    add(test.suite);
    add(".");
    add(test.name);
    return hash;
}

// State that a test must leave unchanged. Each difference is a failure, and is repaired.
void check_context(u32 slots_before) {
    if (!hal::irqs_enabled()) {
        note("the test left interrupts off");
        ++current.failures;
        hal::irq_restore(eflags::interrupt);
    }
    if (read_eflags() & eflags::trap) {
        note("the test left single-stepping on");
        ++current.failures;
        write_eflags(read_eflags() & ~eflags::trap);
    }
    const Context left = context.mine();
    if (left.preempt_count != 0 || left.pagefaults_off != 0) {
        note("the test left preempt count {}, interrupt depth {}, page faults disabled {} times", left.preempt_depth(),
             left.irq_depth(), left.pagefaults_off);
        ++current.failures;
        context.mine() = Context{};
    }
    const u32 slots = local_depth();
    if (slots != slots_before) {
        note("the test left {} local slots held, {} were held before it", slots, slots_before);
        ++current.failures;
        local_unwind(slots_before);
    }
}

void run_test(const Test& test, u32 number, Totals& totals) {
    current = Current{};
    generator = Rng{seed_for(test)};
    const u32 slots = local_depth();
    test.run();
    check_context(slots);

    if (current.failures != 0) {
        ++totals.failed;
        print("    not ok {} {}", number, test.name);
    } else if (current.skipped()) {
        ++totals.skipped;
        print("    ok {} {} # SKIP {}", number, test.name, current.skip_reason());
    } else {
        ++totals.passed;
        print("    ok {} {}", number, test.name);
    }
}

void run_suite(u32 first, u32 number, Totals& totals) {
    const std::span<const Test* const> tests = all_tests();
    const auto in_suite = [&](const Test* test) { return same_suite(*test, *tests[first]) && selected(*test); };

    u32 count = 0;
    for (const Test* test : tests)
        count += in_suite(test);

    print("    KTAP version 1");
    print("    # Subtest: {}", tests[first]->suite);
    print("    1..{}", count);
    const u64 start = now_us();
    Totals mine;
    u32 index = 0;
    for (const Test* test : tests)
        if (in_suite(test)) run_test(*test, ++index, mine);

    const u64 took = now_us() - start;
    print("    # {}: {}.{:03} ms", tests[first]->suite, took / 1000, took % 1000);
    const bool all_skipped = mine.passed == 0 && mine.failed == 0;
    print("{} {} {}{}", mine.failed != 0 ? "not ok" : "ok", number, tests[first]->suite,
          all_skipped ? " # SKIP every test of the suite was skipped" : "");
    totals.passed += mine.passed;
    totals.failed += mine.failed;
    totals.skipped += mine.skipped;
}

} // namespace

void check_selection(std::string_view selection) {
    if (selection == "off") return;
    any_item(selection, [](std::string_view item) {
        if (is_mode(item)) return false;
        for (const Test* test : all_tests())
            if (glob_names(item, *test)) return false;
        refuse_item(item);
    });
}

Totals run(std::string_view selection) {
    Totals totals;
    if (selection == "off" && options().soak == 0) return totals;
    selection_text = selection;
    full_run = any_item(selection, [](std::string_view item) { return item == "full"; });

    arrange();
    const std::span<const Test* const> tests = all_tests();
    u32 suites = 0;
    for (u32 i = 0; i != tests.size(); ++i)
        suites += selected(*tests[i]) && first_of_suite(i);

    print("KTAP version 1");
    print("1..{}", suites);
    u32 number = 0;
    for (u32 i = 0; i != tests.size(); ++i)
        if (selected(*tests[i]) && first_of_suite(i)) run_suite(i, ++number, totals);
    print("# {} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.skipped);
    return totals;
}

bool full() { return full_run; }
Rng& rng() { return generator; }

// splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
u32 Rng::next() {
    state_ += 0x9e37'79b9'7f4a'7c15ull;
    u64 z = state_;
    z = (z ^ z >> 30) * 0xbf58'476d'1ce4'e5b9ull;
    z = (z ^ z >> 27) * 0x94d0'49bb'1331'11ebull;
    return static_cast<u32>((z ^ z >> 31) >> 32);
}

u32 Rng::below(u32 limit) { return static_cast<u32>(u64{next()} * limit >> 32); }

void note_args(std::string_view text, std::span<const fmt::Arg> args) {
    BufferSink<512> line;
    fmt::format_args(line, text, args);
    print("    # {}", line.view());
}

void progress(u64 done, u64 total, std::string_view what) {
    const u64 now = now_us();
    if (done != total && now - current.progress_at < 1'000'000) return;
    current.progress_at = now;
    // In per cent without 64-bit overflow: totals are frames or bytes, below 2^57.
    note("{}: {} of {} ({} %)", what, done, total, total == 0 ? 100 : done * 100 / total);
}

std::string_view catch_panic_call(void (*body)(void*), void* argument) { return run_catching_panic(body, argument); }

namespace detail {

void failed(const char* file, int line, std::string_view what) {
    ++current.failures;
    note("{}:{}: {} does not hold", file, line, what);
}

void failed_values(const char* file, int line, std::string_view what, const fmt::Arg& left, const fmt::Arg& right) {
    ++current.failures;
    // Numbers are shown in decimal and in hexadecimal.
    const bool numbers = left.kind == fmt::Arg::Kind::unsigned_int && right.kind == fmt::Arg::Kind::unsigned_int;
    const fmt::Arg list[]{file, line, what, left, right, left, right};
    if (numbers)
        note_args("{}:{}: {} does not hold: left {}, right {} (0x{:x}, 0x{:x})", list);
    else
        note_args("{}:{}: {} does not hold: left {}, right {}", {list, 5});
}

void skipped(std::string_view why) {
    current.skip_reason_data = why.data();
    current.skip_reason_size = why.size();
}

} // namespace detail
} // namespace loft::selftest
