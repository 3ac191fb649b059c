// Random bytes for programs: different in each call, but predictable (loft has no source of entropy).
#pragma once

#include "arch/base/types.hpp"

#include <span>

namespace loft {

// Any context.
void fill_random(std::span<u8> bytes);

} // namespace loft
