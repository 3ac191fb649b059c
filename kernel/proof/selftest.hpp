// Self-tests, run at boot: how to write a test, and what the harness offers.
//
//     SELFTEST(kmap_local, a_name_that_says_what_holds) {
//         Page* page = ...;
//         REQUIRE(page != nullptr);            // a failure ends this test
//         CHECK_EQ(hal::load<u32>(at), 7u);    // a failure is counted and printed; the test goes on
//         if (!has_fpu()) SKIP("this processor has no FPU");
//     }
//
// A test runs with interrupts on, in a preemptible context that holds no slot, and must leave this state unchanged:
// otherwise the harness fails the test and repairs the state for the next one. A test must not depend on earlier tests:
// each passes alone and in any order (`order=`). The default order is by file name, and by line within a file. Output
// is KTAP version 1 from column 0.
//
// The boot thread calls everything here while the self-tests run; interrupt handlers may use the CHECK macros (a
// failure is printed and counted for the running test).
#pragma once

#include "arch/base/format.hpp"
#include "arch/base/types.hpp"

#include <concepts>
#include <string_view>
#include <type_traits>
#include <utility>

namespace loft::selftest {

struct Test {
    const char* suite;
    const char* name;
    const char* file;
    u32 line;
    void (*run)();
};

struct Totals {
    u32 passed = 0;
    u32 failed = 0;
    u32 skipped = 0;
};

// Runs what `selection` names: "quick", "full", or globs ("*" and "?") separated by commas, each matched against the
// suite's name and against "suite.test". "off" runs nothing. `soak=SECONDS` adds stress.soak to any of them. Prints
// KTAP and the summary line.
Totals run(std::string_view selection);

// Refuses the boot if an item of `selection` matches no self-test, and prints the existing names, the closest first.
void check_selection(std::string_view selection);

// True for `selftest=full`: tests that can check everything then do so instead of a sample.
bool full();

// Random numbers from `seed=`: the same seed gives each test the same numbers, whichever tests ran before.
class Rng {
  public:
    explicit constexpr Rng(u64 seed) : state_{seed} {}
    u32 next();
    u32 below(u32 limit); // 0 to limit-1; limit is not 0

  private:
    u64 state_;
};
Rng& rng();

// A diagnostic line: "    # text".
void note_args(std::string_view format, std::span<const fmt::Arg> args);
template <typename... Args> void note(std::string_view text, const Args&... args) {
    const fmt::Arg list[sizeof...(Args) + 1]{fmt::Arg(args)..., fmt::Arg{}};
    note_args(text, {list, sizeof...(Args)});
}

// For long work: prints "# what: DONE of TOTAL (P %)", at most once a second, and when `done` reaches `total`.
void progress(u64 done, u64 total, std::string_view what);

// Runs `body`. If it panics, returns the panic's text (valid until the next call) instead of stopping the machine;
// otherwise an empty view. Interrupt flag, the context's counters, the depth of local maps and the locks are restored.
// Destructors of `body` do not run: the test frees what else it can reach. Does not nest. A double fault cannot be
// caught.
std::string_view catch_panic_call(void (*body)(void*), void* argument);
template <typename F> std::string_view catch_panic(F&& body) {
    using Body = std::remove_reference_t<F>;
    return catch_panic_call([](void* argument) { (*static_cast<Body*>(argument))(); },
                            const_cast<std::remove_const_t<Body>*>(&body));
}

// True if `text` contains `part`.
inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

namespace detail {

void failed(const char* file, int line, std::string_view what);
void failed_values(const char* file, int line, std::string_view what, const fmt::Arg& left, const fmt::Arg& right);
void skipped(std::string_view why);

template <typename T> fmt::Arg value(const T& v) {
    if constexpr (std::is_enum_v<T>) {
        return fmt::Arg(static_cast<std::underlying_type_t<T>>(v));
    } else if constexpr (std::is_null_pointer_v<T>) {
        return fmt::Arg(static_cast<const void*>(nullptr));
    } else if constexpr (std::is_pointer_v<T> && !std::is_convertible_v<T, const char*>) {
        return fmt::Arg(reinterpret_cast<const void*>(v));
    } else if constexpr (std::is_constructible_v<fmt::Arg, const T&>) {
        return fmt::Arg(v);
    } else {
        return fmt::Arg("(a value without a printed form)");
    }
}

template <typename T>
concept PlainInteger = std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char>;

// 3 and 3u are equal, -1 and 4294967295 are not.
template <typename A, typename B> bool equal(const A& a, const B& b) {
    if constexpr (PlainInteger<A> && PlainInteger<B>)
        return std::cmp_equal(a, b);
    else
        return a == b;
}
template <typename A, typename B> bool less(const A& a, const B& b) {
    if constexpr (PlainInteger<A> && PlainInteger<B>)
        return std::cmp_less(a, b);
    else
        return a < b;
}

template <typename Compare, typename A, typename B>
bool compare(Compare holds, const A& a, const B& b, const char* file, int line, std::string_view what) {
    if (holds(a, b)) [[likely]]
        return true;
    failed_values(file, line, what, value(a), value(b));
    return false;
}
inline bool check(bool holds, const char* file, int line, std::string_view what) {
    if (!holds) [[unlikely]]
        failed(file, line, what);
    return holds;
}

} // namespace detail
} // namespace loft::selftest

