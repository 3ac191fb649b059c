// std::source_location for compilers that cannot make one: clang below 16 does not know what libstdc++ builds it from.
#pragma once

#include <source_location>

namespace loft::hal {

#if __has_builtin(__builtin_source_location)
using SourceLocation = std::source_location;
#else
class SourceLocation {
  public:
    static constexpr SourceLocation current(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE(),
                                            unsigned column = __builtin_COLUMN()) {
        return {file, line, column};
    }
    constexpr const char* file_name() const { return file_; }
    constexpr unsigned line() const { return line_; }
    constexpr unsigned column() const { return column_; }

  private:
    constexpr SourceLocation(const char* file, unsigned line, unsigned column)
        : file_{file}, line_{line}, column_{column} {}
    const char* file_;
    unsigned line_;
    unsigned column_;
};
#endif

} // namespace loft::hal
