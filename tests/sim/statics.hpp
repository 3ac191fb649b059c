// The static objects of mm, found in this program's own symbol table.
//
// An exploration begins each schedule from the same bytes, so it has to know what bytes there are. mm does not
// tell; its objects are those of namespace loft that neither the simulated machine nor a test owns.
#pragma once

#include "arch/base/types.hpp"

#include <string>
#include <vector>

namespace loft::sim {

struct StaticObject {
    u8* at = nullptr;
    u64 size = 0;
    std::string name; // as a person would write it
};
const std::vector<StaticObject>& kernel_statics();

// "pool + 8": for messages; empty if no static object of the kernel is there.
std::string static_name(u64 address);

} // namespace loft::sim