// The linker collects a pointer to each test between __selftests_begin and __selftests_end.
#define SELFTEST(suite, name)                                                                                          \
    static void loft_selftest_##suite##_##name();                                                                      \
    static constinit const ::loft::selftest::Test loft_selftest_entry_##suite##_##name{                                \
        #suite, #name, __FILE__, __LINE__, &loft_selftest_##suite##_##name};                                           \
    [[gnu::section(".selftests"),                                                                                      \
      gnu::used]] static constinit const ::loft::selftest::Test* const loft_selftest_pointer_##suite##_##name =        \
        &loft_selftest_entry_##suite##_##name;                                                                         \
    static void loft_selftest_##suite##_##name()

#define LOFT_CHECK_HOLDS(condition, text)                                                                              \
    ::loft::selftest::detail::check(static_cast<bool>(condition), __FILE__, __LINE__, text)
#define LOFT_CHECK_COMPARE(a, b, expression, text)                                                                     \
    ::loft::selftest::detail::compare([](const auto& l, const auto& r) { return expression; }, a, b, __FILE__,         \
                                      __LINE__, text)

// Each is an expression of type bool: true if the check held.
#define CHECK(condition) LOFT_CHECK_HOLDS(condition, #condition)
#define CHECK_EQ(a, b) LOFT_CHECK_COMPARE(a, b, ::loft::selftest::detail::equal(l, r), #a " == " #b)
#define CHECK_NE(a, b) LOFT_CHECK_COMPARE(a, b, !::loft::selftest::detail::equal(l, r), #a " != " #b)
#define CHECK_LT(a, b) LOFT_CHECK_COMPARE(a, b, ::loft::selftest::detail::less(l, r), #a " < " #b)
#define CHECK_LE(a, b) LOFT_CHECK_COMPARE(a, b, !::loft::selftest::detail::less(r, l), #a " <= " #b)
#define CHECK_GT(a, b) LOFT_CHECK_COMPARE(a, b, ::loft::selftest::detail::less(r, l), #a " > " #b)
#define CHECK_GE(a, b) LOFT_CHECK_COMPARE(a, b, !::loft::selftest::detail::less(l, r), #a " >= " #b)

// As CHECK, and a failure returns from the function (of type void).
#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!CHECK(condition)) return;                                                                                 \
    } while (false)
#define REQUIRE_EQ(a, b)                                                                                               \
    do {                                                                                                               \
        if (!CHECK_EQ(a, b)) return;                                                                                   \
    } while (false)

// Ends the test as skipped, with the reason in its line.
#define SKIP(why)                                                                                                      \
    do {                                                                                                               \
        ::loft::selftest::detail::skipped(why);                                                                        \
        return;                                                                                                        \
    } while (false)
