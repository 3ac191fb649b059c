// The lines that request flushes, and leaving one of them out.
//
// mm passes a Site, the line that requests a flush, down to the HAL. A test run lists all of them
// (LOFT_LIST_FLUSHES=FILE appends "path:line kind", or "path:line:column kind" for a line with two); a second run
// leaves out every flush of one of them (LOFT_DROP_FLUSH=path:line[:column]) and must fail.
#pragma once

#include "arch/base/types.hpp"
#include "tests/sim/source_location.hpp"

#include <string_view>

namespace loft::hal {

struct Site {
    const char* file = "";
    u32 line = 0;
    u32 column = 0;
    static constexpr Site current(SourceLocation where = SourceLocation::current()) {
        return {where.file_name(), where.line(), where.column()};
    }
};

} // namespace loft::hal

namespace loft::sim {

using hal::Site;

// Notes the site; false if its flushes are to be left out.
bool flush_wanted(const Site& site, const char* kind);

// "mm/x.cpp:123" or "mm/x.cpp:123:7"; the path may be any tail of the real one. Empty: none but that of the
// environment.
void drop_flush_site(std::string_view site);
// The number of flushes left out since the last drop_flush_site().
u64 dropped_flushes();

} // namespace loft::sim
