// The formatter of log lines, panics and KTAP. Placeholders: format.hpp.
#include "arch/base/format.hpp"

#include <charconv>

namespace loft::fmt {
namespace {

struct Spec {
    bool hex = false;
    bool zero = false;
    bool left = false;
    u32 width = 0;
};

Spec parse(std::string_view text) {
    Spec spec;
    if (text.empty() || text.front() != ':') return spec;
    text.remove_prefix(1);
    for (char c : text) {
        if (c == '-') {
            spec.left = true;
        } else if (c == '0' && spec.width == 0) {
            spec.zero = true;
        } else if (c >= '0' && c <= '9') {
            spec.width = spec.width * 10 + static_cast<u32>(c - '0');
        } else if (c == 'x') {
            spec.hex = true;
        }
    }
    return spec;
}

void pad(Sink& sink, char c, u32 count) {
    while (count-- != 0)
        sink.write({&c, 1});
}

void padded(Sink& sink, std::string_view text, const Spec& spec) {
    const u32 fill = text.size() < spec.width ? spec.width - static_cast<u32>(text.size()) : 0;
    if (!spec.left) pad(sink, spec.zero ? '0' : ' ', fill);
    sink.write(text);
    if (spec.left) pad(sink, ' ', fill);
}

void number(Sink& sink, const Arg& arg, Spec spec) {
    char digits[24];
    std::to_chars_result end{};
    // to_chars of a 64-bit value divides; values that fit use 32 bits.
    const bool small = arg.number <= 0xffff'ffffu;
    if (arg.kind == Arg::Kind::signed_int && !spec.hex) {
        end = std::to_chars(digits, digits + sizeof digits, static_cast<std::int64_t>(arg.number));
    } else if (arg.kind == Arg::Kind::pointer || spec.hex) {
        if (arg.kind == Arg::Kind::pointer && spec.width == 0) {
            spec.width = 8;
            spec.zero = true;
        }
        end = std::to_chars(digits, digits + sizeof digits, arg.number, 16);
    } else if (small) {
        end = std::to_chars(digits, digits + sizeof digits, static_cast<u32>(arg.number));
    } else {
        end = std::to_chars(digits, digits + sizeof digits, arg.number);
    }
    padded(sink, {digits, static_cast<std::size_t>(end.ptr - digits)}, spec);
}

void one(Sink& sink, const Arg& arg, const Spec& spec) {
    switch (arg.kind) {
    case Arg::Kind::none:
        sink.write("{?}");
        break;
    case Arg::Kind::text:
        padded(sink, arg.text, spec);
        break;
    case Arg::Kind::boolean:
        padded(sink, arg.number ? "true" : "false", spec);
        break;
    case Arg::Kind::character: {
        const char c = static_cast<char>(arg.number);
        padded(sink, {&c, 1}, spec);
        break;
    }
    default:
        number(sink, arg, spec);
        break;
    }
}

} // namespace

void format_args(Sink& sink, std::string_view format, std::span<const Arg> args) {
    std::size_t next = 0;
    while (!format.empty()) {
        const std::size_t open = format.find('{');
        if (open == std::string_view::npos) {
            sink.write(format);
            return;
        }
        sink.write(format.substr(0, open));
        const std::size_t close = format.find('}', open);
        if (close == std::string_view::npos) {
            sink.write(format.substr(open));
            return;
        }
        one(sink, next < args.size() ? args[next] : Arg{}, parse(format.substr(open + 1, close - open - 1)));
        ++next;
        format.remove_prefix(close + 1);
    }
}

} // namespace loft::fmt
