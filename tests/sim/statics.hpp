// The static objects of mm, found in this program's own symbol table.
//
// An exploration starts each schedule with the same bytes, so it needs a list of mm's objects: those of namespace loft
// that belong neither to the simulated machine nor to a test.
#pragma once

#include "arch/base/types.hpp"

#include <string>
#include <vector>

namespace loft::sim {

struct StaticObject {
    u8* at = nullptr;
    u64 size = 0;
    std::string name; // demangled
};
const std::vector<StaticObject>& kernel_statics();

// "pool + 8": for messages; empty if no static object of the kernel is at `address`.
std::string static_name(u64 address);

// "mm/frames/slab.cpp:70 (ObjectCache::alloc())": for messages, by addr2line. `after` is the address behind a call.
std::string code_name(const void* after);

} // namespace loft::sim
