// The kernel command line: words separated by blanks. Each word is looked up in one table.
#include "kernel/boot/cmdline.hpp"

#include "arch/base/panic.hpp"
#include "kernel/report/exit.hpp"
#include "kernel/report/log.hpp"
#include "kernel/report/names.hpp"
#include "kernel/report/nmi.hpp"

namespace loft {
namespace {

std::string_view line;
constinit Options values;
constinit BufferSink<256> ignored;

// A setter returns false if the value is malformed; the option then keeps its default.
struct Option {
    std::string_view name;
    enum class Value : u8 { none, needed, optional } value;
    std::string_view form; // what a valid value looks like
    bool (*set)(std::string_view value);
};

template <typename T> bool set_number(T& field, std::string_view text, u64 least, u64 most) {
    const std::optional<u64> number = parse_number(text);
    if (!number || *number < least || *number > most) return false;
    field = static_cast<T>(*number);
    return true;
}

template <typename T> bool set_size(T& field, std::string_view text, u64 most) {
    const std::optional<u64> size = parse_size(text);
    if (!size || *size > most) return false;
    field = static_cast<T>(*size);
    return true;
}

bool set_text(std::string_view& field, std::string_view text) {
    if (text.find_first_not_of(',') == std::string_view::npos) return false;
    field = text;
    return true;
}

bool set_mounts(std::string_view text) {
    const bool malformed = any_item(text, [](std::string_view item) {
        const std::size_t colon = item.find(':');
        return colon == 0 || colon == std::string_view::npos || colon + 1 == item.size();
    });
    return !malformed && set_text(values.mounts, text);
}

bool set_order(std::string_view text) {
    if (text == "reverse") {
        values.order = TestOrder::reverse;
        return true;
    }
    if (!set_number(values.order_seed, text, 0, ~u64{0})) return false;
    values.order = TestOrder::random;
    return true;
}

constexpr u64 kMost32 = 0xffff'ffff;
constexpr std::string_view kBenchDefault = "boot,paths"; // kernel/proof/bench.hpp

constexpr auto kNone = Option::Value::none, kNeeded = Option::Value::needed, kOptional = Option::Value::optional;
constexpr Option kOptions[] = {
    {"selftest", kNeeded, "off, quick, full or GLOB[,GLOB...]",
     [](std::string_view v) { return set_text(values.selftest, v); }},
    {"exit", kNone, "", [](std::string_view) { return values.exit = true; }},
    {"seed", kNeeded, "a number", [](std::string_view v) { return set_number(values.seed, v, 0, ~u64{0}); }},
    {"order", kNeeded, "reverse, or a number as the seed of a random one", set_order},
    {"soak", kNeeded, "a number of seconds", [](std::string_view v) { return set_number(values.soak, v, 0, kMost32); }},
    {"load", kNeeded, "a number of seconds", [](std::string_view v) { return set_number(values.load, v, 0, kMost32); }},
    {"maxcpus", kNeeded, "a number from 1",
     [](std::string_view v) { return set_number(values.maxcpus, v, 1, kMost32); }},
    {"highmem", kNeeded, "a size such as 512M",
     [](std::string_view v) { return set_size(values.highmem, v, ~u64{0} - 1); }},
    {"userpte", kNeeded, "nohigh", [](std::string_view v) { return values.user_tables_low = v == "nohigh"; }},
    {"vmalloc", kNeeded, "a size such as 256M",
     [](std::string_view v) { return set_size(values.vmalloc, v, kMost32) && values.vmalloc != 0; }},
    {"nopse", kNone, "", [](std::string_view) { return values.nopse = true; }},
    {"nmi", kNeeded, "panic", [](std::string_view v) { return values.nmi_panics = v == "panic"; }},
    {"mount", kNeeded, "DISK:PATH[,DISK:PATH...]", set_mounts},
    {"loglevel", kNeeded, "a number from 0 to 8",
     [](std::string_view v) { return set_number(values.loglevel, v, 0, 8); }},
    {"bench", kOptional, "GLOB[,GLOB...]",
     [](std::string_view v) { return set_text(values.bench, v.empty() ? kBenchDefault : v); }},
    {"swap", kNeeded, "DISK[,DISK...]", [](std::string_view v) { return set_text(values.swap, v); }},
    {"crash", kNeeded, "the name of a misuse", [](std::string_view v) { return set_text(values.crash, v); }},
};

void ignore(std::string_view word) {
    if (!ignored.view().empty()) ignored.write(" ");
    ignored.write(word);
}

void apply(std::string_view word) {
    const std::size_t equals = word.find('=');
    const std::string_view name = word.substr(0, equals);
    const bool has_value = equals != std::string_view::npos;
    const std::string_view value = has_value ? word.substr(equals + 1) : std::string_view{};

    Closest closest{name};
    for (const Option& option : kOptions) {
        closest.offer(option.name);
        if (option.name != name) continue;
        if (option.value == kNeeded && !has_value) {
            log(LogLevel::warn, "cmdline", "{} needs a value ({}); the default is used", name, option.form);
        } else if (option.value == kNone && has_value) {
            log(LogLevel::warn, "cmdline", "{} takes no value; {} is ignored", name, word);
        } else if (!option.set(value)) {
            log(LogLevel::warn, "cmdline", "{} is malformed ({} is {}); the default is used", word, name, option.form);
        } else {
            return;
        }
        ignore(word);
        return;
    }
    if (closest.name().empty())
        log(LogLevel::warn, "cmdline", "unknown option {}", word);
    else
        log(LogLevel::warn, "cmdline", "unknown option {}; did you mean {}?", word, closest.name());
    ignore(word);
}

std::optional<u32> digit_of(char c) {
    if (c >= '0' && c <= '9') return static_cast<u32>(c - '0');
    if (c >= 'a' && c <= 'f') return static_cast<u32>(c - 'a' + 10);
    if (c >= 'A' && c <= 'F') return static_cast<u32>(c - 'A' + 10);
    return std::nullopt;
}

} // namespace

void parse_command_line(std::string_view text) {
    line = text;
    // GRUB and QEMU may put the kernel's file name first. It contains a '/' and no '='.
    std::string_view rest = text;
    bool first = true;
    while (!rest.empty()) {
        const std::size_t begin = rest.find_first_not_of(' ');
        if (begin == std::string_view::npos) break;
        rest.remove_prefix(begin);
        const std::string_view word = rest.substr(0, rest.find(' '));
        rest.remove_prefix(word.size());
        const bool is_file_name =
            first && word.find('=') == std::string_view::npos && word.find('/') != std::string_view::npos;
        if (!is_file_name) apply(word);
        first = false;
    }
    set_exit(values.exit);
    set_nmi_panics(values.nmi_panics);
}

const Options& options() { return values; }
std::string_view ignored_words() { return ignored.view(); }
std::string_view command_line() { return line; }

std::optional<u64> parse_number(std::string_view text) {
    u32 base = 10;
    if (text.starts_with("0x") || text.starts_with("0X")) {
        base = 16;
        text.remove_prefix(2);
    }
    if (text.empty()) return std::nullopt;
    u64 value = 0;
    for (char c : text) {
        const std::optional<u32> digit = digit_of(c);
        if (!digit || *digit >= base) return std::nullopt;
        if (value > (~u64{0} - *digit) / base) return std::nullopt; // would overflow
        value = value * base + *digit;
    }
    return value;
}

std::optional<u64> parse_size(std::string_view text) {
    if (text.empty()) return std::nullopt;
    u32 shift = 0;
    switch (text.back()) {
    case 'K':
    case 'k':
        shift = 10;
        break;
    case 'M':
    case 'm':
        shift = 20;
        break;
    case 'G':
    case 'g':
        shift = 30;
        break;
    default:
        break;
    }
    if (shift != 0) text.remove_suffix(1);
    const std::optional<u64> number = parse_number(text);
    if (!number || *number > ~u64{0} >> shift) return std::nullopt;
    return *number << shift;
}

bool matches_glob(std::string_view pattern, std::string_view text) {
    // `star`: the last '*' seen. `swallowed`: the end of the text that it matches so far. On a mismatch it takes one
    // character more.
    std::size_t p = 0, t = 0, star = std::string_view::npos, swallowed = 0;
    while (t < text.size()) {
        if (p < pattern.size() && pattern[p] == '*') {
            star = p++;
            swallowed = t;
        } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
            ++p;
            ++t;
        } else if (star != std::string_view::npos) {
            p = star + 1;
            t = ++swallowed;
        } else {
            return false;
        }
    }
    while (p < pattern.size() && pattern[p] == '*')
        ++p;
    return p == pattern.size();
}

} // namespace loft
