// A panic that is expected: the self-tests run code that must panic and look at what it said.
#pragma once

#include "arch/base/format.hpp"

#include <string_view>

namespace loft {

// Runs body(argument). Returns the panic's text if it panics (valid until the next call), else an empty view.
// Puts the interrupt flag, the context's counters, the depth of local maps and the locks back as they were;
// nothing else. Context: a thread, which stays on its CPU meanwhile; does not nest, one at a time.
std::string_view run_catching_panic(void (*body)(void*), void* argument);

} // namespace loft
