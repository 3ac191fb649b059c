// Formatting for logs and panics: "{}" takes the next argument, "{:x}" prints hexadecimal, "{:08x}" pads with zeros,
// "{:5}" aligns right, "{:-5}" left. No allocation, no floating point. The argument's type selects the form; their
// number is checked at run time ("{?}" stands for a missing argument).
//
// Contexts: any. The text goes to a Sink in pieces.
#pragma once

#include "arch/base/types.hpp"

#include <concepts>
#include <span>
#include <string_view>

namespace loft {

class Sink {
  public:
    virtual void write(std::string_view text) = 0;

  protected:
    ~Sink() = default;
};

// A buffer that keeps the text that fits.
template <std::size_t N> class BufferSink final : public Sink {
  public:
    void write(std::string_view text) override {
        for (char c : text)
            if (size_ < N) data_[size_++] = c;
    }
    std::string_view view() const { return {data_, size_}; }
    void clear() { size_ = 0; }

  private:
    char data_[N]{};
    std::size_t size_ = 0;
};

namespace fmt {

struct Arg {
    enum class Kind : u8 { none, unsigned_int, signed_int, text, boolean, character, pointer };
    Kind kind = Kind::none;
    u64 number = 0;
    std::string_view text{};

    constexpr Arg() = default;
    constexpr Arg(bool v) : kind{Kind::boolean}, number{v} {}
    constexpr Arg(char v) : kind{Kind::character}, number{static_cast<u8>(v)} {}
    template <std::unsigned_integral T> constexpr Arg(T v) : kind{Kind::unsigned_int}, number{v} {}
    template <std::signed_integral T>
    constexpr Arg(T v) : kind{Kind::signed_int}, number{static_cast<u64>(static_cast<std::int64_t>(v))} {}
    constexpr Arg(std::string_view v) : kind{Kind::text}, text{v} {}
    constexpr Arg(const char* v) : kind{Kind::text}, text{v ? std::string_view{v} : std::string_view{"(null)"}} {}
    Arg(const void* v) : kind{Kind::pointer}, number{reinterpret_cast<std::uintptr_t>(v)} {}
    constexpr Arg(VirtAddr v) : kind{Kind::pointer}, number{v.value()} {}
    constexpr Arg(UserAddr v) : kind{Kind::pointer}, number{v.value()} {}
    constexpr Arg(PhysAddr v) : kind{Kind::pointer}, number{v.value()} {}
    constexpr Arg(Pfn v) : kind{Kind::pointer}, number{v.value()} {}
    constexpr Arg(CpuId v) : kind{Kind::unsigned_int}, number{v.value()} {}
    constexpr Arg(ThreadId v) : kind{Kind::unsigned_int}, number{v.value()} {}
};

void format_args(Sink& sink, std::string_view format, std::span<const Arg> args);

} // namespace fmt

template <typename... Args> void format(Sink& sink, std::string_view text, const Args&... args) {
    const fmt::Arg list[sizeof...(Args) + 1]{fmt::Arg(args)..., fmt::Arg{}};
    fmt::format_args(sink, text, {list, sizeof...(Args)});
}

} // namespace loft
